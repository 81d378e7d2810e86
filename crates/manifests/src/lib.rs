//! Manifest lists that are put together on this machine before they are pushed: what is known of each manifest, where that
//! is kept, and the registries it comes from and goes to.

mod entry;
mod registry;
mod store;

pub use entry::{Entry, indented, list_document};
pub use registry::{Found, Registry};
pub use store::{ManifestStore, missing};

use cais_types::Reference;

use cais_console::error::{CliError, Result};

/// Reads the name of a manifest or of a list; one without tag and digest is `latest`.
///
/// # Errors
/// Docker's text for what is no name.
pub fn reference(text: &str) -> Result<Reference> {
    let reference: Reference = text
        .parse()
        .map_err(|error: cais_types::reference::ReferenceError| CliError::new(error.to_string()))?;
    Ok(reference.with_default_tag())
}
