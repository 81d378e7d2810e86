//! The security baseline, line by line, in the specification of a plain container; and what options change in it.

use std::path::{Path, PathBuf};

use cais_runtime::spec::{Mount, NamespaceType, Spec};
use cais_types::api::{ContainerConfig, ExecCreateRequest, HostConfig, Ulimit};
use cais_types::{ContainerId, Digest};

use super::user::Identity;
use super::{Input, Joined, build, exec_process};
use crate::create::defaults;
use crate::house::EngineConfig;
use crate::mounts::parse_bind;
use crate::record::{NetworkState, Record};
use crate::state::State;

pub(crate) fn record(change: impl FnOnce(&mut ContainerConfig, &mut HostConfig)) -> Record {
    let (mut config, mut host) = (ContainerConfig::default(), HostConfig::default());
    change(&mut config, &mut host);
    let id = ContainerId::from_bytes([9; 32]);
    defaults::host(&mut host, &engine());
    defaults::hostname(&mut config, &host, &id);
    Record {
        id,
        name: "web".into(),
        created: "2026-01-01T00:00:00Z".into(),
        path: "/bin/sh".into(),
        args: vec!["-c".into(), "true".into()],
        image: Digest::from_bytes([1; 32]),
        config,
        host_config: host,
        mounts: Vec::new(),
        endpoints: std::collections::BTreeMap::new(),
        network: NetworkState::default(),
        former_addresses: std::collections::BTreeMap::new(),
        links: Vec::new(),
        linked: Default::default(),
        state: State::default(),
        restart_count: 0,
        health: None,
    }
}

fn engine() -> EngineConfig {
    let mut config = EngineConfig::new(PathBuf::from("/data"), PathBuf::from("/exec"));
    config.cgroup_v2 = true;
    config.init_binary = PathBuf::from("/sealed/cais");
    config
}

fn identity(uid: u32) -> Identity {
    Identity {
        uid,
        gid: uid,
        groups: vec![10],
        home: "/root".into(),
    }
}

fn spec_of(record: &Record, uid: u32) -> Spec {
    let input = Input {
        record,
        config: &engine(),
        identity: &identity(uid),
        joined: &Joined::default(),
        env: &[],
        directory: Path::new("/data/containers/x"),
        cgroup: "/cais/x".into(),
    };
    build(&input).unwrap()
}

fn spec(change: impl FnOnce(&mut ContainerConfig, &mut HostConfig)) -> Spec {
    spec_of(&record(change), 0)
}

fn mount<'a>(spec: &'a Spec, destination: &str) -> &'a Mount {
    spec.mounts
        .iter()
        .find(|m| m.destination == Path::new(destination))
        .expect(destination)
}

#[test]
fn a_plain_container_has_dockers_baseline() {
    let spec = spec(|_, _| {});
    let process = spec.process.as_ref().unwrap();
    let capabilities = process.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.bounding.len(), 14);
    assert_eq!(capabilities.effective, capabilities.bounding);
    assert!(capabilities.inheritable.is_empty() && capabilities.ambient.is_empty());
    assert_eq!(process.user.additional_gids, [10]);
    let files = &process.rlimits[0];
    assert_eq!((files.kind.as_str(), files.soft), ("RLIMIT_NOFILE", 1024));
    let linux = spec.linux.as_ref().unwrap();
    assert!(linux.seccomp.is_some());
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/interrupts",
        "/sys/firmware",
    ] {
        assert!(linux.masked_paths.contains(&PathBuf::from(path)), "{path}");
    }
    assert!(linux.readonly_paths.contains(&PathBuf::from("/proc/sys")));
    let kinds: Vec<_> = linux
        .namespaces
        .iter()
        .map(|namespace| namespace.kind)
        .collect();
    for kind in [
        NamespaceType::Mount,
        NamespaceType::Network,
        NamespaceType::Uts,
        NamespaceType::Pid,
        NamespaceType::Ipc,
        NamespaceType::Cgroup,
    ] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    assert!(!linux.resources.as_ref().unwrap().devices[0].allow);
    for (place, option) in [
        ("/sys", "ro"),
        ("/sys/fs/cgroup", "ro"),
        ("/proc", "nosuid"),
    ] {
        assert!(
            mount(&spec, place)
                .options
                .iter()
                .any(|have| have == option),
            "{place}"
        );
    }
    let memory = mount(&spec, "/dev/shm");
    assert!(memory.options.contains(&format!("size={}", 64 << 20)));
    assert_eq!(spec.hostname.as_deref(), Some("090909090909"));
}

