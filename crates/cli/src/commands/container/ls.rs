//! `container ls`, better known as `ps`: list containers. The model for other listing verbs.

use cais_client::api::options::ListOptions;
use cais_types::api::query::Filters;
use cais_types::api::{ContainerSummary, Port};
use cais_types::human::{human_duration, human_size_with_precision};
use gotmpl::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag, switch};
use crate::format::{Column, Listing, Row, label, ordered_value};

/// The verb.
pub const COMMAND: Command = Command {
    name: "ls",
    other_names: &["list", "ps"],
    top: Some("ps"),
    about: "List containers",
    usage: "[OPTIONS]",
    aliases: &["container ls", "container list", "container ps", "ps"],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch("all", "Show all containers, not only running ones").short('a'),
    flag(
        "filter",
        "filter",
        "Show only what meets a condition (key=value)",
    )
    .short('f')
    .check(crate::commands::check_filter),
    flag(
        "format",
        "string",
        "Output as 'table', 'table TEMPLATE', 'json', or by a Go template",
    ),
    flag(
        "last",
        "int",
        "Show the n containers created last, in any state",
    )
    .short('n')
    .default("-1"),
    switch("latest", "Show the container created last, in any state").short('l'),
    switch("no-trunc", "Do not shorten columns"),
    switch("quiet", "Show only container IDs").short('q'),
    switch("size", "Show file sizes").short('s'),
];

/// The rows of `ps` and of `system df -v`.
pub(crate) const LISTING: Listing = Listing {
    columns: &[
        Column::new("ID", "CONTAINER ID"),
        Column::new("Names", "NAMES"),
        Column::new("Image", "IMAGE"),
        Column::new("Command", "COMMAND"),
        Column::new("CreatedAt", "CREATED AT"),
        Column::new("RunningFor", "CREATED"),
        Column::new("Platform", "PLATFORM"),
        Column::new("Ports", "PORTS"),
        Column::new("State", "STATE"),
        Column::new("Status", "STATUS"),
        Column::new("Size", "SIZE"),
        Column::new("Labels", "LABELS"),
        Column::new("Mounts", "MOUNTS"),
        Column::new("LocalVolumes", "LOCAL VOLUMES"),
        Column::new("Networks", "NETWORKS"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    go_type: "*formatter.ContainerContext",
};

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let last = if args.switch("latest") {
        1
    } else {
        args.int("last", -1)
    };
    let mut filters = Filters::default();
    for filter in args.list("filter") {
        let (name, value) = filter.split_once('=').unwrap_or((&filter, ""));
        filters.add(name.trim().to_ascii_lowercase(), value.trim());
    }
    let quiet = args.switch("quiet");
    let format = match args.value("format") {
        Some(format) => format,
        None if quiet => "",
        None => &app.config().ps_format,
    };
    let mut template = LISTING.template(format, quiet).into_owned();
    LISTING.check(&template).map_err(CliError::new)?;
    let size = args.switch("size") || (args.changed("format") && LISTING.uses(format, "Size"));
    if args.switch("size") && matches!(format, "" | "table") && !quiet {
        template.push_str("\t{{.Size}}");
    }
    let options = ListOptions {
        all: args.switch("all"),
        limit: u64::try_from(last).ok().filter(|limit| *limit > 0),
        size,
        filters,
    };
    let containers = app.client()?.container_list(&options).await?.decode()?;
    let view = View {
        now: Timestamp::now(),
        shorten: !args.switch("no-trunc"),
        size,
        dates: template.contains(".CreatedAt") || template.contains("json ."),
    };
    let rows = containers
        .iter()
        .map(|container| row(container, view))
        .collect();
    LISTING.print(app.printer, &template, rows)?;
    Ok(0)
}

/// How rows are shown.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// The time ages are counted to.
    pub now: Timestamp,
    /// Whether long texts are cut.
    pub shorten: bool,
    /// Whether sizes are known.
    pub size: bool,
    /// Whether dates are wanted: they need the time zone, which is read from several files.
    pub dates: bool,
}

/// A container as templates see it.
pub(crate) fn row(container: &ContainerSummary, view: View) -> Row {
    let View { now, shorten, .. } = view;
    let text = |text: String| Value::String(text.into());
    let id = if shorten {
        first(&container.id, 12)
    } else {
        container.id.clone()
    };
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|name| name.trim_start_matches('/'))
        .filter(|name| !shorten || !name.contains('/'))
        .collect();
    let command = if shorten {
        ellipsis(&container.command, 20)
    } else {
        container.command.clone()
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            }
        })
        .map(|name| {
            if shorten {
                ellipsis(name, 15)
            } else {
                name.clone()
            }
        })
        .collect();
    let volumes = container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let networks: Vec<&str> = container
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    let age = now.as_second() - container.created;
    let created_at = if view.dates {
        local_time(container.created)
    } else {
        String::new()
    };
    Row::from([
        ("ID", text(id)),
        ("Names", text(names.join(","))),
        ("Image", text(image(container, shorten))),
        ("Command", text(format!("{command:?}"))),
        ("CreatedAt", text(created_at)),
        ("RunningFor", text(format!("{} ago", human_duration(age)))),
        ("Platform", platform(container)),
        ("Ports", text(ports(&container.ports))),
        ("State", text(container.state.clone())),
        ("Status", text(container.status.clone())),
        (
            "Size",
            text(if view.size {
                size(container)
            } else {
                "0B".into()
            }),
        ),
        ("Labels", text(labels.join(","))),
        ("Label", label(container.labels.clone())),
        ("Mounts", text(mounts.join(","))),
        ("LocalVolumes", text(volumes.to_string())),
        ("Networks", text(networks.join(","))),
    ])
}

