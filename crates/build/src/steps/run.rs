//! RUN: a command in a container on the image so far; what it writes is the layer.

use cais_types::{ContainerId, Error, Result};
use serde_json::json;

use crate::dockerfile::command::Program;
use crate::dockerfile::instruction::{NetworkMode, Run, Security};
use crate::dockerfile::{Mount, MountType, Sharing};
use crate::ports::{NewImage, RunEvents, RunStep, StepMount, Stream};
use crate::stage::StageRun;
use crate::transfer::context;

/// Runs the instruction.
pub fn run(stage: &mut StageRun<'_>, run: &Run) -> Result<()> {
    if run.security == Security::Insecure {
        // CVE-2024-23653: never without the entitlement, which no client of this API can give.
        return Err(Error::new(
            cais_types::ErrorClass::Forbidden,
            "security.insecure is not allowed",
        ));
    }
    let argv = match run.command.program(&stage.shell()) {
        Program::Argv(argv) => argv,
        Program::Script(_) => {
            return Err(Error::unsupported(
                "RUN with a here-document that has its own interpreter (#!) is not built yet",
            ));
        }
    };
    if argv.is_empty() {
        return Err(Error::invalid("No command specified"));
    }
    let args = stage.scope.run_args();
    let shared = created_by(&args, &argv);
    let mounts = mounts(stage, run)?;
    let network = match run.network {
        NetworkMode::Default => stage.request.network.clone(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
    };
    let mut key = stage.key(&shared).with(format!("{argv:?}")).with(&network);
    for mount in &run.mounts {
        key = key.with(mount);
    }
    for mount in &mounts {
        if let StepMount::Context { source, .. } = mount {
            key = key.with(context::digest_of_path(source)?);
        }
    }
    let key = key.finish();
    if stage.cached(&key)? {
        return Ok(());
    }
    let proxies = stage.scope.proxies();
    // Docker's history counts no proxy, but begins as if it had.
    let created_by = match args.is_empty() && !proxies.is_empty() {
        true => format!("|0 {shared}"),
        false => shared,
    };
    let env = [stage.scope.env(), args, proxies].concat();
    let step = RunStep {
        image: Some(ground(stage)?),
        argv: argv.clone(),
        env,
        user: stage.config.user.clone(),
        working_dir: stage.config.working_dir.clone(),
        network,
        host: stage.request.host.clone(),
        mounts,
    };
    execute(stage, step, created_by, &key)
}

fn execute(stage: &mut StageRun<'_>, step: RunStep, created_by: String, key: &str) -> Result<()> {
    let command = step.argv.join(" ");
    let mut events = Events { log: &stage.log };
    let ran = stage.ports.executor.run(step, &mut events)?;
    let container = ran.container;
    if ran.code != 0 {
        if stage.request.force_remove {
            discard(stage, &container)?;
        }
        return Err(Error::invalid(format!(
            "The command '{command}' returned a non-zero code: {}",
            ran.code
        )));
    }
    let committed = stage.commit(Some(container), created_by, key);
    if committed.is_err() || !stage.request.keep_containers {
        discard(stage, &container)?;
    }
    committed
}

fn discard(stage: &StageRun<'_>, container: &ContainerId) -> Result<()> {
    stage.ports.executor.discard(container)?;
    let text = format!("Removing intermediate container {}\n", container.short());
    // The log of a build that was canceled takes no more text.
    let _ = stage.log.text(&text);
    Ok(())
}

/// The image to run on; a stage from `scratch` that has none yet gets one without layers.
fn ground(stage: &mut StageRun<'_>) -> Result<cais_types::Digest> {
    if let Some(image) = stage.image {
        return Ok(image);
    }
    let id = stage.ports.images.commit(NewImage {
        parent: None,
        layer: None,
        config: stage.config.clone(),
        author: stage.author.clone(),
        created_by: String::new(),
    })?;
    stage.image = Some(id);
    Ok(id)
}

/// `|2 A=1 B=2 /bin/sh -c command`, as docker's history has it.
fn created_by(args: &[String], argv: &[String]) -> String {
    let mut words = Vec::new();
    if !args.is_empty() {
        let mut sorted = args.to_vec();
        sorted.sort();
        words.push(format!("|{}", args.len()));
        words.extend(sorted);
    }
    words.extend(argv.iter().cloned());
    words.join(" ")
}

fn mounts(stage: &StageRun<'_>, run: &Run) -> Result<Vec<StepMount>> {
    let expand = |word: &str| {
        stage
            .expand(word)
            .map_err(|error| error.message().to_owned())
    };
    let mount = |text: &String| {
        let mount = Mount::parse(text, &expand).map_err(Error::invalid)?;
        step_mount(stage, mount)
    };
    run.mounts.iter().map(mount).collect()
}

fn step_mount(stage: &StageRun<'_>, mount: Mount) -> Result<StepMount> {
    let target = mount.target.clone().unwrap_or_default();
    let target = super::workdir::below(&stage.config.working_dir, &target);
    let not_built = |what: &str| {
        Err(Error::unsupported(format!(
            "RUN --mount={what} is not built yet"
        )))
    };
    if matches!(
        mount.kind,
        MountType::Bind | MountType::Cache | MountType::Tmpfs
    ) && target == "/"
    {
        return Err(Error::invalid("invalid mount target \"/\""));
    }
    match mount.kind {
        MountType::Secret => not_built("type=secret"),
        MountType::Ssh => not_built("type=ssh"),
        MountType::Bind if mount.from.is_some() => not_built("type=bind with from"),
        MountType::Bind if !mount.read_only => not_built("type=bind with rw"),
        MountType::Cache if mount.from.is_some() => not_built("type=cache with from"),
        MountType::Cache if mount.sharing == Some(Sharing::Private) => {
            not_built("type=cache with sharing=private")
        }
        MountType::Bind => Ok(StepMount::Context {
            source: context::resolve(stage.request, mount.source.as_deref().unwrap_or("/"))?,
            target,
            read_only: true,
        }),
        MountType::Cache => Ok(StepMount::Cache {
            id: cache_id(stage, &mount, &target),
            target,
            read_only: mount.read_only,
            mode: mount.mode.unwrap_or(0o755),
            owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
            exclusive: mount.sharing == Some(Sharing::Locked),
        }),
        MountType::Tmpfs => Ok(StepMount::Tmpfs {
            target,
            size: mount.size,
        }),
    }
}

fn cache_id(stage: &StageRun<'_>, mount: &Mount, target: &str) -> String {
    let namespace = stage.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
    let id = mount.id.as_deref().unwrap_or(target);
    match namespace {
        Some(namespace) => format!("{namespace}/{id}"),
        None => id.to_owned(),
    }
}

struct Events<'a> {
    log: &'a crate::messages::StageLog,
}

impl RunEvents for Events<'_> {
    fn started(&mut self, container: &ContainerId) -> Result<()> {
        self.log
            .text(&format!(" ---> Running in {}\n", container.short()))
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes);
        let text = match stream {
            Stream::Stdout => text.into_owned(),
            // Docker's clients show what a step printed as an error in red.
            Stream::Stderr => format!("\u{1b}[91m{text}\u{1b}[0m"),
        };
        self.log
            .message(json!({ "stream": text }).to_string().into_bytes())
    }
}
