//! What a verb is: its place in the tree, its usage, its flags, and the function that runs it.

use std::future::Future;
use std::pin::Pin;

use crate::app::App;
use crate::error::Result;
use crate::flags::{FlagTables, Parsed};

/// The running verb: its exit code, or a failure.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result> + 'a>>;

/// How many arguments a verb takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// None at all.
    None,
    /// So many.
    Exact(usize),
    /// So many or more.
    AtLeast(usize),
    /// So many or fewer.
    AtMost(usize),
    /// Between two numbers.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// One verb.
pub struct Command {
    /// The word that calls it inside its group: `ls`.
    pub name: &'static str,
    /// Other words for it inside its group.
    pub other_names: &'static [&'static str],
    /// The word that calls it without its group, if there is one: `ps`.
    pub top: Option<&'static str>,
    /// One line of help.
    pub about: &'static str,
    /// What follows the verb in usage lines.
    pub usage: &'static str,
    /// The ways to call it as help lists them, without the program's name; empty when there is but one.
    pub aliases: &'static [&'static str],
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// Its flags.
    pub flags: FlagTables,
    /// Whether flags may follow arguments.
    pub interspersed: bool,
    /// Runs it.
    pub run: for<'a> fn(&'a App, Invocation) -> Running<'a>,
}

/// A verb that is being called.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The words it was called by, with the program: `docker container run`.
    pub path: String,
    /// Its flags and arguments.
    pub args: Parsed,
}

/// Verbs below one noun.
pub struct Group {
    /// The noun.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Its verbs.
    pub commands: &'static [&'static Command],
    /// Whether it stands among the management commands of the top-level help.
    pub listed: bool,
}

impl Arguments {
    /// Checks a number of arguments.
    ///
    /// # Errors
    /// The text behind the verb's name, and whether the hint says "See" instead of "Run".
    pub fn check(self, given: usize) -> std::result::Result<(), (String, bool)> {
        let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
        match self {
            Self::None if given > 0 => Err(("accepts no arguments".into(), false)),
            Self::Exact(count) if given != count => {
                Err((format!("requires {count} {}", plural(count)), false))
            }
            Self::AtLeast(count) if given < count => {
                Err((format!("requires at least {count} {}", plural(count)), true))
            }
            Self::AtMost(count) if given > count => {
                Err((format!("requires at most {count} {}", plural(count)), false))
            }
            Self::Between(low, high) if given < low || given > high => Err((
                format!(
                    "requires at least {low} and at most {high} {}",
                    plural(high)
                ),
                false,
            )),
            _ => Ok(()),
        }
    }
}
