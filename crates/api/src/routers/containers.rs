//! `/containers`, except exec.

use cais_types::api::query::{
    AttachQuery, ContainerListQuery, LogsQuery, RemoveQuery, StatsQuery, StopQuery, TtySize,
    WaitCondition,
};
use cais_types::api::{ContainerCreateRequest, ContainerUpdateRequest, FilesystemChange};
use cais_types::{Error, Result};
use http::{StatusCode, header};

use super::not_built;
use crate::backend::Changed;
use crate::compat;
use crate::reply::{self, Reply};
use crate::request::{Call, Query};
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/containers/json" => list),
        route!(POST "/containers/create" => create),
        route!(POST "/containers/prune" => prune),
        route!(GET "/containers/{id}/json" => inspect),
        route!(GET "/containers/{id}/top" => top),
        route!(GET "/containers/{id}/logs" => logs),
        route!(GET "/containers/{id}/changes" => changes),
        route!(GET "/containers/{id}/export" => export),
        route!(GET "/containers/{id}/stats" => stats),
        route!(GET "/containers/{id}/attach/ws" => attach_websocket),
        route!(POST "/containers/{id}/attach" => attach),
        route!(POST "/containers/{id}/resize" => resize),
        route!(POST "/containers/{id}/start" => start),
        route!(POST "/containers/{id}/stop" => stop),
        route!(POST "/containers/{id}/restart" => restart),
        route!(POST "/containers/{id}/kill" => kill),
        route!(POST "/containers/{id}/update" => update),
        route!(POST "/containers/{id}/rename" => rename),
        route!(POST "/containers/{id}/pause" => pause),
        route!(POST "/containers/{id}/unpause" => unpause),
        route!(POST "/containers/{id}/wait" => wait),
        route!(HEAD "/containers/{id}/archive" => archive),
        route!(GET "/containers/{id}/archive" => archive),
        route!(PUT "/containers/{id}/archive" => archive),
        route!(GET "/containers/{id}/checkpoints" => checkpoints),
        route!(POST "/containers/{id}/checkpoints" => checkpoints),
        route!(DELETE "/containers/{id}/checkpoints/{checkpoint}" => checkpoints),
        route!(DELETE "/containers/{id}" => remove),
    ]
}

async fn list(call: Call) -> Result<Reply> {
    let query = &call.query;
    let mut filters = query.filters()?;
    for name in ["since", "before"] {
        if let Some(container) = query.get(name) {
            filters.add(name, container);
        }
    }
    let query = ContainerListQuery {
        all: query.flag("all"),
        limit: query.number("limit")?.unwrap_or(0),
        size: query.flag("size"),
        filters,
    };
    let mut rows = call.backends.containers.list(query).await?;
    compat::container_list(call.version, &mut rows);
    reply::json(&rows)
}

async fn create(mut call: Call) -> Result<Reply> {
    let platform = call.platform()?;
    let request: Option<ContainerCreateRequest> = call.json_or_none().await?;
    let mut request = request
        .ok_or_else(|| Error::invalid("invalid JSON: got EOF while reading request body"))?;
    if request == ContainerCreateRequest::default() {
        return Err(Error::invalid(
            "config cannot be empty in order to create a container",
        ));
    }
    let warnings = compat::container_create(call.version, &mut request)?;
    let name = call.query.text("name");
    let mut response = call
        .backends
        .containers
        .create(name, platform, request)
        .await?;
    response.warnings.extend(warnings);
    reply::json_as(StatusCode::CREATED, &response)
}

async fn inspect(call: Call) -> Result<Reply> {
    let size = call.query.flag("size");
    let container = call.backends.containers.inspect(call.name(), size).await?;
    reply::json(&compat::container_inspect(call.version, container)?)
}

async fn top(call: Call) -> Result<Reply> {
    let arguments = call.query.text("ps_args");
    reply::json(&call.backends.containers.top(call.name(), arguments).await?)
}

