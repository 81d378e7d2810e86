//! What a RUN sees in its tree that is no part of its layer.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use cais_types::{Digest, Error, Result};

use crate::cache::Key;
use crate::dockerfile::instruction::Run;
use crate::dockerfile::{Mount, MountType, Sharing};
use crate::ports::{StepMount, TreeRoot};
use crate::stage::StageRun;
use crate::steps::transfer;
use crate::transfer::context;

/// Where commands find scripts of their own, as with BuildKit.
const SCRIPTS: &str = "/dev/pipes";

/// The mounts of an instruction.
pub fn of(stage: &StageRun<'_>, run: &Run) -> Result<Vec<StepMount>> {
    let expand = |word: &str| {
        stage
            .expand(word)
            .map_err(|error| error.message().to_owned())
    };
    let mount = |text: &String| {
        let mount = Mount::parse(text, &expand).map_err(Error::invalid)?;
        step_mount(stage, mount)
    };
    let mounts = run.mounts.iter().map(mount);
    mounts.filter_map(Result::transpose).collect()
}

/// A here-document that names its interpreter, as a file to run; its path in the container.
pub fn script(stage: &StageRun<'_>, name: &str, text: &str) -> Result<(String, StepMount)> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(Error::invalid(format!(
            "invalid here-document name {name:?}"
        )));
    }
    let digest = Key::on(None).with(text).finish();
    let context = &stage.request.context_path;
    let directory = context.with_file_name(format!("script-{}-{digest}", stage.index));
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

/// Adds what a mount shows to the key of its step. What is in a cache means nothing to it.
pub fn add_to_key(key: Key, mount: &StepMount) -> Result<Key> {
    Ok(match mount {
        StepMount::Context { source, .. } => key.with(context::digest_of_path(source)?),
        StepMount::Tree { root, path, .. } => match root {
            TreeRoot::Context(root) => key.with(context::digest_of_path(root)?).with(path),
            TreeRoot::Image(image) => key.with(image.to_string()).with(path),
        },
        StepMount::Cache { .. } | StepMount::Tmpfs { .. } => key,
    })
}

/// A mount as it was asked for; none for a secret or an agent that the client need not send, as none can be sent yet.
fn step_mount(stage: &StageRun<'_>, mount: Mount) -> Result<Option<StepMount>> {
    let target = mount.target.clone().unwrap_or_default();
    let target = super::workdir::below(&stage.config.working_dir, &target);
    if matches!(
        mount.kind,
        MountType::Bind | MountType::Cache | MountType::Tmpfs
    ) && target == "/"
    {
        return Err(Error::invalid("invalid mount target \"/\""));
    }
    let mount = match mount.kind {
        MountType::Secret | MountType::Ssh if !mount.required => return Ok(None),
        MountType::Secret | MountType::Ssh => {
            return Err(Error::unsupported(format!(
                "RUN --mount=type={},required is not built yet",
                mount.kind.name()
            )));
        }
        MountType::Bind => bind(stage, mount, target)?,
        MountType::Cache => cache(stage, mount, target)?,
        MountType::Tmpfs => StepMount::Tmpfs {
            target,
            size: mount.size,
        },
    };
    Ok(Some(mount))
}

fn bind(stage: &StageRun<'_>, mount: Mount, target: String) -> Result<StepMount> {
    let image = image(stage, &mount)?;
    let path = mount.source.unwrap_or_else(|| "/".to_owned());
    let read_only = mount.read_only;
    if image.is_none() && read_only {
        let source = context::resolve(stage.request, &path)?;
        return Ok(StepMount::Context {
            source,
            target,
            read_only,
        });
    }
    let context = || TreeRoot::Context(stage.request.context_path.clone());
    Ok(StepMount::Tree {
        root: image.map_or_else(context, TreeRoot::Image),
        path,
        target,
        read_only,
    })
}

fn cache(stage: &StageRun<'_>, mount: Mount, target: String) -> Result<StepMount> {
    let base = image(stage, &mount)?;
    let path = mount.source.clone().unwrap_or_else(|| "/".to_owned());
    let mut id = cache_id(stage, &mount, &target);
    if let Some(base) = &base {
        // What begins with other files is another cache.
        id = format!("{id}\0{base}\0{path}");
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
