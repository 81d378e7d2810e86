//! `context ls`: list contexts.

use gotmpl::Value;

use super::{OVERRIDDEN, host_overrides};
use crate::app::App;
use crate::cell::{natural_order, text};
use crate::command::{Arguments, Command, Invocation};
use crate::context_store::{Context, ContextStore, default_context};
use crate::error::Result;
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row};

/// The verb.
pub const COMMAND: Command = Command {
    name: "ls",
    other_names: &["list"],
    top: None,
    about: "List contexts",
    usage: "[OPTIONS]",
    aliases: &["context ls", "context list"],
    arguments: Arguments::None,
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
    switch("quiet", "Show only context names").short('q'),
];

const LISTING: Listing = Listing {
    columns: &[
        Column::new("Name", "NAME"),
        Column::new("Description", "DESCRIPTION"),
        Column::new("DockerEndpoint", "DOCKER ENDPOINT"),
        Column::new("Current", ""),
        Column::new("Error", "ERROR"),
    ],
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    go_type: "*formatter.clientContextContext",
};

async fn run(app: &App, call: Invocation) -> Result {
    let quiet = call.args.switch("quiet");
    let format = call.args.string("format");
    let current = app.current_context();
    let mut contexts = ContextStore::new(app.config_dir()).list()?;
    contexts.push(default_context());
    contexts.sort_by(|a, b| natural_order(&a.name, &b.name));
    let rows = contexts
        .iter()
        .map(|context| row(context, context.name == current))
        .collect();
    LISTING.print(app.printer, &LISTING.template(&format, quiet), rows)?;
    if host_overrides() {
        app.printer.err_line(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, {OVERRIDDEN}"
        ));
    }
    Ok(0)
}

fn row(context: &Context, current: bool) -> Row {
    Row::from([
        ("Name", text(context.name.as_str())),
        ("Description", text(context.description.as_str())),
        ("DockerEndpoint", text(context.host.as_str())),
        ("Current", Value::Bool(current)),
        ("Error", text("")),
    ])
}
