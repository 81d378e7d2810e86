//! COPY and ADD: which files are meant, what they are as one digest, and putting them into a tree. Every path is resolved
//! below the root it belongs to.

pub mod adopt;
pub mod collect;
pub mod context;
pub mod digest;
pub mod mode;
pub mod owner;
pub mod place;
