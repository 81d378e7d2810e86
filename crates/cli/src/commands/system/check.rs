//! `system check`: look whether the image store is whole; a verb of cais' own.

use cais_types::api::{CheckFinding, CheckMessage, CheckSummary};

use crate::app::App;
use crate::cell::size4;
use crate::command::{Arguments, Command, Invocation};
use crate::error::{CliError, Result};
use crate::flags::{Flag, switch};

/// The verb.
pub const COMMAND: Command = Command {
    name: "check",
    other_names: &[],
    top: None,
    about: "Check that every image and layer on disk is what it should be",
    usage: "[OPTIONS]",
    aliases: &[],
    arguments: Arguments::None,
    flags: &[FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    switch(
        "repair",
        "Remove what belongs to nothing, and let the next pull or load replace what is damaged",
    ),
    switch("quiet", "Print findings only").short('q'),
];

async fn run(app: &App, call: Invocation) -> Result {
    let repair = call.args.switch("repair");
    let client = app.client()?;
    client.negotiate().await?;
    let mut messages = client.system_check(repair).await?;
    let mut summary = None;
    while let Some(message) = messages.next::<CheckMessage>().await? {
        if !message.error.is_empty() {
            return Err(CliError::new(message.error));
        }
        if let Some(finding) = message.finding {
            app.printer.line(&finding_line(&finding));
        }
        summary = message.summary.or(summary);
    }
    let Some(summary) = summary else {
        return Err(CliError::new("the check broke off"));
    };
    if !call.args.switch("quiet") {
        app.printer.line(&summary_line(&summary, repair));
    }
    Ok(i32::from(summary.left > 0))
}

fn finding_line(finding: &CheckFinding) -> String {
    let id: String = finding.id.chars().take(12).collect();
    let mut line = format!("{} {id}: {}", finding.kind, finding.detail);
    if !finding.images.is_empty() {
        line += &format!(" (needed by {})", finding.images.join(", "));
    }
    if finding.repaired {
        line += ": repaired";
    }
    line
}

fn summary_line(summary: &CheckSummary, repair: bool) -> String {
    let looked = format!(
        "{} layers ({}) and {} documents checked",
        summary.layers,
        size4(summary.bytes.cast_signed()),
        summary.blobs
    );
    match (summary.findings, summary.left, repair) {
        (0, _, _) => format!("{looked}: all whole"),
        (findings, 0, _) => format!("{looked}: {findings} faults, all repaired"),
        (findings, left, true) => {
            format!("{looked}: {findings} faults, {left} left: pull or load these images again")
        }
        (findings, _, false) => format!("{looked}: {findings} faults; mend them with --repair"),
    }
}
