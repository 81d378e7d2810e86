//! The last steps of a new process, init's or an exec's: streams, limits, identity, rights, and the execution.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cais_sys::process;
use rustix::fs::{Access, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::Stdio;
use super::init::HostFiles;
use super::listener::Listener;
use super::memory;
use super::report::{Class, Result, RuntimeError, during, plain};
use crate::capabilities::{self, CapabilitySets};
use crate::seccomp;
use crate::spec::{LinuxMemoryPolicy, LinuxPersonality, PosixRlimit, Process, Scheduler};

/// What a process needs from here on.
pub struct Final<'a> {
    pub process: &'a Process,
    pub filter: Option<seccomp::Program>,
    /// Who answers the calls that the filter passes on.
    pub listener: Option<Listener>,
    pub memory_policy: Option<&'a LinuxMemoryPolicy>,
    pub die_with_parent: bool,
    pub preserve_fds: u32,
    pub host: HostFiles,
    pub personality: Option<&'a LinuxPersonality>,
    /// The user namespace lets supplementary groups be set.
    pub may_set_groups: bool,
}

/// What is to be executed, with nothing left to look up.
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Puts the streams in place; `terminal` is (controller, terminal), and the controller comes back.
pub fn connect(stdio: Stdio, terminal: Option<(OwnedFd, OwnedFd)>) -> Result<Option<OwnedFd>> {
    let put = |stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd| {
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)
    };
    if let Some((controller, terminal)) = terminal {
        cais_sys::pty::make_controlling(terminal.as_fd())
            .map_err(during("controlling terminal"))?;
        put(&terminal, &terminal, &terminal).map_err(during("dup2"))?;
        return Ok(Some(controller));
    }
    if let Stdio::Descriptors {
        stdin,
        stdout,
        stderr,
    } = stdio
    {
        put(&stdin, &stdout, &stderr).map_err(during("dup2"))?;
    }
    Ok(None)
}

impl Final<'_> {
    /// Sets limits, takes on the identity and the rights of the process, and finds its program.
    pub fn become_user(&self) -> Result<(Program, Option<CapabilitySets>)> {
        let process = self.process;
        for limit in &process.rlimits {
            set_limit(limit)?;
        }
        if let Some(score) = process.oom_score_adj {
            set_oom_score(&self.host, score)?;
        }
        if let Some(scheduler) = &process.scheduler {
            set_scheduler(scheduler)?;
        }
        if let Some(priority) = &process.io_priority {
            let class = ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]
                .iter()
                .position(|name| *name == priority.class);
            let class = class.and_then(|index| i32::try_from(index + 1).ok());
            let class = class.ok_or_else(|| {
                RuntimeError::invalid(format!("unknown ioPriority class {:?}", priority.class))
            })?;
            process::set_io_priority(class, priority.priority).map_err(during("ioprio_set"))?;
        }
        if let Some(policy) = self.memory_policy {
            memory::set_policy(policy)?;
        }
        if let Some(personality) = self.personality {
            set_personality(personality)?;
        }
        rustix::process::umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
        own_streams(process.user.uid)?;
        self.set_labels()?;
        let entered = enter_directory(&process.cwd);
        let sets = self.take_identity()?;
        if entered.is_err() {
            // The user may pass where root may not: a network file system.
            enter_directory(&process.cwd)?;
        }
        still_inside()?;
        let program = find_program(process)?;
        if process.no_new_privileges {
            process::set_no_new_privileges().map_err(during("no_new_privs"))?;
        }
        Ok((program, sets))
    }

    /// Labels take effect with the execution; [`super::check`] has made sure that the kernel knows them.
    fn set_labels(&self) -> Result<()> {
        let labels = [
            (
                "attr/apparmor/exec",
                "exec ",
                &self.process.apparmor_profile,
            ),
            ("attr/exec", "", &self.process.selinux_label),
        ];
        for (file, prefix, label) in labels {
            if let Some(label) = label.as_ref().filter(|label| !label.is_empty()) {
                self.host
                    .write(file, &format!("{prefix}{label}"))
                    .map_err(during(format!("set label {label}")))?;
            }
        }
        Ok(())
    }

    /// Drops what the bounding set must not have and takes on user and groups. Permitted capabilities stay for the last steps.
    fn take_identity(&self) -> Result<Option<CapabilitySets>> {
        let user = &self.process.user;
        let sets = match &self.process.capabilities {
            None => None,
            Some(wanted) => {
                let mut sets = CapabilitySets::parse(wanted).0;
                sets.limit_to(capabilities::available().map_err(during("capabilities"))?);
                sets.apply_before_setuid().map_err(during("bounding set"))?;
                Some(sets)
            }
        };
        let groups = self
            .may_set_groups
            .then_some(user.additional_gids.as_slice());
        process::set_ids(user.uid, user.gid, groups).map_err(during("set user"))?;
        Ok(sets)
    }

    /// Executes the program. A file that is found and that the kernel cannot execute is, as with runc, no failure of whoever
    /// starts it: the process says why and has the exit code that is answered.
    pub fn execute(self, (program, sets): &(Program, Option<CapabilitySets>)) -> Result<i32> {
        self.seal(sets.as_ref())?;
        let error = process::execute(&program.path, &program.arguments, &program.environment);
        let path = program.path.to_string_lossy();
        let _ = writeln!(io::stderr(), "exec {path}: {}", plain(&error));
        Ok(1)
    }

    /// A filter needs no_new_privs or CAP_SYS_ADMIN: without the former it is installed just before the rights are given away,
    /// so that it must allow no more than capset, prctl and execve.
    fn seal(&self, sets: Option<&CapabilitySets>) -> Result<()> {
        process::reset_signals();
        process::close_on_execute_from(3 + self.preserve_fds).map_err(during("close_range"))?;
        let no_new_privileges = self.process.no_new_privileges;
        if !no_new_privileges && self.filter.is_some() {
            use_all_permitted().map_err(during("capabilities"))?;
            self.install_filter()?;
        }
        if let Some(sets) = sets {
            sets.apply_after_setuid().map_err(during("capabilities"))?;
        }
        // After the change of rights, which would take it back.
        if self.die_with_parent {
            process::die_with_parent().map_err(during("PR_SET_PDEATHSIG"))?;
        }
        if no_new_privileges {
            self.install_filter()
        } else {
            Ok(())
        }
    }

    fn install_filter(&self) -> Result<()> {
        let Some(filter) = &self.filter else {
            return Ok(());
        };
        let notified = filter.install().map_err(during("seccomp"))?;
        match (notified, &self.listener) {
            (None, _) => Ok(()),
            (Some(notified), Some(listener)) => listener.send(notified.as_fd()),
            (Some(_), None) => Err(RuntimeError::invalid(
                "seccomp listenerPath is needed for SCMP_ACT_NOTIFY",
            )),
        }
    }
}

