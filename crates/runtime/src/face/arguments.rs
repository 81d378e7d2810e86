//! Flags and words of a command, read as runc's command line reads them: one or two dashes, `--name value` or
//! `--name=value`, and a flag without a value is true.

use super::{FaceError, Result, said};

/// A flag: its names, the first of which is the one it is asked by, and whether a value follows.
pub struct Flag(pub &'static [&'static str], pub bool);

/// What every command may have in front of it.
const GLOBAL: &[Flag] = &[
    Flag(&["debug"], false),
    Flag(&["log"], true),
    Flag(&["log-format"], true),
    Flag(&["root"], true),
    Flag(&["criu"], true),
    Flag(&["systemd-cgroup"], false),
    Flag(&["rootless"], true),
    Flag(&["help", "h"], false),
    Flag(&["version", "v"], false),
];

/// Where flags may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before and between the words.
    Any,
    /// Before the first word; the rest belongs to a program.
    First,
}

/// Flags that were given, and the words.
#[derive(Debug, Default)]
pub struct Arguments {
    flags: Vec<(&'static str, String)>,
    pub words: Vec<String>,
}

impl Arguments {
    /// The flags before the command, and what follows them.
    pub fn before_command(words: &[String]) -> Result<(Self, &[String])> {
        let mut parsed = Self::default();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if !word.starts_with('-') {
                break;
            }
            rest = parsed.flag(GLOBAL, word, after)?;
        }
        Ok((parsed, rest))
    }

    /// The flags and words of a command.
    pub fn parse(known: &'static [Flag], order: Order, words: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if word == "--" {
                parsed.words.extend_from_slice(after);
                break;
            }
            let number = word[1.min(word.len())..].parse::<u32>().is_ok();
            if word.starts_with('-') && word.len() > 1 && !number {
                rest = parsed.flag(known, word, after)?;
            } else if order == Order::First {
                parsed.words.extend_from_slice(rest);
                break;
            } else {
                parsed.words.push(word.clone());
                rest = after;
            }
        }
        Ok(parsed)
    }

    fn flag<'a>(
        &mut self,
        known: &'static [Flag],
        word: &str,
        rest: &'a [String],
    ) -> Result<&'a [String]> {
        let text = word.trim_start_matches('-');
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let Some(Flag(names, takes_value)) = known.iter().find(|flag| flag.0.contains(&name))
        else {
            return said(format!("flag provided but not defined: -{name}"));
        };
        let (value, rest) = match (attached, takes_value) {
            (Some(value), _) => (value, rest),
            (None, false) => ("true".to_owned(), rest),
            (None, true) => match rest.split_first() {
                Some((value, rest)) => (value.clone(), rest),
                None => return said(format!("flag needs an argument: -{name}")),
            },
        };
        self.flags.push((names[0], value));
        Ok(rest)
    }

    /// The last value of a flag; an empty one is none.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last().filter(|value| !value.is_empty())
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.flags
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a flag without a value was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// The value of a flag as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.value(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    FaceError::Said(format!("invalid value {value:?} for flag -{name}"))
                })
            })
            .transpose()
    }

    /// The only word, which names a container.
    pub fn id(&self) -> Result<&str> {
        match self.words.as_slice() {
            [id] => Ok(id),
            [] => said("container id cannot be empty"),
            _ => said("this command takes exactly 1 argument, the container's id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    const KNOWN: &[Flag] = &[
        Flag(&["bundle", "b"], true),
        Flag(&["detach", "d"], false),
        Flag(&["env", "e"], true),
    ];

    #[test]
    fn flags_stand_anywhere_or_only_first() {
        let all = words("-b /x id --detach -9");
        let any = Arguments::parse(KNOWN, Order::Any, &all).unwrap();
        assert_eq!(any.value("bundle"), Some("/x"));
        assert!(any.is_set("detach"));
        assert_eq!(any.words, ["id", "-9"]);
        let first = Arguments::parse(KNOWN, Order::First, &all).unwrap();
        assert!(!first.is_set("detach"));
        assert_eq!(first.words, ["id", "--detach", "-9"]);
    }

    #[test]
    fn values_come_attached_or_after() {
        let parsed = Arguments::parse(KNOWN, Order::Any, &words("--env=A=1 -e B=2 --detach=false"));
        let parsed = parsed.unwrap();
        assert_eq!(parsed.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert!(!parsed.is_set("detach"));
    }

    #[test]
    fn unknown_flags_and_missing_values_are_refused() {
        for wrong in ["--nothing", "--env"] {
            assert!(Arguments::parse(KNOWN, Order::Any, &words(wrong)).is_err());
        }
    }

    #[test]
    fn global_flags_end_at_the_command() {
        let all = words("--root /r --systemd-cgroup delete --force x");
        let (global, rest) = Arguments::before_command(&all).unwrap();
        assert_eq!(global.value("root"), Some("/r"));
        assert!(global.is_set("systemd-cgroup"));
        assert_eq!(rest, ["delete", "--force", "x"]);
    }
}
