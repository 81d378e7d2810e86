//! `volume ls`: list volumes.

use cais_types::api::Volume;

use crate::app::App;
use crate::cell::{labels, natural_order, size4, text};
use crate::command::{Arguments, Command, Invocation};
use crate::commands::check_filter;
use crate::commands::filtering::filters;
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row, label};

/// The verb.
pub const COMMAND: Command = Command {
    name: "ls",
    other_names: &["list"],
    top: None,
    about: "List volumes",
    usage: "[OPTIONS]",
    aliases: &["volume ls", "volume list"],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("cluster", "Show only cluster volumes"),
    flag(
        "filter",
        "filter",
        "Show only what meets a condition (such as \"dangling=true\")",
    )
    .short('f')
    .check(check_filter),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    switch("quiet", "Show only volume names").short('q'),
];

/// The rows of `volume ls` and of `system df -v`.
pub(crate) const LISTING: Listing = Listing {
    columns: &[
        Column::new("Name", "VOLUME NAME"),
        Column::new("Driver", "DRIVER"),
        Column::new("Scope", "SCOPE"),
        Column::new("Mountpoint", "MOUNTPOINT"),
        Column::new("Labels", "LABELS"),
        Column::new("Links", "LINKS"),
        Column::new("Size", "SIZE"),
        Column::new("Availability", "AVAILABILITY"),
        Column::new("Group", "GROUP"),
        Column::new("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    go_type: "*formatter.volumeContext",
};

const CLUSTER: &str = "table {{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}";

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let quiet = args.switch("quiet");
    let cluster = args.switch("cluster");
    let format = match args.value("format") {
        Some(format) => format,
        None if quiet => "",
        None => &app.config().volumes_format,
    };
    let template = match format {
        "" if cluster && !quiet => CLUSTER.into(),
        "raw" if quiet => "name: {{.Name}}".into(),
        "raw" => "name: {{.Name}}\ndriver: {{.Driver}}\n".into(),
        format => LISTING.template(format, quiet),
    };
    let answer = app.client()?.volume_list(&filters(args)).await?.decode()?;
    let mut volumes = answer.volumes;
    volumes.sort_by(|a, b| natural_order(&a.name, &b.name));
    // Only a swarm has cluster volumes.
    let rows = volumes.iter().filter(|_| !cluster).map(row).collect();
    LISTING.print(app.printer, &template, rows)?;
    Ok(0)
}

/// A volume as templates see it.
pub(crate) fn row(volume: &Volume) -> Row {
    let unknown = || text("N/A");
    let all = volume.labels.clone().unwrap_or_default();
    let (links, size) = match &volume.usage_data {
        Some(usage) => (text(usage.ref_count.to_string()), text(size4(usage.size))),
        None => (unknown(), unknown()),
    };
    Row::from([
        ("Name", text(volume.name.as_str())),
        ("Driver", text(volume.driver.as_str())),
        ("Scope", text(volume.scope.as_str())),
        ("Mountpoint", text(volume.mountpoint.as_str())),
        ("Labels", text(labels(&all))),
        ("Label", label(all)),
        ("Links", links),
        ("Size", size),
        ("Availability", unknown()),
        ("Group", unknown()),
        ("Status", unknown()),
    ])
}
