//! What a RUN sees in its tree that is no part of its layer.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use cais_types::{Digest, Error, Result};

use crate::cache::Key;
use crate::dockerfile::instruction::Run;
use crate::dockerfile::{Mount, MountType, Sharing};
use crate::ports::{Loan, StepMount, TreeRoot};
use crate::request::NamedContext;
use crate::stage::StageRun;
use crate::steps::transfer;
use crate::transfer::context;

/// Where commands find scripts of their own, as with BuildKit.
const SCRIPTS: &str = "/dev/pipes";
/// Where they find secrets, as with BuildKit.
const SECRETS: &str = "/run/secrets";
/// And sockets of agents, which are numbered.
const AGENTS: &str = "/run/buildkit/ssh_agent";

/// The mounts of an instruction.
pub fn of(stage: &StageRun<'_>, run: &Run) -> Result<Vec<StepMount>> {
    let expand = |word: &str| {
        stage
            .expand(word)
            .map_err(|error| error.message().to_owned())
    };
    let mut mounts = Vec::new();
    let mut agents = 0;
    for text in &run.mounts {
        let mount = Mount::parse(text, &expand).map_err(Error::invalid)?;
        if mount.kind == MountType::Ssh {
            mounts.push(agent(stage, mount, agents));
            agents += 1;
        } else {
            mounts.push(step_mount(stage, mount)?);
        }
    }
    Ok(mounts)
}

/// A here-document that names its interpreter, as a file to run; its path in the container.
pub fn script(stage: &StageRun<'_>, name: &str, text: &str) -> Result<(String, StepMount)> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::invalid(format!(
            "invalid here-document name {name:?}"
        )));
    }
    let digest = Key::on(None).with(text).finish();
    let scratch = &stage.request.scratch;
    let platform = stage.plan.platform.to_string().replace('/', "-");
    let directory = scratch.join(format!("script-{}-{platform}-{digest}", stage.index));
    let failed = |error: std::io::Error| Error::internal(format!("{name}: {error}"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(failed)?;
    let source = directory.join(name);
    std::fs::write(&source, text).map_err(failed)?;
    std::fs::set_permissions(&source, Permissions::from_mode(0o755)).map_err(failed)?;
    let target = format!("{SCRIPTS}/{name}");
    let mount = StepMount::Context {
        source,
        target: target.clone(),
        read_only: true,
    };
    Ok((target, mount))
}

/// Adds what a mount shows to the key of its step. What is in a cache and what is lent mean nothing to it.
pub fn add_to_key(stage: &StageRun<'_>, key: Key, mount: &StepMount) -> Result<Key> {
    let digest = |path| context::digest_of_path(path, stage.request.memory.as_deref());
    Ok(match mount {
        StepMount::Context { source, .. } => key.with(digest(source)?),
        StepMount::Tree { root, path, .. } => match root {
            TreeRoot::Context(root) => key.with(digest(root)?).with(path),
            TreeRoot::Image(image) => key.with(image.to_string()).with(path),
        },
        StepMount::Cache { .. } | StepMount::Tmpfs { .. } | StepMount::Loan { .. } => key,
    })
}

/// A mount as it was asked for.
fn step_mount(stage: &StageRun<'_>, mount: Mount) -> Result<StepMount> {
    if mount.kind == MountType::Secret {
        return Ok(secret(stage, mount));
    }
    let target = mount.target.clone().unwrap_or_default();
    let target = super::workdir::below(&stage.config.working_dir, &target);
    if target == "/" {
        return Err(Error::invalid("invalid mount target \"/\""));
    }
    match mount.kind {
        MountType::Cache => cache(stage, mount, target),
        MountType::Tmpfs => Ok(StepMount::Tmpfs {
            target,
            size: mount.size,
        }),
        _ => bind(stage, mount, target),
    }
}

fn secret(stage: &StageRun<'_>, mount: Mount) -> StepMount {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let id = mount.source.or(mount.id);
    let id = id.unwrap_or_else(|| last(mount.target.as_deref().unwrap_or_default()));
    let usual = || {
        mount
            .env
            .is_none()
            .then(|| format!("{SECRETS}/{}", last(&id)))
    };
    let target = mount.target.or_else(usual);
    stage.progress.sources.secret(&id, !mount.required);
    StepMount::Loan {
        target: target.map(|target| super::workdir::below(&stage.config.working_dir, &target)),
        what: Loan::Secret { env: mount.env },
        id,
        required: mount.required,
        mode: mount.mode.unwrap_or(0o400),
        owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
    }
}

/// `before` agents are mounted before this one.
fn agent(stage: &StageRun<'_>, mount: Mount, before: usize) -> StepMount {
    let usual = || format!("{AGENTS}.{before}");
    let target = mount.target.unwrap_or_else(usual);
    let id = mount.id.unwrap_or_else(|| "default".to_owned());
    stage.progress.sources.agent(&id, !mount.required);
    StepMount::Loan {
        what: Loan::Agent,
        id,
        target: Some(super::workdir::below(&stage.config.working_dir, &target)),
        required: mount.required,
        mode: mount.mode.unwrap_or(0o600),
        owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
    }
}

fn bind(stage: &StageRun<'_>, mount: Mount, target: String) -> Result<StepMount> {
    let named = mount.from.as_deref();
    let named = named.and_then(|from| stage.context_named(from));
    let (directory, image) = match named {
        Some(NamedContext::Directory { path, .. }) => (path, None),
        _ => (&stage.request.context_path, image(stage, &mount)?),
    };
    let path = mount.source.unwrap_or_else(|| "/".to_owned());
    let read_only = mount.read_only;
    if image.is_none() && read_only {
        let source = context::resolve(directory, &path)?;
        return Ok(StepMount::Context {
            source,
            target,
            read_only,
        });
    }
    let context = || TreeRoot::Context(directory.clone());
    Ok(StepMount::Tree {
        root: image.map_or_else(context, TreeRoot::Image),
        path,
        target,
        read_only,
    })
}

fn cache(stage: &StageRun<'_>, mount: Mount, target: String) -> Result<StepMount> {
    let named = mount.from.as_deref();
    let named = named.and_then(|from| stage.context_named(from));
    // What begins with other files is another cache.
    let (base, files) = match named {
        Some(NamedContext::Directory { path, memory }) => {
            let digest = context::digest_of_path(path, memory.as_deref())?;
            (Some(TreeRoot::Context(path.clone())), digest)
        }
        _ => match image(stage, &mount)? {
            Some(image) => (Some(TreeRoot::Image(image)), image.to_string()),
            None => (None, String::new()),
        },
    };
    let path = mount.source.clone().unwrap_or_else(|| "/".to_owned());
    let mut id = cache_id(stage, &mount, &target);
    if base.is_some() {
        id = format!("{id}\0{files}\0{path}");
    }
    Ok(StepMount::Cache {
        id,
        base,
        path,
        target,
        read_only: mount.read_only,
        mode: mount.mode.unwrap_or(0o755),
        owner: (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0)),
        sharing: mount.sharing.unwrap_or(Sharing::Shared),
    })
}

/// The image that a mount takes its files from.
fn image(stage: &StageRun<'_>, mount: &Mount) -> Result<Option<Digest>> {
    let from = mount.from.as_deref();
    from.map(|from| transfer::source_image(stage, from))
        .transpose()
}

fn cache_id(stage: &StageRun<'_>, mount: &Mount, target: &str) -> String {
    let namespace = stage.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
    let id = mount.id.as_deref().unwrap_or(target);
    match namespace {
        Some(namespace) => format!("{namespace}/{id}"),
        None => id.to_owned(),
    }
}
