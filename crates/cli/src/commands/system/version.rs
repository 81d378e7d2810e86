//! `version`: show the versions of the command line and of the daemon.

use std::fmt::Write as _;
use std::sync::Arc;

use cais_types::api::{ComponentVersion, SystemVersion};
use gotmpl::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::client_facts;
use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::format::{Purpose, Template, ordered_value};

/// The verb.
pub const COMMAND: Command = Command {
    name: "version",
    other_names: &[],
    top: Some("version"),
    about: "Show the versions of this program and of the daemon",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] =
    &[flag("format", "string", "Output as 'json', or by a Go template").short('f')];

async fn run(app: &App, call: Invocation) -> Result {
    let format = call.args.string("format");
    let source = if format == "json" {
        "{{json .}}"
    } else {
        &format
    };
    // A template that cannot be read is told before the daemon is asked.
    Template::parse(source, Purpose::Values, Default::default(), true)
        .map_err(|error| CliError::with_code(64, parse_error(&error)))?;
    let client = app.client()?;
    let answer = match client.version().await {
        Ok(answer) => answer.decode().map(|version| (answer, version)),
        Err(error) => Err(error),
    };
    let context = app.endpoint()?.context.clone();
    let about_client = json!({
        "Version": client_facts::VERSION,
        "ApiVersion": client.api_version(),
        "DefaultAPIVersion": client_facts::api_version(),
        "Os": client_facts::OS,
        "Arch": client_facts::arch(),
        "Context": context,
    });
    if format.is_empty() {
        let mut text = client_text(&about_client);
        if let Ok((_, version)) = &answer {
            text.push('\n');
            text.push_str(&server_text(version));
        }
        app.printer.out(&text);
    } else {
        let server = match &answer {
            Ok((raw, _)) => server_json(raw.raw())?,
            Err(_) => Json::Null,
        };
        print_template(
            app,
            source,
            &json!({"Client": about_client, "Server": server}),
        )?;
    }
    answer.map(|_| 0).map_err(CliError::from)
}

/// The answer, with the time of each component as the text shows it.
fn server_json(raw: &[u8]) -> Result<Json> {
    let mut server: Json =
        serde_json::from_slice(raw).map_err(|error| CliError::new(error.to_string()))?;
    for component in server["Components"].as_array_mut().into_iter().flatten() {
        if let Some(time) = component["Details"]["BuildTime"].as_str().map(ansi_time) {
            component["Details"]["BuildTime"] = time.into();
        }
    }
    Ok(server)
}

fn parse_error(error: &str) -> String {
    let cause = error.strip_prefix("template: :").unwrap_or(error);
    format!("template parsing error: template: version:{cause}")
}

fn print_template(app: &App, source: &str, versions: &Json) -> Result<()> {
    let (mut data, order) = ordered_value(versions);
    for part in ["Client", "Server"] {
        if let Some(Value::Map(fields)) = entry(&mut data, part)
            && let Some(fields) = Arc::get_mut(fields)
        {
            alias(fields, "ApiVersion", "APIVersion");
            for absent in ["GitCommit", "GoVersion", "BuildTime"] {
                fields
                    .entry(absent.into())
                    .or_insert_with(|| Value::String("".into()));
            }
        }
    }
    let template = Template::parse(source, Purpose::Values, order, true).map_err(CliError::new)?;
    let go_type = |key: &str| {
        if source.contains(&format!(".Client.{key}")) {
            "system.clientVersion"
        } else if source.contains(&format!(".Server.{key}")) {
            "*types.Version"
        } else {
            "system.versionInfo"
        }
    };
    match template.run(&data, |key| {
        format!("can't evaluate field {key} in type {}", go_type(key))
    }) {
        // Without a daemon there is nothing to show of it.
        Ok(line) if versions["Server"].is_null() => {
            app.printer.line(&line.replace("<no value>", ""));
        }
        Ok(line) => app.printer.line(&line),
        Err(error) => {
            app.printer.out("\n");
            return Err(CliError::new(
                error
                    .replacen("template: :", "template: version:", 1)
                    .replacen("executing \"\"", "executing \"version\"", 1),
            ));
        }
    }
    Ok(())
}