/// Gives the standard streams to the user, so that `/dev/stdout` and the like can be opened again.
fn own_streams(uid: u32) -> Result<()> {
    use rustix::fs::{Uid, fchown, fstat, makedev};
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for stream in streams {
        let Ok(stat) = fstat(stream) else { continue };
        if stat.st_uid == uid || stat.st_rdev == makedev(1, 3) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Ids that a user namespace does not map, and file systems that are read-only.
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(during("fchown of standard streams")(errno)),
        }
    }
    Ok(())
}

/// Binds this process to processors, given as `0-3,7`; absent leaves them as they are.
pub fn set_affinity(list: Option<&str>) -> Result<()> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let mask = memory::mask(list)
        .ok_or_else(|| RuntimeError::invalid(format!("invalid CPU affinity {list:?}")))?;
    process::set_affinity(&mask).map_err(during("sched_setaffinity"))
}

fn use_all_permitted() -> io::Result<()> {
    let mut sets = cais_sys::capability::process()?;
    sets.effective = sets.permitted;
    cais_sys::capability::set_process(sets)
}

fn set_limit(limit: &PosixRlimit) -> Result<()> {
    let number = process::limit_number(&limit.kind)
        .ok_or_else(|| RuntimeError::invalid(format!("invalid rlimit type {:?}", limit.kind)))?;
    match process::set_limit(number, limit.soft, limit.hard) {
        // Without CAP_SYS_RESOURCE nothing can be raised: the best that may be is taken.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let hard = process::hard_limit(number)
                .map_err(during("getrlimit"))?
                .min(limit.hard);
            process::set_limit(number, limit.soft.min(hard), hard)
                .map_err(during(format!("setrlimit {}", limit.kind)))
        }
        result => result.map_err(during(format!("setrlimit {}", limit.kind))),
    }
}

fn set_oom_score(host: &HostFiles, score: i32) -> Result<()> {
    match host.write("oom_score_adj", &score.to_string()) {
        // Lowering it needs a right that a nested engine does not have; what it has stays.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result.map_err(during("write oom_score_adj")),
    }
}

fn set_personality(wanted: &LinuxPersonality) -> Result<()> {
    const LINUX32: u64 = 8;
    let persona = match wanted.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => LINUX32,
        other => {
            return Err(RuntimeError::invalid(format!(
                "unknown personality domain {other:?}"
            )));
        }
    };
    if let Some(flag) = wanted.flags.first() {
        return Err(RuntimeError::invalid(format!(
            "unknown personality flag {flag:?}"
        )));
    }
    process::set_personality(persona).map_err(during("personality"))
}

