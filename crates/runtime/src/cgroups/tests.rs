//! Groups on this machine's hierarchies (the tests that make some need root and v1), device programs through an
//! interpreter and the kernel's verifier, and the pure parts of detection.

use std::fs::{File, read_to_string};
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cais_sys::bpf::{Instruction, load_device_program};

use super::devices::{exceptions, program, rules};
use super::hierarchy::mounted_at;
use super::{Cgroup, CgroupError, Version, normal, version};
use crate::spec::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids,
    LinuxResources,
};

/// A group of its own for a test, removed at the end with all that lives in it.
struct Scratch(Cgroup);

impl Scratch {
    fn new(resources: &LinuxResources) -> Self {
        Self(Cgroup::create(&scratch_path(), resources).unwrap())
    }

    fn file(&self, controller: &str, file: &str) -> String {
        let path = format!("/sys/fs/cgroup/{controller}{}/{file}", self.0.path());
        read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .trim()
            .to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.kill_all().unwrap();
        self.0.remove().unwrap();
    }
}

fn scratch_path() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "/cais-test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A process that waits for a line, then runs a command; killed when dropped.
struct Waiting(Child);

impl Waiting {
    fn new(script: &str) -> Self {
        let script = format!("read line; {script}");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn go(&mut self) -> std::process::ExitStatus {
        use std::io::Write;
        self.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_v1() -> bool {
    version().unwrap() == Version::V1
}

fn until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "condition does not come true"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn paths_stay_below_the_roots() {
    assert_eq!(normal("/docker/abc").unwrap(), "docker/abc");
    assert_eq!(normal("abc").unwrap(), "cais/abc");
    assert_eq!(normal("//a/./b/").unwrap(), "a/b");
    for bad in ["", "/", "/a/../../b", "..", "a\0b"] {
        assert!(matches!(normal(bad), Err(CgroupError::Path(_))), "{bad:?}");
    }
}

#[test]
fn mounts_are_found_in_mountinfo() {
    let text = "32 31 0:29 / /cg/cpu\\040x rw - cgroup cgroup rw,cpuacct,cpu\n\
                40 31 0:37 / /cg/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
                41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let at = |label| mounted_at(text, label).map(|path| path.display().to_string());
    assert_eq!(at("cpu,cpuacct").as_deref(), Some("/cg/cpu x"));
    assert_eq!(at("name=systemd").as_deref(), Some("/cg/systemd"));
    assert_eq!(at("").as_deref(), Some("/cg/unified"));
    assert_eq!(at("memory"), None);
}

#[test]
fn limits_arrive_in_v1_files() {
    if !is_v1() {
        return;
    }
    let scratch = Scratch::new(&LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(64 << 20),
            swap: Some(96 << 20),
            reservation: Some(32 << 20),
            swappiness: Some(7),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: Some(512),
            quota: Some(20_000),
            period: Some(50_000),
            cpus: Some("0".to_owned()),
            ..LinuxCpu::default()
        }),
        pids: Some(LinuxPids { limit: 17 }),
        ..LinuxResources::default()
    });
    assert_eq!(scratch.file("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(
        scratch.file("memory", "memory.memsw.limit_in_bytes"),
        "100663296"
    );
    assert_eq!(
        scratch.file("memory", "memory.soft_limit_in_bytes"),
        "33554432"
    );
    assert_eq!(scratch.file("memory", "memory.swappiness"), "7");
    assert_eq!(scratch.file("cpu", "cpu.shares"), "512");
    assert_eq!(scratch.file("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(scratch.file("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(scratch.file("cpuset", "cpuset.cpus"), "0");
    assert_eq!(scratch.file("pids", "pids.max"), "17");

    // Up past the old limit of both, and without limit again.
    let memory = |limit, swap| LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(limit),
            swap,
            ..LinuxMemory::default()
        }),
        ..LinuxResources::default()
    };
    scratch
        .0
        .apply(&memory(128 << 20, Some(256 << 20)))
        .unwrap();
    assert_eq!(
        scratch.file("memory", "memory.memsw.limit_in_bytes"),
        "268435456"
    );
    scratch.0.apply(&memory(-1, None)).unwrap();
    assert_eq!(scratch.0.stats().unwrap().memory.limit, u64::MAX);
    assert_eq!(scratch.0.stats().unwrap().pids.limit, 17);
}

