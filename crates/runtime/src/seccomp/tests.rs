//! The compiler against a naive reading of the OCI description: every call number and telling argument values, through an
//! interpreter of classic BPF; and real installations in a child process.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use cais_sys::seccomp::Instruction;

use super::rules::action::{ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP};
use super::syscalls::{TABLE, find};
use super::{ACTIONS, OPERATORS, SeccompError, compile, default_profile};
use crate::capabilities::{Capabilities, DOCKER_DEFAULT};
use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;

/// What the kernel shows a filter.
#[derive(Clone, Copy, Debug)]
struct Call {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        _ => {
            assert!(
                (16..64).contains(&offset) && offset.is_multiple_of(4),
                "load at {offset}"
            );
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) {
                argument as u32
            } else {
                (argument >> 32) as u32
            }
        }
    }
}

/// Runs a program as bpf(4) and the kernel's seccomp restrictions describe it.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = word(call, k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => ERRNO | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => TRACE | errno.unwrap_or(1),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        _ => panic!("{name}"),
    }
}

fn holds(argument: &LinuxSeccompArg, call: &Call) -> bool {
    let cut = |value: u64| {
        if call.arch == I386 {
            value & 0xffff_ffff
        } else {
            value
        }
    };
    let (actual, value) = (
        cut(call.arguments[argument.index as usize]),
        cut(argument.value),
    );
    match argument.op.as_str() {
        "SCMP_CMP_NE" => actual != value,
        "SCMP_CMP_LT" => actual < value,
        "SCMP_CMP_LE" => actual <= value,
        "SCMP_CMP_EQ" => actual == value,
        "SCMP_CMP_GE" => actual >= value,
        "SCMP_CMP_GT" => actual > value,
        "SCMP_CMP_MASKED_EQ" => actual & value == cut(argument.value_two) & value,
        other => panic!("{other}"),
    }
}

/// Number of a name under a call's convention, with the x32 bit.
fn number(name: &str, call: &Call) -> Option<u32> {
    let row = find(name)?;
    match (call.arch, call.number & X32) {
        (I386, _) => row.x86(),
        (_, 0) => row.x86_64(),
        _ => row.x32().map(|number| number | X32),
    }
}

/// The naive reading; filters here do not use names that i386 multiplexes.
fn expected(filter: &LinuxSeccomp, call: &Call) -> u32 {
    let default = action(&filter.default_action, filter.default_errno_ret);
    let declared = |name: &str| filter.architectures.iter().any(|arch| arch == name);
    if call.arch == I386 && !declared("SCMP_ARCH_X86") || ![X86_64, I386].contains(&call.arch) {
        return KILL_THREAD;
    }
    let permissive = [ALLOW, LOG, TRACE].contains(&(default & 0xffff_0000));
    if call.arch == X86_64 && call.number >= X32 && !declared("SCMP_ARCH_X32") {
        return match (permissive, call.number) {
            (false, _) => ENOSYS,
            (true, u32::MAX) => default,
            (true, _) => KILL_THREAD,
        };
    }
    let last = filter
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .filter_map(|name| number(name, call))
        .max();
    if !permissive && last.is_none_or(|last| call.number > last) {
        return ENOSYS;
    }
    let mut answer = None;
    for rule in &filter.syscalls {
        let wanted = action(&rule.action, rule.errno_ret);
        if wanted == default
            || !rule
                .names
                .iter()
                .any(|name| number(name, call) == Some(call.number))
        {
            continue;
        }
        if rule.args.is_empty() {
            return wanted;
        }
        let twice = rule.args.iter().enumerate().any(|(at, argument)| {
            rule.args[..at]
                .iter()
                .any(|other| other.index == argument.index)
        });
        let matches = if twice {
            rule.args.iter().any(|argument| holds(argument, call))
        } else {
            rule.args.iter().all(|argument| holds(argument, call))
        };
        if matches && answer.is_none() {
            answer = Some(wanted);
        }
    }
    answer.unwrap_or(default)
}

/// A small generator of numbers; the seed names the case in a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x2_0000_0001,
    0x7e02_0000,
    u64::MAX - 1,
    u64::MAX,
];

fn random_rule(random: &mut Random, plain: &[&str]) -> LinuxSyscall {
    let names = (0..random.next() % 40)
        .map(|_| random.pick(plain).to_owned())
        .collect();
    let args = (0..[0, 0, 1, 1, 2, 3][(random.next() % 6) as usize])
        .map(|_| LinuxSeccompArg {
            index: (random.next() % 6) as u32,
            value: random.pick(&VALUES),
            value_two: random.pick(&VALUES),
            op: random.pick(&OPERATORS).to_owned(),
        })
        .collect();
    let errno_ret = random.pick(&[None, Some(13), Some(38), Some(4095)]);
    LinuxSyscall {
        names,
        action: random.pick(&ACTIONS).to_owned(),
        errno_ret,
        args,
    }
}

