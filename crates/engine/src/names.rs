//! Container names: the rule they obey, and the generator for containers nobody named.

use cais_types::{Error, Result};

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "ardent", "azure", "balmy", "breezy", "bright", "brisk", "calm",
    "candid", "cheerful", "clear", "coastal", "crisp", "curious", "daring", "deft", "eager",
    "earnest", "easy", "fair", "fearless", "fleet", "fresh", "gentle", "glad", "golden", "hardy",
    "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mighty",
    "neat", "nimble", "noble", "patient", "plucky", "polite", "prompt", "proud", "quick", "quiet",
    "ready", "rustic", "salty", "sharp", "silent", "silver", "smart", "snug", "solid", "spry",
    "steady", "sunny", "swift", "tidy", "witty",
];

/// Navigators, harbour engineers and computer scientists.
const SURNAMES: [&str; 64] = [
    "amundsen",
    "babbage",
    "barents",
    "bartolomeu",
    "beaufort",
    "bering",
    "bougainville",
    "boole",
    "cabot",
    "cabral",
    "cartier",
    "champlain",
    "church",
    "codd",
    "cousteau",
    "curry",
    "dias",
    "dijkstra",
    "drake",
    "eanes",
    "eckert",
    "eratosthenes",
    "erikson",
    "euler",
    "floyd",
    "galois",
    "gama",
    "gauss",
    "godel",
    "hamilton",
    "hoare",
    "hopper",
    "hudson",
    "humboldt",
    "kay",
    "kilburn",
    "knuth",
    "lamport",
    "lamarr",
    "liskov",
    "lovelace",
    "magellan",
    "mercator",
    "mccarthy",
    "nansen",
    "neumann",
    "nunes",
    "pascal",
    "perlis",
    "piccard",
    "polo",
    "ritchie",
    "ross",
    "shannon",
    "smeaton",
    "stevenson",
    "tasman",
    "telford",
    "thompson",
    "torvalds",
    "turing",
    "vespucci",
    "wilkes",
    "zheng",
];

/// A name of two words drawn by `seed`; from the second attempt on a digit follows.
pub fn generate(seed: u64, attempt: u32) -> String {
    let adjective = ADJECTIVES[(seed & 63) as usize];
    let surname = SURNAMES[((seed >> 6) & 63) as usize];
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!(
            "{adjective}_{surname}{}",
            (seed >> 12) % 10u64.saturating_pow(attempt)
        )
    }
}

/// Checks a name a user gave and takes one leading slash off it.
///
/// # Errors
/// `Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.len() > 0
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest {
        return Ok(bare);
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_obey_the_rule() {
        for seed in 0..5000u64 {
            let name = generate(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), (seed % 3) as u32);
            assert_eq!(check(&name).unwrap(), name);
        }
    }

    #[test]
    fn rule_takes_one_slash_and_refuses_short_and_odd_names() {
        assert_eq!(check("/web-1").unwrap(), "web-1");
        for bad in ["", "/", "a", "-a", "a b", "a/b", "//ab", "é1"] {
            let text = check(bad).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("Invalid container name ({bad})")),
                "{text}"
            );
        }
    }
}
