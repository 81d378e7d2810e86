//! `/networks`.

use cais_types::api::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use cais_types::{Error, Result};
use http::StatusCode;

use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/networks" => list),
        route!(GET "/networks/" => list),
        route!(POST "/networks/create" => create),
        route!(POST "/networks/prune" => prune),
        route!(POST "/networks/{id}/connect" => connect),
        route!(POST "/networks/{id}/disconnect" => disconnect),
        route!(GET "/networks/{id}" => inspect),
        route!(DELETE "/networks/{id}" => remove),
    ]
}

async fn list(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    reply::json(&call.backends.networks.list(filters).await?)
}

async fn inspect(call: Call) -> Result<Reply> {
    let verbose = call.query.flag("verbose");
    let network = call.backends.networks.inspect(call.name(), verbose).await?;
    let scope = call.query.get("scope").unwrap_or_default();
    if !scope.is_empty() && scope != network.scope {
        let text = format!("network {} not found", call.name());
        return Err(Error::not_found(text));
    }
    reply::json(&network)
}

async fn create(mut call: Call) -> Result<Reply> {
    let mut request: NetworkCreateRequest = call.json().await?;
    if call.version.before(48) {
        request.enable_ipv4 = None;
    }
    let response = call.backends.networks.create(request).await?;
    reply::json_as(StatusCode::CREATED, &response)
}

async fn remove(call: Call) -> Result<Reply> {
    call.backends.networks.remove(call.name()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn connect(mut call: Call) -> Result<Reply> {
    let request: NetworkConnectRequest = call.json().await?;
    call.backends.networks.connect(call.name(), request).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn disconnect(mut call: Call) -> Result<Reply> {
    let request: NetworkDisconnectRequest = call.json().await?;
    call.backends
        .networks
        .disconnect(call.name(), request)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    reply::json(&call.backends.networks.prune(filters).await?)
}
