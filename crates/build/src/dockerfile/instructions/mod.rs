//! From a statement to a typed instruction: one file per family, each checking flags and arguments as BuildKit does.

mod from;
mod healthcheck;
mod metadata;
mod run;
mod transfer;

use super::directive::Directives;
use super::error::ParseError;
use super::flags::{Flags, Takes};
use super::heredoc::Heredoc;
use super::instruction::{CommandLine, Instruction, KEYWORDS, Kind};
use super::reader::Statement;
use super::split::{self, MaybeJson};
use super::suggest;

/// What an instruction is made from.
struct Request<'a> {
    keyword: &'a str,
    flags: Vec<String>,
    rest: &'a str,
    heredocs: &'a [Heredoc],
    comments: &'a [String],
    directives: &'a Directives,
}

/// Types a statement.
///
/// # Errors
/// An unknown keyword or flag, or arguments that the instruction does not take.
pub fn instruction(
    statement: &Statement,
    directives: &Directives,
) -> Result<Instruction, ParseError> {
    let parts = split::parts(&statement.text);
    let request = Request {
        keyword: parts.keyword,
        flags: parts.flags,
        rest: parts.rest,
        heredocs: &statement.heredocs,
        comments: &statement.comments,
        directives,
    };
    let kind = kind(&request).map_err(|message| ParseError::at(statement.lines, message))?;
    Ok(Instruction {
        keyword: parts.keyword.to_owned(),
        kind,
        text: statement.text.trim().to_owned(),
        lines: statement.lines,
        file: None,
        comments: statement.comments.clone(),
        empty_continuation: statement.empty_continuation,
    })
}

fn kind(request: &Request<'_>) -> Result<Kind, String> {
    match request.keyword.to_ascii_uppercase().as_str() {
        "ADD" => transfer::add(request).map(Kind::Add),
        "ARG" => metadata::arg(request).map(Kind::Arg),
        "CMD" => {
            request.no_flags()?;
            request.command().map(Kind::Cmd)
        }
        "COPY" => transfer::copy(request).map(Kind::Copy),
        "ENTRYPOINT" => {
            request.no_flags()?;
            request.command().map(Kind::Entrypoint)
        }
        "ENV" => request.pairs("ENV").map(Kind::Env),
        "EXPOSE" => metadata::expose(request).map(Kind::Expose),
        "FROM" => from::from(request).map(Kind::From),
        "HEALTHCHECK" => healthcheck::healthcheck(request).map(Kind::Healthcheck),
        "LABEL" => request.pairs("LABEL").map(Kind::Label),
        "MAINTAINER" => request.one("MAINTAINER").map(Kind::Maintainer),
        "ONBUILD" => metadata::onbuild(request).map(Kind::Onbuild),
        "RUN" => run::run(request).map(Kind::Run),
        "SHELL" => metadata::shell(request).map(Kind::Shell),
        "STOPSIGNAL" => request.one("STOPSIGNAL").map(Kind::StopSignal),
        "USER" => request.one("USER").map(Kind::User),
        "VOLUME" => metadata::volume(request).map(Kind::Volume),
        "WORKDIR" => request.one("WORKDIR").map(Kind::Workdir),
        _ => {
            let hint = suggest::hint(request.keyword, KEYWORDS);
            Err(format!("unknown instruction: {}{hint}", request.keyword))
        }
    }
}

fn at_least_one(keyword: &str) -> String {
    format!("{keyword} requires at least one argument")
}

impl Request<'_> {
    fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Flags, String> {
        Flags::parse(&self.flags, known)
    }

    fn no_flags(&self) -> Result<(), String> {
        self.flags(&[]).map(drop)
    }

    /// The rest of the line as the one argument.
    fn one(&self, keyword: &str) -> Result<String, String> {
        if self.rest.is_empty() {
            return Err(format!("{keyword} requires exactly one argument"));
        }
        self.no_flags()?;
        Ok(self.rest.to_owned())
    }

    /// Words of a JSON array, or those between blanks.
    fn list(&self) -> Result<Vec<String>, String> {
        Ok(match split::maybe_json(self.rest)? {
            MaybeJson::List(words) => words,
            MaybeJson::Text => split::blank_separated(self.rest),
        })
    }

    fn pairs(&self, keyword: &str) -> Result<Vec<split::Pair>, String> {
        self.no_flags()?;
        let pairs = split::pairs(self.rest, keyword, self.directives.escape)?;
        if pairs.is_empty() {
            return Err(at_least_one(keyword));
        }
        if pairs.iter().any(|pair| pair.name.is_empty()) {
            return Err(format!("{keyword} names can not be blank"));
        }
        Ok(pairs)
    }

    /// A command in exec or shell form; it may be empty.
    fn command(&self) -> Result<CommandLine, String> {
        command_line(self.rest, self.heredocs)
    }

    /// What the comment above says of a name: `# name text`.
    fn description(&self, name: &str) -> Option<String> {
        self.comments
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(str::to_owned)
    }
}

fn command_line(rest: &str, heredocs: &[Heredoc]) -> Result<CommandLine, String> {
    let (words, shell) = match split::maybe_json(rest)? {
        MaybeJson::List(words) => (words, false),
        MaybeJson::Text if rest.is_empty() => (Vec::new(), true),
        MaybeJson::Text => (vec![rest.to_owned()], true),
    };
    Ok(CommandLine {
        words,
        shell,
        heredocs: heredocs.to_vec(),
    })
}
