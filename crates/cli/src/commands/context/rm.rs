//! `context rm`: forget contexts.

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::context_store::{ContextStore, DEFAULT, set_current};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "rm",
    other_names: &["remove"],
    top: None,
    about: "Forget one or more contexts",
    usage: "CONTEXT [CONTEXT...]",
    aliases: &["context rm", "context remove"],
    arguments: Arguments::AtLeast(1),
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[switch("force", "Forget the current context as well").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let store = &ContextStore::new(app.config_dir());
    let force = call.args.switch("force");
    let current = &app.current_context();
    each(app, &call.args.positionals, |name| async move {
        if name == DEFAULT {
            return Err(CliError::new("context \"default\" cannot be removed"));
        }
        if name == current {
            if !force {
                return Err(CliError::new(format!(
                    "context {name:?} is in use, set -f flag to force remove"
                )));
            }
            set_current(app, DEFAULT)?;
        }
        if !store.contains(name) {
            if force {
                return Ok(Some(name.to_owned()));
            }
            return Err(CliError::new(format!("context {name:?} does not exist")));
        }
        store.remove(name)?;
        Ok(Some(name.to_owned()))
    })
    .await
}
