//! `system events`: show what happens in the daemon.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;

use cais_types::api::EventMessage;
use gotmpl::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::App;
use crate::cell::text;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::check_filter;
use crate::commands::filtering::filters;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use crate::format::{KeyOrder, Purpose, Template, ordered_value};
use crate::timestamp;

/// The verb.
pub const COMMAND: Command = Command {
    name: "events",
    other_names: &[],
    top: Some("events"),
    about: "Show what happens in the daemon",
    usage: "[OPTIONS]",
    aliases: &["system events", "events"],
    arguments: Arguments::None,
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
    flag("format", "string", "Output as 'json', or by a Go template"),
    flag("since", "string", "Show events since this time"),
    flag("until", "string", "Show events until this time, then end"),
];

/// Exit code of a template that cannot be used.
const BAD_TEMPLATE: i32 = 64;

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let format = args.string("format");
    let shape = Shape::new(&format)?;
    let now = Timestamp::now();
    let time = |name: &str| {
        let time = args.value(name).map(|text| timestamp::parse(text, now));
        time.transpose().map_err(CliError::new)
    };
    let (since, until) = (time("since")?, time("until")?);
    let mut events = app
        .client()?
        .events(since.as_deref(), until.as_deref(), &filters(args))
        .await?;
    while let Some(event) = events.next::<EventMessage>().await? {
        app.printer.line(&shape.line(&event)?);
    }
    Ok(0)
}

/// How events are written.
enum Shape {
    Text,
    Json,
    Template(String),
}

impl Shape {
    fn new(format: &str) -> Result<Self> {
        let shape = match format {
            "" => return Ok(Self::Text),
            "json" | "{{json .}}" => return Ok(Self::Json),
            _ => Self::Template(format.to_owned()),
        };
        // Tells an unknown field before anything happens.
        shape.line(&EventMessage::default()).map_err(|error| {
            CliError::with_code(
                BAD_TEMPLATE,
                format!("Error parsing format: {}", error.message),
            )
        })?;
        Ok(shape)
    }

    fn line(&self, event: &EventMessage) -> Result<String> {
        match self {
            Self::Text => Ok(plain(event)),
            Self::Json => {
                serde_json::to_string(event).map_err(|error| CliError::new(error.to_string()))
            }
            Self::Template(source) => run_template(source, event).map_err(CliError::new),
        }
    }
}

/// Runs a template; an attribute that this event does not have is `<no value>`.
fn run_template(source: &str, event: &EventMessage) -> std::result::Result<String, String> {
    let mut event = event.clone();
    loop {
        let (value, order) = value(&event)?;
        let template = Template::parse(source, Purpose::Values, order, true)?;
        let missing = RefCell::new(String::new());
        let result = template.run(&value, |key| {
            key.clone_into(&mut missing.borrow_mut());
            format!("can't evaluate field {key} in type *events.Message")
        });
        let key = missing.into_inner();
        let attributes = &mut event.actor.attributes;
        let is_attribute =
            source.contains(&format!(".Attributes.{key}")) && !attributes.contains_key(&key);
        if result.is_ok() || key.is_empty() || !is_attribute {
            return result;
        }
        attributes.insert(key, "<no value>".into());
    }
}

/// The event under Go's names of its fields; `json` shows it under those of the API.
fn value(event: &EventMessage) -> std::result::Result<(Value, KeyOrder), String> {
    let json = serde_json::to_value(event).map_err(|error| error.to_string())?;
    let (mut value, order) = ordered_value(&json);
    if let Value::Map(fields) = &mut value
        && let Some(fields) = Arc::get_mut(fields)
    {
        for (name, value) in [
            ("Status", text(event.status.as_str())),
            ("ID", text(event.id.as_str())),
            ("From", text(event.from.as_str())),
            ("Scope", text(event.scope.as_str())),
            ("Time", Value::Int(event.time)),
            ("TimeNano", Value::Int(event.time_nano)),
        ] {
            fields.insert(name.into(), value);
        }
    }
    Ok((value, order))
}

/// `2026-11-21T04:56:17.359382891Z volume create vol1 (driver=local)`.
fn plain(event: &EventMessage) -> String {
    let mut line = String::new();
    let time = if event.time_nano != 0 {
        Timestamp::from_nanosecond(event.time_nano.into())
    } else {
        Timestamp::from_second(event.time)
    };
    if let Ok(time) = time
        && (event.time_nano != 0 || event.time != 0)
    {
        let zoned = time.to_zoned(TimeZone::system());
        let zone = if zoned.offset().is_zero() { "Z" } else { "%:z" };
        let _ = write!(
            line,
            "{} ",
            zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S.%9f{zone}"))
        );
    }
    let _ = write!(line, "{} {} {}", event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event
            .actor
            .attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let _ = write!(line, " ({})", pairs.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventMessage {
        serde_json::from_str(
            r#"{"status":"die","id":"80f7","from":"busybox","Type":"container","Action":"die","Actor":{"ID":"80f7",
            "Attributes":{"image":"busybox","name":"two"}},"scope":"local","time":1795236977,"timeNano":1795236977556242669}"#,
        )
        .unwrap()
    }

    #[test]
    fn events_as_docker_prints_them() {
        assert!(
            plain(&event()).ends_with(".556242669Z container die 80f7 (image=busybox, name=two)")
        );
        let line = |format: &str| Shape::new(format).unwrap().line(&event()).unwrap();
        assert_eq!(
            line("{{.Type}} {{.Actor.Attributes.name}} {{.Time}} {{.Actor.Attributes.exitCode}}"),
            "container two 1795236977 <no value>"
        );
        assert_eq!(
            line("json"),
            "{\"status\":\"die\",\"id\":\"80f7\",\"from\":\"busybox\",\"Type\":\"container\",\"Action\":\"die\",\
             \"Actor\":{\"ID\":\"80f7\",\"Attributes\":{\"image\":\"busybox\",\"name\":\"two\"}},\"scope\":\"local\",\
             \"time\":1795236977,\"timeNano\":1795236977556242669}"
        );
    }

    #[test]
    fn an_unknown_field_is_told_before_anything_happens() {
        let error = Shape::new("{{.Foo}}").err().unwrap();
        assert_eq!(error.code, 64);
        assert_eq!(
            error.message,
            "Error parsing format: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type \
             *events.Message"
        );
    }
}