#[test]
fn what_the_host_lacks_is_said_only_to_who_asks() {
    if !is_v1() {
        return;
    }
    let path = scratch_path();
    let resources = LinuxResources {
        hugepage_limits: vec![LinuxHugepageLimit {
            page_size: "3MB".to_owned(),
            limit: 0,
        }],
        ..LinuxResources::default()
    };
    let error = Cgroup::create(&path, &resources).unwrap_err();
    assert!(matches!(error, CgroupError::Unsupported { .. }), "{error}");
    assert!(!std::path::Path::new(&format!("/sys/fs/cgroup/cpu{path}")).exists());
    let unified = [("memory.high".to_owned(), "1".to_owned())]
        .into_iter()
        .collect();
    let resources = LinuxResources {
        unified,
        ..LinuxResources::default()
    };
    assert!(matches!(
        Cgroup::create(&path, &resources),
        Err(CgroupError::Unsupported { .. })
    ));
}

#[test]
fn members_join_every_hierarchy_and_die_together() {
    let scratch = Scratch::new(&LinuxResources::default());
    let mut process = Waiting::new("true");
    scratch.0.add(process.pid()).unwrap();
    assert_eq!(scratch.0.pids().unwrap(), [process.pid()]);
    let groups = read_to_string(format!("/proc/{}/cgroup", process.pid())).unwrap();
    for line in groups.lines() {
        assert!(line.ends_with(&scratch.0.path()), "{line}");
    }
    assert_eq!(
        Cgroup::open(&scratch.0.path()).unwrap().pids().unwrap(),
        [process.pid()]
    );
    scratch.0.kill_all().unwrap();
    assert!(!process.0.wait().unwrap().success());
    until(|| scratch.0.pids().unwrap().is_empty());
}

#[test]
fn frozen_processes_stand_still() {
    let scratch = Scratch::new(&LinuxResources::default());
    let mut process = Waiting::new("true");
    scratch.0.add(process.pid()).unwrap();
    assert!(!scratch.0.is_frozen().unwrap());
    scratch.0.freeze().unwrap();
    assert!(scratch.0.is_frozen().unwrap());
    scratch.0.thaw().unwrap();
    assert!(!scratch.0.is_frozen().unwrap());
    assert!(process.go().success());
}

#[test]
fn without_a_unified_hierarchy_the_v1_freezer_serves() {
    use super::hierarchy::{Hierarchies, detect};
    let Hierarchies::V1 { controllers, .. } = detect().unwrap() else {
        return;
    };
    let path = normal(&scratch_path()).unwrap();
    let hierarchies = Box::leak(Box::new(Hierarchies::V1 {
        controllers,
        unified: None,
    }));
    let mut cgroup = Cgroup {
        path,
        hierarchies,
        directory: None,
        unified: None,
    };
    cgroup.make(&mut false).unwrap();
    let scratch = Scratch(cgroup);
    let mut process = Waiting::new("true");
    scratch.0.add(process.pid()).unwrap();
    scratch.0.freeze().unwrap();
    assert!(scratch.0.is_frozen().unwrap());
    assert_eq!(scratch.file("freezer", "freezer.state"), "FROZEN");
    scratch.0.thaw().unwrap();
    assert!(!scratch.0.is_frozen().unwrap());
    assert_eq!(scratch.0.pids().unwrap(), [process.pid()]);
    scratch.0.kill_all().unwrap();
    assert!(!process.0.wait().unwrap().success());
}

#[test]
fn removal_takes_what_is_below_and_waits_for_the_dying() {
    let scratch = Scratch::new(&LinuxResources::default());
    let below = Cgroup::create(
        &format!("{}/inner", scratch.0.path()),
        &LinuxResources::default(),
    )
    .unwrap();
    let mut process = Waiting::new("true");
    below.add(process.pid()).unwrap();
    assert_eq!(scratch.0.pids().unwrap(), [process.pid()]);
    let reaper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        process.go()
    });
    scratch.0.remove().unwrap();
    assert!(reaper.join().unwrap().success());
    assert!(matches!(
        Cgroup::open(&scratch.0.path()),
        Err(CgroupError::Directory { .. })
    ));
    scratch.0.remove().unwrap();
    // What the guard does at the end must not need the directories.
    std::mem::drop(Cgroup::create(&scratch.0.path(), &LinuxResources::default()).unwrap());
}

