//! What the API offers besides containers: images, registries, volumes, networks and the system, each joined with the
//! containers that use it and told as events; samples and process lists of containers. Knows nothing of HTTP; the rooms
//! below come in through traits.

pub mod images;
pub mod networks;
pub mod pipe;
pub mod registry;
pub mod stats;
pub mod system;
pub mod top;
pub mod volumes;
