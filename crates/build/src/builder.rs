//! The solver: stages that do not wait for each other run side by side, each as soon as those it needs are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use cais_sys::path_in_root;
use cais_types::oci::set::{CACHE_KEYS, Member, Statement};
use cais_types::oci::{ImageSet, Platform};
use cais_types::{Digest, Error, ErrorClass, Result};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::attest::generator::Scan;
use crate::attest::provenance::{Facts, Sources};
use crate::attest::{Annotations, Sbom, bill_of_materials};
use crate::cancel::Cancellation;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::scope::PROXY_ARGS;
use crate::messages::{Messages, Sequence, StageLog, canceled, failure};
use crate::plan::{Numbers, Plan, PlannedStage, plan};
use crate::ports::Ports;
use crate::request::BuildRequest;
use crate::stage::{Finished, StageRun};

/// The most bytes of an included file.
const MAX_INCLUDED: u64 = 16 << 20;

/// A build whose file was read and understood.
pub struct Prepared {
    request: BuildRequest,
    /// One for each platform.
    plans: Vec<Plan>,
    started: Timestamp,
}

/// What a build has made.
struct Made {
    platform: Platform,
    image: Digest,
    /// What is attested of it.
    statements: Vec<Statement>,
}

/// Reads the file and plans the build.
///
/// # Errors
/// Invalid: the file, a variable in a FROM, the target.
pub fn prepare(request: BuildRequest) -> Result<Prepared> {
    let mut include = |path: &str| included(&request, path);
    let mut file = Dockerfile::parse_with(request.dockerfile.clone(), &mut include)?;
    let names = request.contexts.keys();
    let names = names.map(|name| {
        name.split_once("::")
            .map_or(&**name, |(name, _)| name)
            .to_owned()
    });
    file.contexts = names.collect();
    let plans = plans(&request, file)?;
    let single = plans.len() == 1 && request.attestations.is_empty();
    if single && request.annotations.want_index() {
        return Err(Error::invalid(
            "index annotations not supported for single platform export",
        ));
    }
    Ok(Prepared {
        request,
        plans,
        started: Timestamp::now(),
    })
}

/// The plans of all platforms, their steps counted one after the other.
fn plans(request: &BuildRequest, file: Dockerfile) -> Result<Vec<Plan>> {
    if request.platforms.len() < 2 {
        let mut plan = plan(request, file, request.platforms.first())?;
        plan.numbers.all = plan.steps;
        return Ok(vec![plan]);
    }
    let platforms = request.platforms.iter();
    let plans = platforms.map(|platform| plan(request, file.clone(), Some(platform)));
    let mut plans = plans.collect::<Result<Vec<_>>>()?;
    let all = plans.iter().map(|plan| plan.steps).sum();
    let mut before = 0;
    for plan in &mut plans {
        for stage in &mut plan.stages {
            stage.first_step += before;
        }
        before += plan.steps;
        plan.numbers = Numbers {
            all,
            platform: Some(plan.platform.clone()),
        };
    }
    Ok(plans)
}

/// The text of a file that INCLUDE names, within the context.
fn included(request: &BuildRequest, path: &str) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let root = request.context.as_fd();
    let file = path_in_root::open(root, Path::new(path), flags, Mode::empty());
    let file = File::from(file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "no such file in the build context".to_owned(),
        _ => error.to_string(),
    })?);
    let mut text = String::new();
    let read = file.take(MAX_INCLUDED).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    Ok(text)
}

/// What became of stages, as those that wait for them see it.
#[derive(Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
    /// What came into the build.
    pub sources: Sources,
    /// Keys of steps that were done.
    keys: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
struct State {
    finished: BTreeMap<usize, Finished>,
    failed: bool,
}

impl Progress {
    /// Waits for a stage.
    ///
    /// # Errors
    /// Canceled: some stage has failed.
    pub fn wait(&self, stage: usize) -> Result<Finished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(finished) = state.finished.get(&stage) {
                return Ok(finished.clone());
            }
            if state.failed {
                return Err(canceled());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A step with this key was done.
    pub fn remember(&self, key: &str) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.to_owned());
    }

    /// The images of all stages, that of the target first.
    fn images(&self, target: usize) -> Vec<Digest> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.finished.get(&target).into_iter();
        let all = first.chain(state.finished.values());
        all.filter_map(|finished| finished.image).collect()
    }

    fn end(&self, stage: usize, result: Result<Finished>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match result {
            Ok(finished) => {
                state.finished.insert(stage, finished);
                Ok(())
            }
            Err(error) => {
                state.failed = true;
                Err(error)
            }
        };
        self.changed.notify_all();
        result
    }
}

/// Lets nobody wait for a stage whose thread has died.
struct Unfinished<'a>(&'a Progress);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::internal("a stage of the build has panicked");
            let _ = self.0.end(usize::MAX, Err(error));
        }
    }
}

