//! `container update`: change limits and the restart policy of containers.

use cais_types::api::{ContainerUpdateRequest, PortMap, Resources};

use crate::app::App;
use crate::command::{Arguments, Command, Invocation};
use crate::commands::each;
use crate::error::{CliError, Result};
use crate::flags::{Flag, flag};
use cais_options::flags::LIMIT_FLAGS;
use cais_options::{limit, port};

/// The verb.
pub const COMMAND: Command = Command {
    name: "update",
    other_names: &[],
    top: Some("update"),
    about: "Change the configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    aliases: &["container update", "update"],
    arguments: Arguments::AtLeast(1),
    flags: &[LIMIT_FLAGS, FLAGS],
    interspersed: true,
    run: |app, call| Box::pin(run(app, call)),
};

const FLAGS: &[Flag] = &[
    flag("kernel-memory", "bytes", "Kernel memory limit").hidden(),
    flag(
        "publish-add",
        "list",
        "Publish more ports to the host, of a running container at once (cais only)",
    ),
    flag(
        "publish-rm",
        "list",
        "Take published ports back: 80, 80/udp, 8080:80 or 127.0.0.1:8080:80 (cais only)",
    ),
    flag(
        "restart",
        "string",
        "Restart policy after the container exits",
    ),
];

fn ports(list: &[String]) -> Result<Option<PortMap>> {
    let ports = port::parse(list, &[]).map_err(CliError::new)?;
    Ok((!list.is_empty()).then_some(ports.bindings))
}

async fn run(app: &App, call: Invocation) -> Result {
    let args = &call.args;
    let mut flags = LIMIT_FLAGS.iter().chain(FLAGS);
    if !flags.any(|flag| args.changed(flag.long)) {
        return Err(CliError::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let restart_policy = match args.value("restart") {
        Some(text) if !text.is_empty() => limit::restart_policy(text).map_err(CliError::new)?,
        _ => Default::default(),
    };
    let request = ContainerUpdateRequest {
        resources: Resources {
            cpu_shares: args.int("cpu-shares", 0),
            memory: args.bytes("memory"),
            nano_cpus: args
                .value("cpus")
                .map_or(Ok(0), limit::nano_cpus)
                .map_err(CliError::new)?,
            blkio_weight: u16::try_from(args.int("blkio-weight", 0)).unwrap_or(0),
            cpu_period: args.int("cpu-period", 0),
            cpu_quota: args.int("cpu-quota", 0),
            cpu_realtime_period: args.int("cpu-rt-period", 0),
            cpu_realtime_runtime: args.int("cpu-rt-runtime", 0),
            cpuset_cpus: args.string("cpuset-cpus"),
            cpuset_mems: args.string("cpuset-mems"),
            kernel_memory: args.bytes("kernel-memory"),
            memory_reservation: args.bytes("memory-reservation"),
            memory_swap: args.bytes("memory-swap"),
            pids_limit: args
                .changed("pids-limit")
                .then(|| args.int("pids-limit", 0)),
            ..Resources::default()
        },
        restart_policy,
        publish_add: ports(&args.list("publish-add"))?,
        publish_remove: ports(&args.list("publish-rm"))?,
    };
    let client = app.client()?;
    let request = &request;
    each(app, &args.positionals, |name| async move {
        let answer = client.container_update(name, request).await?;
        for warning in answer.warnings.unwrap_or_default() {
            app.printer.err_line(&warning);
        }
        Ok(Some(name.to_owned()))
    })
    .await
}