fn random_filter(random: &mut Random, plain: &[&str]) -> LinuxSeccomp {
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        .into_iter()
        .filter(|_| !random.next().is_multiple_of(3))
        .map(str::to_owned)
        .collect();
    LinuxSeccomp {
        default_action: random
            .pick(&ACTIONS.map(|name| {
                if name == "SCMP_ACT_NOTIFY" {
                    "SCMP_ACT_ERRNO"
                } else {
                    name
                }
            }))
            .to_owned(),
        default_errno_ret: random.pick(&[None, Some(5)]),
        architectures,
        syscalls: (0..random.next() % 12)
            .map(|_| random_rule(random, plain))
            .collect(),
        ..LinuxSeccomp::default()
    }
}

fn calls(random: &mut Random, number: u32, count: usize) -> Vec<Call> {
    let mut calls = Vec::new();
    for (arch, bit) in [(X86_64, 0), (X86_64, X32), (I386, 0)] {
        for _ in 0..count {
            let mut arguments = [0; 6];
            for argument in &mut arguments {
                let value = random.pick(&VALUES);
                *argument = if arch == I386 {
                    value & 0xffff_ffff
                } else {
                    value
                };
            }
            calls.push(Call {
                arch,
                number: number | bit,
                arguments,
            });
        }
    }
    calls
}

