//! Networks: addresses, bridges, sandboxes, published ports and the firewall rules behind them. Blocking, without helper
//! processes. Knows container ids, but nothing of containers or images.

mod admission;
mod bridge;
mod config;
pub mod dns;
mod drivers;
mod error;
pub mod files;
pub mod firewall;
pub mod ipam;
pub mod netlink;
pub mod nft;
pub mod ports;
mod store;
mod sysctl;
pub mod wire;

pub use config::{Config, PublishFirewall};
pub use error::NetworkError;
pub use store::{
    BridgeRecord, DnsWish, Driver, Endpoint, EndpointRecord, EndpointRequest, Facts, GatewayMode,
    Kept, Link, Live, NetworkRecord, NetworkRequest, NetworkState, ParentMode, ParentRecord, Pool,
    PoolRequest, PortBinding, PortRequest, Sandbox, SandboxRecord, SandboxRequest, Store,
};
