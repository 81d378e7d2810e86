//! Images on their way from and to registries, as far as the store is concerned: unpacking and checking what was fetched,
//! making it visible, and writing layers compressed. The composition root calls this; nothing here knows a network.

mod compress;
mod form;
mod pull;
mod push;

pub use compress::Compression as PushCompression;
pub use form::{Form, SeenForm};
pub use pull::{Incoming, Kept};
pub use push::{Outgoing, OutgoingLayer};
