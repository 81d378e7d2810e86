//! Checks of single instructions and of those that one stage repeats.

use super::Finding;
use super::rules::rule;
use crate::dockerfile::ignore::{self, Ignore};
use crate::dockerfile::instruction::{Instruction, Kind, Pair, Transfer};
use crate::dockerfile::stages::{Dockerfile, Stage};

type Found<'a> = &'a mut dyn FnMut(&str, String);

pub(super) fn check(file: &Dockerfile, ignore: Option<&Ignore>, findings: &mut Vec<Finding>) {
    for instruction in file.instructions() {
        let lines = file.lines_of(instruction);
        let mut found = |name: &str, message: String| {
            findings.push(Finding {
                rule: rule(name),
                message,
                lines,
            });
        };
        single(instruction, ignore, &mut found);
    }
    for stage in &file.stages {
        let mut found = |instruction: &Instruction, name: &str, message: String| {
            findings.push(Finding {
                rule: rule(name),
                message,
                lines: file.lines_of(instruction),
            });
        };
        repeated(stage, &mut found);
        exec_forms(stage, &mut found);
    }
}

fn single(instruction: &Instruction, ignore: Option<&Ignore>, found: Found<'_>) {
    if instruction.empty_continuation {
        found("NoEmptyContinuation", "Empty continuation line".to_owned());
    }
    match &instruction.kind {
        Kind::Maintainer(_) => found(
            "MaintainerDeprecated",
            "Maintainer instruction is deprecated in favor of using label".to_owned(),
        ),
        Kind::Env(pairs) => {
            legacy("ENV", pairs, found);
            secrets("ENV", pairs.iter().map(|pair| pair.name.as_str()), found);
        }
        Kind::Label(pairs) => legacy("LABEL", pairs, found),
        Kind::Arg(pairs) => secrets("ARG", pairs.iter().map(|pair| pair.name.as_str()), found),
        Kind::Expose(ports) => ports.iter().for_each(|port| expose(port, found)),
        Kind::Copy(transfer) => ignored("Copy", transfer, ignore, found),
        Kind::Add(transfer) => ignored("Add", transfer, ignore, found),
        _ => {}
    }
}

fn legacy(keyword: &str, pairs: &[Pair], found: Found<'_>) {
    if pairs.iter().any(|pair| pair.legacy) {
        let message = format!(
            "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
        );
        found("LegacyKeyValueFormat", message);
    }
}

/// Parts of names that hold secrets.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

fn secrets<'a>(keyword: &str, names: impl Iterator<Item = &'a str>, found: Found<'_>) {
    for name in names {
        let lower = name.to_lowercase();
        let mut parts = lower.split('_');
        if parts.clone().any(|part| SECRET.contains(&part)) && !parts.any(|part| part == "public") {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})"
            );
            found("SecretsUsedInArgOrEnv", message);
        }
    }
}

fn expose(port: &str, found: Found<'_>) {
    let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
    let literal = !port.contains('$');
    if literal && protocol != protocol.to_lowercase() {
        let message =
            format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        found("ExposeProtoCasing", message);
    }
    if literal && port.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        found("ExposeInvalidFormat", message);
    }
}

fn ignored(verb: &str, transfer: &Transfer, ignore: Option<&Ignore>, found: Found<'_>) {
    let Some(ignore) = ignore.filter(|_| transfer.from.is_none()) else {
        return;
    };
    for source in &transfer.sources {
        if source.contains("://") || source.starts_with("git@") || source.contains('$') {
            continue;
        }
        let path = ignore::clean(&format!("/{source}"));
        if ignore.ignores(path.trim_start_matches('/')) {
            let message =
                format!("Attempting to {verb} file {source:?} that is excluded by .dockerignore");
            found("CopyIgnoredFile", message);
        }
    }
}

type FoundAt<'a> = &'a mut dyn FnMut(&Instruction, &str, String);

fn repeated(stage: &Stage, found: FoundAt<'_>) {
    for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let same: Vec<&Instruction> = stage
            .instructions
            .iter()
            .filter(|instruction| instruction.kind.keyword() == keyword)
            .collect();
        let Some((_, earlier)) = same.split_last() else {
            continue;
        };
        for instruction in earlier {
            let message = format!(
                "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
            );
            found(instruction, "MultipleInstructionsDisallowed", message);
        }
    }
}

/// Shell forms of CMD and ENTRYPOINT; after a SHELL they are meant.
fn exec_forms(stage: &Stage, found: FoundAt<'_>) {
    for instruction in &stage.instructions {
        let command = match &instruction.kind {
            Kind::Shell(_) => return,
            Kind::Cmd(command) | Kind::Entrypoint(command) => command,
            _ => continue,
        };
        if command.shell && !command.words.is_empty() {
            let keyword = instruction.kind.keyword();
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            found(instruction, "JSONArgsRecommended", message);
        }
    }
}
