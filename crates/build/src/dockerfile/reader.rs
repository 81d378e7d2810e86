//! The file as statements: byte-order mark, line ends, comments, continued lines and here-documents are taken care of.

use super::directive::{DirectiveReader, Directives};
use super::error::ParseError;
use super::heredoc::{self, Heredoc};
use super::source::Lines;
use super::split::{self, MaybeJson};

/// One instruction as a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The line with its continuations joined.
    pub text: String,
    pub lines: Lines,
    /// Comment lines directly above, without `#`.
    pub comments: Vec<String>,
    pub heredocs: Vec<Heredoc>,
    /// Blank lines within the continued line.
    pub empty_continuation: bool,
}

/// All statements of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    pub directives: Directives,
    pub statements: Vec<Statement>,
}

/// The longest line, in bytes.
pub const MAX_LINE: usize = 65535;

struct Reader<'a> {
    lines: Vec<&'a str>,
    /// Lines read so far, so the number of the last line read.
    at: usize,
    directives: DirectiveReader,
}

/// Reads the statements of a file.
///
/// # Errors
/// A bad directive, a line that is too long, a here-document without end.
pub fn statements(text: &str) -> Result<Statements, ParseError> {
    read(text, DirectiveReader::default())
}

/// Reads the statements of an included file, whose directives are comments.
///
/// # Errors
/// As [`statements`].
pub(super) fn statements_with(text: &str, escape: char) -> Result<Statements, ParseError> {
    read(text, DirectiveReader::with_escape(escape))
}

fn read(text: &str, directives: DirectiveReader) -> Result<Statements, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        lines: text.split_inclusive('\n').collect(),
        at: 0,
        directives,
    };
    let mut statements = Vec::new();
    let mut comments = Vec::new();
    while let Some(line) = reader.next()? {
        let trimmed = line.trim_start();
        let number = reader.at;
        reader.directives.line(trimmed, number)?;
        if let Some(comment) = trimmed.strip_prefix('#') {
            match comment.trim() {
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
            continue;
        }
        if trimmed.is_empty() {
            comments.clear();
            continue;
        }
        statements.push(reader.statement(trimmed, std::mem::take(&mut comments))?);
    }
    Ok(Statements {
        directives: reader.directives.directives,
        statements,
    })
}

impl<'a> Reader<'a> {
    /// The next line with its line end.
    fn raw(&mut self) -> Result<Option<&'a str>, ParseError> {
        let Some(line) = self.lines.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        if line.trim_end_matches('\n').len() > MAX_LINE {
            return Err(ParseError::at(
                Lines::one(self.at),
                format!("dockerfile line greater than max allowed size of {MAX_LINE}"),
            ));
        }
        Ok(Some(line))
    }

    fn next(&mut self) -> Result<Option<&'a str>, ParseError> {
        Ok(self.raw()?.map(without_line_end))
    }

    /// The statement that begins with this line, which was just read.
    fn statement(
        &mut self,
        first: &'a str,
        comments: Vec<String>,
    ) -> Result<Statement, ParseError> {
        let start = self.at;
        let escape = self.directives.directives.escape;
        let (head, mut more) = continuation(first, escape);
        let mut text = head.to_owned();
        let mut empty_continuation = false;
        while more {
            let Some(line) = self.next()? else { break };
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                empty_continuation = true;
                continue;
            }
            let (part, again) = continuation(line, escape);
            text.push_str(part);
            more = again;
        }
        let mut heredocs = announced(&text);
        for heredoc in &mut heredocs {
            self.fill(heredoc, start)?;
        }
        let lines = Lines {
            start,
            end: self.at,
        };
        Ok(Statement {
            text,
            lines,
            comments,
            heredocs,
            empty_continuation,
        })
    }

    fn fill(&mut self, heredoc: &mut Heredoc, start: usize) -> Result<(), ParseError> {
        while let Some(line) = self.raw()? {
            if heredoc.ends_at(without_line_end(line)) {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
        let lines = Lines {
            start,
            end: self.at,
        };
        Err(ParseError::at(lines, "unterminated heredoc"))
    }
}

fn without_line_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The line without its continuation mark, and whether it had one: an escape character before blanks at the end, with no
/// other right before it.
fn continuation(line: &str, escape: char) -> (&str, bool) {
    let Some(head) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    if head.ends_with(escape) {
        return (line, false);
    }
    (head, true)
}

/// The here-documents of a statement; only ADD, COPY and RUN have any, also behind ONBUILD, and not in exec form.
fn announced(text: &str) -> Vec<Heredoc> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let mut parts = split::parts(text);
    if parts.keyword.eq_ignore_ascii_case("ONBUILD") {
        parts = split::parts(parts.rest);
    }
    let takes = ["ADD", "COPY", "RUN"]
        .iter()
        .any(|keyword| parts.keyword.eq_ignore_ascii_case(keyword));
    if !takes || matches!(split::maybe_json(parts.rest), Ok(MaybeJson::List(_))) {
        return Vec::new();
    }
    heredoc::on_line(text)
}