#[test]
fn a_privileged_container_has_everything() {
    let spec = spec(|_, host| host.privileged = true);
    let linux = spec.linux.as_ref().unwrap();
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty());
    assert!(linux.readonly_paths.is_empty() && !linux.devices.is_empty());
    assert!(linux.resources.as_ref().unwrap().devices[0].allow);
    assert!(mount(&spec, "/sys").options.contains(&"rw".to_owned()));
    let capabilities = spec.process.unwrap().capabilities.unwrap();
    assert!(capabilities.bounding.contains(&"CAP_SYS_ADMIN".to_owned()));
}

#[test]
fn shared_namespaces_are_not_made() {
    let spec = spec(|_, host| {
        host.network_mode = "host".into();
        host.pid_mode = "host".into();
        host.ipc_mode = "host".into();
        host.uts_mode = "host".into();
        host.cgroupns_mode = "host".into();
    });
    let kinds: Vec<_> = spec
        .linux
        .as_ref()
        .unwrap()
        .namespaces
        .iter()
        .map(|n| n.kind)
        .collect();
    assert_eq!(kinds, [NamespaceType::Mount]);
    assert!(spec.hostname.is_none());
    assert_eq!(mount(&spec, "/dev/shm").source.as_deref(), Some("/dev/shm"));
}

#[test]
fn other_users_start_without_effective_capabilities() {
    let process = spec_of(&record(|_, _| {}), 1000).process.unwrap();
    let capabilities = process.capabilities.unwrap();
    assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
    assert_eq!(capabilities.bounding.len(), 14);
}

#[test]
fn environment_is_built_in_dockers_order() {
    let record = record(|config, _| {
        config.tty = true;
        config.env = vec!["PATH=/mine".into(), "A=1".into(), "TERM".into()];
    });
    let env = spec_of(&record, 0).process.unwrap().env;
    assert_eq!(
        env,
        ["PATH=/mine", "HOSTNAME=090909090909", "A=1", "HOME=/root"]
    );
    let request = ExecCreateRequest {
        env: vec!["A=2".into(), "HOME=/x".into()],
        cmd: vec!["ls".into()],
        working_dir: "/w".into(),
        ..ExecCreateRequest::default()
    };
    let process = exec_process(&record, &request, &identity(0), &engine()).unwrap();
    assert!(process.env.contains(&"A=2".to_owned()) && process.env.contains(&"HOME=/x".to_owned()));
    assert_eq!((process.cwd.as_str(), process.terminal), ("/w", false));
}

#[test]
fn init_wraps_the_command() {
    let spec = spec(|_, host| host.init = Some(true));
    let args = &spec.process.as_ref().unwrap().args;
    assert_eq!(args[..3], ["/sbin/docker-init", "--", "/bin/sh"]);
    let program = mount(&spec, "/sbin/docker-init");
    assert_eq!(program.source.as_deref(), Some("/sealed/cais"));
    assert!(program.options.contains(&"ro".to_owned()));
}

#[test]
fn user_mounts_replace_defaults_and_follow_their_parents() {
    let mut record = record(|_, host| {
        host.tmpfs.insert("/run".into(), "size=1m,exec".into());
    });
    record.mounts = vec![
        parse_bind("/h:/etc/hosts:ro").unwrap(),
        parse_bind("/s:/dev/shm").unwrap(),
    ];
    let spec = spec_of(&record, 0);
    let hosts = mount(&spec, "/etc/hosts");
    assert_eq!(hosts.source.as_deref(), Some("/h"));
    assert!(hosts.options.contains(&"rro".to_owned()));
    let memory: Vec<_> = spec
        .mounts
        .iter()
        .filter(|m| m.destination == Path::new("/dev/shm"))
        .collect();
    assert_eq!(memory.len(), 1);
    let run = mount(&spec, "/run");
    assert_eq!(run.options, ["nosuid", "nodev", "size=1m", "exec"]);
}

#[test]
fn limits_of_processes_are_taken_from_the_user() {
    let ulimit = |name: &str, soft, hard| Ulimit {
        name: name.into(),
        soft,
        hard,
    };
    let spec = spec(|_, host| {
        host.resources.ulimits = Some(vec![ulimit("nofile", 10, 20), ulimit("core", -1, -1)]);
    });
    let limits = spec.process.unwrap().rlimits;
    assert_eq!((limits[0].soft, limits[0].hard), (10, 20));
    assert_eq!(
        (limits[1].kind.as_str(), limits[1].hard),
        ("RLIMIT_CORE", u64::MAX)
    );
}
