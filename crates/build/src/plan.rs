//! Which stages are built, in which order, and what each needs: the graph.

use cais_types::oci::Platform;
use cais_types::{Error, Result};

use crate::dockerfile::scope::{Arguments, GlobalScope};
use crate::dockerfile::{Dockerfile, Kind, ParseError, platform};
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
    pub platform: String,
    /// The number of its FROM among all steps, from 1.
    pub first_step: usize,
}

/// A build as a graph of stages.
#[derive(Debug)]
pub struct Plan {
    pub file: Dockerfile,
    pub global: GlobalScope,
    pub stages: Vec<PlannedStage>,
    pub target: usize,
    /// Steps in all.
    pub steps: usize,
}

/// Plans a build.
///
/// # Errors
/// Invalid: the file, a variable in a FROM, the target.
pub fn plan(request: &BuildRequest, file: Dockerfile) -> Result<Plan> {
    let target = file.target(&request.target).map_err(Error::invalid)?;
    let global = global(request, &file, target)?;
    let bases = bases(&file, &global)?;
    let needed = file.needed(target, &bases)?;
    let mut stages: Vec<PlannedStage> = Vec::new();
    let mut step = 1;
    for index in needed {
        let stage = &file.stages[index];
        let base = base(request, &file, &bases[index], index);
        let platform = match &stage.from.platform {
            Some(word) => expand(&global, word, stage)?,
            None => request.platform.clone(),
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
        global,
        stages,
        target,
        steps: step - 1 + request.labels.len(),
        file,
    })
}

fn base(request: &BuildRequest, file: &Dockerfile, name: &str, stage: usize) -> Base {
    match (request.context_named(name), file.stage_named(name, stage)) {
        (Some(NamedContext::Image(image)), _) => Base::Image(image.clone()),
        (Some(NamedContext::Directory { .. }), _) => Base::Directory(name.to_owned()),
        (None, Some(stage)) => Base::Stage(stage),
        (None, None) if name == "scratch" => Base::Scratch,
        (None, None) => Base::Image(name.to_owned()),
    }
}

fn global(request: &BuildRequest, file: &Dockerfile, target: usize) -> Result<GlobalScope> {
    let host = Platform::host();
    let wanted = if request.platform.is_empty() {
        host.clone()
    } else {
        let parsed = request.platform.parse::<Platform>();
        parsed.map_err(|error| Error::invalid(error.to_string()))?
    };
    let name = file.stages[target].from.name.as_deref().unwrap_or("");
    let arguments = Arguments {
        given: request.build_args.clone(),
        platform: platform::arguments(&host, &wanted, name),
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
    let base = |stage: &crate::dockerfile::Stage| {
        let name = expand(global, &stage.from.base, stage)?;
        if name.is_empty() {
            let text = format!("base name ({}) should not be blank", stage.from.base);
            return Err(ParseError::at(stage.instruction.lines, text).into());
        }
        Ok(name)
    };
    file.stages.iter().map(base).collect()
}

fn expand(global: &GlobalScope, word: &str, stage: &crate::dockerfile::Stage) -> Result<String> {
    let expansion = global.expand(word);
    let expansion =
        expansion.map_err(|error| ParseError::at(stage.instruction.lines, error.to_string()))?;
    Ok(expansion.text)
}
