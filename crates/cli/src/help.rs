//! Help texts in Docker's layout.

use std::fmt::Write as _;

use crate::command::{Command, Group};
use crate::commands::{COMMON, FACES, GROUPS, TOP};
use crate::flags::{Flag, FlagTables, flag, switch, usages, usages_of};

/// Flags before the verb.
pub const GLOBAL_FLAGS: &[Flag] = &[
    flag("config", "string", "Location of client config files").default("\"~/.docker\""),
    flag(
        "context",
        "string",
        "Name of the context to connect to; wins over DOCKER_HOST and the current context",
    )
    .short('c'),
    switch("debug", "Enable debug mode").short('D'),
    flag("host", "list", "Daemon socket to connect to").short('H'),
    flag(
        "log-level",
        "string",
        "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    )
    .short('l')
    .default("\"info\""),
    switch("tls", "Use TLS; implied by --tlsverify"),
    flag(
        "tlscacert",
        "string",
        "Trust certificates signed only by this CA",
    )
    .default("\"~/.docker/ca.pem\""),
    flag("tlscert", "string", "Path to TLS certificate file").default("\"~/.docker/cert.pem\""),
    flag("tlskey", "string", "Path to TLS key file").default("\"~/.docker/key.pem\""),
    switch("tlsverify", "Use TLS and verify the remote"),
    switch("version", "Print version information and quit").short('v'),
];

const HELP_FLAG: &[Flag] = &[switch("help", "Print usage")];

/// Help of the program itself.
pub fn top(program: &str) -> String {
    let mut text = format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nContainers, images, networks and volumes in one program\n"
    );
    let named = |name: &str| TOP.iter().find(|command| command.top == Some(name));
    let common: Vec<_> = COMMON
        .iter()
        .filter_map(|name| named(name).map(|command| (*name, command.about)))
        .collect();
    section(&mut text, "Common Commands", &common);
    let mut groups: Vec<_> = GROUPS
        .iter()
        .filter(|group| group.listed)
        .map(|group| (group.name, group.about))
        .chain(FACES.iter().copied())
        .collect();
    groups.sort_unstable();
    section(&mut text, "Management Commands", &groups);
    let mut rest: Vec<_> = TOP
        .iter()
        .filter_map(|command| Some((command.top?, command.about)))
        .filter(|(name, _)| !COMMON.contains(name))
        .collect();
    rest.sort_unstable();
    section(&mut text, "Commands", &rest);
    let _ = write!(
        text,
        "\nGlobal Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        usages(&[GLOBAL_FLAGS], width())
    );
    text
}

/// Help of a noun.
pub fn group(program: &str, group: &Group) -> String {
    let mut text = format!(
        "Usage:  {program} {} COMMAND\n\n{}\n",
        group.name, group.about
    );
    let mut rows: Vec<_> = group
        .commands
        .iter()
        .map(|command| (command.name, command.about))
        .collect();
    rows.sort_unstable();
    section(&mut text, "Commands", &rows);
    let _ = write!(
        text,
        "\nRun '{program} {} COMMAND --help' for more information on a command.\n",
        group.name
    );
    text
}

/// Help of a verb.
pub fn command(program: &str, path: &str, command: &Command) -> String {
    let mut text = format!(
        "Usage:  {}\n\n{}\n",
        usage_line(path, command),
        command.about
    );
    if !command.aliases.is_empty() {
        let names: Vec<_> = command
            .aliases
            .iter()
            .map(|alias| format!("{program} {alias}"))
            .collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let visible = command.flags.iter().any(|table| !table.is_empty());
    if visible {
        let _ = write!(text, "\nOptions:\n{}", options(command.flags));
    }
    text
}

/// `docker run [OPTIONS] IMAGE`.
pub fn usage_line(path: &str, command: &Command) -> String {
    if command.usage.is_empty() {
        path.to_owned()
    } else {
        format!("{path} {}", command.usage.replace("{path}", path))
    }
}

fn options(tables: FlagTables) -> String {
    // A verb that takes -h for itself shows --help, as pflag does.
    if tables
        .iter()
        .flat_map(|table| table.iter())
        .any(|flag| flag.short == Some('h'))
    {
        let mut all: Vec<Flag> = tables
            .iter()
            .flat_map(|table| table.iter().copied())
            .collect();
        all.extend_from_slice(HELP_FLAG);
        return usages_of(&all, width());
    }
    usages(tables, width())
}

fn section(text: &mut String, title: &str, rows: &[(&str, &str)]) {
    if rows.is_empty() {
        return;
    }
    let column = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(11);
    let _ = write!(text, "\n{title}:\n");
    for (name, about) in rows {
        let _ = writeln!(text, "  {name:column$} {about}");
    }
}

fn width() -> usize {
    let columns = crate::terminal::size(&std::io::stdin()).map_or(80, |(_, columns)| columns);
    usize::from(columns.max(20)) - 1
}
