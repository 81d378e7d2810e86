//! `INCLUDE path`, an extra: the instructions of another file take its place and see the same arguments.

use super::directive::Directives;
use super::error::ParseError;
use super::instruction::Instruction;
use super::reader::{self, Statement};
use super::{instructions, split};

/// Reads a file that INCLUDE names; the text of the failure is shown to the user.
pub type Loader<'a> = &'a mut dyn FnMut(&str) -> Result<String, String>;

/// Files within files.
const DEPTH: usize = 16;
/// Files in all.
const FILES: usize = 256;

pub(super) struct Expander<'a> {
    pub directives: Directives,
    pub load: Loader<'a>,
    pub files: usize,
}

impl Expander<'_> {
    /// Types statements, with those of included files in their place.
    pub fn instructions(
        &mut self,
        statements: &[Statement],
        depth: usize,
    ) -> Result<Vec<Instruction>, ParseError> {
        let mut found = Vec::with_capacity(statements.len());
        for statement in statements {
            let parts = split::parts(&statement.text);
            if self.directives.extras.include && parts.keyword.eq_ignore_ascii_case("INCLUDE") {
                found.extend(self.included(statement, parts.rest, depth)?);
            } else {
                found.push(instructions::instruction(statement, &self.directives)?);
            }
        }
        Ok(found)
    }

    fn included(
        &mut self,
        statement: &Statement,
        path: &str,
        depth: usize,
    ) -> Result<Vec<Instruction>, ParseError> {
        let bad = |message: String| ParseError::at(statement.lines, message);
        if path.is_empty() {
            return Err(bad("INCLUDE requires exactly one argument".to_owned()));
        }
        self.files += 1;
        if depth >= DEPTH || self.files > FILES {
            return Err(bad(format!("too many files are included by {path}")));
        }
        let text = (self.load)(path).map_err(|reason| bad(format!("INCLUDE {path}: {reason}")))?;
        let inside = |error: ParseError| error.in_file(path);
        let mut read = reader::statements_with(&text, self.directives.escape).map_err(inside)?;
        read.statements
            .retain(|statement| !statement.text.is_empty());
        let mut found = self
            .instructions(&read.statements, depth + 1)
            .map_err(inside)?;
        for instruction in &mut found {
            instruction.file.get_or_insert_with(|| path.to_owned());
        }
        Ok(found)
    }
}
