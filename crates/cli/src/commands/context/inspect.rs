//! `context inspect`: show everything that is known of contexts.

use bytes::Bytes;
use serde_json::json;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::inspecting;
use crate::context_store::{ContextStore, DEFAULT, default_context};
use crate::error::Result;
use crate::flags::{Flag, flag};

/// The verb.
pub const COMMAND: Command = Command {
    name: "inspect",
    other_names: &[],
    top: None,
    about: "Show everything that is known of contexts",
    usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    aliases: &[],
    arguments: Arguments::Any,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] =
    &[flag("format", "string", "Output as 'json', or by a Go template").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let mut names = call.args.positionals.clone();
    if names.is_empty() {
        names.push(app.current_context());
    }
    let store = &ContextStore::new(app.config_dir());
    inspecting::inspect(
        app,
        &call.args.string("format"),
        &names,
        |name| async move { document(store, name) },
    )
    .await
}

fn document(store: &ContextStore, name: &str) -> Result<Bytes> {
    let (mut document, metadata, tls) = if name == DEFAULT {
        let mut context = default_context();
        context.description.clear();
        let memory = "<IN MEMORY>".to_owned();
        (context.document(), memory.clone(), memory)
    } else {
        let path = |path: std::path::PathBuf| path.display().to_string();
        (
            store.get(name)?.document(),
            path(store.metadata_dir(name)),
            path(store.tls_dir(name)),
        )
    };
    document["TLSMaterial"] = json!({});
    document["Storage"] = json!({"MetadataPath": metadata, "TLSPath": tls});
    // Docker writes this document as Go does by default.
    let text = document.to_string();
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").into())
}
