//! Quotes, escapes and variables within a word of a Dockerfile: what the shell does, with the modifiers that BuildKit
//! knows.

use std::collections::BTreeSet;

use super::pattern::{self, PatternError};

/// Where the values of variables come from.
pub trait Variables {
    /// The value of a variable; none when it is not set.
    fn value(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn value(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// How to read words.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    /// The character that takes the meaning of the next one away.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes are letters like any other.
    pub plain_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub keep_unset: bool,
}

/// What became of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    pub text: String,
    /// The text split at blanks that are neither quoted nor escaped, after expansion.
    pub words: Vec<String>,
    /// Variables that had a value.
    pub matched: BTreeSet<String>,
    /// Variables that had none.
    pub unmatched: BTreeSet<String>,
}

/// A word that can't be expanded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    #[error("syntax error: missing {0}")]
    Missing(&'static str),
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    #[error("syntax error: substitutions are nested too deep")]
    TooDeep,
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("failed to process {0:?}: {1}")]
    Word(String, Box<LexError>),
}

/// Substitutions within substitutions; more would use up the stack.
const DEPTH: usize = 64;

impl Lexer {
    /// A lexer that expands variables and takes quotes and escapes away.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            plain_quotes: false,
            keep_unset: false,
        }
    }

    /// Expands a word.
    ///
    /// # Errors
    /// A quote or brace that is not closed, an unknown modifier, a bad pattern, or a variable that `?` demands.
    pub fn expand(&self, word: &str, variables: &dyn Variables) -> Result<Expansion, LexError> {
        let mut run = Run {
            lexer: *self,
            letters: word.chars().collect(),
            at: 0,
            depth: 0,
            variables,
            seen: Expansion::default(),
        };
        let (text, words) = run
            .until(None)
            .map_err(|error| LexError::Word(word.to_owned(), Box::new(error)))?;
        Ok(Expansion {
            text,
            words,
            ..run.seen
        })
    }
}

/// Gathers words: blanks between them end a word unless they are raw.
#[derive(Default)]
struct Words {
    word: String,
    words: Vec<String>,
}

