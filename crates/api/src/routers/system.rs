//! `/_ping`, `/info`, `/version`, `/events` and `/system/df`.

use bytes::Bytes;
use cais_types::api::query::EventsQuery;
use cais_types::{Error, Result};
use http::{HeaderValue, StatusCode};

use crate::compat;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/_ping" => ping),
        route!(HEAD "/_ping" => ping),
        route!(GET "/info" => info),
        route!(GET "/version" => version),
        route!(GET "/events" => events),
        route!(GET "/system/df" => disk_usage),
        route!(POST "/cais/system/check" => check),
    ]
}

async fn ping(_: Call) -> Result<Reply> {
    let ok = Bytes::from_static(b"OK");
    let mut response = reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", ok);
    let headers = [
        // The classic builder: BuildKit would make clients ask for a session.
        ("builder-version", "1"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(Reply::Http(response))
}

async fn info(call: Call) -> Result<Reply> {
    reply::json(&compat::info(
        call.version,
        call.backends.system.info().await?,
    )?)
}

async fn version(call: Call) -> Result<Reply> {
    reply::json(&call.backends.system.version().await?)
}

async fn events(call: Call) -> Result<Reply> {
    let (since, until) = (call.query.time("since")?, call.query.time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Error::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let filters = call.query.filters()?;
    let query = EventsQuery {
        since,
        until,
        filters,
    };
    Ok(reply::json_stream(
        call.backends.system.events(query).await?,
    ))
}

async fn disk_usage(call: Call) -> Result<Reply> {
    let types = if call.version.before(42) {
        Vec::new()
    } else {
        call.query.all("type")
    };
    let known = ["container", "image", "volume", "build-cache"];
    if let Some(odd) = types.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Error::invalid(format!("unknown object type: {odd}")));
    }
    let mut usage = call.backends.system.disk_usage(types).await?;
    compat::image_list(
        call.version,
        usage.images.as_deref_mut().unwrap_or_default(),
    );
    reply::json(&usage)
}

/// Looks whether the image store is whole; a route of cais' own.
async fn check(call: Call) -> Result<Reply> {
    let repair = call.query.flag("repair");
    Ok(reply::progress(call.backends.images.check(repair).await?))
}
