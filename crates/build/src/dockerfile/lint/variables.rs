//! Checks of variables: those that FROM and the instructions of a stage use, and of working directories, which need their
//! values.

use cais_types::reference::Reference;

use super::Finding;
use super::rules::rule;
use crate::dockerfile::instruction::{Instruction, Kind};
use crate::dockerfile::lexer::{Expansion, LexError};
use crate::dockerfile::scope::{Arguments, GlobalScope, StageScope};
use crate::dockerfile::stages::{Dockerfile, Stage};
use crate::dockerfile::suggest;

/// What is known of a stage once it was looked at, for those that build on it.
#[derive(Clone)]
struct Known {
    scope: StageScope,
    /// Whether its whole environment is known: it goes back to `scratch`.
    complete: bool,
    absolute_workdir: bool,
}

pub(super) fn check(file: &Dockerfile, arguments: &Arguments, findings: &mut Vec<Finding>) {
    let escape = file.directives.escape;
    let mut global = GlobalScope::new(escape, arguments);
    let without_given = Arguments {
        platform: arguments.platform.clone(),
        ..Arguments::default()
    };
    let mut defaults = GlobalScope::new(escape, &without_given);
    for pair in file.arg_pairs() {
        // A default that can't be expanded fails the build; it is no matter of style.
        let _ = global.declare(pair);
        let _ = defaults.declare(pair);
    }
    let mut stages: Vec<Known> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        from(file, stage, &global, &defaults, findings);
        let base = global
            .expand(&stage.from.base)
            .map_or(String::new(), |expansion| expansion.text);
        let mut known = match file.stage_named(&base, index) {
            Some(parent) => stages[parent].clone(),
            None => Known {
                scope: global.stage(&[]),
                complete: base == "scratch",
                absolute_workdir: false,
            },
        };
        for instruction in &stage.instructions {
            walk(file, instruction, &mut known, findings);
        }
        stages.push(known);
    }
}

fn from(
    file: &Dockerfile,
    stage: &Stage,
    global: &GlobalScope,
    defaults: &GlobalScope,
    findings: &mut Vec<Finding>,
) {
    let lines = file.lines_of(&stage.instruction);
    let mut found = |name: &str, message: String| {
        findings.push(Finding {
            rule: rule(name),
            message,
            lines,
        });
    };
    let words = [Some(&stage.from.base), stage.from.platform.as_ref()];
    for word in words.into_iter().flatten() {
        let Ok(expansion) = global.expand(word) else {
            continue;
        };
        for name in expansion
            .unmatched
            .iter()
            .filter(|name| !global.declares(name))
        {
            let hint = suggest::hint(name, global.names());
            let message = format!("FROM argument '{name}' is not declared{hint}");
            found("UndefinedArgInFrom", message);
        }
    }
    let base = &stage.from.base;
    if let Ok(expansion) = defaults.expand(base)
        && base.contains('$')
        && expansion
            .unmatched
            .iter()
            .all(|name| defaults.declares(name))
        && expansion.text.parse::<Reference>().is_err()
    {
        let message =
            format!("Default value for ARG {base} results in empty or invalid base image name");
        found("InvalidDefaultArgInFrom", message);
    }
}

fn walk(
    file: &Dockerfile,
    instruction: &Instruction,
    known: &mut Known,
    findings: &mut Vec<Finding>,
) {
    let expansions = expansions(&instruction.kind, known);
    if let Kind::Workdir(path) = &instruction.kind {
        let path = known
            .scope
            .expand(path)
            .map_or(String::new(), |expansion| expansion.text);
        known.absolute_workdir |= path.starts_with('/');
        if !known.absolute_workdir {
            findings.push(Finding {
                rule: rule("WorkdirRelativePath"),
                message: format!(
                    "Relative workdir {path:?} can have unexpected results if the base image changes"
                ),
                lines: file.lines_of(instruction),
            });
        }
    }
    if !known.complete {
        return;
    }
    for expansion in expansions.into_iter().flatten() {
        for name in expansion.unmatched {
            let declared = known.scope.declared().any(|declared| declared == name);
            if declared || name == "PATH" {
                continue;
            }
            let near = suggest::closest(&name, known.scope.names());
            let hint = near.map_or(String::new(), |near| format!(" (did you mean ${near}?)"));
            findings.push(Finding {
                rule: rule("UndefinedVar"),
                message: format!("Usage of undefined variable '${name}'{hint}"),
                lines: file.lines_of(instruction),
            });
        }
    }
}

/// Expands the words of an instruction, and keeps what it defines.
fn expansions(kind: &Kind, known: &mut Known) -> Vec<Result<Expansion, LexError>> {
    let scope = &mut known.scope;
    let words: Vec<&String> = match kind {
        Kind::Arg(pairs) => return pairs.iter().map(|pair| scope.declare(pair)).collect(),
        Kind::Env(pairs) => {
            let values: Vec<_> = pairs
                .iter()
                .map(|pair| (pair.name.clone(), scope.expand(&pair.value)))
                .collect();
            for (name, value) in &values {
                let value = value
                    .as_ref()
                    .map_or("", |expansion| expansion.text.as_str());
                scope.set_env(name, value);
            }
            return values.into_iter().map(|(_, value)| value).collect();
        }
        Kind::Label(pairs) => pairs
            .iter()
            .flat_map(|pair| [&pair.name, &pair.value])
            .collect(),
        Kind::Add(transfer) | Kind::Copy(transfer) => transfer
            .sources
            .iter()
            .chain([&transfer.destination])
            .chain(&transfer.chown)
            .chain(&transfer.chmod)
            .collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::StopSignal(word) | Kind::User(word) | Kind::Workdir(word) => vec![word],
        _ => Vec::new(),
    };
    words.into_iter().map(|word| scope.expand(word)).collect()
}
