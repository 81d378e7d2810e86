//! What `--call` answers about a file without building it: its targets, and what one of them takes.

use std::collections::BTreeSet;

use super::error::ParseError;
use super::instruction::{ArgPair, Kind};
use super::mount::{Mount, MountType};
use super::scope::{Arguments, GlobalScope};
use super::stages::Dockerfile;

/// The questions that can be asked.
pub const SUBREQUESTS: [&str; 4] = [
    "frontend.outline",
    "frontend.targets",
    "frontend.lint",
    "frontend.subrequests.describe",
];

/// Refuses a question that is not built.
///
/// # Errors
/// The sentence that names it.
pub fn supported(subrequest: &str) -> Result<(), String> {
    if SUBREQUESTS.contains(&subrequest) {
        return Ok(());
    }
    Err(format!("unsupported subrequest {subrequest:?}"))
}

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: Option<String>,
    pub base: String,
    pub description: Option<String>,
    pub is_default: bool,
}

/// An argument, secret or agent that a target takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub name: String,
    pub value: Option<String>,
    pub description: Option<String>,
    pub required: bool,
}

/// What a target takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub name: Option<String>,
    pub args: Vec<Taken>,
    pub secrets: Vec<Taken>,
    pub ssh: Vec<Taken>,
}

/// Every stage of a file in order.
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len() - 1;
    let target = |(index, stage): (usize, &super::Stage)| Target {
        name: stage.from.name.clone(),
        base: stage.from.base.clone(),
        description: stage.from.description.clone(),
        is_default: index == last,
    };
    file.stages.iter().enumerate().map(target).collect()
}

/// What a target and the stages it needs take.
///
/// # Errors
/// Variables or mounts that can't be read, or a `--from` without stage.
pub fn outline(
    file: &Dockerfile,
    target: usize,
    arguments: &Arguments,
) -> Result<Outline, ParseError> {
    let mut global = GlobalScope::new(file.directives.escape, arguments);
    for pair in file.arg_pairs() {
        global
            .declare(pair)
            .map_err(|error| ParseError::whole(error.to_string()))?;
    }
    let bases = file.stages.iter().map(|stage| {
        let base = global.expand(&stage.from.base);
        base.map(|expansion| expansion.text)
            .map_err(|error| ParseError::at(stage.instruction.lines, error.to_string()))
    });
    let bases: Vec<String> = bases.collect::<Result<_, _>>()?;
    let mut outline = Outline {
        name: file.stages[target].from.name.clone(),
        ..Outline::default()
    };
    let mut seen = BTreeSet::new();
    for pair in file.arg_pairs() {
        argument(pair, arguments, &mut seen, &mut outline);
    }
    for index in file.needed(target, &bases)? {
        for instruction in &file.stages[index].instructions {
            match &instruction.kind {
                Kind::Arg(pairs) => pairs
                    .iter()
                    .for_each(|pair| argument(pair, arguments, &mut seen, &mut outline)),
                Kind::Run(run) => mounts(&run.mounts, &mut outline)
                    .map_err(|text| ParseError::at(instruction.lines, text))?,
                _ => {}
            }
        }
    }
    Ok(outline)
}

fn argument(
    pair: &ArgPair,
    arguments: &Arguments,
    seen: &mut BTreeSet<String>,
    outline: &mut Outline,
) {
    if !seen.insert(pair.name.clone()) {
        return;
    }
    let given = arguments.given.get(&pair.name).cloned();
    outline.args.push(Taken {
        name: pair.name.clone(),
        value: given.or_else(|| pair.default.clone()),
        description: pair.description.clone(),
        required: false,
    });
}

fn mounts(values: &[String], outline: &mut Outline) -> Result<(), String> {
    for value in values {
        let mount = Mount::parse(value, &|word| Ok(word.to_owned()))?;
        let (list, fallback) = match mount.kind {
            MountType::Secret => (&mut outline.secrets, mount.source.or(mount.target)),
            MountType::Ssh => (&mut outline.ssh, Some("default".to_owned())),
            _ => continue,
        };
        let Some(name) = mount.id.or(fallback) else {
            continue;
        };
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        match list.iter_mut().find(|taken| taken.name == name) {
            Some(taken) => taken.required |= mount.required,
            None => list.push(Taken {
                name,
                value: None,
                description: None,
                required: mount.required,
            }),
        }
    }
    Ok(())
}
