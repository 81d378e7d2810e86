//! `image history`: show the steps an image was made by.

use cais_types::api::HistoryItem;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::App;
use crate::cell::{ago, ellipsis, id, size3, text};
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};
use crate::platform;

/// The verb.
pub const COMMAND: Command = Command {
    name: "history",
    other_names: &[],
    top: Some("history"),
    about: "Show the steps an image was made by",
    usage: "[OPTIONS] IMAGE",
    aliases: &["image history", "history"],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("human", "Show sizes and ages for people")
        .short('H')
        .default("true"),
    switch("no-trunc", "Do not shorten columns"),
    flag(
        "platform",
        "string",
        "Show the history of this platform (os[/arch[/variant]])",
    )
    .since(48),
    switch("quiet", "Show only image IDs").short('q'),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("ID", "IMAGE"),
        Column::new("CreatedSince", "CREATED"),
        Column::new("CreatedAt", "CREATED AT"),
        Column::new("CreatedBy", "CREATED BY"),
        Column::new("Size", "SIZE"),
        Column::new("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    go_type: "*image.historyContext",
};

const EXACT: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let platform = platform::optional(args.value("platform"))
        .map_err(|error| CliError::new(format!("invalid platform: {error}")))?;
    let items = app
        .client()?
        .image_history(&args.positionals[0], platform.as_ref())
        .await?
        .decode()?;
    let human = args.switch_or("human", true);
    let quiet = args.switch("quiet");
    let template = match args.value("format").unwrap_or_default() {
        "" | "table" if !human && !quiet => EXACT.into(),
        format => LISTING.template(format, quiet),
    };
    let shorten = !args.switch("no-trunc");
    let now = Timestamp::now();
    let rows = items
        .iter()
        .map(|item| row(item, shorten, human, now))
        .collect();
    LISTING.print(app.printer, &template, rows)?;
    Ok(0)
}

fn row(item: &HistoryItem, shorten: bool, human: bool, now: Timestamp) -> Row {
    let created_at = created_at(item.created);
    let since = match item.created {
        ..=0 => "N/A".to_owned(),
        created if human => ago(created, now),
        _ => created_at.clone(),
    };
    let by = item.created_by.replace('\t', " ");
    Row::from([
        ("ID", id(&item.id, shorten)),
        ("CreatedSince", text(since)),
        ("CreatedAt", text(created_at)),
        (
            "CreatedBy",
            text(if shorten { ellipsis(&by, 45) } else { by }),
        ),
        (
            "Size",
            text(if human {
                size3(item.size)
            } else {
                item.size.to_string()
            }),
        ),
        ("Comment", text(item.comment.as_str())),
    ])
}

/// RFC 3339 in the local zone.
fn created_at(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::system());
    if time.offset().is_zero() {
        return time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    }
    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_as_docker_shows_it() {
        let item = HistoryItem {
            created: 1_700_000_000,
            created_by: "/bin/sh -c #(nop)\tADD file:0123456789abcdef0123456789abcdef in / ".into(),
            id: "sha256:db9768ec64901bb01fa47e65da822b0f45dd1176c89784809a920442bc319059".into(),
            size: 1_982_498,
            ..HistoryItem::default()
        };
        let now = Timestamp::from_second(1_700_000_120).unwrap();
        let text = |format: &str, shorten, human| {
            LISTING
                .render(
                    &LISTING.template(format, false),
                    vec![row(&item, shorten, human, now)],
                )
                .unwrap()
        };
        assert_eq!(
            text("", true, true),
            "IMAGE          CREATED         CREATED BY                                      SIZE      COMMENT\n\
             db9768ec6490   2 minutes ago   /bin/sh -c #(nop) ADD file:0123456789abcdef0…   1.98MB    \n"
        );
        assert_eq!(text("{{.Size}}", true, false), "1982498\n");
    }
}
