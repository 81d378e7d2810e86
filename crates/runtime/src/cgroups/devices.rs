//! Device rules. A list of rules is read in order and the last one that matches an access counts. v1 gets lines for
//! `devices.allow` and `devices.deny`; v2 gets a BPF program of our own making.

use std::os::fd::{AsFd, OwnedFd};

use cais_sys::bpf::{self, Instruction};
use cais_sys::process::in_user_namespace;

use super::CgroupError;
use super::file::Directory;
use crate::spec::LinuxDeviceCgroup;

/// Access bits as in the kernel's `BPF_DEVCG_ACC_*`.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERY: u8 = MKNOD | READ | WRITE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// Devices a rule is about; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

/// A rule, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) devices: Devices,
    pub(super) access: u8,
}

impl Devices {
    const ANY: Self = Self {
        kind: None,
        major: None,
        minor: None,
    };

    /// Whether every device of the other is one of these.
    fn cover(self, other: Self) -> bool {
        (self.kind.is_none() || self.kind == other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Whether some device is one of both.
    fn overlap(self, other: Self) -> bool {
        fn meet<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        meet(self.kind, other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
    }
}

impl Rule {
    fn is_total(self) -> bool {
        self.devices == Devices::ANY && self.access == EVERY
    }

    /// The form of `devices.allow`, without the kind.
    fn line(self, kind: Kind) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = if kind == Kind::Block { 'b' } else { 'c' };
        let (major, minor) = (number(self.devices.major), number(self.devices.minor));
        let mut line = format!("{kind} {major}:{minor} ");
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                line.push(letter);
            }
        }
        line
    }
}

/// What every container may use (config-linux.md, default devices): making nodes, the default devices and its terminals.
fn always() -> impl Iterator<Item = Rule> {
    let rule = |kind, major, minor, access| Rule {
        allow: true,
        devices: Devices {
            kind: Some(kind),
            major,
            minor,
        },
        access,
    };
    let character = move |major, minor| rule(Kind::Char, Some(major), minor, EVERY);
    [
        rule(Kind::Char, None, None, MKNOD),
        rule(Kind::Block, None, None, MKNOD),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(2)),
        character(136, None),
    ]
    .into_iter()
}

/// Reads the OCI rules and puts the ones for every container behind. Before the first rule nothing is allowed.
pub(super) fn rules(list: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, CgroupError> {
    let mut rules = Vec::with_capacity(list.len() + 11);
    rules.push(Rule {
        allow: false,
        devices: Devices::ANY,
        access: EVERY,
    });
    for entry in list {
        rules.push(rule(entry)?);
    }
    rules.extend(always());
    // What a total rule overrides need not be looked at.
    let start = rules.iter().rposition(|rule| rule.is_total()).unwrap_or(0);
    rules.drain(..start);
    let base = rules[0].allow;
    // Saying what is so already, before anything else was said.
    let same = rules[1..]
        .iter()
        .take_while(|rule| rule.allow == base)
        .count();
    rules.drain(1..=same);
    Ok(rules)
}

fn rule(entry: &LinuxDeviceCgroup) -> Result<Rule, CgroupError> {
    let invalid = |what: &str| CgroupError::Invalid(format!("invalid device rule: {what}"));
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => i32::try_from(number)
            .ok()
            .and_then(|number| u32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| invalid("device number out of range")),
    };
    let kind = match entry.kind.as_deref() {
        None | Some("a" | "") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(other) => return Err(invalid(&format!("unknown type {other:?}"))),
    };
    let mut access = 0;
    for letter in entry.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(invalid(&format!("unknown access {other:?}"))),
        };
    }
    let access = if access == 0 { EVERY } else { access };
    let devices = Devices {
        kind,
        major: number(entry.major)?,
        minor: number(entry.minor)?,
    };
    Ok(Rule {
        allow: entry.allow,
        devices,
        access,
    })
}

/// A v1 list: what holds by default, and the exceptions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceptions {
    allow: bool,
    lines: Vec<String>,
}

