//! `system info`: show what the daemon says about itself and its host.

use std::sync::Arc;

use gotmpl::Value;
use serde_json::{Value as Json, json};

use super::version::alias;
use super::{client_facts, info_text};
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::format::{Purpose, Template, ordered_value};

/// The verb.
pub const COMMAND: Command = Command {
    name: "info",
    other_names: &[],
    top: Some("info"),
    about: "Show what the daemon says about itself and its host",
    usage: "[OPTIONS]",
    aliases: &["system info", "info"],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] =
    &[flag("format", "string", "Output as 'json', or by a Go template").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let format = call.args.string("format");
    let context = app.endpoint()?.context.clone();
    let answer = match app.client()?.info().await {
        Ok(answer) => answer.decode().map(|info| (answer, info)),
        Err(error) => Err(error),
    };
    if format.is_empty() {
        app.printer.out(&format!(
            "Client:\n Version:    {}\n Context:    {context}\n Debug Mode: {}\n\nServer:\n",
            client_facts::VERSION,
            app.debug(),
        ));
        let (_, info) = answer?;
        app.printer.out(&info_text::text(&info));
        app.printer.out("\n");
        for warning in info.warnings.iter().flatten() {
            app.printer.err_line(warning);
        }
        return Ok(0);
    }
    let (answer, failure) = match answer {
        Ok((answer, _)) => {
            let json = serde_json::from_slice(answer.raw());
            (
                json.map_err(|error| CliError::new(error.to_string()))?,
                None,
            )
        }
        Err(error) => (json!({}), Some(error)),
    };
    print_template(app, &format, answer, &context)?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

fn print_template(app: &App, format: &str, mut info: Json, context: &str) -> Result<()> {
    info["ClientInfo"] = json!({
        "Debug": app.debug(),
        "Version": client_facts::VERSION,
        "DefaultAPIVersion": client_facts::api_version(),
        "Os": client_facts::OS,
        "Arch": client_facts::arch(),
        "Context": context,
        "Plugins": [],
        "Warnings": null,
    });
    let source = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let (mut data, order) = ordered_value(&info);
    if let Value::Map(fields) = &mut data
        && let Some(fields) = Arc::get_mut(fields)
    {
        alias(fields, "CpuCfsPeriod", "CPUCfsPeriod");
        alias(fields, "CpuCfsQuota", "CPUCfsQuota");
        alias(fields, "HttpProxy", "HTTPProxy");
        alias(fields, "HttpsProxy", "HTTPSProxy");
    }
    let template = Template::parse(source, Purpose::Values, order, true)
        .map_err(|error| CliError::with_code(64, format!("template parsing error: {error}")))?;
    let unknown = |key: &str| format!("can't evaluate field {key} in type system.dockerInfo");
    let line = template.run(&data, unknown).map_err(|error| {
        app.printer.out("\n");
        CliError::new(error)
    })?;
    app.printer.line(&line);
    Ok(())
}
