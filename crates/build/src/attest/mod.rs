//! What is attested of a result: how it was built, and the packages that are in it.

pub mod options;
mod packages;
pub mod provenance;
mod sbom;

pub use options::Attestations;
pub use sbom::document as bill_of_materials;
