//! `/containers/{id}/exec` and `/exec`.

use cais_types::api::{ExecCreateRequest, ExecStartRequest};
use cais_types::{Error, Result};
use http::StatusCode;

use super::containers::tty_size;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(POST "/containers/{id}/exec" => create),
        route!(POST "/exec/{id}/start" => start),
        route!(POST "/exec/{id}/resize" => resize),
        route!(GET "/exec/{id}/json" => inspect),
    ]
}

async fn create(mut call: Call) -> Result<Reply> {
    let mut request: ExecCreateRequest = call.json().await?;
    if request.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    if call.version.before(42) {
        request.console_size = None;
    }
    let response = call.backends.execs.create(call.name(), request).await?;
    reply::json_as(StatusCode::CREATED, &response)
}

async fn start(mut call: Call) -> Result<Reply> {
    let mut request: ExecStartRequest = call.json().await?;
    if call.version.before(42) {
        request.console_size = None;
    }
    if request.detach {
        call.backends.execs.start_detached(call.name()).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let hijack = call
        .backends
        .execs
        .start_attached(call.name(), request)
        .await?;
    Ok(Reply::Hijack(hijack))
}

async fn resize(call: Call) -> Result<Reply> {
    let size = tty_size(&call.query)?;
    call.backends.execs.resize(call.name(), size).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn inspect(call: Call) -> Result<Reply> {
    reply::json(&call.backends.execs.inspect(call.name()).await?)
}