/// Not functions of socketcall(2) or ipc(2), which have a test of their own.
fn plain_names() -> Vec<&'static str> {
    let multiplexed = [
        "sock", "bind", "connect", "listen", "accept", "getpeer", "send", "recv", "shut",
        "setsock", "getsock", "sem", "msg", "shm", "ipc", "write",
    ];
    TABLE
        .iter()
        .map(|row| row.name)
        .filter(|name| !multiplexed.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

#[test]
fn every_rule_means_what_the_description_says() {
    let plain = plain_names();
    for seed in 1..=30 {
        let mut random = Random(seed << 32 | 0x7f4a_7c15);
        let filter = random_filter(&mut random, &plain);
        let program = compile(&filter).unwrap();
        for number in (0..560).chain([0x3fff_ffff]) {
            for call in calls(&mut random, number, 6) {
                let (is, wanted) = (run(program.instructions(), &call), expected(&filter, &call));
                assert_eq!(is, wanted, "seed {seed}, {call:x?}, {filter:?}");
            }
        }
        let odd = Call {
            arch: X86_64,
            number: u32::MAX,
            arguments: [0; 6],
        };
        let foreign = Call {
            arch: 0xc000_00b7,
            number: 0,
            arguments: [0; 6],
        };
        for call in [odd, foreign] {
            let wanted = match (
                call.number,
                filter
                    .architectures
                    .iter()
                    .any(|arch| arch == "SCMP_ARCH_X32"),
            ) {
                (u32::MAX, true) => expected(
                    &filter,
                    &Call {
                        number: 600 | X32,
                        ..call
                    },
                ),
                _ => expected(&filter, &call),
            };
            assert_eq!(
                run(program.instructions(), &call),
                wanted,
                "seed {seed}, {call:x?}"
            );
        }
    }
}

#[test]
fn a_tree_with_far_branches_stays_right() {
    // Alternating actions give one range per call; tests behind each make the halves longer than a short jump.
    let mut filter = default_profile(DOCKER_DEFAULT);
    filter.syscalls.clear();
    for (index, name) in plain_names().into_iter().enumerate() {
        let args = (0..6)
            .map(|index| LinuxSeccompArg {
                index,
                value: 0x1_0000_0001,
                op: OPERATORS[index as usize].into(),
                value_two: 0,
            })
            .take(index % 4)
            .collect();
        let action = "SCMP_ACT_ALLOW".to_owned();
        filter.syscalls.push(LinuxSyscall {
            names: vec![name.to_owned()],
            action,
            errno_ret: None,
            args,
        });
    }
    filter.architectures.truncate(1);
    let program = compile(&filter).unwrap();
    let mut random = Random(77);
    for number in 0..560 {
        for call in calls(&mut random, number, 20) {
            assert_eq!(
                run(program.instructions(), &call),
                expected(&filter, &call),
                "{call:x?}"
            );
        }
    }
}

#[test]
fn i386_functions_of_one_call_follow_their_own_rules() {
    let mut filter = default_profile(DOCKER_DEFAULT);
    filter.syscalls.truncate(1);
    filter.syscalls[0].names = vec!["connect".to_owned(), "shmget".to_owned()];
    let program = compile(&filter).unwrap();
    let call = |name: &str, first: u64| {
        let number = find(name).and_then(super::syscalls::Row::x86).unwrap();
        run(
            program.instructions(),
            &Call {
                arch: I386,
                number,
                arguments: [first, 0, 0, 0, 0, 0],
            },
        )
    };
    assert_eq!(
        (call("socketcall", 3), call("socketcall", 1)),
        (ALLOW, EPERM)
    );
    assert_eq!((call("ipc", 23), call("ipc", 24)), (ALLOW, EPERM));
    assert_eq!(call("connect", 9), ALLOW);
}

fn by_default(bounding: Capabilities, name: &str, first: u64) -> [u32; 3] {
    let program = compile(&default_profile(bounding)).unwrap();
    let row = find(name).unwrap();
    [
        (X86_64, row.x86_64()),
        (X86_64, row.x32().map(|number| number | X32)),
        (I386, row.x86()),
    ]
    .map(|(arch, number)| match number {
        Some(number) => run(
            program.instructions(),
            &Call {
                arch,
                number,
                arguments: [first, 0, 0, 0, 0, 0],
            },
        ),
        None => u32::MAX,
    })
}

#[test]
fn docker_default_has_no_unknown_name() {
    for rule in default_profile(Capabilities::ALL).syscalls {
        for name in rule.names {
            // Two are only functions of socketcall(2).
            assert!(
                find(&name).is_some() || ["recv", "send"].contains(&&*name),
                "{name}"
            );
        }
    }
}

#[test]
fn docker_default_follows_the_capabilities() {
    let admin = DOCKER_DEFAULT.union(Capabilities::parse(&["SYS_ADMIN"]).0);
    assert_eq!(by_default(DOCKER_DEFAULT, "read", 0), [ALLOW; 3]);
    assert_eq!(by_default(DOCKER_DEFAULT, "mount", 0), [EPERM; 3]);
    assert_eq!(by_default(admin, "mount", 0), [ALLOW; 3]);
    assert_eq!(by_default(DOCKER_DEFAULT, "clone3", 0), [ENOSYS; 3]);
    assert_eq!(by_default(admin, "clone3", 0), [ALLOW; 3]);
    assert_eq!(by_default(DOCKER_DEFAULT, "clone", 0x11), [ALLOW; 3]);
    assert_eq!(by_default(DOCKER_DEFAULT, "clone", 0x1000_0000), [EPERM; 3]);
    assert_eq!(by_default(admin, "clone", 0x1000_0000), [ALLOW; 3]);
    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "keyctl",
        "add_key",
        "userfaultfd",
        "kexec_load",
        "bpf",
    ] {
        assert_eq!(by_default(DOCKER_DEFAULT, name, 0), [EPERM; 3], "{name}");
    }
    assert_eq!(by_default(DOCKER_DEFAULT, "chroot", 0), [ALLOW; 3]);
    assert_eq!(by_default(DOCKER_DEFAULT, "personality", 8), [ALLOW; 3]);
    assert_eq!(
        by_default(DOCKER_DEFAULT, "personality", 0x4_0000),
        [EPERM; 3]
    );
    assert_eq!(by_default(DOCKER_DEFAULT, "ptrace", 0), [ALLOW; 3]);
}

#[test]
fn docker_default_refuses_two_socket_families_in_every_way() {
    for family in 0..64 {
        let wanted = if [38, 40].contains(&family) {
            EPERM
        } else {
            ALLOW
        };
        assert_eq!(
            by_default(DOCKER_DEFAULT, "socket", family),
            [wanted; 3],
            "{family}"
        );
        // The kernel ignores the upper half.
        let [native, x32, _] = by_default(DOCKER_DEFAULT, "socket", family | 1 << 32);
        assert_eq!([native, x32], [wanted; 2], "{family}");
    }
    assert_eq!(by_default(DOCKER_DEFAULT, "socketcall", 1)[2], EPERM);
    assert_eq!(by_default(DOCKER_DEFAULT, "socketcall", 3)[2], ALLOW);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let program = compile(&default_profile(Capabilities::ALL)).unwrap();
    for (arch, number) in [(X86_64, 500), (I386, 500), (X86_64, X32 | 600)] {
        assert_eq!(
            run(
                program.instructions(),
                &Call {
                    arch,
                    number,
                    arguments: [0; 6]
                }
            ),
            ENOSYS
        );
    }
}