async fn logs(call: Call) -> Result<Reply> {
    let query = logs_query(&call.query)?;
    if !query.stdout && !query.stderr {
        return Err(Error::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let logs = call.backends.containers.logs(call.name(), query).await?;
    let content_type = reply::output_type(logs.framing, call.version);
    Ok(reply::stream(content_type, logs.bytes))
}

fn logs_query(query: &Query) -> Result<LogsQuery> {
    Ok(LogsQuery {
        follow: query.flag("follow"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        since: query.time("since")?.filter(|since| *since > 0),
        until: query.time("until")?.filter(|until| *until > 0),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        // Docker takes anything that is no number for `all`.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
    })
}

async fn changes(call: Call) -> Result<Reply> {
    let changes: Option<Vec<FilesystemChange>> =
        call.backends.containers.changes(call.name()).await?;
    reply::json(&changes)
}

async fn export(call: Call) -> Result<Reply> {
    let archive = call.backends.containers.export(call.name()).await?;
    Ok(reply::stream("application/octet-stream", archive))
}

async fn stats(call: Call) -> Result<Reply> {
    let stream = call.query.flag_or("stream", true);
    let one_shot = !call.version.before(41) && call.query.flag("one-shot");
    if stream && one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let query = StatsQuery { stream, one_shot };
    let samples = call.backends.containers.stats(call.name(), query).await?;
    Ok(reply::json_stream(samples))
}

async fn attach(call: Call) -> Result<Reply> {
    let query = &call.query;
    let query = AttachQuery {
        detach_keys: query.text("detachKeys"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        raw: false,
    };
    let hijack = call.backends.containers.attach(call.name(), query).await?;
    Ok(Reply::Hijack(hijack))
}

async fn attach_websocket(call: Call) -> Result<Reply> {
    call.backends.containers.inspect(call.name(), false).await?;
    Err(not_built("attaching over a websocket"))
}

async fn resize(call: Call) -> Result<Reply> {
    let size = tty_size(&call.query)?;
    call.backends.containers.resize(call.name(), size).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// The `h` and `w` of a resize.
///
/// # Errors
/// Invalid: one is missing or no number of characters.
pub(super) fn tty_size(query: &Query) -> Result<TtySize> {
    let wanted = |name: &str, what: &str| {
        let number = query.number::<u16>(name).ok().flatten();
        number.ok_or_else(|| {
            let text = query.get(name).unwrap_or("");
            Error::invalid(format!("invalid resize {what} {text:?}: invalid syntax"))
        })
    };
    Ok(TtySize {
        height: wanted("h", "height")?,
        width: wanted("w", "width")?,
    })
}

async fn start(call: Call) -> Result<Reply> {
    // Of old, `{}` and `null` come along from clients that always send a body.
    let length = call.headers.get(header::CONTENT_LENGTH);
    let length: u64 = length
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    if length > 7 || call.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if call.query.get("checkpoint").is_some() {
        return Err(not_built("starting from a checkpoint"));
    }
    let keys = call.query.text("detachKeys");
    let changed = call.backends.containers.start(call.name(), keys).await?;
    Ok(changed_or_not(changed))
}

fn changed_or_not(changed: Changed) -> Reply {
    reply::empty(match changed {
        Changed::Changed => StatusCode::NO_CONTENT,
        Changed::Unchanged => StatusCode::NOT_MODIFIED,
    })
}

fn stop_query(call: &Call) -> Result<StopQuery> {
    let signal = call
        .query
        .text("signal")
        .filter(|_| !call.version.before(42));
    let timeout = call.query.number("t")?;
    Ok(StopQuery { signal, timeout })
}

async fn stop(call: Call) -> Result<Reply> {
    let query = stop_query(&call)?;
    let changed = call.backends.containers.stop(call.name(), query).await?;
    Ok(changed_or_not(changed))
}

async fn restart(call: Call) -> Result<Reply> {
    let query = stop_query(&call)?;
    call.backends.containers.restart(call.name(), query).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn kill(call: Call) -> Result<Reply> {
    let signal = call.query.text("signal");
    call.backends.containers.kill(call.name(), signal).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn update(mut call: Call) -> Result<Reply> {
    let request: ContainerUpdateRequest = call.json().await?;
    reply::json(
        &call
            .backends
            .containers
            .update(call.name(), request)
            .await?,
    )
}

async fn rename(call: Call) -> Result<Reply> {
    let new_name = call.query.get("name").unwrap_or("");
    call.backends
        .containers
        .rename(call.name(), new_name)
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn pause(call: Call) -> Result<Reply> {
    call.backends.containers.pause(call.name()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn unpause(call: Call) -> Result<Reply> {
    call.backends.containers.unpause(call.name()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// The status line goes out at once: clients wait for it before they start the container.
async fn wait(call: Call) -> Result<Reply> {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => {
            return Err(Error::invalid(format!("invalid condition: {other:?}")));
        }
    };
    let end = call
        .backends
        .containers
        .wait(call.name(), condition)
        .await?;
    let line = async move { reply::json_line(&end.await?) };
    Ok(reply::stream("application/json", reply::later(line)))
}

async fn remove(call: Call) -> Result<Reply> {
    let query = RemoveQuery {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    call.backends.containers.remove(call.name(), query).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    reply::json(&call.backends.containers.prune(filters).await?)
}

async fn archive(_: Call) -> Result<Reply> {
    Err(not_built("copying files from and to containers"))
}

async fn checkpoints(_: Call) -> Result<Reply> {
    Err(not_built("checkpointing containers"))
}
