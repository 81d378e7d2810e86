//! All verbs, and what several of them share.

use std::future::Future;

use crate::app::App;
use crate::command::{Command, Group};
use crate::error::{CliError, Result};

pub mod builder;
pub mod container;
pub mod content_trust;
pub mod context;
pub mod filtering;
pub mod image;
pub mod inspect;
pub mod inspecting;
pub mod manifest;
pub mod network;
pub mod pairs;
pub mod registry;
pub mod removed;
pub mod system;
pub mod unbuilt;
pub mod volume;

/// Nouns with verbs below them.
pub const GROUPS: &[Group] = &[
    group("builder", "Manage builds", builder::COMMANDS),
    group(
        "buildx",
        "Manage builds (the same verbs)",
        builder::COMMANDS,
    ),
    group("container", "Manage containers", container::COMMANDS),
    group("context", "Manage contexts", context::COMMANDS),
    group("image", "Manage images", image::COMMANDS),
    group(
        "manifest",
        "Manage manifests and lists of them",
        manifest::COMMANDS,
    ),
    group("network", "Manage networks", network::COMMANDS),
    group("system", "Manage the daemon", system::COMMANDS),
    group("volume", "Manage volumes", volume::COMMANDS),
];

/// First words that choose another face of the program before this command line is asked; they stand in its help.
pub const FACES: &[(&str, &str)] = &[
    ("daemon", "Run the daemon"),
    ("registry", "Serve and manage a registry"),
];

const fn group(
    name: &'static str,
    about: &'static str,
    commands: &'static [&'static Command],
) -> Group {
    Group {
        name,
        about,
        commands,
        listed: true,
    }
}

/// Verbs that are called without a noun.
pub const TOP: &[&Command] = &[
    &container::attach::COMMAND,
    &container::commit::COMMAND,
    &container::cp::COMMAND,
    &container::create::COMMAND,
    &container::diff::COMMAND,
    &container::exec::COMMAND,
    &container::export::COMMAND,
    &container::kill::COMMAND,
    &container::logs::COMMAND,
    &container::pause::COMMAND,
    &container::port::COMMAND,
    &container::ls::COMMAND,
    &container::rename::COMMAND,
    &container::restart::COMMAND,
    &container::rm::COMMAND,
    &container::run::COMMAND,
    &container::start::COMMAND,
    &container::stats::COMMAND,
    &container::stop::COMMAND,
    &container::top::COMMAND,
    &container::unpause::COMMAND,
    &container::update::COMMAND,
    &container::wait::COMMAND,
    &image::build::COMMAND,
    &image::history::COMMAND,
    &image::import::COMMAND,
    &image::load::COMMAND,
    &image::ls::COMMAND,
    &image::pull::COMMAND,
    &image::push::COMMAND,
    &image::rm::COMMAND,
    &image::save::COMMAND,
    &image::tag::COMMAND,
    &inspect::COMMAND,
    &registry::login::COMMAND,
    &registry::logout::COMMAND,
    &registry::search::COMMAND,
    &system::events::COMMAND,
    &system::info::COMMAND,
    &system::version::COMMAND,
];

/// Verbs that lead the top-level help, in this order.
pub const COMMON: &[&str] = &[
    "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version",
    "info",
];

/// Does something to each name, one after the other: prints the line it gives, tells what failed, and exits 1 if
/// anything did.
///
/// # Errors
/// The failures, one a line.
pub async fn each<'a, F: Future<Output = Result<Option<String>>>>(
    app: &App,
    names: &'a [String],
    mut act: impl FnMut(&'a str) -> F,
) -> Result {
    let mut failures = Vec::new();
    for name in names {
        match act(name).await {
            Ok(Some(line)) => app.printer.line(&line),
            Ok(None) => {}
            Err(error) => failures.push(error.message),
        }
    }
    if failures.is_empty() {
        return Ok(0);
    }
    Err(CliError::new(failures.join("\n")))
}

/// Checks one `--filter`.
///
/// # Errors
/// It is no `key=value`.
pub fn check_filter(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}
