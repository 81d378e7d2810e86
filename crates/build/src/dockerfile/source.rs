//! Lines of a Dockerfile and the excerpts that errors and lint rules show.

use std::fmt::Write;

/// Lines of the file, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines {
    pub start: usize,
    pub end: usize,
}

impl Lines {
    /// One line.
    pub fn one(line: usize) -> Self {
        Self {
            start: line,
            end: line,
        }
    }
}

/// A named text that positions point into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What messages call the file.
    pub name: String,
    pub text: String,
}

/// Lines shown before and after those that are meant.
const CONTEXT: usize = 2;

impl Source {
    /// The lines with two around them, `>>>` before those that are meant, as BuildKit prints them.
    pub fn excerpt(&self, lines: Lines) -> String {
        let all: Vec<&str> = self.text.split('\n').collect();
        let start = lines.start.clamp(1, all.len());
        let end = lines.end.clamp(start, all.len());
        let (first, last) = (
            start.saturating_sub(CONTEXT).max(1),
            (end + CONTEXT).min(all.len()),
        );
        let rule = "--------------------";
        let mut text = format!("{}:{start}\n{rule}\n", self.name);
        for number in first..=last {
            let line = all[number - 1].trim_end_matches('\r');
            let mark = if (start..=end).contains(&number) {
                ">>>"
            } else {
                "   "
            };
            let _ = writeln!(text, "{number:4} | {mark} {line}");
        }
        text.push_str(rule);
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_marks_the_lines_and_shows_two_around_them() {
        let source = Source {
            name: "Dockerfile".to_owned(),
            text: "FROM a\n\nRUN x \\\n  y\nCMD z\nUSER u\nEXPOSE 1\n".to_owned(),
        };
        assert_eq!(
            source.excerpt(Lines { start: 3, end: 4 }),
            "Dockerfile:3\n--------------------\n   1 |     FROM a\n   2 |     \n   3 | >>> RUN x \\\n   4 | >>>   y\n   5 |     CMD z\n   6 |     USER u\n--------------------\n"
        );
        assert_eq!(
            source.excerpt(Lines::one(99)),
            "Dockerfile:8\n--------------------\n   6 |     USER u\n   7 |     EXPOSE 1\n   8 | >>> \n--------------------\n"
        );
    }
}
