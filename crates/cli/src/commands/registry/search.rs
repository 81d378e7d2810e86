//! `search`: look for images in the index of a registry.

use cais_client::api::images::SearchResult;
use cais_client::api::options::SearchOptions;

use crate::app::App;
use crate::cell::{ellipsis, text};
use crate::command::{Arguments, Command, Invocation};
use crate::commands::check_filter;
use crate::commands::filtering::filters;
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};
use crate::registry_access::privileged;

/// The verb.
pub const COMMAND: Command = Command {
    name: "search",
    other_names: &[],
    top: Some("search"),
    about: "Search Docker Hub for images",
    usage: "[OPTIONS] TERM",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "filter",
        "filter",
        "Show only what meets a condition (key=value)",
    )
    .short('f')
    .check(check_filter),
    flag("format", "string", "Output by a Go template"),
    flag("limit", "int", "Show at most so many"),
    switch("no-trunc", "Do not shorten columns"),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("Name", "NAME"),
        Column::new("Description", "DESCRIPTION"),
        Column::new("StarCount", "STARS"),
        Column::new("IsOfficial", "OFFICIAL"),
    ],
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    go_type: "*registry.searchContext",
};

/// Descriptions are cut to so many characters.
const DESCRIPTION: usize = 45;

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let term = &args.positionals[0];
    let client = app.client()?;
    let options = SearchOptions {
        term: term.clone(),
        limit: args.int("limit", 0),
        filters: filters(args),
        registry_auth: String::new(),
    };
    let found = privileged(app, index_of(term), "search", |registry_auth| {
        let options = SearchOptions {
            registry_auth,
            ..options.clone()
        };
        async move { client.image_search(&options).await }
    })
    .await?;
    let template = LISTING.template(args.value("format").unwrap_or_default(), false);
    let shorten = !args.switch("no-trunc");
    let rows = found
        .iter()
        .map(|item| row(item, is_json(&template), shorten))
        .collect();
    LISTING.print(app.printer, &template, rows)?;
    Ok(0)
}

/// The registry a term names before its first `/`.
fn index_of(term: &str) -> &str {
    match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Whether a template shows whole rows as JSON, where truth values have other names.
fn is_json(template: &str) -> bool {
    template.contains("json .}")
}

fn row(item: &SearchResult, json: bool, shorten: bool) -> Row {
    let description = item.description.replace(['\n', '\r'], " ");
    let description = if shorten {
        ellipsis(&description, DESCRIPTION)
    } else {
        description
    };
    let official = match (json, item.is_official) {
        (false, true) => "[OK]",
        (false, false) => "",
        (true, true) => "true",
        (true, false) => "false",
    };
    Row::from([
        ("Name", text(item.name.as_str())),
        ("Description", text(description)),
        ("StarCount", text(item.star_count.to_string())),
        ("IsOfficial", text(official)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_may_name_a_registry() {
        for (term, index) in [
            ("nginx", "docker.io"),
            ("user/nginx", "docker.io"),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x/y", "127.0.0.1:5000"),
            ("r.example/x", "r.example"),
        ] {
            assert_eq!(index_of(term), index, "{term}");
        }
    }

    #[test]
    fn the_table_docker_printed() {
        let results = [
            SearchResult {
                name: "nginx".into(),
                description: "Official build of Nginx. A long description that goes on".into(),
                star_count: 20000,
                is_official: true,
            },
            SearchResult {
                name: "user/nginx".into(),
                description: "A <b>proxy</b>\nwith two lines".into(),
                star_count: 3,
                is_official: false,
            },
        ];
        let shown = |format: &str| {
            let template = LISTING.template(format, false);
            let json = is_json(&template);
            let rows = results.iter().map(|item| row(item, json, true)).collect();
            LISTING.render(&template, rows).unwrap()
        };
        assert_eq!(
            shown(""),
            "NAME         DESCRIPTION                                     STARS     OFFICIAL\n\
             nginx        Official build of Nginx. A long description …   20000     [OK]\n\
             user/nginx   A <b>proxy</b> with two lines                   3         \n"
        );
        assert_eq!(
            shown("json").lines().nth(1).unwrap(),
            "{\"Description\":\"A \\u003cb\\u003eproxy\\u003c/b\\u003e with two lines\",\"IsOfficial\":\"false\",\
             \"Name\":\"user/nginx\",\"StarCount\":\"3\"}"
        );
    }
}
