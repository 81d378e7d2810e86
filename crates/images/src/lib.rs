//! Images: references, content, layers, snapshots and archives. Everything blocks; nothing here knows of containers beyond
//! the id a read/write layer is made for.
//!
//! Below the data root: `blobs/sha256/<hex>` holds configurations, `layers/<chain-id>/` unpacked layers, and
//! `containers/<id>/{upper,work}` the read/write layers. A compressed layer is not kept: it is made again from its files
//! and the record of the other bytes of its tar stream.

mod addition;
mod archive;
mod catalog;
mod check;
mod commit;
mod compression;
mod config;
mod content;
mod deletion;
mod durability;
mod error;
mod holder;
mod layers;
mod model;
mod placed;
mod repeat;
mod restore;
mod set;
mod side_hash;
mod snapshot;
mod squash;
mod store;
mod tarball;
mod transfer;
mod usage;

pub use archive::import::ImportRequest;
pub use archive::load::{LoadEvent, LoadedImage, Progress};
pub use archive::set::SetManifest;
pub use catalog::{DiskUsage, HistoryLine};
pub use check::{Checked, Fault, Finding};
pub use commit::{CommitRequest, ReadLayer};
pub use config::{HistoryRecord, ImageConfig};
pub use content::digest;
pub use deletion::{ImageUser, Pruned, RemoveOptions, Removed};
pub use error::{ImageError, TarError};
pub use holder::Holder;
pub use layers::changes::{Change, ChangeKind};
pub use layers::unpack::{Limits, UnpackedLayer};
pub use layers::upper::Upper;
pub use model::{Image, KeptManifest, NamedImage};
pub use snapshot::OverlayDirs;
pub use squash::SquashRequest;
pub use store::Store;
pub use tarball::export::{export, export_below};
pub use tarball::extract::{Totals, extract_into, is_archive};
pub use transfer::{Form, Incoming, Kept, Outgoing, OutgoingLayer, PushCompression, SeenForm};
pub use usage::GcPolicy;
