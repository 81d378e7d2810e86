//! Named volumes of the local driver: `volumes/<name>/_data` below the data root, who uses them, and filling an empty
//! one from an image. Everything blocks; nothing here knows of containers beyond their ids.

mod copy;
mod error;
mod mounts;
mod store;
mod volume;

pub use copy::copy_tree;
pub use error::VolumeError;
pub use store::{Pruned, Store, Usage};
pub use volume::{ListFilter, Volume, VolumeRequest};