/// Folds rules into exceptions of one default, which is all that v1 can hold.
pub(super) fn exceptions(rules: &[Rule]) -> Result<Exceptions, CgroupError> {
    let Some((base, rest)) = rules.split_first() else {
        return Ok(Exceptions {
            allow: true,
            lines: Vec::new(),
        });
    };
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rest {
        if rule.allow != base.allow {
            match kept.iter_mut().find(|known| known.devices == rule.devices) {
                Some(known) => known.access |= rule.access,
                None => kept.push(*rule),
            }
            continue;
        }
        for known in &mut kept {
            if rule.devices.cover(known.devices) {
                known.access &= !rule.access;
            } else if rule.devices.overlap(known.devices) && rule.access & known.access != 0 {
                return Err(CgroupError::Unsupported {
                    resource: "device rules".to_owned(),
                    reason: "cgroup v1 has no exception to an exception".to_owned(),
                });
            }
        }
        kept.retain(|known| known.access != 0);
    }
    let mut lines = Vec::with_capacity(kept.len());
    for rule in kept {
        match rule.devices.kind {
            Some(kind) => lines.push(rule.line(kind)),
            None => lines.extend([Kind::Block, Kind::Char].map(|kind| rule.line(kind))),
        }
    }
    Ok(Exceptions {
        allow: base.allow,
        lines,
    })
}

/// Sets a v1 device list: from scratch, or by what differs, so that a running container misses nothing meanwhile. Within a
/// user namespace nobody may set lists, and no device can be made there, so there is nothing to keep from anybody.
pub(super) fn apply_v1(
    directory: &Directory<'_>,
    list: &[LinuxDeviceCgroup],
    fresh: bool,
) -> Result<(), CgroupError> {
    let wanted = exceptions(&rules(list)?)?;
    if in_user_namespace() {
        return Ok(());
    }
    let present = if fresh {
        None
    } else {
        Some(directory.read("devices.list")?)
    };
    if let Some(present) = present
        && !wanted.allow
        && !present.starts_with('a')
    {
        let present: Vec<_> = present.lines().map(str::to_owned).collect();
        let new: Vec<_> = wanted
            .lines
            .iter()
            .filter(|line| !present.contains(line))
            .cloned()
            .collect();
        let old: Vec<_> = present
            .into_iter()
            .filter(|line| !wanted.lines.contains(line))
            .collect();
        write_lines(directory, "devices.deny", &old)?;
        // A line that another one grew from took its place with it.
        let new = if old.is_empty() { new } else { wanted.lines };
        return write_lines(directory, "devices.allow", &new);
    }
    let (base, exception) = match wanted.allow {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    directory.write(base, "a")?;
    write_lines(directory, exception, &wanted.lines)
}

fn write_lines(directory: &Directory<'_>, file: &str, lines: &[String]) -> Result<(), CgroupError> {
    if lines.is_empty() {
        return Ok(());
    }
    let open = directory
        .open_for_write(file)
        .map_err(|errno| directory.write_failed(file, "", errno))?;
    for line in lines {
        rustix::io::write(&open, line.as_bytes())
            .map_err(|errno| directory.write_failed(file, line, errno))?;
    }
    Ok(())
}

/// Attaches the filter to a v2 directory; what was attached before is replaced in one step. Within a user namespace it is
/// as with v1.
pub(super) fn apply_v2(cgroup: &OwnedFd, list: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let program = program(&rules(list)?);
    if in_user_namespace() {
        return Ok(());
    }
    let program = bpf::load_device_program(&program).map_err(CgroupError::DeviceFilter)?;
    let present =
        bpf::attached_device_programs(cgroup.as_fd()).map_err(CgroupError::DeviceFilter)?;
    let mut present = present.iter();
    let replaced = present.next().map(AsFd::as_fd);
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), replaced)
        .map_err(CgroupError::DeviceFilter)?;
    for old in present {
        bpf::detach_device_program(cgroup.as_fd(), old.as_fd())
            .map_err(CgroupError::DeviceFilter)?;
    }
    Ok(())
}