fn set_scheduler(wanted: &Scheduler) -> Result<()> {
    const POLICIES: [(&str, u32); 6] = [
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    const FLAGS: [(&str, u64); 7] = [
        ("SCHED_FLAG_RESET_ON_FORK", 1),
        ("SCHED_FLAG_RECLAIM", 2),
        ("SCHED_FLAG_DL_OVERRUN", 4),
        ("SCHED_FLAG_KEEP_POLICY", 8),
        ("SCHED_FLAG_KEEP_PARAMS", 16),
        ("SCHED_FLAG_UTIL_CLAMP_MIN", 32),
        ("SCHED_FLAG_UTIL_CLAMP_MAX", 64),
    ];
    let policy = POLICIES.iter().find(|(name, _)| *name == wanted.policy);
    let (_, policy) = policy.ok_or_else(|| {
        RuntimeError::invalid(format!("unknown scheduler policy {:?}", wanted.policy))
    })?;
    let mut attributes = process::SchedulerAttributes {
        policy: *policy,
        nice: wanted.nice,
        ..Default::default()
    };
    for flag in &wanted.flags {
        let known = FLAGS.iter().find(|(name, _)| name == flag);
        let (_, bit) = known
            .ok_or_else(|| RuntimeError::invalid(format!("unknown scheduler flag {flag:?}")))?;
        attributes.flags |= bit;
    }
    attributes.priority = u32::try_from(wanted.priority).unwrap_or(0);
    (attributes.runtime, attributes.deadline, attributes.period) =
        (wanted.runtime, wanted.deadline, wanted.period);
    process::set_scheduler(attributes).map_err(during("sched_setattr"))
}

/// Makes the working directory of a new container when it is missing; entering it tells what went wrong.
pub fn make_directory(cwd: &str) {
    let missing = Path::new(cwd).is_absolute()
        && rustix::fs::access(cwd, Access::EXISTS) == Err(Errno::NOENT);
    if missing {
        let mut directories = std::fs::DirBuilder::new();
        let _ = directories.recursive(true).mode(0o755).create(cwd);
    }
}

/// Enters the working directory.
fn enter_directory(cwd: &str) -> Result<()> {
    let path = Path::new(if cwd.is_empty() { "/" } else { cwd });
    if !path.is_absolute() {
        return Err(RuntimeError::invalid(format!(
            "Cwd must be an absolute path: {cwd}"
        )));
    }
    rustix::process::chdir(path).map_err(|errno| {
        RuntimeError::invalid(format!(
            "chdir to cwd ({cwd:?}) set in config.json failed: {}",
            plain(&errno.into())
        ))
    })
}

/// The working directory must be inside the new root (CVE-2024-21626): the kernel says so with a path that begins with `/`.
fn still_inside() -> Result<()> {
    let path = rustix::process::getcwd(Vec::new()).map_err(during("getcwd"))?;
    if path.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(RuntimeError::invalid(
        "current working directory is outside of container mount namespace root -- possible container breakout detected",
    ))
}

fn find_program(process: &Process) -> Result<Program> {
    let name = process.args.first().map(String::as_str).unwrap_or_default();
    let path = look_up(name, &process.env)?;
    let text = |text: &String| {
        CString::new(text.as_str()).map_err(|_| RuntimeError::invalid("an argument has a NUL byte"))
    };
    Ok(Program {
        path: CString::new(path.as_os_str().as_bytes())
            .map_err(|_| RuntimeError::invalid("the program has a NUL byte"))?,
        arguments: process.args.iter().map(text).collect::<Result<_>>()?,
        environment: process.env.iter().map(text).collect::<Result<_>>()?,
    })
}

/// Go's exec.LookPath with the container's PATH.
fn look_up(name: &str, environment: &[String]) -> Result<PathBuf> {
    if name.contains('/') {
        return executable(Path::new(name))
            .map(|()| PathBuf::from(name))
            .map_err(|error| missing(name, &error));
    }
    let mut denied = false;
    let path = environment
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("PATH="))
        .unwrap_or_default();
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if denied {
        return Err(RuntimeError::new(
            Class::CommandNotExecutable,
            format!("exec: {name:?}: permission denied"),
        ));
    }
    Err(RuntimeError::new(
        Class::CommandNotFound,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

fn missing(name: &str, error: &io::Error) -> RuntimeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RuntimeError::new(
            Class::CommandNotFound,
            format!("exec: {name:?}: stat {name}: {}", plain(error)),
        ),
        _ => not_executable(name, error),
    }
}

fn not_executable(name: &str, error: &io::Error) -> RuntimeError {
    let class = match error.kind() {
        io::ErrorKind::NotFound => Class::CommandNotFound,
        _ => Class::CommandNotExecutable,
    };
    RuntimeError::new(class, format!("exec: {name:?}: {}", plain(error)))
}

fn executable(path: &Path) -> io::Result<()> {
    let kind = rustix::fs::stat(path)?.st_mode;
    if FileType::from_raw_mode(kind) == FileType::Directory {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        Access::EXEC_OK,
        AtFlags::EACCESS,
    )?)
}
