//! `/volumes`.

use cais_types::Result;
use cais_types::api::VolumeCreateRequest;
use http::StatusCode;

use super::not_built;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/volumes" => list),
        route!(POST "/volumes/create" => create),
        route!(POST "/volumes/prune" => prune),
        route!(GET "/volumes/{name}" => inspect),
        route!(PUT "/volumes/{name}" => update),
        route!(DELETE "/volumes/{name}" => remove),
    ]
}

async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    reply::json(&call.backends.volumes.list(filters).await?)
}

async fn create(mut call: Call) -> Result<Reply> {
    let request: VolumeCreateRequest = call.json().await?;
    if request.cluster_volume_spec.is_some() {
        return Err(not_built("cluster volumes"));
    }
    let volume = call.backends.volumes.create(request).await?;
    reply::json_as(StatusCode::CREATED, &volume)
}

async fn inspect(call: Call) -> Result<Reply> {
    reply::json(&call.backends.volumes.inspect(call.name()).await?)
}

async fn remove(call: Call) -> Result<Reply> {
    let force = call.query.flag("force");
    call.backends.volumes.remove(call.name(), force).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Before 1.42 named volumes were pruned as well.
async fn prune(call: Call) -> Result<Reply> {
    let mut filters = call.query.filters()?;
    if call.version.before(42) {
        filters.add("all", "true");
    }
    reply::json(&call.backends.volumes.prune(filters).await?)
}

async fn update(_: Call) -> Result<Reply> {
    Err(not_built("updating cluster volumes"))
}
