//! One stage: its base, then one image per step, each found in the cache or made.

use cais_types::api::ImageConfig;
use cais_types::oci::Platform;
use cais_types::oci::set::package_url;
use cais_types::{ContainerId, Digest, Error, Reference, Result};

use crate::builder::Progress;
use crate::cache::Key;
use crate::dockerfile::scope::StageScope;
use crate::dockerfile::{self, Instruction, Kind, ParseError, Stage};
use crate::messages::StageLog;
use crate::plan::{Base, Plan, PlannedStage};
use crate::ports::{NewImage, Ports};
use crate::request::{BuildRequest, NamedContext};
use crate::steps;

/// The shell of shell forms.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// What every image from `scratch` has in its environment.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage has become.
#[derive(Clone, Debug)]
pub struct Finished {
    /// None for a stage from `scratch` without instructions.
    pub image: Option<Digest>,
    /// What it began with.
    pub base: Option<Digest>,
    pub config: ImageConfig,
    pub author: String,
    pub scope: StageScope,
}

/// How a step is found in the history of an image that the request names.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<'a> {
    pub line: &'a str,
    /// Whether it writes files.
    pub files: bool,
    /// Whether the line says all that the step depends on; else an image must have the step's key.
    pub whole: bool,
}

/// A stage that is being built.
pub struct StageRun<'a> {
    pub request: &'a BuildRequest,
    pub plan: &'a Plan,
    pub ports: Ports<'a>,
    pub log: StageLog,
    pub progress: &'a Progress,
    pub stage: &'a Stage,
    pub index: usize,
    /// What it is for; none is whatever its base is for.
    pub platform: Option<Platform>,
    /// The steps of all plans before.
    step: usize,
    base: Option<Digest>,
    /// The image so far.
    pub image: Option<Digest>,
    pub config: ImageConfig,
    pub author: String,
    pub scope: StageScope,
    /// Whether this stage has set a command, which an ENTRYPOINT then keeps.
    pub command_set: bool,
    /// The step that is being made for all builds.
    claim: Option<Box<dyn Send>>,
}

impl<'a> StageRun<'a> {
    /// Finds or fetches the base.
    ///
    /// # Errors
    /// Not found: the base. Canceled: the stage it stands on has failed.
    pub fn begin(
        request: &'a BuildRequest,
        plan: &'a Plan,
        planned: &'a PlannedStage,
        ports: Ports<'a>,
        log: StageLog,
        progress: &'a Progress,
    ) -> Result<Self> {
        let stage = &plan.file.stages[planned.index];
        let mut run = Self {
            request,
            plan,
            ports,
            log,
            progress,
            stage,
            index: planned.index,
            platform: planned.platform.clone(),
            step: planned.first_step,
            base: None,
            image: None,
            config: ImageConfig::default(),
            author: String::new(),
            scope: plan.global.stage(&[]),
            command_set: false,
            claim: None,
        };
        run.announce(&stage.instruction.text)?;
        match &planned.base {
            Base::Scratch => run.use_config(ImageConfig {
                env: Some(vec![PATH.to_owned()]),
                ..ImageConfig::default()
            }),
            Base::Directory(name) => {
                run.use_config(ImageConfig {
                    env: Some(vec![PATH.to_owned()]),
                    ..ImageConfig::default()
                });
                steps::transfer::base(&mut run, name)?;
            }
            Base::Stage(index) => {
                let below = progress.wait(*index)?;
                run.image = below.image;
                run.author = below.author;
                run.scope = below.scope;
                run.config = below.config;
            }
            Base::Image(name) => {
                let id = run.base_image(name)?;
                let base = ports.images.image(&id)?;
                run.image = Some(id);
                run.author = base.author;
                run.use_config(base.config);
            }
        }
        run.base = run.image;
        run.arrived()?;
        run.triggers()?;
        Ok(run)
    }

    fn use_config(&mut self, config: ImageConfig) {
        self.scope = self
            .plan
            .global
            .stage(config.env.as_deref().unwrap_or_default());
        self.config = config;
    }

    /// The image of this name for the stage's platform, from this host unless it is missing or a newer one is asked for.
    pub fn base_image(&self, name: &str) -> Result<Digest> {
        let (images, platform) = (self.ports.images, self.platform.as_ref());
        let here = (!self.request.pull).then(|| images.find(name, platform));
        let id = match here.flatten() {
            Some(id) => id,
            None => images.pull(name, platform, &mut |message| self.log.message(message))?,
        };
        if let Ok(reference) = name.parse::<Reference>() {
            let image = images.image(&id)?;
            let uri = package_url(&reference.with_default_tag(), Some(&image.platform));
            let digest = image.manifest.unwrap_or(id);
            self.progress.sources.material(uri, Some(digest.hex()));
        }
        Ok(id)
    }

