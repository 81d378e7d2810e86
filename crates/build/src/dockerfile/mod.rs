//! The Dockerfile language, pure: from bytes to typed instructions in stages, the expansion of variables, the rules of
//! arguments, ignore files and the checks of `--check`. No IO, no clock, and no input makes it panic.

pub mod buildkit_args;
pub mod command;
pub mod context_source;
pub mod directive;
pub mod error;
pub mod git_ref;
pub mod heredoc;
pub mod ignore;
pub mod include;
pub mod instruction;
pub mod lexer;
pub mod lint;
pub mod mount;
pub mod outline;
pub mod path_pattern;
pub mod platform;
pub mod reader;
pub mod scope;
pub mod source;
pub mod stages;
pub mod suggest;

mod flags;
mod instructions;
mod pattern;
mod split;

pub use error::ParseError;
pub use instruction::{Instruction, Kind};
pub use instructions::instruction;
pub use mount::{Mount, MountType, Sharing};
pub use source::{Lines, Source};
pub use stages::{Dockerfile, Stage};
