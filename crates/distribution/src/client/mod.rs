//! The registry client (distribution-spec 1.1): pull, push, authentication, mirrors.

pub mod store;