impl Prepared {
    /// Builds, and tells the client how it goes; a failure is the last message. `gone` is set when the client has gone.
    pub fn run(self, ports: Ports<'_>, out: &dyn Messages, gone: &Cancellation) {
        let quiet = Quiet;
        let shown: &dyn Messages = if self.request.quiet { &quiet } else { out };
        let result = self.build(ports, shown, gone);
        let result = result.and_then(|made| self.tell(&made, ports, out));
        if let Err(error) = result {
            // The client may have gone; then nobody is left to be told.
            let _ = out.send(failure(&error));
        }
    }

    fn build(
        &self,
        ports: Ports<'_>,
        out: &dyn Messages,
        gone: &Cancellation,
    ) -> Result<Vec<Made>> {
        let progress: Vec<Progress> = self.plans.iter().map(|_| Progress::default()).collect();
        let sequence = Sequence::new(out, gone.clone());
        let failed = Failed::default();
        std::thread::scope(|scope| {
            for (plan, progress) in self.plans.iter().zip(&progress) {
                for stage in &plan.stages {
                    let log = sequence.stage();
                    let (failed, sequence) = (&failed, &sequence);
                    scope.spawn(move || {
                        let unfinished = Unfinished(progress);
                        let result = self.stage(plan, stage, ports, log, progress);
                        let result = progress.end(stage.index, result);
                        drop(unfinished);
                        if let Err(error) = result {
                            sequence.cancel();
                            failed.add(error);
                        }
                    });
                }
            }
            // A client that has gone is told to the stages by their logs.
            let _ = sequence.drain();
        });
        failed.end()?;
        if !self.request.cache_to.is_empty() {
            let cache = self.cache(&progress);
            for name in &self.request.cache_to {
                ports.images.tag_set(&cache, name)?;
            }
        }
        self.results(&progress, ports, out, gone)
    }

    /// What came of all plans, one after the other.
    fn results(
        &self,
        progress: &[Progress],
        ports: Ports<'_>,
        out: &dyn Messages,
        gone: &Cancellation,
    ) -> Result<Vec<Made>> {
        let sequence = Sequence::new(out, gone.clone());
        let log = sequence.stage();
        std::thread::scope(|scope| {
            let results = scope.spawn(move || {
                let results = self.plans.iter().zip(progress);
                let results =
                    results.map(|(plan, progress)| self.result(plan, progress, ports, &log));
                results.collect()
            });
            // A client that has gone is told by the log.
            let _ = sequence.drain();
            let panicked = |_| Err(Error::internal("the end of the build has panicked"));
            results.join().unwrap_or_else(panicked)
        })
    }

