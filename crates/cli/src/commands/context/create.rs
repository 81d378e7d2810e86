//! `context create`: remember a daemon under a name.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::context_store::{Context, ContextStore, DEFAULT, check_name, default_context};
use crate::error::{CliError, Result};
use crate::flags::{Flag, Parsed, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "create",
    other_names: &[],
    top: None,
    about: "Remember a daemon under a name",
    usage: "[OPTIONS] CONTEXT",
    aliases: &[],
    arguments: Arguments::Exact(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("description", "string", "A line about the context"),
    flag("docker", "stringToString", "The daemon: host=ADDRESS").default("[]"),
    flag("from", "string", "Copy this context"),
];

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let name = &args.positionals[0];
    check_name(name)?;
    let store = ContextStore::new(app.config_dir());
    if store.contains(name) {
        return Err(CliError::new(format!("context {name:?} already exists")));
    }
    let from = args.string("from");
    let base = match from.as_str() {
        "" | DEFAULT => default_context(),
        from => store.get(from)?,
    };
    let context = Context {
        name: name.clone(),
        ..changed(base, args)?
    };
    store.put(&context)?;
    app.printer.line(name);
    app.printer
        .err_line(&format!("Successfully created context {name:?}"));
    Ok(0)
}

/// A context with what the flags say about it.
pub(super) fn changed(mut context: Context, args: &Parsed) -> Result<Context> {
    if let Some(description) = args.value("description") {
        description.clone_into(&mut context.description);
    }
    let pairs = args.list("docker");
    for pair in pairs.iter().flat_map(|list| list.split(',')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "host" => value.clone_into(&mut context.host),
            "skip-tls-verify" => context.skip_tls_verify = value == "true",
            "ca" | "cert" | "key" | "from" => {
                return Err(CliError::new(format!(
                    "\"{key}\" of a docker endpoint is not supported yet"
                )));
            }
            _ => {
                return Err(CliError::new(format!(
                    "unable to create docker endpoint config: unrecognized config key: {key}"
                )));
            }
        }
    }
    Ok(context)
}
