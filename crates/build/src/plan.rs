//! Which stages are built, in which order, and what each needs: the graph.

use cais_types::oci::Platform;
use cais_types::{Error, Result};

use crate::dockerfile::scope::{Arguments, GlobalScope};
use crate::dockerfile::{Dockerfile, Kind, ParseError, Stage, platform};
use crate::request::{BuildRequest, NamedContext};

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Scratch,
    Stage(usize),
    Image(String),
    /// A context of this name.
    Directory(String),
}

/// A stage to build.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Its number in the file.
    pub index: usize,
    pub base: Base,
    /// None is whatever the base is for.
    pub platform: Option<Platform>,
    /// The number of its FROM among all steps, from 1.
    pub first_step: usize,
}

/// How the steps of a plan are counted when it is one of several.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Steps of all plans.
    pub all: usize,
    /// Is shown with each step, where there are several plans.
    pub platform: Option<Platform>,
}

/// A build as a graph of stages.
#[derive(Debug)]
pub struct Plan {
    pub file: Dockerfile,
    /// What the result is for.
    pub platform: Platform,
    pub global: GlobalScope,
    pub stages: Vec<PlannedStage>,
    pub target: usize,
    /// Steps of it.
    pub steps: usize,
    pub numbers: Numbers,
}

impl Plan {
    /// Whether a stage that is built, or the file before all stages, declares an argument.
    pub fn declares(&self, argument: &str) -> bool {
        let stages = self.stages.iter();
        let mut instructions = stages.flat_map(|stage| &self.file.stages[stage.index].instructions);
        let declared = |kind: &Kind| match kind {
            Kind::Arg(pairs) => pairs.iter().any(|pair| pair.name == argument),
            _ => false,
        };
        self.global.declares(argument)
            || instructions.any(|instruction| declared(&instruction.kind))
    }
}

/// Plans a build for one platform, or for this machine.
///
/// # Errors
/// Invalid: the file, a variable in a FROM, the target.
pub fn plan(request: &BuildRequest, file: Dockerfile, wanted: Option<&Platform>) -> Result<Plan> {
    let target = file.target(&request.target).map_err(Error::invalid)?;
    let platform = wanted.cloned().unwrap_or_else(Platform::host);
    let global = global(request, &file, target, &platform)?;
    let bases = bases(&file, &global)?;
    let needed = file.needed(target, &bases)?;
    let mut stages: Vec<PlannedStage> = Vec::new();
    let mut step = 1;
    for index in needed {
        let stage = &file.stages[index];
        let word = stage.from.platform.as_ref().filter(|word| !word.is_empty());
        let own = match word {
            Some(word) => Some(own_platform(&expand(&global, word, stage)?, stage)?),
            None => None,
        };
        let of_base = own.clone().or_else(|| wanted.cloned());
        let of_base = of_base.unwrap_or_else(Platform::host);
        let base = base(request, &file, (&bases[index], &of_base), index);
        let platform = match own {
            Some(own) => Some(own),
            // A stage on another one is for whatever that is for.
            None => match base {
                Base::Stage(below) => {
                    let below = stages.iter().find(|planned| planned.index == below);
                    below.and_then(|planned| planned.platform.clone())
                }
                _ => wanted.cloned(),
            },
        };
        stages.push(PlannedStage {
            index,
            base,
            platform,
            first_step: step,
        });
        step += 1 + stage.instructions.len();
    }
    Ok(Plan {
        platform,
        global,
        stages,
        target,
        steps: step - 1 + request.labels.len(),
        numbers: Numbers::default(),
        file,
    })
}

fn base(
    request: &BuildRequest,
    file: &Dockerfile,
    (name, platform): (&str, &Platform),
    stage: usize,
) -> Base {
    let named = request.context_named(name, platform);
    match (named, file.stage_named(name, stage)) {
        (Some(NamedContext::Image(image)), _) => Base::Image(image.clone()),
        (Some(NamedContext::Directory { .. }), _) => Base::Directory(name.to_owned()),
        (None, Some(stage)) => Base::Stage(stage),
        (None, None) if name == "scratch" => Base::Scratch,
        (None, None) => Base::Image(name.to_owned()),
    }
}

/// The platform that a FROM names.
fn own_platform(word: &str, stage: &Stage) -> Result<Platform> {
    let parsed = word.parse::<Platform>();
    let parsed = parsed.map_err(|error| {
        let text = format!("failed to parse platform {word}: {error}");
        ParseError::at(stage.instruction.lines, text)
    })?;
    Ok(parsed.normalized())
}

fn global(
    request: &BuildRequest,
    file: &Dockerfile,
    target: usize,
    wanted: &Platform,
) -> Result<GlobalScope> {
    let host = Platform::host();
    let name = file.stages[target].from.name.as_deref().unwrap_or("");
    let arguments = Arguments {
        given: request.build_args.clone(),
        platform: platform::arguments(&host, wanted, name),
    };
    let mut global = GlobalScope::new(file.directives.escape, &arguments);
    for instruction in &file.args {
        let Kind::Arg(pairs) = &instruction.kind else {
            continue;
        };
        for pair in pairs {
            global
                .declare(pair)
                .map_err(|error| ParseError::at(instruction.lines, error.to_string()))?;
        }
    }
    Ok(global)
}

fn bases(file: &Dockerfile, global: &GlobalScope) -> Result<Vec<String>> {
    let base = |stage: &Stage| {
        let name = expand(global, &stage.from.base, stage)?;
        if name.is_empty() {
            let text = format!("base name ({}) should not be blank", stage.from.base);
            return Err(ParseError::at(stage.instruction.lines, text).into());
        }
        Ok(name)
    };
    file.stages.iter().map(base).collect()
}

fn expand(global: &GlobalScope, word: &str, stage: &Stage) -> Result<String> {
    let expansion = global.expand(word);
    let expansion =
        expansion.map_err(|error| ParseError::at(stage.instruction.lines, error.to_string()))?;
    Ok(expansion.text)
}
