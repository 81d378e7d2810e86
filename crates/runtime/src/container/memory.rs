//! `linux.memoryPolicy`: on which nodes memory is taken (set_mempolicy(2)).

use super::report::{Result, RuntimeError, during};
use crate::spec::LinuxMemoryPolicy;

const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// Nodes or processors that a mask of ours can name.
const LIMIT: usize = 1024;

/// Sets the policy of the calling process, which programs it executes keep.
pub fn set_policy(wanted: &LinuxMemoryPolicy) -> Result<()> {
    let find = |table: &[(&str, u32)], name: &str| {
        let found = table.iter().find(|(known, _)| *known == name);
        found.map(|(_, bits)| *bits).ok_or_else(|| {
            RuntimeError::invalid(format!("invalid memory policy mode or flag {name:?}"))
        })
    };
    let mut mode = find(&MODES, &wanted.mode)?;
    for flag in &wanted.flags {
        mode |= find(&FLAGS, flag)?;
    }
    let nodes = mask(&wanted.nodes).ok_or_else(|| {
        RuntimeError::invalid(format!("invalid memory policy nodes {:?}", wanted.nodes))
    })?;
    cais_sys::process::set_memory_policy(mode, &nodes).map_err(during("set_mempolicy"))
}

/// `0-3,7` as a mask of 64-bit words; empty for none.
pub fn mask(list: &str) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= LIMIT {
            return None;
        }
        words.resize(words.len().max(last / 64 + 1), 0);
        for node in first..=last {
            words[node / 64] |= 1 << (node % 64);
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        assert_eq!(mask(""), Some(vec![]));
        assert_eq!(mask("0-1,3"), Some(vec![0b1011]));
        assert_eq!(mask("64"), Some(vec![0, 1]));
        assert_eq!(mask("3-1"), None);
        assert_eq!(mask("x"), None);
        assert_eq!(mask("5000"), None);
    }
}
