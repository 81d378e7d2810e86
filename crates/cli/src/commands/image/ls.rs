//! `image ls`, better known as `images`: list images.

use cais_types::Reference;
use cais_types::api::ImageSummary;
use jiff::Timestamp;

use super::tree;
use crate::app::App;
use crate::cell::{ago, id, local_time, size3, size4, text};
use crate::command::{Arguments, Command, Invocation};
use crate::commands::check_filter;
use crate::commands::filtering::filters;
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, flag, switch};
use crate::format::{Column, Listing, Row};

/// The verb.
pub const COMMAND: Command = Command {
    name: "ls",
    other_names: &["list"],
    top: Some("images"),
    about: "List images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    aliases: &["image ls", "image list", "images"],
    arguments: Arguments::AtMost(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Show intermediate images as well").short('a'),
    switch("digests", "Show digests"),
    flag(
        "filter",
        "filter",
        "Show only what meets a condition (key=value)",
    )
    .short('f')
    .check(check_filter),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("no-trunc", "Do not shorten columns"),
    switch("quiet", "Show only image IDs").short('q'),
    switch("tree", "Show the platforms of each image below it").since(47),
];

/// The rows of `image ls` and of `system df -v`.
pub(crate) const LISTING: Listing = Listing {
    columns: &[
        Column::new("ID", "IMAGE ID"),
        Column::new("Repository", "REPOSITORY"),
        Column::new("Tag", "TAG"),
        Column::new("Digest", "DIGEST"),
        Column::new("CreatedSince", "CREATED"),
        Column::new("CreatedAt", "CREATED AT"),
        Column::new("Size", "SIZE"),
        Column::new("Containers", "CONTAINERS"),
        Column::new("VirtualSize", "SIZE"),
        Column::new("SharedSize", "SHARED SIZE"),
        Column::new("UniqueSize", "UNIQUE SIZE"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
    go_type: "*formatter.imageContext",
};

const DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// Verbs that people type behind `images` instead of `image`.
const VERBS: &[&str] = &[
    "build", "history", "import", "load", "ls", "prune", "pull", "push", "rm", "save", "tag",
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let mut filters = filters(args);
    let name = args.positionals.first();
    if let Some(name) = name {
        filters.add("reference", name);
    }
    if args.switch("tree") {
        check_tree(args)?;
        let all = args.switch("all");
        let images = app.client()?.image_list_manifests(all, &filters).await?;
        return tree::print(app, images, all);
    }
    let images = app
        .client()?
        .image_list(args.switch("all"), &filters)
        .await?
        .decode()?;
    let template = template(app, args);
    let with_digests = args.switch("digests") || template.contains("{{.Digest}}");
    let now = Timestamp::now();
    let shown = Shown {
        shorten: !args.switch("no-trunc"),
        digests: with_digests,
        dates: template.contains(".CreatedAt") || template.contains("json ."),
        now,
    };
    let rows = images.iter().flat_map(|image| shown.rows(image)).collect();
    LISTING.print(app.printer, &template, rows)?;
    if let Some(name) = name.filter(|name| images.is_empty() && VERBS.contains(&name.as_str())) {
        app.printer.err(&format!(
            "\nNo images found matching \"{name}\": did you mean \"{} image {name}\"?\n",
            app.program
        ));
    }
    Ok(0)
}

/// Refuses flags that the tree does not heed.
fn check_tree(args: &Parsed) -> Result<()> {
    let given = [
        ("quiet", args.switch("quiet")),
        ("no-trunc", args.switch("no-trunc")),
        ("show-digest", args.switch("digests")),
        ("format", !args.string("format").is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(CliError::new(format!(
            "--{name} is not yet supported with --tree"
        ))),
        None => Ok(()),
    }
}

fn template(app: &App, args: &Parsed) -> String {
    let quiet = args.switch("quiet");
    let digests = args.switch("digests");
    let format = match args.value("format") {
        Some(format) => format,
        None if quiet => "",
        None => &app.config().images_format,
    };
    match format {
        "" | "table" if digests && !quiet => DIGESTS.to_owned(),
        "raw" if quiet => "image_id: {{.ID}}".to_owned(),
        "raw" => format!(
            "repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n",
            if digests { "digest: {{.Digest}}\n" } else { "" }
        ),
        format => LISTING.template(format, quiet).into_owned(),
    }
}

/// How images are shown.
pub(crate) struct Shown {
    /// Short ids.
    pub shorten: bool,
    /// One row per digest.
    pub digests: bool,
    /// Whether dates are wanted: they need the time zone, which is read from several files.
    pub dates: bool,
    /// The time ages are counted to.
    pub now: Timestamp,
}

impl Shown {
    /// The rows of an image: one per name.
    pub(crate) fn rows(&self, image: &ImageSummary) -> Vec<Row> {
        names(image, self.digests)
            .into_iter()
            .map(|(repository, tag, digest)| self.row(image, repository, tag, digest))
            .collect()
    }

    fn row(&self, image: &ImageSummary, repository: String, tag: String, digest: String) -> Row {
        let unknown = || "N/A".to_owned();
        let known = |size: i64| if size == -1 { unknown() } else { size4(size) };
        let unique = if image.size == -1 || image.shared_size == -1 {
            unknown()
        } else {
            size4(image.size - image.shared_size)
        };
        let containers = match image.containers {
            -1 => unknown(),
            count => count.to_string(),
        };
        let created_since = if image.created <= 0 {
            String::new()
        } else {
            ago(image.created, self.now)
        };
        let created_at = if self.dates {
            local_time(image.created)
        } else {
            String::new()
        };
        Row::from([
            ("ID", id(&image.id, self.shorten)),
            ("Repository", text(repository)),
            ("Tag", text(tag)),
            ("Digest", text(digest)),
            ("CreatedSince", text(created_since)),
            ("CreatedAt", text(created_at)),
            ("Size", text(size3(image.size))),
            ("Containers", text(containers)),
            ("VirtualSize", text(size4(image.size))),
            ("SharedSize", text(known(image.shared_size))),
            ("UniqueSize", text(unique)),
        ])
    }
}

/// Repository, tag and digest of each row of an image.
fn names(image: &ImageSummary, with_digests: bool) -> Vec<(String, String, String)> {
    const NONE: &str = "<none>";
    let none = || NONE.to_owned();
    let tags: Vec<(String, String)> = image.repo_tags.iter().filter_map(|t| tagged(t)).collect();
    let digests: Vec<(String, String)> = image
        .repo_digests
        .iter()
        .filter_map(|d| digested(d))
        .collect();
    if tags.is_empty() && digests.is_empty() {
        return vec![(none(), none(), none())];
    }
    let mut rows = Vec::new();
    for (repository, tag) in &tags {
        let before = rows.len();
        if with_digests {
            let own = digests.iter().filter(|(name, _)| name == repository);
            rows.extend(own.map(|(_, digest)| (repository.clone(), tag.clone(), digest.clone())));
        }
        if rows.len() == before {
            rows.push((repository.clone(), tag.clone(), none()));
        }
    }
    let mut seen: Vec<&String> = Vec::new();
    for (repository, digest) in &digests {
        if tags.iter().any(|(name, _)| name == repository) {
            continue;
        }
        if with_digests {
            rows.push((repository.clone(), none(), digest.clone()));
        } else if !seen.contains(&repository) {
            seen.push(repository);
            rows.push((repository.clone(), none(), none()));
        }
    }
    rows
}

fn tagged(name: &str) -> Option<(String, String)> {
    let reference: Reference = name.parse().ok()?;
    Some((reference.familiar_name(), reference.tag()?.to_owned()))
}

fn digested(name: &str) -> Option<(String, String)> {
    let reference: Reference = name.parse().ok()?;
    Some((reference.familiar_name(), reference.digest()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:db9768ec64901bb01fa47e65da822b0f45dd1176c89784809a920442bc319059";

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        ImageSummary {
            containers: -1,
            created: 1_700_000_000,
            id: DIGEST.into(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            shared_size: -1,
            size: 1_982_498,
            ..ImageSummary::default()
        }
    }

    fn shown(images: &[ImageSummary], format: &str, digests: bool) -> String {
        let shown = Shown {
            shorten: true,
            digests,
            dates: false,
            now: Timestamp::from_second(1_795_236_977).unwrap(),
        };
        let rows = images.iter().flat_map(|image| shown.rows(image)).collect();
        LISTING
            .render(&LISTING.template(format, false), rows)
            .unwrap()
    }

    #[test]
    fn tables_as_docker_printed_them() {
        let images = [image(&["busybox:latest"], &[]), image(&[], &[])];
        assert_eq!(
            shown(&images, "", false),
            "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE\n\
             busybox      latest    db9768ec6490   3 years ago   1.98MB\n\
             <none>       <none>    db9768ec6490   3 years ago   1.98MB\n"
        );
        assert_eq!(
            shown(
                &images[..1],
                "table {{.Repository}}\\t{{.VirtualSize}}\\t{{.SharedSize}}\\t{{.Containers}}",
                false
            ),
            "REPOSITORY   SIZE      SHARED SIZE   CONTAINERS\nbusybox      1.982MB   N/A           N/A\n"
        );
    }

    #[test]
    fn names_with_and_without_digests() {
        let by_digest = format!("busybox@{DIGEST}");
        let both = image(&["busybox:1", "busybox:2"], &[&by_digest]);
        let format = "{{.Repository}}:{{.Tag}}@{{.Digest}}";
        assert_eq!(
            shown(std::slice::from_ref(&both), format, true),
            format!("busybox:1@{DIGEST}\nbusybox:2@{DIGEST}\n")
        );
        assert_eq!(
            shown(&[both], format, false),
            "busybox:1@<none>\nbusybox:2@<none>\n"
        );
        let untagged = image(&[], &[&by_digest]);
        assert_eq!(
            shown(&[untagged], format, true),
            format!("busybox:<none>@{DIGEST}\n")
        );
    }
}