    /// The platform of the image so far, where that is not this machine's.
    pub fn foreign(&self) -> Result<Option<Platform>> {
        let platform = match &self.image {
            Some(image) => self.ports.images.image(image)?.platform,
            None => self.own_platform(),
        };
        let known = !platform.architecture.is_empty();
        Ok(Some(platform).filter(|one| known && Platform::host().fit(one).is_none()))
    }

    /// The context of this name for the stage's platform.
    pub fn context_named(&self, name: &str) -> Option<&'a NamedContext> {
        self.request.context_named(name, &self.own_platform())
    }

    fn own_platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }

    /// Runs all instructions; the target gets the labels of the request.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn run(mut self, is_target: bool) -> Result<Finished> {
        for instruction in &self.stage.instructions {
            self.announce(&instruction.text)?;
            self.instruction(instruction)?;
            self.arrived()?;
        }
        if is_target {
            self.labels()?;
        }
        if is_target && self.image.is_none() {
            return Err(Error::invalid(
                "No image was generated. Is your Dockerfile empty?",
            ));
        }
        Ok(Finished {
            image: self.image,
            base: self.base,
            config: self.config,
            author: self.author,
            scope: self.scope,
        })
    }

    fn announce(&mut self, text: &str) -> Result<()> {
        let (step, steps) = (self.step, self.plan.numbers.all);
        self.step += 1;
        let of = match &self.plan.numbers.platform {
            Some(target) => match self.platform.as_ref().filter(|own| *own != target) {
                Some(own) => format!("[{own}->{target}] "),
                None => format!("[{target}] "),
            },
            None => String::new(),
        };
        self.log
            .text(&format!("Step {step}/{steps} : {of}{text}\n"))
    }

    fn arrived(&self) -> Result<()> {
        let id = self.image.map_or(String::new(), |id| id.short());
        self.log.text(&format!(" ---> {id}\n"))
    }

    /// The instructions that the base image left for its children.
    fn triggers(&mut self) -> Result<()> {
        let triggers = self.config.on_build.take().unwrap_or_default();
        if triggers.is_empty() {
            return Ok(());
        }
        let plural = if triggers.len() == 1 { "" } else { "s" };
        self.log.text(&format!(
            "# Executing {} build trigger{plural}\n",
            triggers.len()
        ))?;
        for trigger in triggers {
            let read = dockerfile::reader::statements(&trigger)?;
            for statement in &read.statements {
                let mut directives = read.directives.clone();
                directives.escape = self.plan.file.directives.escape;
                let instruction = dockerfile::instruction(statement, &directives)?;
                if matches!(
                    instruction.kind,
                    Kind::From(_) | Kind::Maintainer(_) | Kind::Onbuild(_)
                ) {
                    let keyword = instruction.kind.keyword();
                    let text = format!("{keyword} isn't allowed as an ONBUILD trigger");
                    return Err(Error::invalid(text));
                }
                self.instruction(&instruction)?;
            }
        }
        self.arrived()
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<()> {
        let result = match &instruction.kind {
            Kind::Run(run) => steps::run::run(self, run),
            Kind::Copy(transfer) => steps::transfer::run(self, "COPY", transfer),
            Kind::Add(transfer) => steps::transfer::run(self, "ADD", transfer),
            Kind::Workdir(path) => steps::workdir::run(self, path),
            kind => steps::metadata::run(self, kind),
        };
        result.map_err(|error| match error.class() {
            // A word that can't be expanded: the line helps to find it.
            cais_types::ErrorClass::Invalid if error.message().starts_with("failed to process") => {
                ParseError::at(instruction.lines, error.message()).into()
            }
            _ => error,
        })
    }

    /// The labels of the request, each a step of its own like docker's classic builder makes them.
    fn labels(&mut self) -> Result<()> {
        for (name, value) in &self.request.labels {
            let text = format!("LABEL {name}={value}");
            self.announce(&text)?;
            let labels = self.config.labels.get_or_insert_default();
            labels.insert(name.clone(), value.clone());
            self.commit_config(&text)?;
            self.arrived()?;
        }
        Ok(())
    }

    /// The shell of this stage.
    pub fn shell(&self) -> Vec<String> {
        shell(&self.config)
    }

    /// Expands one word.
    ///
    /// # Errors
    /// Invalid: see [`crate::dockerfile::lexer::Lexer::expand`].
    pub fn expand(&self, word: &str) -> Result<String> {
        let expansion = self.scope.expand(word);
        let expansion = expansion.map_err(|error| Error::invalid(error.to_string()))?;
        Ok(expansion.text)
    }

    /// Makes an image of the changed configuration.
    ///
    /// # Errors
    /// Those of the store.
    pub fn commit_config(&mut self, definition: &str) -> Result<()> {
        let created_by = format!("{} {definition}", nop(&self.shell()));
        let key = self.key(&created_by).finish();
        let repeat = Repeat {
            line: &created_by,
            files: false,
            whole: true,
        };
        if self.cached(&key, repeat)? {
            return Ok(());
        }
        self.commit(None, created_by, &key)
    }

    /// The chain ids of the layers so far, lowest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn layers(&self) -> Result<Vec<Digest>> {
        let image = self.image.map(|id| self.ports.images.image(&id));
        Ok(image
            .transpose()?
            .map_or_else(Vec::new, |image| image.layers))
    }

    /// A key of what the configuration is and what the step says.
    pub fn key(&self, definition: &str) -> Key {
        let config = serde_json::to_vec(&self.config).unwrap_or_default();
        let key = Key::on(self.image.as_ref())
            .with(definition)
            .with(config)
            .with(&self.author);
        let key = match self.request.created {
            Some(time) => key.with(format!("{time} {}", self.request.rewrite_times)),
            None => key,
        };
        let platform = self.own_platform();
        // An image says itself what it is for.
        match self.image.is_none() && platform != Platform::host() {
            true => key.with(platform.to_string()),
            false => key,
        }
    }

    /// Takes the image of a step that was made before, or that another build is making; tells whether there is one.
    ///
    /// # Errors
    /// Those of the index, and a client that has gone.
    pub fn cached(&mut self, key: &str, repeat: Repeat<'_>) -> Result<bool> {
        if self.request.no_cache || self.is_made_anew() {
            return Ok(false);
        }
        let mut told = false;
        let id = loop {
            // Claimed before the look, as the one who made it ends its claim after it was remembered.
            self.claim = self.ports.cache.claim(key);
            let id = self.ports.cache.get(key)?;
            if let Some(id) = id.filter(|id| self.ports.images.image(id).is_ok()) {
                break id;
            }
            if self.claim.is_some() {
                // Not remembered: it is trusted in this build only.
                match self.repeated(key, repeat)? {
                    Some(id) => break id,
                    None => return Ok(false),
                }
            }
            if !told {
                self.log.text(" ---> Waiting for another build's step\n")?;
                told = true;
            }
            self.ports.cache.wait(key, &self.log.canceled())?;
        };
        self.claim = None;
        self.image = Some(id);
        self.progress.remember(key);
        self.log.text(" ---> Using cache\n")?;
        Ok(true)
    }

    /// The step as an image that the request names has it.
    fn repeated(&self, key: &str, repeat: Repeat<'_>) -> Result<Option<Digest>> {
        let images = self.ports.images;
        // Without a key nobody knows how old the files of its layers are.
        let by_line = repeat.whole && !self.request.rewrite_times;
        for name in &self.request.cache_from {
            let source = images.cache_source(name);
            let by_key = source.keys.contains(key);
            if !by_line && !by_key {
                continue;
            }
            // Who has the key has the step as it was, with files or without.
            let files = (!by_key).then_some(repeat.files);
            for source in &source.images {
                let image = self.new_image(None, repeat.line.to_owned());
                if let Some(id) = images.repeat(image, source, files)? {
                    return Ok(Some(id));
                }
            }
        }
        Ok(None)
    }

    /// Whether the request names this stage among those that are made anew; one without a name is `stage-NUMBER`.
    fn is_made_anew(&self) -> bool {
        let number = format!("stage-{}", self.index);
        let name = self.stage.from.name.as_ref().unwrap_or(&number);
        let mut filter = self.request.no_cache_filter.iter();
        filter.any(|wanted| wanted.eq_ignore_ascii_case(name))
    }

    /// Makes the step's image and remembers it.
    ///
    /// # Errors
    /// Those of the store and the index.
    pub fn commit(
        &mut self,
        layer: Option<ContainerId>,
        created_by: String,
        key: &str,
    ) -> Result<()> {
        let id = self.make(layer, created_by)?;
        self.ports.cache.put(key, &id)?;
        self.progress.remember(key);
        self.claim = None;
        self.image = Some(id);
        Ok(())
    }

    /// Makes an image on top of the one so far.
    ///
    /// # Errors
    /// Those of the store.
    pub fn make(&self, layer: Option<ContainerId>, created_by: String) -> Result<Digest> {
        self.ports.images.commit(self.new_image(layer, created_by))
    }

    fn new_image(&self, layer: Option<ContainerId>, created_by: String) -> NewImage {
        let request = self.request;
        NewImage {
            parent: self.image,
            layer,
            platform: self.own_platform(),
            config: self.config.clone(),
            author: self.author.clone(),
            created_by,
            created: request.created,
            latest: request.created.filter(|_| request.rewrite_times),
        }
    }
}

/// The shell of shell forms.
pub fn shell(config: &ImageConfig) -> Vec<String> {
    let shell = config.shell.clone();
    shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec())
}

/// How the history of docker's classic builder marks what is no command.
pub fn nop(shell: &[String]) -> String {
    format!("{} #(nop) ", shell.join(" "))
}
