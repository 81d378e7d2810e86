//! What the engine answers besides changing containers: lists, samples, and the services of the rooms below joined with
//! containers and events.

pub mod filter;
pub mod images;
pub mod listing;
pub mod networks;
pub mod pipe;
pub mod registry;
pub mod stats;
pub mod system;
pub mod top;
pub mod volumes;
