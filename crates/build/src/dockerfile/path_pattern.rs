//! Patterns over paths: Go's `filepath.Match` (`*`, `?`, `[a-z]`, `\`), with `**` over any number of directories where
//! ignore files and `--parents` allow it. A match costs at most pattern times path.

/// A pattern that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// Anything, also `/`.
    All,
    /// The two tokens that follow may be left out.
    Maybe,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    tokens: Vec<Token>,
}

impl PathPattern {
    /// A pattern without `**`: two stars are one.
    ///
    /// # Errors
    /// A class that is not closed or empty, or an escape without a character.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, false)
    }

    /// A pattern in which `**` stands for any number of directories.
    ///
    /// # Errors
    /// As [`PathPattern::new`].
    pub fn with_double_star(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, true)
    }

    fn compile(text: &str, double_star: bool) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let token = match letter {
                '*' if double_star && letters.next_if_eq(&'*').is_some() => {
                    letters.next_if_eq(&'/');
                    if letters.peek().is_some() {
                        // `**/` is nothing, or anything that ends in `/`.
                        tokens.extend([Token::Maybe, Token::All, Token::Letter('/')]);
                        continue;
                    }
                    Token::All
                }
                '*' => Token::Some,
                '?' => Token::One,
                '\\' => Token::Letter(letters.next().ok_or(BadPattern)?),
                '[' => class(&mut letters)?,
                letter => Token::Letter(letter),
            };
            if token == Token::Some && tokens.last() == Some(&Token::Some) {
                continue;
            }
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// Whether the pattern matches the whole path.
    pub fn matches(&self, path: &str) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.follow(&mut states);
        for letter in path.chars() {
            let mut after = vec![false; states.len()];
            for (at, token) in self.tokens.iter().enumerate() {
                if states[at] {
                    after[at] |= token.stays(letter);
                    after[at + 1] |= token.takes(letter);
                }
            }
            self.follow(&mut after);
            states = after;
        }
        states[self.tokens.len()]
    }

    /// Adds the states that are reached without a letter.
    fn follow(&self, states: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if !states[at] {
                continue;
            }
            match token {
                Token::Some | Token::All => states[at + 1] = true,
                Token::Maybe => {
                    states[at + 1] = true;
                    states[at + 3] = true;
                }
                _ => {}
            }
        }
    }
}

impl Token {
    /// Whether a letter leaves the match at this token.
    fn stays(&self, letter: char) -> bool {
        matches!(self, Self::All) || (matches!(self, Self::Some) && letter != '/')
    }

    /// Whether a letter moves the match behind this token.
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Letter(wanted) => *wanted == letter,
            Self::One => letter != '/',
            Self::Class { negated, ranges } => {
                let within = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&letter));
                letter != '/' && within != *negated
            }
            Self::Some | Self::All | Self::Maybe => false,
        }
    }
}

fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && letters.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_letter(letters)?;
        let high = match letters.next_if_eq(&'-') {
            Some(_) => class_letter(letters)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_letter(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<char, BadPattern> {
    match letters.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => letters.next().ok_or(BadPattern),
        Some(letter) => Ok(letter),
    }
}
