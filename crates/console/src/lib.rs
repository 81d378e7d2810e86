//! What command lines are made of: flags as Go's pflag reads them, tables, Go templates, progress, steps of builds, notes, terminals, signals
//! and streams. It knows the Engine API's client and no verb; verbs live in `cli`.

pub mod archive;
pub mod cell;
pub mod error;
pub mod flags;
pub mod format;
pub mod new_file;
pub mod note;
pub mod platform;
pub mod printer;
pub mod progress;
pub mod prompt;
pub mod signals;
pub mod stdin;
pub mod steps;
pub mod streams;
pub mod table;
pub mod terminal;
pub mod timestamp;