impl Words {
    fn letter(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.word.push(letter);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Run<'a> {
    lexer: Lexer,
    letters: Vec<char>,
    at: usize,
    depth: usize,
    variables: &'a dyn Variables,
    seen: Expansion,
}

impl Run<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }

    /// Reads to the end, or over the character that ends a part.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), LexError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(letter) = self.next() {
            if Some(letter) == stop {
                return Ok((text, words.finish()));
            }
            let quotes = !self.lexer.plain_quotes;
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| words.letter(letter));
                    text.push_str(&value);
                }
                '\'' | '"' if quotes => {
                    let value = self.quoted(letter)?;
                    words.word.push_str(&value);
                    text.push_str(&value);
                }
                letter if letter == self.lexer.escape => {
                    if self.lexer.raw_escapes {
                        words.word.push(letter);
                        text.push(letter);
                    }
                    let Some(next) = self.next() else { break };
                    words.word.push(next);
                    text.push(next);
                }
                letter => {
                    words.letter(letter);
                    text.push(letter);
                }
            }
        }
        match stop {
            Some('}') => Err(LexError::Missing("'}'")),
            Some(_) => Err(LexError::Missing("'/' in ${}")),
            None => Ok((text, words.finish())),
        }
    }

    /// The rest of a quoted part whose opening quote was read.
    fn quoted(&mut self, quote: char) -> Result<String, LexError> {
        let mut text = String::new();
        if self.lexer.raw_quotes {
            text.push(quote);
        }
        let name = if quote == '"' {
            "double-quote"
        } else {
            "single-quote"
        };
        loop {
            match self.next().ok_or(LexError::Unclosed(name))? {
                letter if letter == quote => {
                    if self.lexer.raw_quotes {
                        text.push(quote);
                    }
                    return Ok(text);
                }
                '$' if quote == '"' => text.push_str(&self.dollar()?),
                letter if quote == '"' && letter == self.lexer.escape => self.escaped(&mut text),
                letter => text.push(letter),
            }
        }
    }

    /// An escape character within double quotes: it acts on `"`, `$` and itself only.
    fn escaped(&mut self, text: &mut String) {
        let escape = self.lexer.escape;
        if self.lexer.raw_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(next) if next == '"' || next == '$' || next == escape => {
                text.push(next);
                self.at += 1;
            }
            Some(_) => text.push(escape),
        }
    }

    /// A variable whose `$` was read.
    fn dollar(&mut self) -> Result<String, LexError> {
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name) {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(LexError::TooDeep);
        }
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What follows `${`.
    fn braced(&mut self) -> Result<String, LexError> {
        match self.peek() {
            None => return Err(LexError::Missing("'}'")),
            Some('{' | '}' | ':') => return Err(LexError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(&name) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replacement(&name),
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, true, modifier)
            }
            modifier => self.modified(&name, false, modifier),
        }
    }

    fn modified(
        &mut self,
        name: &str,
        empty_is_unset: bool,
        modifier: Option<char>,
    ) -> Result<String, LexError> {
        let colon = if empty_is_unset { ":" } else { "" };
        let Some(modifier @ ('-' | '+' | '?' | '#' | '%')) = modifier else {
            let text = format!("{colon}{}", modifier.map_or(String::new(), String::from));
            return Err(LexError::Modifier(text));
        };
        let word = self.part('}', matches!(modifier, '#' | '%'))?;
        let value = self.value(name);
        if self.lexer.keep_unset && value.is_none() {
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let filled = value
            .as_ref()
            .is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            '-' => Ok(if filled {
                value.unwrap_or_default()
            } else {
                word
            }),
            '+' => Ok(if filled { word } else { String::new() }),
            '?' if filled => Ok(value.unwrap_or_default()),
            '?' => {
                let state = if value.is_some() { "empty" } else { "unset" };
                let message = if word.is_empty() {
                    format!("is not allowed to be {state}")
                } else {
                    word
                };
                let name = name.to_owned();
                Err(LexError::Required { name, message })
            }
            end => {
                let greedy = word.starts_with(end);
                let pattern = if greedy { &word[1..] } else { &word };
                let value = value.unwrap_or_default();
                let trimmed = if end == '#' {
                    pattern::trim_prefix(pattern, &value, greedy)
                } else {
                    pattern::trim_suffix(pattern, &value, greedy)
                };
                trimmed.map_err(|error| bad_pattern(pattern, &error))
            }
        }
    }

    fn replacement(&mut self, name: &str) -> Result<String, LexError> {
        let every = self.peek() == Some('/');
        if every {
            self.at += 1;
        }
        let pattern = self.part('/', true)?;
        let new = self.part('}', true)?;
        match self.value(name) {
            None if self.lexer.keep_unset => Ok(format!("${{{name}/{pattern}/{new}}}")),
            value => pattern::replace(&pattern, &value.unwrap_or_default(), &new, every)
                .map_err(|error| bad_pattern(&pattern, &error)),
        }
    }

    fn part(&mut self, stop: char, raw_escapes: bool) -> Result<String, LexError> {
        let before = std::mem::replace(&mut self.lexer.raw_escapes, raw_escapes);
        let part = self.until(Some(stop));
        self.lexer.raw_escapes = before;
        Ok(part?.0)
    }

    /// A name, a positional number, or one of the shell's special letters.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(letter) if letter.is_ascii_digit() => {
                while self.peek().is_some_and(|letter| letter.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self
                    .peek()
                    .is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                {
                    self.at += 1;
                }
            }
        }
        self.letters[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.value(name);
        let seen = if value.is_some() {
            &mut self.seen.matched
        } else {
            &mut self.seen.unmatched
        };
        seen.insert(name.to_owned());
        value
    }
}

fn bad_pattern(pattern: &str, error: &PatternError) -> LexError {
    LexError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    }
}