#[test]
fn figures_grow_with_work() {
    let scratch = Scratch::new(&LinuxResources::default());
    // A move to a v2 group takes no memory along: the work has to ask for some.
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; head -c 8000000 /dev/zero | tail -c 4000000 >/dev/null";
    let mut process = Waiting::new(script);
    scratch.0.add(process.pid()).unwrap();
    assert_eq!(scratch.0.stats().unwrap().pids.current, 1);
    assert!(process.go().success());
    let stats = scratch.0.stats().unwrap();
    assert!(stats.cpu.total_ns > 1_000_000, "{:?}", stats.cpu);
    assert!(stats.memory.max_usage.is_some_and(|bytes| bytes > 0));
    assert!(stats.memory.stat.len() > 5);
    assert_eq!(scratch.0.oom_kills().unwrap(), 0);
}

#[test]
fn running_out_of_memory_is_counted() {
    let scratch = Scratch::new(&LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(8 << 20),
            swap: Some(8 << 20),
            ..LinuxMemory::default()
        }),
        ..LinuxResources::default()
    });
    let mut process = Waiting::new("exec dd if=/dev/zero of=/dev/null bs=64M count=1");
    scratch.0.add(process.pid()).unwrap();
    assert!(!process.go().success());
    assert_eq!(scratch.0.oom_kills().unwrap(), 1);
}

#[test]
fn mount_points_name_what_is_there() {
    let scratch = Scratch::new(&LinuxResources::default());
    let points = scratch.0.mount_points();
    assert!(!points.is_empty());
    for point in &points {
        assert!(
            point.host_directory.join("cgroup.procs").exists(),
            "{point:?}"
        );
        assert_eq!(point.kind == "cgroup2", point.options.is_empty());
    }
    if is_v1() {
        assert!(
            points
                .iter()
                .any(|point| point.options == "none,name=systemd" && point.name == "systemd")
        );
    }
}

#[test]
fn weights_go_to_the_file_this_kernel_has() {
    if !is_v1() {
        return;
    }
    let scratch = Scratch::new(&LinuxResources::default());
    let block_io = Some(LinuxBlockIo {
        weight: Some(300),
        ..LinuxBlockIo::default()
    });
    let limits = LinuxResources {
        block_io,
        ..LinuxResources::default()
    };
    let host = format!("/sys/fs/cgroup/blkio{}", scratch.0.path());
    let file = ["blkio.weight", "blkio.bfq.weight"]
        .into_iter()
        .find(|file| std::path::Path::new(&host).join(file).exists());
    match (scratch.0.apply(&limits), file) {
        (Ok(()), Some(file)) => assert_eq!(scratch.file("blkio", file), "300"),
        (Err(CgroupError::Unsupported { .. }), None) => {}
        (other, file) => panic!("{other:?} {file:?}"),
    }
}

fn device(allow: bool, text: &str) -> LinuxDeviceCgroup {
    let words: Vec<_> = text.split([' ', ':']).collect();
    let number = |word: &str| word.parse().ok();
    LinuxDeviceCgroup {
        allow,
        kind: Some(words[0].to_owned()),
        major: number(words[1]),
        minor: number(words[2]),
        access: Some(words[3].to_owned()),
    }
}

const TUN: &str = "c 10:200 rwm";

#[test]
fn v1_device_rules_are_in_force_and_change() {
    if !is_v1() {
        return;
    }
    let with = |devices| LinuxResources {
        devices,
        ..LinuxResources::default()
    };
    let scratch = Scratch::new(&with(vec![device(false, "a *:* rwm"), device(true, TUN)]));
    assert!(scratch.file("devices", "devices.list").contains(TUN));
    let outcome = |script: &str| {
        let mut process = Waiting::new(script);
        scratch.0.add(process.pid()).unwrap();
        process.go().success()
    };
    assert!(outcome(": </dev/zero && : >/dev/null"));
    // The kernel's log device is not in any list.
    let kmsg = ": </dev/kmsg";
    assert!(File::open("/dev/kmsg").is_ok());
    assert!(!outcome(kmsg));
    scratch
        .0
        .apply(&with(vec![
            device(false, "a *:* rwm"),
            device(true, "c 1:11 r"),
        ]))
        .unwrap();
    assert!(outcome(kmsg));
    assert!(!scratch.file("devices", "devices.list").contains(TUN));
    assert!(outcome(": </dev/zero"));
    scratch
        .0
        .apply(&with(vec![device(true, "a *:* rwm")]))
        .unwrap();
    assert_eq!(scratch.file("devices", "devices.list"), "a *:* rwm");
}

