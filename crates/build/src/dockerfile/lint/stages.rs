//! Checks of stages: names, the case of keywords, platforms, descriptions.

use super::Finding;
use super::rules::rule;
use crate::dockerfile::instruction::{ArgPair, Instruction, Kind};
use crate::dockerfile::stages::{Dockerfile, Stage};

pub(super) fn check(file: &Dockerfile, findings: &mut Vec<Finding>) {
    for (index, stage) in file.stages.iter().enumerate() {
        let lines = file.lines_of(&stage.instruction);
        let mut found = |name: &str, message: String| {
            findings.push(Finding {
                rule: rule(name),
                message,
                lines,
            });
        };
        names(file, index, stage, &mut found);
        keywords(stage, &mut found);
        platform(stage, &mut found);
    }
    casing(file, findings);
    descriptions(file, findings);
}

type Found<'a> = &'a mut dyn FnMut(&str, String);

fn names(file: &Dockerfile, index: usize, stage: &Stage, found: Found<'_>) {
    let (Some(name), Some(written)) = (&stage.from.name, &stage.from.written_name) else {
        return;
    };
    if written != name {
        found(
            "StageNameCasing",
            format!("Stage name '{written}' should be lowercase"),
        );
    }
    if file.stage_named(name, index).is_some() {
        found(
            "DuplicateStageName",
            format!("Duplicate stage name {name:?}, stage names should be unique"),
        );
    }
    if matches!(name.as_str(), "scratch" | "context") {
        found(
            "ReservedStageName",
            format!("Stage name should not use the same name as reserved stage {name:?}"),
        );
    }
}

fn keywords(stage: &Stage, found: Found<'_>) {
    let Some(keyword) = &stage.from.as_keyword else {
        return;
    };
    let from = &stage.instruction.keyword;
    let (one, other) = (case(keyword), case(from));
    if one.is_some() && other.is_some() && one != other {
        found(
            "FromAsCasing",
            format!("'{keyword}' and '{from}' keywords' casing do not match"),
        );
    }
}

fn platform(stage: &Stage, found: Found<'_>) {
    let Some(platform) = &stage.from.platform else {
        return;
    };
    if platform == "$TARGETPLATFORM" || platform == "${TARGETPLATFORM}" {
        found(
            "RedundantTargetPlatform",
            format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            ),
        );
    }
    if platform.contains('$') {
        return;
    }
    // A stage that is named after its platform wants just that one.
    let name = stage.from.name.as_deref().unwrap_or("");
    if platform
        .split('/')
        .any(|part| !part.is_empty() && name.contains(part))
    {
        return;
    }
    found(
        "FromPlatformFlagConstDisallowed",
        format!("FROM --platform flag should not use constant value {platform:?}"),
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

/// The case of a keyword, none when it is mixed.
fn case(word: &str) -> Option<Case> {
    if word == word.to_lowercase() {
        Some(Case::Lower)
    } else if word == word.to_uppercase() {
        Some(Case::Upper)
    } else {
        None
    }
}

fn casing(file: &Dockerfile, findings: &mut Vec<Finding>) {
    let count = |wanted| {
        file.instructions()
            .filter(|instruction| case(&instruction.keyword) == Some(wanted))
            .count()
    };
    let (majority, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lowercase")
    } else {
        (Case::Upper, "uppercase")
    };
    for instruction in file.instructions() {
        let keyword = &instruction.keyword;
        if case(keyword) != Some(majority) {
            findings.push(Finding {
                rule: rule("ConsistentInstructionCasing"),
                message: format!(
                    "Command '{keyword}' should match the case of the command majority ({name})"
                ),
                lines: file.lines_of(instruction),
            });
        }
    }
}

fn descriptions(file: &Dockerfile, findings: &mut Vec<Finding>) {
    let described = |pair: &ArgPair| pair.description.is_some();
    for instruction in file.instructions() {
        let fits = match &instruction.kind {
            Kind::Arg(pairs) => pairs.iter().any(described),
            Kind::From(from) => from.name.is_none() || from.description.is_some(),
            _ => true,
        };
        if !fits && !plain_comments(instruction).is_empty() {
            findings.push(Finding {
                rule: rule("InvalidDefinitionDescription"),
                message: rule("InvalidDefinitionDescription").description.to_owned(),
                lines: file.lines_of(instruction),
            });
        }
    }
}

/// Comments that are neither settings of checks nor directives.
fn plain_comments(instruction: &Instruction) -> Vec<&str> {
    let setting = |line: &&str| {
        let key = line.split('=').next().unwrap_or("").trim();
        line.contains('=') && matches!(key, "check" | "syntax" | "escape" | "extras")
    };
    instruction
        .comments
        .iter()
        .map(String::as_str)
        .filter(|line| !setting(line))
        .collect()
}