    /// The images of all stages under one name, and the keys of their steps.
    fn cache(&self, progress: &[Progress]) -> ImageSet {
        let mut set = ImageSet::default();
        let mut keys = Vec::new();
        for (plan, progress) in self.plans.iter().zip(progress) {
            for image in progress.images(plan.target) {
                add(&mut set, Member::new(image));
            }
            let done = progress.keys.lock();
            keys.extend(done.unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        set.annotations
            .insert(CACHE_KEYS.to_owned(), keys.join(" "));
        set
    }

    fn result(
        &self,
        plan: &Plan,
        progress: &Progress,
        ports: Ports<'_>,
        log: &StageLog,
    ) -> Result<Made> {
        let finished = progress.wait(plan.target)?;
        let image = finished
            .image
            .ok_or_else(|| Error::invalid("No image was generated. Is your Dockerfile empty?"))?;
        let image = match self.request.squash {
            true => {
                let created = self.request.created;
                ports
                    .images
                    .squash(&image, finished.base.as_ref(), created)?
            }
            false => image,
        };
        Ok(Made {
            platform: plan.platform.clone(),
            image,
            statements: self.attest(plan, progress, &image, (ports, log))?,
        })
    }

    fn attest(
        &self,
        plan: &Plan,
        progress: &Progress,
        image: &Digest,
        (ports, log): (Ports<'_>, &StageLog),
    ) -> Result<Vec<Statement>> {
        let wanted = &self.request.attestations;
        let mut statements = match &wanted.sbom {
            None => Vec::new(),
            Some(Sbom::Own) => vec![self.bill_of_materials(image, ports)?],
            Some(Sbom::Generator(generator)) => Scan {
                generator,
                image,
                ports,
                log,
                sources: &progress.sources,
                pull: self.request.pull,
                network: &self.request.network,
                host: &self.request.host,
                scratch: &self.request.scratch,
            }
            .run()?,
        };
        if let Some(provenance) = &wanted.provenance {
            let facts = Facts {
                request: &self.request,
                plan,
                sources: &progress.sources,
                started: self.started,
                finished: Timestamp::now(),
            };
            statements.push(facts.statement(provenance));
        }
        Ok(statements)
    }

    fn bill_of_materials(&self, image: &Digest, ports: Ports<'_>) -> Result<Statement> {
        let root = ports.images.root(image)?;
        let time = self.request.created.map(Timestamp::from_second);
        let time = time.and_then(std::result::Result::ok);
        let created = time.unwrap_or_else(Timestamp::now);
        let created = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let name = self.request.tags.first();
        let name = name.map_or_else(|| image.to_string(), Clone::clone);
        Ok(bill_of_materials(root.as_fd(), image, &name, &created))
    }

    fn stage(
        &self,
        plan: &Plan,
        stage: &PlannedStage,
        ports: Ports<'_>,
        log: StageLog,
        progress: &Progress,
    ) -> Result<Finished> {
        let is_target = stage.index == plan.target;
        StageRun::begin(&self.request, plan, stage, ports, log, progress)?.run(is_target)
    }

    /// Docker's warning of build arguments that no stage declares; a quiet build has none.
    fn unused(&self) -> Option<String> {
        let unused = self.request.build_args.keys().map(String::as_str);
        let unused: Vec<&str> = unused
            .filter(|name| !means_something(name))
            .filter(|name| !self.plans.iter().any(|plan| plan.declares(name)))
            .collect();
        let shown = !unused.is_empty() && !self.request.quiet;
        shown.then(|| {
            let names = unused.join(" ");
            format!("[Warning] One or more build-args [{names}] were not consumed\n")
        })
    }

    /// Tells what was made and gives it its names; the image for this machine is the last one told.
    fn tell(&self, made: &[Made], ports: Ports<'_>, out: &dyn Messages) -> Result<()> {
        let send = |value: serde_json::Value| out.send(value.to_string().into_bytes());
        let host = Platform::host();
        let fit = |one: &&Made| host.fit(&one.platform).unwrap_or(u32::MAX);
        let mut told: Vec<&Made> = made.iter().collect();
        told.sort_by_key(|one| std::cmp::Reverse(fit(one)));
        if let Some(warning) = self.unused() {
            send(json!({ "stream": warning }))?;
        }
        for one in &told {
            let (id, platform) = (one.image, one.platform.to_string());
            match made.len() {
                1 if self.request.quiet => {}
                1 => send(json!({ "aux": { "ID": id.to_string() } }))?,
                _ => send(json!({ "aux": { "ID": id.to_string(), "Platform": platform } }))?,
            }
            if self.request.quiet {
                send(json!({ "stream": format!("{id}\n") }))?;
                continue;
            }
            send(json!({ "stream": format!("Successfully built {}\n", id.short()) }))?;
        }
        let annotations = &self.request.annotations;
        for tag in &self.request.tags {
            match made {
                [one] if one.statements.is_empty() && annotations.is_empty() => {
                    ports.images.tag(&one.image, tag)?;
                }
                _ => ports.images.tag_set(&set(made, annotations), tag)?,
            }
            if !self.request.quiet {
                send(json!({ "stream": format!("Successfully tagged {tag}\n") }))?;
            }
        }
        Ok(())
    }
}

/// Whether an argument does something without being declared.
fn means_something(name: &str) -> bool {
    let known = PROXY_ARGS.contains(&name) || name == "SOURCE_DATE_EPOCH";
    known
        || ["BUILDKIT_", "TARGET", "BUILD"]
            .iter()
            .any(|kind| name.starts_with(kind))
}

/// The images of all platforms; stages for one platform may have made the same image for several.
fn set(made: &[Made], annotations: &Annotations) -> ImageSet {
    let mut set = ImageSet::default();
    annotations.annotate_index(&mut set);
    for one in made {
        let mut member = Member {
            statements: one.statements.clone(),
            ..Member::new(one.image)
        };
        annotations.annotate(&mut member, &one.platform);
        add(&mut set, member);
    }
    set
}

/// Adds an image that is not among those of a set.
fn add(set: &mut ImageSet, member: Member) {
    if set.members.iter().all(|other| other.image != member.image) {
        set.members.push(member);
    }
}

/// What a build fails with.
#[derive(Default)]
struct Failed(Mutex<Option<Error>>);

impl Failed {
    /// What failed first is what the others are canceled for; they may be faster to say so.
    fn add(&self, error: Error) {
        let mut failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = failure.as_ref().map(Error::class);
        if told.is_none_or(|class| class == ErrorClass::Canceled) {
            *failure = Some(error);
        }
    }

    fn end(self) -> Result<()> {
        let failure = self.0.into_inner();
        failure
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

/// Shows nothing.
struct Quiet;

impl Messages for Quiet {
    fn send(&self, _: Vec<u8>) -> Result<()> {
        Ok(())
    }
}
