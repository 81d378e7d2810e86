//! What is attested of a result: how it was built, the packages that are in it, and whatever else is said of it.

mod annotations;
pub mod generator;
pub mod options;
mod packages;
pub mod provenance;
mod sbom;

pub use annotations::Annotations;
pub use options::{Attestations, Sbom};
pub use sbom::document as bill_of_materials;
