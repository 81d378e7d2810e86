//! Classic BPF out of resolved rules: one look at the architecture, then a binary search over the call number.
//!
//! Plain ranges use only the operations that the kernel can evaluate at installation (`seccomp_is_const_allow`), so that
//! calls which are always allowed never run the filter.

use cais_sys::seccomp::Instruction;

use super::rules::{Condition, Operator, Range, Rule, Rules, Verdict, action};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// Marks a jump to a block that has no place yet; programs are far too short for such a distance.
const OPEN: u32 = 0x8000_0000;

/// Where a conditional jump goes, before distances are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The next instruction.
    Next,
    /// Behind the comparison: it holds.
    Holds,
    /// To the next rule: it does not hold.
    Fails,
}

pub(super) fn assemble(rules: &Rules) -> Vec<Instruction> {
    let mut code = vec![statement(LOAD, ARCHITECTURE)];
    section(&mut code, AUDIT_ARCH_X86_64, rules, &rules.native, true);
    if let Some(x86) = &rules.x86 {
        section(&mut code, AUDIT_ARCH_I386, rules, x86, false);
    }
    code.push(statement(RETURN, action::KILL_THREAD));
    code
}

fn statement(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// One architecture; falls through to the next section for any other.
fn section(code: &mut Vec<Instruction>, arch: u32, rules: &Rules, ranges: &[Range], wide: bool) {
    let jump = code.len();
    code.push(Instruction {
        code: JUMP_EQUAL,
        jt: 1,
        jf: 0,
        k: arch,
    });
    code.push(statement(JUMP, 0));
    code.push(statement(LOAD, NUMBER));
    let mut blocks = Vec::new();
    search(code, &mut blocks, ranges);
    let (start, end) = (jump + 2, code.len());
    for (index, tests) in blocks.iter().enumerate() {
        let marker = statement(JUMP, OPEN | index as u32);
        for at in start..end {
            if code[at] == marker {
                code[at].k = (code.len() - at - 1) as u32;
            }
        }
        for test in *tests {
            rule(code, &rules.conditional[usize::from(*test)], wide);
        }
        code.push(statement(RETURN, rules.default));
    }
    code[jump + 1].k = (code.len() - jump - 2) as u32;
}

/// The search tree; a leaf with tests becomes a jump to their block, which calls of the same rules share.
fn search<'a>(code: &mut Vec<Instruction>, blocks: &mut Vec<&'a [u16]>, ranges: &'a [Range]) {
    if let [range] = ranges {
        code.push(match &range.verdict {
            Verdict::Always(action) => statement(RETURN, *action),
            Verdict::Tests(tests) => {
                let known = blocks.iter().position(|block| block == tests);
                let index = known.unwrap_or_else(|| {
                    blocks.push(tests);
                    blocks.len() - 1
                });
                statement(JUMP, OPEN | index as u32)
            }
        });
        return;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let jump = code.len();
    code.push(statement(JUMP_GREATER_OR_EQUAL, right[0].first));
    search(code, blocks, left);
    let distance = code.len() - jump - 1;
    if let Ok(distance) = u8::try_from(distance) {
        code[jump].jt = distance;
    } else {
        // Jumps are relative, so that code behind the inserted one stays right.
        code[jump].jf = 1;
        code.insert(jump + 1, statement(JUMP, distance as u32));
    }
    search(code, blocks, right);
}

/// A rule's comparisons and its action; falls through when one does not hold.
fn rule(code: &mut Vec<Instruction>, rule: &Rule, wide: bool) {
    let mut open = Vec::new();
    for condition in &rule.conditions {
        compare(code, condition, wide, &mut open);
    }
    code.push(statement(RETURN, rule.action));
    // At most six comparisons of six instructions: always within reach of a short jump.
    for (index, when_true) in open {
        let distance = (code.len() - index - 1) as u8;
        if when_true {
            code[index].jt = distance;
        } else {
            code[index].jf = distance;
        }
    }
}

/// One comparison, of 64 bits or (for i386) of the low 32; jumps to the next rule are left in `open`.
fn compare(
    code: &mut Vec<Instruction>,
    condition: &Condition,
    wide: bool,
    open: &mut Vec<(usize, bool)>,
) {
    use Target::{Fails, Holds, Next};
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let offset = ARGUMENTS + condition.argument * 8;
    let mut steps: Vec<(Instruction, Target, Target)> = Vec::with_capacity(6);
    let mut test = |code, k, holds, fails| steps.push((statement(code, k), holds, fails));
    let (high_mask, low_mask) = match condition.operator {
        Operator::MaskedEqual { mask } => ((mask >> 32) as u32, mask as u32),
        _ => (u32::MAX, u32::MAX),
    };
    if wide && high_mask != 0 {
        test(LOAD, offset + 4, Next, Next);
        if high_mask != u32::MAX {
            test(AND, high_mask, Next, Next);
        }
        match condition.operator {
            Operator::Equal | Operator::MaskedEqual { .. } => test(JUMP_EQUAL, high, Next, Fails),
            Operator::NotEqual => test(JUMP_EQUAL, high, Next, Holds),
            Operator::Greater | Operator::GreaterOrEqual => {
                test(JUMP_GREATER, high, Holds, Next);
                test(JUMP_EQUAL, high, Next, Fails);
            }
            Operator::Less | Operator::LessOrEqual => {
                test(JUMP_GREATER, high, Fails, Next);
                test(JUMP_EQUAL, high, Next, Holds);
            }
        }
    }
    test(LOAD, offset, Next, Next);
    if low_mask != u32::MAX {
        test(AND, low_mask, Next, Next);
    }
    match condition.operator {
        Operator::Equal | Operator::MaskedEqual { .. } => test(JUMP_EQUAL, low, Holds, Fails),
        Operator::NotEqual => test(JUMP_EQUAL, low, Fails, Holds),
        Operator::Greater => test(JUMP_GREATER, low, Holds, Fails),
        Operator::GreaterOrEqual => test(JUMP_GREATER_OR_EQUAL, low, Holds, Fails),
        Operator::Less => test(JUMP_GREATER_OR_EQUAL, low, Fails, Holds),
        Operator::LessOrEqual => test(JUMP_GREATER, low, Fails, Holds),
    }
    let count = steps.len();
    for (index, (mut instruction, holds, fails)) in steps.into_iter().enumerate() {
        let behind = (count - index - 1) as u8;
        for (target, when_true) in [(holds, true), (fails, false)] {
            match target {
                Fails => open.push((code.len(), when_true)),
                Holds if when_true => instruction.jt = behind,
                Holds => instruction.jf = behind,
                Next => {}
            }
        }
        code.push(instruction);
    }
}
