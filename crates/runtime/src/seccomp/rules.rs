//! From names to numbers: an OCI filter as one list of number ranges per kernel architecture.

use super::SeccompError;
use super::syscalls::{self, Row};
use crate::spec::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

const X32_BIT: u32 = 0x4000_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The kernel's return values (`SECCOMP_RET_*`).
pub(super) mod action {
    pub(in super::super) const KILL_THREAD: u32 = 0;
    pub(in super::super) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(in super::super) const TRAP: u32 = 0x0003_0000;
    pub(in super::super) const ERRNO: u32 = 0x0005_0000;
    pub(in super::super) const NOTIFY: u32 = 0x7fc0_0000;
    pub(in super::super) const TRACE: u32 = 0x7ff0_0000;
    pub(in super::super) const LOG: u32 = 0x7ffc_0000;
    pub(in super::super) const ALLOW: u32 = 0x7fff_0000;
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & mask == value`.
    MaskedEqual {
        mask: u64,
    },
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

/// An action taken when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
}

/// What happens to a range of call numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(u32),
    /// The first rule that holds, else the default.
    Tests(Vec<u16>),
}

/// The numbers from `first` up to the next range.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) verdict: Verdict,
}

/// A filter with all names resolved.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) default: u32,
    /// Conditional rules, named by their index in [`Verdict::Tests`].
    pub(super) conditional: Vec<Rule>,
    /// x86_64 and x32, which share one kernel architecture.
    pub(super) native: Vec<Range>,
    /// i386; absent when undeclared.
    pub(super) x86: Option<Vec<Range>>,
}

/// A call of one architecture with one rule for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    number: u32,
    /// Unconditional rules first, then as written.
    order: (bool, u16),
    /// Action of an unconditional rule.
    action: u32,
}

/// Rules of one calling convention and the highest number its names have.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    last: Option<u32>,
}

#[derive(Default)]
struct Tables {
    x86_64: Table,
    x86: Table,
    x32: Table,
}

struct Architectures {
    x86: bool,
    x32: bool,
}

impl Rules {
    pub(super) fn new(filter: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let architectures = architectures(filter)?;
        let default = action_value(&filter.default_action, filter.default_errno_ret)?;
        if default == action::NOTIFY {
            return Err(SeccompError::Notify("as default action"));
        }
        let mut conditional = Vec::new();
        let mut tables = Tables::default();
        for syscall in &filter.syscalls {
            add(
                syscall,
                default,
                &architectures,
                &mut conditional,
                &mut tables,
            )?;
        }
        let newer = newer_calls(filter, default);
        let mut native = ranges(tables.x86_64, default, newer);
        if architectures.x32 {
            let offset = ranges(tables.x32, default, newer);
            native.extend(offset.into_iter().map(|range| Range {
                first: range.first | X32_BIT,
                ..range
            }));
        } else if newer.is_none() {
            native.push(Range {
                first: X32_BIT,
                verdict: Verdict::Always(action::KILL_THREAD),
            });
            // A tracer that cancels a call sets its number to -1.
            native.push(Range {
                first: u32::MAX,
                verdict: Verdict::Always(default),
            });
        }
        merge(&mut native);
        let x86 = architectures.x86.then(|| {
            let mut x86 = ranges(tables.x86, default, newer);
            merge(&mut x86);
            x86
        });
        Ok(Self {
            default,
            conditional,
            native,
            x86,
        })
    }
}

/// The answer to calls newer than the filter: `ENOSYS`, unless unknown calls are let through or the filter says so itself.
fn newer_calls(filter: &LinuxSeccomp, default: u32) -> Option<u32> {
    let permissive = matches!(
        default & 0xffff_0000,
        action::ALLOW | action::LOG | action::TRACE
    );
    (!permissive && filter.default_errno_ret != Some(ENOSYS)).then_some(action::ERRNO | ENOSYS)
}

fn architectures(filter: &LinuxSeccomp) -> Result<Architectures, SeccompError> {
    const OTHERS: [&str; 21] = [
        "ARM",
        "AARCH64",
        "LOONGARCH64",
        "M68K",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "SH",
        "SHEB",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "X86_64",
    ];
    let mut known = Architectures {
        x86: false,
        x32: false,
    };
    for name in &filter.architectures {
        match name.strip_prefix("SCMP_ARCH_") {
            Some("X86") => known.x86 = true,
            Some("X32") => known.x32 = true,
            Some(other) if OTHERS.contains(&other) => {}
            _ => return Err(SeccompError::UnknownArchitecture(name.clone())),
        }
    }
    Ok(known)
}

fn action_value(name: &str, errno: Option<u32>) -> Result<u32, SeccompError> {
    let data = || match errno {
        Some(errno) if errno > 0xffff => Err(SeccompError::ErrnoRange(errno)),
        other => Ok(other.unwrap_or(EPERM)),
    };
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => action::KILL_PROCESS,
        "SCMP_ACT_TRAP" => action::TRAP,
        "SCMP_ACT_ERRNO" => action::ERRNO | data()?,
        "SCMP_ACT_TRACE" => action::TRACE | data()?,
        "SCMP_ACT_ALLOW" => action::ALLOW,
        "SCMP_ACT_LOG" => action::LOG,
        "SCMP_ACT_NOTIFY" => action::NOTIFY,
        _ => return Err(SeccompError::UnknownAction(name.to_owned())),
    })
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition, SeccompError> {
    let plain = |operator| Condition {
        argument: argument.index,
        operator,
        value: argument.value,
    };
    if argument.index > 5 {
        return Err(SeccompError::ArgumentIndex(argument.index));
    }
    Ok(match argument.op.as_str() {
        "SCMP_CMP_NE" => plain(Operator::NotEqual),
        "SCMP_CMP_LT" => plain(Operator::Less),
        "SCMP_CMP_LE" => plain(Operator::LessOrEqual),
        "SCMP_CMP_EQ" => plain(Operator::Equal),
        "SCMP_CMP_GE" => plain(Operator::GreaterOrEqual),
        "SCMP_CMP_GT" => plain(Operator::Greater),
        "SCMP_CMP_MASKED_EQ" => Condition {
            argument: argument.index,
            operator: Operator::MaskedEqual {
                mask: argument.value,
            },
            value: argument.value_two & argument.value,
        },
        _ => return Err(SeccompError::UnknownOperator(argument.op.clone())),
    })
}

/// Alternatives of a rule's conditions. They are AND-ed, but OR-ed when one argument is named twice: runc's rule, which
/// profiles rely on.
fn alternatives(syscall: &LinuxSyscall) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let conditions = syscall
        .args
        .iter()
        .map(condition)
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen = 0_u8;
    let mut twice = false;
    for condition in &conditions {
        twice |= seen & (1 << condition.argument) != 0;
        seen |= 1 << condition.argument;
    }
    Ok(match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, true) => conditions.into_iter().map(|one| vec![one]).collect(),
        (false, false) => vec![conditions],
    })
}

fn add(
    syscall: &LinuxSyscall,
    default: u32,
    architectures: &Architectures,
    conditional: &mut Vec<Rule>,
    tables: &mut Tables,
) -> Result<(), SeccompError> {
    let action = action_value(&syscall.action, syscall.errno_ret)?;
    let first = conditional.len();
    if action != default {
        for conditions in alternatives(syscall)? {
            conditional.push(Rule { action, conditions });
        }
    }
    let indexes = first as u16..conditional.len() as u16;
    for name in &syscall.names {
        if action == action::NOTIFY && name == "write" {
            return Err(SeccompError::Notify("for the write syscall"));
        }
        if architectures.x86 && action != default && indexes.is_empty() {
            tables.x86.add_multiplexed(name, action, conditional);
        }
        let Some(row) = syscalls::find(name) else {
            continue;
        };
        let effect = (action != default).then_some((action, indexes.clone()));
        tables.x86_64.add(row.x86_64(), effect.clone());
        if architectures.x32 {
            tables.x32.add(row.x32(), effect.clone());
        }
        if architectures.x86 {
            tables.x86.add(row.x86(), effect);
        }
    }
    Ok(())
}

impl Table {
    fn add(&mut self, number: Option<u32>, effect: Option<(u32, std::ops::Range<u16>)>) {
        let Some(number) = number else { return };
        self.last = self.last.max(Some(number));
        let Some((action, tests)) = effect else {
            return;
        };
        if tests.is_empty() {
            self.entries.push(Entry {
                number,
                order: (false, self.entries.len() as u16),
                action,
            });
        } else {
            self.entries.extend(tests.map(|test| Entry {
                number,
                order: (true, test),
                action: 0,
            }));
        }
    }

    /// On i386 the socket and System V IPC calls also exist as functions of one call; a rule without arguments covers both.
    fn add_multiplexed(&mut self, name: &str, action: u32, conditional: &mut Vec<Rule>) {
        let Some((entry, function)) = multiplexed(name) else {
            return;
        };
        let test = conditional.len() as u16;
        let same = Condition {
            argument: 0,
            operator: Operator::Equal,
            value: function,
        };
        conditional.push(Rule {
            action,
            conditions: vec![same],
        });
        let number = syscalls::find(entry).and_then(Row::x86);
        self.add(number, Some((action, test..test + 1)));
    }
}

/// `socketcall` or `ipc` and the function number there (socketcall(2), ipc(2)).
fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKET: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(index) = SOCKET.iter().position(|socket| *socket == name) {
        return Some(("socketcall", index as u64 + 1));
    }
    IPC.iter()
        .find(|(ipc, _)| *ipc == name)
        .map(|(_, function)| ("ipc", *function))
}

/// Covers all numbers from 0 up with ranges.
fn ranges(mut table: Table, default: u32, newer: Option<u32>) -> Vec<Range> {
    table.entries.sort_unstable();
    let mut ranges = Vec::with_capacity(table.entries.len() * 2 + 2);
    let mut next = 0;
    for calls in table
        .entries
        .chunk_by(|one, other| one.number == other.number)
    {
        let number = calls[0].number;
        if number > next {
            ranges.push(Range {
                first: next,
                verdict: Verdict::Always(default),
            });
        }
        ranges.push(Range {
            first: number,
            verdict: verdict(calls),
        });
        next = number + 1;
    }
    let end = table.last.map_or(0, |last| last + 1);
    if end > next || newer.is_none() {
        ranges.push(Range {
            first: next,
            verdict: Verdict::Always(default),
        });
    }
    if let Some(newer) = newer {
        ranges.push(Range {
            first: end,
            verdict: Verdict::Always(newer),
        });
    }
    ranges
}

fn verdict(calls: &[Entry]) -> Verdict {
    let (conditional, _) = calls[0].order;
    if conditional {
        Verdict::Tests(calls.iter().map(|entry| entry.order.1).collect())
    } else {
        Verdict::Always(calls[0].action)
    }
}

fn merge(ranges: &mut Vec<Range>) {
    ranges.dedup_by(|later, kept| match (&kept.verdict, &later.verdict) {
        (Verdict::Always(one), Verdict::Always(other)) => one == other,
        _ => false,
    });
}
