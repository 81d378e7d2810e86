//! `--format`: Go templates with Docker's functions, tables, and JSON. A listing verb describes its columns and gives its
//! rows ([`Listing`]); an inspecting verb gives raw answers ([`inspect`]).

mod json;
mod label;
mod listing;
mod structs;
mod template;

pub mod inspect;

pub use json::{KeyOrder, ordered_value};
pub use label::label;
pub use listing::{Column, Listing, Row};
pub use template::{Purpose, Template};
