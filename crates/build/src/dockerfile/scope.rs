//! Which variables an instruction sees: arguments before the first FROM, those that a stage declares, its environment, and
//! the proxies that need no declaration.

use std::collections::{BTreeMap, BTreeSet};

use super::instruction::ArgPair;
use super::lexer::{Expansion, LexError, Lexer};

/// Arguments that need no ARG, and are kept out of history and cache keys.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What the variables of a file begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--build-arg`.
    pub given: BTreeMap<String, String>,
    /// See [`super::platform::arguments`].
    pub platform: BTreeMap<String, String>,
}

/// The scope of FROM: platform arguments and those declared before the first stage.
#[derive(Clone, Debug)]
pub struct GlobalScope {
    lexer: Lexer,
    given: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
    declared: BTreeSet<String>,
}

impl GlobalScope {
    /// A scope with nothing declared yet.
    pub fn new(escape: char, arguments: &Arguments) -> Self {
        let given = arguments.given.clone();
        let mut values = arguments.platform.clone();
        for (name, value) in &mut values {
            if let Some(other) = given.get(name) {
                value.clone_from(other);
            }
        }
        Self {
            lexer: Lexer::new(escape),
            given,
            values,
            declared: BTreeSet::new(),
        }
    }

    /// Declares an argument that stands before the first FROM.
    ///
    /// # Errors
    /// Its default can't be expanded.
    pub fn declare(&mut self, pair: &ArgPair) -> Result<Expansion, LexError> {
        let expansion = match &pair.default {
            Some(word) => self.expand(word)?,
            None => Expansion::default(),
        };
        self.declared.insert(pair.name.clone());
        let value = match self.given.get(&pair.name) {
            Some(given) => Some(given.clone()),
            None if pair.default.is_some() => Some(expansion.text.clone()),
            None => self.values.get(&pair.name).cloned(),
        };
        if let Some(value) = value {
            self.values.insert(pair.name.clone(), value);
        }
        Ok(expansion)
    }

    /// Expands a word of a FROM.
    ///
    /// # Errors
    /// See [`Lexer::expand`].
    pub fn expand(&self, word: &str) -> Result<Expansion, LexError> {
        self.lexer
            .expand(word, &|name: &str| self.values.get(name).cloned())
    }

    /// Names that a FROM may use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().chain(&self.declared).map(String::as_str)
    }

    /// The scope of a new stage, with the environment of its base.
    pub fn stage(&self, env: &[String]) -> StageScope {
        let mut scope = StageScope {
            lexer: self.lexer,
            given: self.given.clone(),
            global: self.values.clone(),
            args: Vec::new(),
            env: Vec::new(),
            used: BTreeSet::new(),
        };
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            scope.set_env(name, value);
        }
        scope
    }

    /// Names of `--build-arg`.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }

    /// Whether an argument was declared before the first FROM.
    pub fn declares(&self, name: &str) -> bool {
        self.declared.contains(name)
    }
}

/// What the instructions of one stage see.
#[derive(Clone, Debug)]
pub struct StageScope {
    lexer: Lexer,
    given: BTreeMap<String, String>,
    global: BTreeMap<String, String>,
    args: Vec<(String, Option<String>)>,
    env: Vec<(String, String)>,
    used: BTreeSet<String>,
}

impl StageScope {
    /// Declares an argument: `--build-arg` wins over the default here, and that over the value before the first FROM.
    ///
    /// # Errors
    /// Its default can't be expanded.
    pub fn declare(&mut self, pair: &ArgPair) -> Result<Expansion, LexError> {
        let expansion = match &pair.default {
            Some(word) => self.expand(word)?,
            None => Expansion::default(),
        };
        let value = match (self.given.get(&pair.name), &pair.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(_)) => Some(expansion.text.clone()),
            (None, None) => self.global.get(&pair.name).cloned(),
        };
        self.used.insert(pair.name.clone());
        match self.args.iter_mut().find(|(name, _)| *name == pair.name) {
            Some((_, old)) => *old = value,
            None => self.args.push((pair.name.clone(), value)),
        }
        Ok(expansion)
    }

    /// Sets a variable of the image's environment.
    pub fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The value an instruction sees: the environment wins over arguments.
    pub fn value(&self, name: &str) -> Option<String> {
        let env = self.env.iter().find(|(known, _)| known == name);
        if let Some((_, value)) = env {
            return Some(value.clone());
        }
        let (_, value) = self.args.iter().find(|(known, _)| known == name)?;
        value.clone()
    }

    /// Expands a word of an instruction.
    ///
    /// # Errors
    /// See [`Lexer::expand`].
    pub fn expand(&self, word: &str) -> Result<Expansion, LexError> {
        self.lexer.expand(word, &|name: &str| self.value(name))
    }

    /// Expands the text of a here-document, in which quotes mean nothing.
    ///
    /// # Errors
    /// See [`Lexer::expand`].
    pub fn expand_document(&self, text: &str) -> Result<Expansion, LexError> {
        let lexer = Lexer {
            plain_quotes: true,
            ..self.lexer
        };
        lexer.expand(text, &|name: &str| self.value(name))
    }

    /// The image's environment, `NAME=value`.
    pub fn env(&self) -> Vec<String> {
        self.env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Declared arguments with a value that the environment does not hide, `NAME=value`: what a RUN sees besides it, and what
    /// its history names.
    pub fn run_args(&self) -> Vec<String> {
        self.args
            .iter()
            .filter(|(name, _)| !self.in_env(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }

    /// Proxies of `--build-arg` that a RUN sees without declaration.
    pub fn proxies(&self) -> Vec<String> {
        PROXY_ARGS
            .iter()
            .filter(|name| !self.in_env(name) && !self.args.iter().any(|(known, _)| known == *name))
            .filter_map(|name| Some(format!("{name}={}", self.given.get(*name)?)))
            .collect()
    }

    /// Names an instruction may use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let env = self.env.iter().map(|(name, _)| name.as_str());
        env.chain(self.args.iter().map(|(name, _)| name.as_str()))
    }

    /// Arguments that this stage declared.
    pub fn declared(&self) -> impl Iterator<Item = &str> {
        self.used.iter().map(String::as_str)
    }

    fn in_env(&self, name: &str) -> bool {
        self.env.iter().any(|(known, _)| known == name)
    }
}