#[test]
fn v1_lists_are_exceptions_of_one_default() {
    let list = |entries: &[LinuxDeviceCgroup]| exceptions(&rules(entries).unwrap());
    let privileged = list(&[device(true, "a *:* rwm")]).unwrap();
    assert_eq!(
        format!("{privileged:?}"),
        "Exceptions { allow: true, lines: [] }"
    );
    let cut = list(&[device(true, "a *:* rwm"), device(false, "c 10:200 rw")]).unwrap();
    assert!(format!("{cut:?}").contains("\"c 10:200 rw\""));
    let taken_back = list(&[device(true, TUN), device(false, "c 10:* w")]).unwrap();
    assert!(format!("{taken_back:?}").contains("\"c 10:200 rm\""));
    let hole = list(&[device(true, "c 10:* rwm"), device(false, TUN)]);
    assert!(matches!(hole, Err(CgroupError::Unsupported { .. })));
    assert!(rules(&[device(true, "x 1:1 r")]).is_err());
    assert!(rules(&[device(true, "c 1:1 z")]).is_err());
}

/// Runs a device program; `access` is one or more of 1 (mknod), 2 (read), 4 (write).
fn run(program: &[Instruction], kind: u32, major: u32, minor: u32, access: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let (mut registers, mut at) = ([0_u32; 16], 0);
    loop {
        let Instruction {
            code,
            registers: named,
            offset,
            immediate,
        } = program[at];
        at += 1;
        let (to, from) = (usize::from(named & 15), usize::from(named >> 4));
        let jump = |holds: bool| if holds { offset as usize } else { 0 };
        match code {
            0x61 => registers[to] = context[offset as usize / 4],
            0xb4 => registers[to] = immediate as u32,
            0xbc => registers[to] = registers[from],
            0x54 => registers[to] &= immediate as u32,
            0x74 => registers[to] >>= immediate,
            0x05 => at += jump(true),
            0x15 => at += jump(registers[to] == immediate as u32),
            0x55 => at += jump(registers[to] != immediate as u32),
            0x45 => at += jump(registers[to] & immediate as u32 != 0),
            0x95 => return registers[0] == 1,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// Bit by bit, the last rule that matches counts; then the devices of every container.
fn allowed(list: &[LinuxDeviceCgroup], kind: u32, major: u32, minor: u32, access: u32) -> bool {
    let everybody = [
        "c *:* m",
        "b *:* m",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
        "c 136:* rwm",
    ];
    let all: Vec<_> = list
        .iter()
        .cloned()
        .chain(everybody.map(|text| device(true, text)))
        .collect();
    [(1, 'm'), (2, 'r'), (4, 'w')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .all(|(_, letter)| {
            let matching = all.iter().rev().find(|rule| {
                let number =
                    |wanted: Option<i64>, is| wanted.is_none_or(|wanted| wanted == i64::from(is));
                let kinds = rule.kind.as_deref().unwrap_or("a");
                (kinds == "a" || kinds == if kind == 1 { "b" } else { "c" })
                    && number(rule.major, major)
                    && number(rule.minor, minor)
                    && rule.access.as_deref().unwrap_or("rwm").contains(letter)
            });
            matching.is_some_and(|rule| rule.allow)
        })
}

#[test]
fn device_programs_mean_what_the_rules_say_and_pass_the_verifier() {
    let texts = [
        "a *:* rwm",
        "a *:* m",
        "c 1:* rw",
        "c 1:11 r",
        "b 8:0 rwm",
        "b 8:* w",
        "c *:3 rwm",
        TUN,
    ];
    let mut seed = 1_u64;
    for _ in 0..200 {
        let mut list = Vec::new();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut bits = seed >> 16;
        for _ in 0..bits % 6 {
            bits /= 6;
            list.push(device(
                bits.is_multiple_of(2),
                texts[(bits / 2 % 8) as usize],
            ));
        }
        let code = program(&rules(&list).unwrap());
        for kind in [1, 2] {
            for (major, minor) in [(1, 3), (1, 11), (8, 0), (8, 1), (10, 200), (136, 9), (7, 3)] {
                for access in 1..8 {
                    let wanted = allowed(&list, kind, major, minor, access);
                    assert_eq!(
                        run(&code, kind, major, minor, access),
                        wanted,
                        "{list:?} {kind} {major}:{minor} {access}"
                    );
                }
            }
        }
        match load_device_program(&code) {
            Ok(_) => {}
            // A kernel without this kind of program, or a user who may not.
            Err(error) if matches!(error.raw_os_error(), Some(1 | 38)) => {}
            Err(error) => panic!("{list:?}: {error} {code:?}"),
        }
    }
}

#[test]
fn attached_programs_are_replaced_not_added() {
    use super::hierarchy::{Hierarchies, found};
    let unified = match found().unwrap() {
        Hierarchies::V2(root) => root,
        Hierarchies::V1 {
            unified: Some(root),
            ..
        } => root,
        Hierarchies::V1 { .. } => return,
    };
    let scratch = Scratch::new(&LinuxResources::default());
    let path = scratch.0.path();
    let directory = super::file::Directory::new(unified, &path[1..])
        .open()
        .unwrap();
    for devices in [
        vec![],
        vec![device(true, "a *:* rwm")],
        vec![device(true, TUN)],
    ] {
        match super::devices::apply_v2(&directory, &devices) {
            Ok(()) => {}
            Err(CgroupError::DeviceFilter(error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return;
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
        let attached =
            cais_sys::bpf::attached_device_programs(std::os::fd::AsFd::as_fd(&directory)).unwrap();
        assert_eq!(attached.len(), 1);
    }
    // In force beside the v1 lists.
    let mut process = Waiting::new(": </dev/kmsg");
    scratch.0.add(process.pid()).unwrap();
    assert!(!process.go().success());
}

#[test]
fn a_failure_leaves_the_group_of_another_alone() {
    let scratch = Scratch::new(&LinuxResources::default());
    let process = Waiting::new("true");
    scratch.0.add(process.pid()).unwrap();
    let hugepage_limits = vec![LinuxHugepageLimit {
        page_size: "3MB".to_owned(),
        limit: 0,
    }];
    let impossible = LinuxResources {
        hugepage_limits,
        ..LinuxResources::default()
    };
    let began = Instant::now();
    assert!(Cgroup::create(&scratch.0.path(), &impossible).is_err());
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(scratch.0.pids().unwrap(), [process.pid()]);
}

#[test]
fn limits_arrive_in_v2_files() {
    if is_v1() {
        return;
    }
    let unified = [("memory.high".to_owned(), "50331648".to_owned())]
        .into_iter()
        .collect();
    let scratch = Scratch::new(&LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(64 << 20),
            swap: Some(96 << 20),
            reservation: Some(32 << 20),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: Some(1024),
            quota: Some(20_000),
            period: Some(50_000),
            cpus: Some("0".to_owned()),
            ..LinuxCpu::default()
        }),
        pids: Some(LinuxPids { limit: 17 }),
        devices: vec![device(false, "a *:* rwm")],
        unified,
        ..LinuxResources::default()
    });
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("cpu.weight", "100"),
        ("cpu.max", "20000 50000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "17"),
    ] {
        assert_eq!(scratch.file("", file), value, "{file}");
    }
    let mut process = Waiting::new(": </dev/zero && : </dev/kmsg");
    scratch.0.add(process.pid()).unwrap();
    assert!(!process.go().success());
    scratch
        .0
        .apply(&LinuxResources {
            devices: vec![device(false, "a *:* rwm"), device(true, "c 1:11 r")],
            memory: Some(LinuxMemory {
                limit: Some(-1),
                ..LinuxMemory::default()
            }),
            ..LinuxResources::default()
        })
        .unwrap();
    assert_eq!(scratch.file("", "memory.max"), "max");
    assert_eq!(scratch.file("", "memory.swap.max"), "max");
    let mut process = Waiting::new(": </dev/zero && : </dev/kmsg");
    scratch.0.add(process.pid()).unwrap();
    assert!(process.go().success());
    assert!(scratch.0.directory_for_clone().is_some());
}

#[test]
fn a_manager_inside_can_still_be_joined() {
    if is_v1() {
        return;
    }
    let scratch = Scratch::new(&LinuxResources::default());
    let inner = Cgroup::create(
        &format!("{}/inner", scratch.0.path()),
        &LinuxResources::default(),
    );
    let inner = inner.unwrap();
    let (manager, joining) = (Waiting::new("true"), Waiting::new("true"));
    inner.add(manager.pid()).unwrap();
    scratch.0.add(joining.pid()).unwrap();
    assert_eq!(inner.pids().unwrap().len(), 2);
}
