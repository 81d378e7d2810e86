//! The flags of an instruction against those it knows.

use super::suggest;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--name`, `--name=true` or `--name=false`.
    Switch,
    /// `--name=value`, once.
    Value,
    /// `--name=value`, any number of times.
    Values,
}

/// The flags that were given, checked.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    /// Checks flags against those that the instruction knows.
    pub fn parse(words: &[String], known: &[(&'static str, Takes)]) -> Result<Self, String> {
        let mut flags = Self::default();
        for word in words {
            let word = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let Some((name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let hint = suggest::hint(name, known.iter().map(|(name, _)| *name));
                return Err(format!("unknown flag: --{name}{hint}"));
            };
            if *takes != Takes::Values && flags.value(name).is_some() {
                return Err(format!("duplicate flag specified: --{name}"));
            }
            let missing = || format!("missing a value on flag: --{name}");
            let value = match (takes, value) {
                (Takes::Switch, None) => "true".to_owned(),
                (Takes::Switch, Some("")) | (_, None) => return Err(missing()),
                (Takes::Switch, Some(value)) => match value.to_ascii_lowercase() {
                    word if word == "true" || word == "false" => word,
                    _ => {
                        return Err(format!(
                            "expecting boolean value for flag --{name}, not: {value}"
                        ));
                    }
                },
                (_, Some(value)) => value.to_owned(),
            };
            flags.given.push((name, value));
        }
        Ok(flags)
    }

    /// The value of a flag, none when it was not given.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value as a text of its own; an empty one counts as not given.
    pub fn text(&self, name: &str) -> Option<String> {
        self.value(name)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.given
            .iter()
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// What a switch says, none when it was not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }

    /// Names of the flags that were given.
    pub fn names(&self) -> Vec<String> {
        self.given
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }
}