#[test]
fn compiling_the_default_is_small_work() {
    let program = compile(&default_profile(DOCKER_DEFAULT)).unwrap();
    assert!(
        program.instructions().len() < 1000,
        "{}",
        program.instructions().len()
    );
    let began = std::time::Instant::now();
    for _ in 0..20 {
        std::hint::black_box(compile(&default_profile(DOCKER_DEFAULT)).unwrap());
    }
    // An order of magnitude above what an optimised build needs on a slow machine.
    assert!(
        began.elapsed() / 20 < std::time::Duration::from_millis(5),
        "{:?}",
        began.elapsed() / 20
    );
}

#[test]
fn nonsense_is_refused() {
    let with = |edit: fn(&mut LinuxSeccomp)| {
        let mut filter = default_profile(DOCKER_DEFAULT);
        edit(&mut filter);
        compile(&filter).unwrap_err()
    };
    assert!(matches!(
        with(|f| f.default_action = "X".into()),
        SeccompError::UnknownAction(_)
    ));
    assert!(matches!(
        with(|f| f.default_action = "SCMP_ACT_NOTIFY".into()),
        SeccompError::Notify(_)
    ));
    assert!(matches!(
        with(|f| f.architectures.push("X".into())),
        SeccompError::UnknownArchitecture(_)
    ));
    assert!(matches!(
        with(|f| f.flags.push("X".into())),
        SeccompError::UnknownFlag(_)
    ));
    assert!(matches!(
        with(|f| f.syscalls[0].action = "SCMP_ACT_NOTIFY".into()),
        SeccompError::Notify(_)
    ));
    let errno = with(|f| {
        f.syscalls[0].action = "SCMP_ACT_ERRNO".into();
        f.syscalls[0].errno_ret = Some(1 << 16);
    });
    assert!(matches!(errno, SeccompError::ErrnoRange(_)));
    let index = with(|f| {
        f.syscalls
            .iter_mut()
            .flat_map(|rule| &mut rule.args)
            .for_each(|arg| arg.index = 6)
    });
    assert!(matches!(index, SeccompError::ArgumentIndex(6)));
}

/// Runs [`child`] in a process of its own under a named filter.
fn in_child(scenario: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--test-threads=1",
            "seccomp::tests::child",
        ])
        .env("CAIS_TEST_SECCOMP", scenario)
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

fn errno<T>(result: Result<T, impl Into<io::Error>>) -> Option<i32> {
    result.err().and_then(|error| error.into().raw_os_error())
}

#[test]
#[ignore = "started by the tests of real installations"]
fn child() {
    let scenario = std::env::var("CAIS_TEST_SECCOMP").unwrap();
    let missing = std::path::Path::new("/nonexistent/directory");
    let everything = |action: &str, errno_ret| LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        syscalls: vec![LinuxSyscall {
            names: vec!["mkdir".to_owned(), "no_such_call".to_owned()],
            action: action.to_owned(),
            errno_ret,
            args: Vec::new(),
        }],
        ..LinuxSeccomp::default()
    };
    match scenario.as_str() {
        "kill" => {
            compile(&everything("SCMP_ACT_KILL_PROCESS", None))
                .unwrap()
                .install()
                .unwrap();
            let _ = std::fs::create_dir(missing);
        }
        "errno" => {
            compile(&everything("SCMP_ACT_ERRNO", Some(117)))
                .unwrap()
                .install()
                .unwrap();
            assert_eq!(errno(std::fs::create_dir(missing)), Some(117));
        }
        "notify" => {
            let listener = compile(&everything("SCMP_ACT_NOTIFY", None))
                .unwrap()
                .install()
                .unwrap();
            assert!(listener.is_some());
        }
        "default" => {
            let program = compile(&default_profile(DOCKER_DEFAULT)).unwrap();
            assert!(program.install().unwrap().is_none());
            docker_default_in_force();
        }
        other => panic!("{other}"),
    }
}

fn docker_default_in_force() {
    use rustix::net::{AddressFamily, SocketType, socket};
    let open = |family| socket(family, SocketType::STREAM, None);
    assert_eq!(errno(open(AddressFamily::from_raw(38))), Some(1));
    assert_eq!(errno(open(AddressFamily::VSOCK)), Some(1));
    assert_eq!(errno(open(AddressFamily::UNIX)), None);
    let unmount = rustix::mount::unmount("/nonexistent", rustix::mount::UnmountFlags::empty());
    assert_eq!(errno(unmount), Some(1));
    // The C library starts threads by clone3 and must be told to fall back to clone.
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
}

#[test]
fn killed_by_a_refused_call() {
    assert_eq!(in_child("kill").signal(), Some(31));
}

#[test]
fn error_numbers_of_rules_arrive() {
    assert!(in_child("errno").success());
}

#[test]
fn notification_gives_a_descriptor() {
    assert!(in_child("notify").success());
}

#[test]
fn docker_default_works_in_a_real_process() {
    assert!(in_child("default").success());
}
