//! The routes, one file per noun.

mod build;
mod containers;
mod execs;
mod images;
mod networks;
mod plugins;
mod registries;
mod swarm;
mod system;
mod volumes;

use cais_types::Error;

use crate::route::Route;

/// Every route; of two that match a path the first one is meant.
pub fn all() -> Vec<Route> {
    let nouns = [
        system::routes(),
        containers::routes(),
        execs::routes(),
        registries::routes(),
        images::routes(),
        volumes::routes(),
        networks::routes(),
        build::routes(),
        plugins::routes(),
        swarm::routes(),
    ];
    nouns.into_iter().flatten().collect()
}

/// The error of something Docker has and cais has not.
fn not_built(what: &str) -> Error {
    Error::unsupported(format!("{what} is not supported by cais"))
}
