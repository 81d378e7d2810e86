//! `process`: arguments, environment, ids, capabilities and limits, of init and of execs.

use cais_runtime::capabilities::{Capabilities, CapabilitySets, for_docker};
use cais_runtime::spec::{ConsoleSize, LinuxCapabilities, PosixRlimit, Process, User};
use cais_types::api::{ExecCreateRequest, Ulimit};
use cais_types::{Error, Result};
use rustix::process::{Resource, getrlimit};

use super::Input;
use super::security::Security;
use super::user::Identity;
use crate::create::merge::env_key;
use crate::house::EngineConfig;
use crate::record::Record;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's default for RLIMIT_NOFILE, soft and hard.
const OPEN_FILES: (u64, u64) = (1024, 524_288);
/// Where `--init` puts its program.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// The first process.
pub fn init_process(input: &Input<'_>, security: &Security) -> Result<Process> {
    let record = input.record;
    let host = &record.host_config;
    let mut args = Vec::with_capacity(record.args.len() + 3);
    if host.init.unwrap_or(input.config.init_by_default) && host.pid_mode.is_empty() {
        args.extend([INIT_PATH.to_owned(), "--".to_owned()]);
    }
    args.push(record.path.clone());
    args.extend(record.args.iter().cloned());
    let [height, width] = host.console_size;
    let size = ConsoleSize {
        height: clamp(height),
        width: clamp(width),
    };
    Ok(Process {
        terminal: record.config.tty,
        console_size: (record.config.tty && height > 0 && width > 0).then_some(size),
        user: user(input.identity),
        args,
        env: environment(record, input.identity, record.config.tty, input.env),
        cwd: working_dir(record, ""),
        capabilities: Some(capabilities(record, host.privileged, input.identity)?),
        rlimits: rlimits(record, input.config)?,
        no_new_privileges: security.no_new_privileges,
        // The kernel's own value is right for 0, and setting it may need a capability that the engine lacks.
        oom_score_adj: i32::try_from(host.oom_score_adj)
            .ok()
            .filter(|value| *value != 0),
        ..Process::default()
    })
}

/// A process added to a running container.
///
/// # Errors
/// Wrong security options or capabilities in the record.
pub fn exec_process(
    record: &Record,
    request: &ExecCreateRequest,
    identity: &Identity,
    config: &EngineConfig,
) -> Result<Process> {
    let host = &record.host_config;
    let security = Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let privileged = host.privileged || request.privileged;
    let size = request.console_size.filter(|_| request.tty);
    Ok(Process {
        terminal: request.tty,
        console_size: size.map(|[height, width]| ConsoleSize {
            height: clamp(height),
            width: clamp(width),
        }),
        user: user(identity),
        args: request.cmd.clone(),
        env: environment(record, identity, request.tty, &request.env),
        cwd: working_dir(record, &request.working_dir),
        capabilities: Some(capabilities(record, privileged, identity)?),
        rlimits: rlimits(record, config)?,
        no_new_privileges: security.no_new_privileges,
        oom_score_adj: i32::try_from(host.oom_score_adj)
            .ok()
            .filter(|value| *value != 0),
        ..Process::default()
    })
}

fn clamp(cells: u32) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

fn user(identity: &Identity) -> User {
    User {
        uid: identity.uid,
        gid: identity.gid,
        additional_gids: identity.groups.clone(),
        ..User::default()
    }
}

fn working_dir(record: &Record, asked: &str) -> String {
    let wanted = [asked, record.config.working_dir.as_str()];
    let found = wanted.into_iter().find(|directory| !directory.is_empty());
    found.unwrap_or("/").to_owned()
}

/// Docker's defaults, then the container's variables, then an exec's; later ones replace earlier ones in place.
/// `NAME` without a value takes the variable away.
fn environment(record: &Record, identity: &Identity, tty: bool, extra: &[String]) -> Vec<String> {
    let mut env = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", super::hostname(record)),
    ];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(record.linked.env.iter().cloned());
    for entry in record.config.env.iter().chain(extra) {
        let key = env_key(entry);
        let place = env.iter().position(|have| env_key(have) == key);
        match (place, entry.contains('=')) {
            (Some(place), true) => env[place].clone_from(entry),
            (Some(place), false) => {
                env.remove(place);
            }
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    if !env.iter().any(|entry| env_key(entry) == "HOME") {
        env.push(format!("HOME={}", identity.home));
    }
    env
}

/// The bounding set of a container.
pub fn bounding(record: &Record, privileged: bool) -> Result<Capabilities> {
    let host = &record.host_config;
    let add = host.cap_add.as_deref().unwrap_or_default();
    let drop = host.cap_drop.as_deref().unwrap_or_default();
    for_docker(privileged, add, drop)
        .map_err(|error| Error::invalid(error.to_string()).with_source(error))
}

/// Nothing is inheritable or ambient; users other than root start without effective capabilities, as after execve.
fn capabilities(
    record: &Record,
    privileged: bool,
    identity: &Identity,
) -> Result<LinuxCapabilities> {
    let mut sets = CapabilitySets::docker(bounding(record, privileged)?);
    if identity.uid != 0 {
        (sets.effective, sets.permitted) = (Capabilities::NONE, Capabilities::NONE);
    }
    Ok(sets.to_spec())
}

fn rlimits(record: &Record, config: &EngineConfig) -> Result<Vec<PosixRlimit>> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    let asked = record.host_config.resources.ulimits.iter().flatten();
    for ulimit in config.default_ulimits.iter().chain(asked) {
        let limit = rlimit(ulimit)?;
        match limits.iter_mut().find(|have| have.kind == limit.kind) {
            Some(have) => *have = limit,
            None => limits.push(limit),
        }
    }
    if limits.iter().all(|limit| limit.kind != "RLIMIT_NOFILE") {
        // Raising a hard limit needs CAP_SYS_RESOURCE: a default is not worth a failure.
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        limits.push(PosixRlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            soft: OPEN_FILES.0.min(most),
            hard: OPEN_FILES.1.min(most),
        });
    }
    Ok(limits)
}

fn rlimit(ulimit: &Ulimit) -> Result<PosixRlimit> {
    const KNOWN: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !KNOWN.contains(&ulimit.name.as_str()) {
        return Err(Error::invalid(format!(
            "invalid ulimit type: {}",
            ulimit.name
        )));
    }
    // -1 is no limit, the kernel's RLIM_INFINITY.
    let value = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            ulimit.soft, ulimit.hard
        )));
    }
    Ok(PosixRlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_uppercase()),
        soft,
        hard,
    })
}