fn entry<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match value {
        Value::Map(fields) => Arc::get_mut(fields)?.get_mut(name),
        _ => None,
    }
}

/// Lets a template name a field as Go does where JSON names it otherwise; `json` keeps JSON's name.
pub(super) fn alias(
    fields: &mut std::collections::BTreeMap<Arc<str>, Value>,
    json_name: &str,
    go_name: &str,
) {
    if let Some(value) = fields.get(json_name).cloned() {
        fields.insert(go_name.into(), value);
    }
}

fn client_text(client: &Json) -> String {
    let field = |name: &str| client[name].as_str().unwrap_or_default();
    let (api, newest) = (field("ApiVersion"), field("DefaultAPIVersion"));
    let mut text = "Client:\n".to_owned();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:20}{value}");
    };
    line(" Version:", field("Version").to_owned());
    line(
        " API version:",
        if api == newest {
            api.to_owned()
        } else {
            format!("{api} (downgraded from {newest})")
        },
    );
    line(" OS/Arch:", format!("{}/{}", field("Os"), field("Arch")));
    line(" Context:", field("Context").to_owned());
    text
}

fn server_text(version: &SystemVersion) -> String {
    let mut text = "Server:".to_owned();
    if !version.platform.name.is_empty() {
        let _ = write!(text, " {}", version.platform.name);
    }
    text.push('\n');
    for component in &version.components {
        let _ = writeln!(text, " {}:", component.name);
        if component.name == "Engine" {
            engine_text(&mut text, component);
        } else {
            let _ = writeln!(text, "{:20}{}", "  Version:", component.version);
            for (name, value) in &component.details {
                let _ = writeln!(text, "{:20}{value}", format!("  {name}:"));
            }
        }
    }
    text
}

fn engine_text(text: &mut String, engine: &ComponentVersion) {
    let detail = |name: &str| {
        engine
            .details
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:20}{value}");
    };
    line("  Version:", engine.version.clone());
    line(
        "  API version:",
        format!(
            "{} (minimum version {})",
            detail("ApiVersion"),
            detail("MinAPIVersion")
        ),
    );
    line("  Go version:", detail("GoVersion").to_owned());
    line("  Git commit:", detail("GitCommit").to_owned());
    line("  Built:", ansi_time(detail("BuildTime")));
    line("  OS/Arch:", format!("{}/{}", detail("Os"), detail("Arch")));
    line("  Experimental:", detail("Experimental").to_owned());
}

/// `Thu May  7 21:09:36 2026` of an RFC 3339 time; anything else stays as it is.
fn ansi_time(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time
            .to_zoned(TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_laid_out_as_docker_does() {
        let details = [
            ("ApiVersion", "1.41"),
            ("Arch", "amd64"),
            ("BuildTime", "2026-05-07T21:09:36.000000000+00:00"),
            ("Experimental", "false"),
            ("GitCommit", "5d6db84"),
            ("GoVersion", "go1.19.8"),
            ("MinAPIVersion", "1.12"),
            ("Os", "linux"),
        ];
        let component = |name: &str, version: &str, details: &[(&str, &str)]| ComponentVersion {
            name: name.into(),
            version: version.into(),
            details: details
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let version = SystemVersion {
            components: vec![
                component("Engine", "20.10.24+dfsg1", &details),
                component("runc", "1.1.5+ds1", &[("GitCommit", "1.1.5+ds1-1+deb12u1")]),
            ],
            ..SystemVersion::default()
        };
        assert_eq!(
            server_text(&version),
            "Server:\n Engine:\n  Version:          20.10.24+dfsg1\n  API version:      1.41 (minimum version 1.12)\n\
             \x20 Go version:       go1.19.8\n  Git commit:       5d6db84\n  Built:            Thu May  7 21:09:36 2026\n\
             \x20 OS/Arch:          linux/amd64\n  Experimental:     false\n runc:\n  Version:          1.1.5+ds1\n\
             \x20 GitCommit:        1.1.5+ds1-1+deb12u1\n"
        );
    }
}
