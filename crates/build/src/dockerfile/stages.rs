//! A whole file: what stands before the first FROM, and its stages.

use std::collections::BTreeSet;

use super::directive::Directives;
use super::error::ParseError;
use super::include::{Expander, Loader};
use super::instruction::{ArgPair, From, Instruction, Kind};
use super::reader;
use super::source::{Lines, Source};
use super::suggest;

/// A Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    pub source: Source,
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub args: Vec<Instruction>,
    pub stages: Vec<Stage>,
    /// Names, in lower case, that stand for contexts of the build even where a stage has the same.
    pub contexts: BTreeSet<String>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub from: From,
    /// The FROM itself.
    pub instruction: Instruction,
    /// What follows it.
    pub instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// Reads a file; INCLUDE is refused even where it is asked for.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(source: Source) -> Result<Self, ParseError> {
        Self::parse_with(source, &mut |_| {
            Err("no file can be included here".to_owned())
        })
    }

    /// Reads a file and those that it includes.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse_with(source: Source, load: Loader<'_>) -> Result<Self, ParseError> {
        let read = reader::statements(&source.text)?;
        if read.statements.is_empty() {
            return Err(ParseError::whole("file with no instructions"));
        }
        let mut expander = Expander {
            directives: read.directives,
            load,
            files: 0,
        };
        let instructions = expander.instructions(&read.statements, 0)?;
        let mut file = Self {
            source,
            directives: expander.directives,
            args: Vec::new(),
            stages: Vec::new(),
            contexts: BTreeSet::new(),
        };
        for instruction in instructions {
            file.place(instruction)?;
        }
        if file.stages.is_empty() {
            return Err(ParseError::whole("dockerfile contains no stages to build"));
        }
        Ok(file)
    }

    fn place(&mut self, instruction: Instruction) -> Result<(), ParseError> {
        match (&instruction.kind, self.stages.last_mut()) {
            (Kind::From(from), _) => self.stages.push(Stage {
                from: from.clone(),
                instruction,
                instructions: Vec::new(),
            }),
            (_, Some(stage)) => stage.instructions.push(instruction),
            (Kind::Arg(_), None) => self.args.push(instruction),
            (_, None) => {
                return Err(ParseError::at(
                    instruction.lines,
                    "no build stage in current context",
                ));
            }
        }
        Ok(())
    }

    /// The arguments before the first FROM.
    pub fn arg_pairs(&self) -> impl Iterator<Item = &ArgPair> {
        let pairs = self
            .args
            .iter()
            .filter_map(|instruction| match &instruction.kind {
                Kind::Arg(pairs) => Some(pairs),
                _ => None,
            });
        pairs.flatten()
    }

    /// The last stage of this name, in any case, among the first `before`; none when the name stands for a context.
    pub fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let name = name.to_lowercase();
        if self.contexts.contains(&name) {
            return None;
        }
        self.last_named(&name, before)
    }

    fn last_named(&self, name: &str, before: usize) -> Option<usize> {
        self.stages[..before.min(self.stages.len())]
            .iter()
            .rposition(|stage| stage.from.name.as_deref() == Some(name))
    }

    /// The stage that `--from` of a COPY or a mount names, by name or by number; none when it is an image.
    ///
    /// # Errors
    /// A variable in it, or a number that is no earlier stage.
    pub fn stage_from(&self, from: &str, current: usize) -> Result<Option<usize>, String> {
        if from.contains('$') {
            return Err("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround".to_owned());
        }
        match from.parse::<usize>() {
            Ok(index) if index < current => Ok(Some(index)),
            Ok(index) if index == current => Err(format!(
                "invalid from flag value {from}: refers to current build stage"
            )),
            Ok(_) => Err(format!(
                "invalid from flag value {from}: no such build stage"
            )),
            Err(_) => Ok(self.stage_named(from, current)),
        }
    }

    /// The stage to build by its name, the last one when none is named.
    ///
    /// # Errors
    /// There is no such stage.
    pub fn target(&self, target: &str) -> Result<usize, String> {
        if target.is_empty() {
            return Ok(self.stages.len() - 1);
        }
        let found = self.last_named(&target.to_lowercase(), self.stages.len());
        found.ok_or_else(|| {
            let names = self
                .stages
                .iter()
                .filter_map(|stage| stage.from.name.as_deref());
            let hint = suggest::hint(target, names);
            format!("target stage {target:?} could not be found{hint}")
        })
    }

    /// The stages that a target is made from, itself among them. `bases` holds the expanded base name of every stage.
    ///
    /// # Errors
    /// A `--from` that names no earlier stage.
    pub fn needed(&self, target: usize, bases: &[String]) -> Result<BTreeSet<usize>, ParseError> {
        let mut needed = BTreeSet::new();
        let mut wanted = vec![target];
        while let Some(index) = wanted.pop() {
            if !needed.insert(index) {
                continue;
            }
            let base = bases.get(index).map_or("", String::as_str);
            wanted.extend(self.stage_named(base, index));
            for instruction in &self.stages[index].instructions {
                for from in sources(&instruction.kind) {
                    let found = self.stage_from(from, index);
                    wanted.extend(found.map_err(|text| ParseError::at(instruction.lines, text))?);
                }
            }
        }
        Ok(needed)
    }

    /// All instructions in order: arguments, then each stage with its FROM.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let stages = self
            .stages
            .iter()
            .flat_map(|stage| std::iter::once(&stage.instruction).chain(stage.instructions.iter()));
        self.args.iter().chain(stages)
    }

    /// The lines that an instruction's error is about.
    pub fn lines_of(&self, instruction: &Instruction) -> Option<Lines> {
        instruction.file.is_none().then_some(instruction.lines)
    }
}

/// The stages or images that an instruction copies or mounts from.
fn sources(kind: &Kind) -> Vec<&str> {
    match kind {
        Kind::Copy(transfer) => transfer.from.as_deref().into_iter().collect(),
        Kind::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| mount.split(','))
            .filter_map(|field| {
                let (key, value) = field.split_once('=')?;
                key.eq_ignore_ascii_case("from").then_some(value)
            })
            .filter(|from| !from.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}
