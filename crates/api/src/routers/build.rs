//! `/build`, and the sessions of BuildKit clients.

use cais_types::Result;
use serde_json::json;

use super::not_built;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(POST "/build" => build),
        route!(POST "/build/cancel" => build),
        route!(POST "/build/prune" => prune),
        route!(POST "/session" => session),
        route!(POST "/grpc" => session),
    ]
}

async fn build(_: Call) -> Result<Reply> {
    Err(not_built("building images"))
}

async fn session(_: Call) -> Result<Reply> {
    Err(not_built("the BuildKit protocol"))
}

/// There is no build cache, so that pruning it, as `docker system prune` does, has nothing to do.
async fn prune(_: Call) -> Result<Reply> {
    reply::json(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}
