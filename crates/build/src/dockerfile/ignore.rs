//! `.dockerignore` and `<Dockerfile>.dockerignore`: which paths of a context stay out. Moby's rules: patterns in order,
//! the last that matches wins, a directory that matches takes what is below it along.

use super::path_pattern::PathPattern;

/// A file of patterns that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    #[error("illegal exclusion pattern: \"!\"")]
    LoneBang,
    #[error("error checking excludes: syntax error in pattern: {0}")]
    Pattern(String),
}

#[derive(Clone, Debug)]
enum Shape {
    Exact(String),
    /// `**text`: every path that ends in the text.
    Suffix(String),
    Pattern(PathPattern),
}

#[derive(Clone, Debug)]
struct Rule {
    /// `!pattern`: what matches is not ignored.
    exception: bool,
    text: String,
    shape: Shape,
}

/// The rules of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

/// The patterns of an ignore file: comments and blanks dropped, paths cleaned, `/` at both ends dropped.
pub fn patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (bang, path) = match line.strip_prefix('!') {
                Some(path) => ("!", path.trim()),
                None => ("", line),
            };
            if path.is_empty() {
                return bang.to_owned();
            }
            let cleaned = clean(path);
            let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty());
            format!("{bang}{}", relative.unwrap_or(&cleaned))
        })
        .collect()
}

/// The shortest path that means the same without looking at a file system: Go's `filepath.Clean`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

impl Ignore {
    /// Reads an ignore file.
    ///
    /// # Errors
    /// A pattern that can't be read, or `!` alone.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        Self::new(patterns(text))
    }

    /// Makes rules of patterns, `!` before exceptions.
    ///
    /// # Errors
    /// As [`Ignore::parse`].
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let (exception, text) = match pattern.strip_prefix('!') {
                Some("") => return Err(IgnoreError::LoneBang),
                Some(rest) => (true, clean(rest)),
                None => (false, clean(pattern)),
            };
            let shape = shape(&text).ok_or_else(|| IgnoreError::Pattern(text.clone()))?;
            rules.push(Rule {
                exception,
                text,
                shape,
            });
        }
        Ok(Self { rules })
    }

    /// Whether a path, relative to the context's root with `/` between its parts, stays out.
    pub fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            if rule.exception == ignored && rule.matches_or_holds(path) {
                ignored = !rule.exception;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may be wanted all the same.
    pub fn may_except_below(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        self.rules.iter().filter(|rule| rule.exception).any(|rule| {
            let wild = rule.text.find(['*', '?', '[', '\\']);
            match wild {
                Some(at) => {
                    let fixed = &rule.text[..at];
                    fixed.starts_with(&below) || below.starts_with(fixed)
                }
                None => {
                    rule.text.starts_with(&below) || below.starts_with(&format!("{}/", rule.text))
                }
            }
        })
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

fn shape(text: &str) -> Option<Shape> {
    let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
    // Moby checks the pattern as `filepath.Match` reads it before it reads `**`.
    PathPattern::new(text).ok()?;
    if !special(text) {
        return Some(Shape::Exact(text.to_owned()));
    }
    if let Some(rest) = text.strip_prefix("**").filter(|rest| !special(rest)) {
        return Some(Shape::Suffix(rest.to_owned()));
    }
    PathPattern::with_double_star(text).ok().map(Shape::Pattern)
}

impl Rule {
    fn matches_or_holds(&self, path: &str) -> bool {
        let parents = path
            .match_indices('/')
            .map(|(at, _)| &path[..at])
            .filter(|parent| !parent.is_empty());
        self.matches(path) || parents.into_iter().any(|parent| self.matches(parent))
    }

    fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact(text) => text == path,
            Shape::Suffix(suffix) => {
                path.ends_with(suffix.as_str())
                    || suffix.strip_prefix('/').is_some_and(|rest| rest == path)
            }
            Shape::Pattern(pattern) => pattern.matches(path),
        }
    }
}

/// Where the ignore file of a Dockerfile is looked for, the first that is there counts: beside it, then in the context's root.
pub fn names(dockerfile: &str) -> [String; 2] {
    [
        format!("{dockerfile}.dockerignore"),
        ".dockerignore".to_owned(),
    ]
}