/// Opcodes and registers of eBPF as far as needed; all arithmetic is of 32 bits.
mod op {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const MOVE: u8 = 0xb4;
    pub(super) const MOVE_REGISTER: u8 = 0xbc;
    pub(super) const AND: u8 = 0x54;
    pub(super) const SHIFT_RIGHT: u8 = 0x74;
    pub(super) const JUMP: u8 = 0x05;
    pub(super) const JUMP_IF_EQUAL: u8 = 0x15;
    pub(super) const JUMP_IF_NOT_EQUAL: u8 = 0x55;
    pub(super) const JUMP_IF_SET: u8 = 0x45;
    pub(super) const EXIT: u8 = 0x95;

    pub(super) const ANSWER: u8 = 0;
    pub(super) const CONTEXT: u8 = 1;
    pub(super) const KIND: u8 = 2;
    pub(super) const ACCESS: u8 = 3;
    pub(super) const MAJOR: u8 = 4;
    pub(super) const MINOR: u8 = 5;
}

fn instruction(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        immediate,
    }
}

/// The program for a list of rules. It goes from the last rule to the first and keeps the access bits not yet decided in a
/// register: a rule that denies one of them ends it, a rule that allows takes its bits away, and no bit left is a yes.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let load = |register: u8, offset: i16| Instruction {
        code: op::LOAD_WORD,
        registers: register | op::CONTEXT << 4,
        offset,
        immediate: 0,
    };
    let mut code = vec![
        load(op::KIND, 0),
        Instruction {
            registers: op::ACCESS | op::KIND << 4,
            ..instruction(op::MOVE_REGISTER, 0, 0)
        },
        instruction(op::SHIFT_RIGHT, op::ACCESS, 16),
        instruction(op::AND, op::KIND, 0xffff),
        load(op::MAJOR, 4),
        load(op::MINOR, 8),
    ];
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    let mut total = false;
    for rule in rules.iter().rev() {
        if rule.is_total() {
            total = rule.allow;
            break;
        }
        test(&mut code, *rule, &mut yes, &mut no);
    }
    // The verifier refuses code that nothing reaches: the end that is fallen into comes first, the other only when needed.
    let ends = if total {
        [(1, &yes), (0, &no)]
    } else {
        [(0, &no), (1, &yes)]
    };
    for (index, (answer, jumps)) in ends.into_iter().enumerate() {
        if index > 0 && jumps.is_empty() {
            continue;
        }
        for jump in jumps {
            code[*jump].offset = (code.len() - jump - 1) as i16;
        }
        code.push(instruction(op::MOVE, op::ANSWER, answer));
        code.push(instruction(op::EXIT, 0, 0));
    }
    code
}

/// One rule; falls through when it decides nothing or not all.
fn test(code: &mut Vec<Instruction>, rule: Rule, yes: &mut Vec<usize>, no: &mut Vec<usize>) {
    let start = code.len();
    let kind = rule
        .devices
        .kind
        .map(|kind| if kind == Kind::Block { 1 } else { 2 });
    for (register, wanted) in [
        (op::KIND, kind),
        (op::MAJOR, rule.devices.major.map(|number| number as i32)),
        (op::MINOR, rule.devices.minor.map(|number| number as i32)),
    ] {
        if let Some(wanted) = wanted {
            code.push(instruction(op::JUMP_IF_NOT_EQUAL, register, wanted));
        }
    }
    let tests = start..code.len();
    let access = i32::from(rule.access);
    match (rule.allow, rule.access) {
        (true, EVERY) => {
            yes.push(code.len());
            code.push(instruction(op::JUMP, 0, 0));
        }
        (true, _) => {
            code.push(instruction(op::AND, op::ACCESS, i32::from(EVERY) & !access));
            yes.push(code.len());
            code.push(instruction(op::JUMP_IF_EQUAL, op::ACCESS, 0));
        }
        (false, _) => {
            no.push(code.len());
            code.push(instruction(op::JUMP_IF_SET, op::ACCESS, access));
        }
    }
    for at in tests {
        code[at].offset = (code.len() - at - 1) as i16;
    }
}
