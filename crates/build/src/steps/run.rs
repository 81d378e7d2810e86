//! RUN: a command in a container on the image so far; what it writes is the layer.

use cais_types::oci::Platform;
use cais_types::{ContainerId, Error, Result};

use crate::dockerfile::command::Program;
use crate::dockerfile::instruction::{NetworkMode, Run, Security};
use crate::output::Events;
use crate::ports::RunStep;
use crate::stage::{Repeat, StageRun};
use crate::steps::mounts;

/// Runs the instruction.
pub fn run(stage: &mut StageRun<'_>, run: &Run) -> Result<()> {
    if run.security == Security::Insecure {
        // CVE-2024-23653: never without the entitlement, which no client of this API can give.
        return Err(Error::new(
            cais_types::ErrorClass::Forbidden,
            "security.insecure is not allowed",
        ));
    }
    let mut mounts = mounts::of(stage, run)?;
    let argv = match run.command.program(&stage.shell()) {
        Program::Argv(argv) => argv,
        Program::Script(text) => {
            let name = run.command.heredocs.first().map_or("", |first| &first.name);
            let (path, mount) = mounts::script(stage, name, &text)?;
            mounts.push(mount);
            vec![path]
        }
    };
    if argv.is_empty() {
        return Err(Error::invalid("No command specified"));
    }
    let args = stage.scope.run_args();
    let shared = created_by(&args, &argv);
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
        key = mounts::add_to_key(stage, key, mount)?;
    }
    let key = key.finish();
    let proxies = stage.scope.proxies();
    // Docker's history counts no proxy, but begins as if it had.
    let created_by = match args.is_empty() && !proxies.is_empty() {
        true => format!("|0 {shared}"),
        false => shared,
    };
    let repeat = Repeat {
        line: &created_by,
        files: true,
        whole: run.flags.is_empty() && mounts.is_empty(),
    };
    if stage.cached(&key, repeat)? {
        return Ok(());
    }
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
        session: stage.request.session.clone(),
        canceled: stage.log.canceled(),
    };
    execute(stage, step, created_by, &key)
}

fn execute(stage: &mut StageRun<'_>, step: RunStep, created_by: String, key: &str) -> Result<()> {
    let command = step.argv.join(" ");
    let mut events = Events::new(&stage.log);
    let ran = stage.ports.executor.run(step, &mut events)?;
    let hint = if events.not_executable {
        hint(stage)
    } else {
        String::new()
    };
    let container = ran.container;
    if ran.code != 0 {
        if stage.request.force_remove {
            discard(stage, &container)?;
        }
        return Err(Error::invalid(format!(
            "The command '{command}' returned a non-zero code: {}{hint}",
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
    let text = format!(
        " ---> Removed intermediate container {}\n",
        container.short()
    );
    // The log of a build that was canceled takes no more text.
    let _ = stage.log.text(&text);
    Ok(())
}

/// The image to run on; a stage from `scratch` that has none yet gets one without layers.
fn ground(stage: &mut StageRun<'_>) -> Result<cais_types::Digest> {
    if let Some(image) = stage.image {
        return Ok(image);
    }
    let id = stage.make(None, String::new())?;
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

/// Says of a command of another platform why it does not run.
fn hint(stage: &StageRun<'_>) -> String {
    let Ok(Some(platform)) = stage.foreign() else {
        return String::new();
    };
    let host = Platform::host();
    format!(
        "\nThe image is for {platform} and this host is {host}: RUN needs an emulator of {} in \
         /proc/sys/fs/binfmt_misc (qemu-user-static, registered with the flag F). Stages with \
         FROM --platform=$BUILDPLATFORM and COPY need none.",
        platform.architecture
    )
}