fn image(container: &ContainerSummary, shorten: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".into();
    }
    let id = container
        .image
        .strip_prefix("sha256:")
        .unwrap_or(&container.image);
    if shorten && id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return first(id, 12);
    }
    container.image.clone()
}

/// The platform of the image, where the daemon tells it.
fn platform(container: &ContainerSummary) -> Value {
    let descriptor = container.image_manifest_descriptor.as_ref();
    match descriptor.and_then(|descriptor| serde_json::to_value(descriptor).ok()) {
        Some(json) => ordered_value(json.get("platform").unwrap_or(&serde_json::Value::Null)).0,
        None => Value::Nil,
    }
}

fn size(container: &ContainerSummary) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let human = |bytes: i64| human_size_with_precision(bytes as f64, 3);
    let own = human(container.size_rw);
    if container.size_root_fs > 0 {
        return format!("{own} (virtual {})", human(container.size_root_fs));
    }
    own
}

/// `2024-01-02 03:04:05 +0000 UTC`, in the local zone, as Go prints a time.
fn local_time(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

fn first(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

fn ellipsis(text: &str, count: usize) -> String {
    if text.chars().count() <= count {
        return text.to_owned();
    }
    first(text, count - 1) + "…"
}

/// `0.0.0.0:8000-8001->80-81/tcp, 53/udp`: neighbours are joined.
pub fn ports(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.r#type).cmp(&(
            b.private_port,
            &b.ip,
            b.public_port,
            &b.r#type,
        ))
    });
    let mut groups: Vec<PortGroup> = Vec::new();
    let mut done = Vec::new();
    let mut moved = Vec::new();
    for port in &ports {
        let number = port.private_port;
        if !port.ip.is_empty() && port.public_port != number {
            let place = host(&port.ip);
            moved.push(format!(
                "{place}:{}->{number}/{}",
                port.public_port, port.r#type
            ));
            continue;
        }
        let new = PortGroup {
            ip: &port.ip,
            protocol: &port.r#type,
            first: number,
            last: number,
        };
        let same = |group: &&mut PortGroup| (group.ip, group.protocol) == (new.ip, new.protocol);
        match groups.iter_mut().find(same) {
            Some(group) if group.last.checked_add(1) == Some(number) => group.last = number,
            Some(group) => done.push(std::mem::replace(group, new).text()),
            None => groups.push(new),
        }
    }
    done.extend(groups.iter().map(PortGroup::text));
    done.extend(moved);
    done.join(", ")
}

/// Neighbouring ports that are published under their own numbers, or not at all.
struct PortGroup<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl PortGroup<'_> {
    fn text(&self) -> String {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        match self.ip {
            "" => format!("{range}/{}", self.protocol),
            ip => format!("{}:{range}->{range}/{}", host(ip), self.protocol),
        }
    }
}

/// An address in front of a port.
fn host(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_joined_when_they_follow_each_other() {
        let port = |ip: &str, private, public, protocol: &str| Port {
            ip: ip.into(),
            private_port: private,
            public_port: public,
            r#type: protocol.into(),
        };
        assert_eq!(ports(&[]), "");
        assert_eq!(
            ports(&[
                port("0.0.0.0", 80, 8080, "tcp"),
                port("::", 80, 8080, "tcp")
            ]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            ports(&[
                port("", 80, 0, "tcp"),
                port("", 81, 0, "tcp"),
                port("", 53, 0, "udp")
            ]),
            "53/udp, 80-81/tcp"
        );
        assert_eq!(
            ports(&[
                port("1.2.3.4", 80, 80, "tcp"),
                port("1.2.3.4", 81, 81, "tcp")
            ]),
            "1.2.3.4:80-81->80-81/tcp"
        );
        assert_eq!(
            ports(&[
                port("", 443, 0, "tcp"),
                port("0.0.0.0", 80, 8080, "tcp"),
                port("", 53, 0, "udp"),
                port("", 80, 0, "tcp")
            ]),
            "80/tcp, 53/udp, 443/tcp, 0.0.0.0:8080->80/tcp"
        );
    }
}
