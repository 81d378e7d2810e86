//! The settings of checks: `skip=Rule,...|all;error=true;experimental=Rule,...|all`.

use super::rules::{self, Rule};
use crate::dockerfile::suggest;

/// Which rules count, and whether a finding fails the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skip: Names,
    experimental: Names,
    pub error: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: Vec<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        let names = text.split(',').map(|name| name.trim().to_owned());
        let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        Self {
            all: names.iter().any(|name| name.eq_ignore_ascii_case("all")),
            names,
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        let named = |name: &String| rules::find(name).is_some_and(|known| known == rule);
        self.all || self.names.iter().any(named)
    }
}

impl CheckOptions {
    /// Reads settings; an empty text has none.
    ///
    /// # Errors
    /// BuildKit's sentence about an unknown key or a bad value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim) {
            if part.is_empty() {
                continue;
            }
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("invalid check option {part:?}"))?;
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    options.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        other => {
                            return Err(format!(
                                "failed to parse check option \"error\": strconv.ParseBool: parsing {other:?}: invalid syntax"
                            ));
                        }
                    };
                }
                key => {
                    let hint = suggest::hint(key, ["skip", "experimental", "error"]);
                    return Err(format!("invalid check option {key:?}{hint}"));
                }
            }
        }
        Ok(options)
    }

    /// Whether a rule is switched off by name.
    pub fn skips(&self, rule: &Rule) -> bool {
        self.skip.has(rule)
    }

    /// Whether findings of a rule count.
    pub fn wants(&self, rule: &Rule) -> bool {
        let experimental = self.experimental.has(rule);
        (!rule.experimental || experimental)
            && (!self.skips(rule) || (self.skip.all && experimental))
    }
}
