//! Verbs about registries, called without a noun.

pub mod login;
pub mod logout;
pub mod search;
