//! `/build`, and the sessions of BuildKit clients.

use std::collections::BTreeMap;

use cais_types::api::Ulimit;
use cais_types::api::decode;
use cais_types::api::query::{BuildPruneQuery, BuildQuery, Filters};
use cais_types::{Error, Result};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::{not_built, registries};
use crate::reply::{self, Reply};
use crate::request::{Call, Query};
use crate::route::{Route, route};

/// The type of a body that begins with a list of the files of the context; only our own client sends such.
const LISTED: &str = "application/vnd.cais.contexts";

pub fn routes() -> Vec<Route> {
    vec![
        route!(POST "/build" => build),
        route!(POST "/build/cancel" => cancel),
        route!(POST "/build/prune" => prune),
        route!(GET "/cais/build/cache" => export_cache),
        route!(POST "/cais/build/cache" => import_cache),
        route!(POST "/session" => session),
        route!(POST "/grpc" => grpc),
    ]
}

async fn build(call: Call) -> Result<Reply> {
    let mut query = build_query(&call.query)?;
    query.auths = registries::credentials(&call);
    let content_type = call.headers.get(http::header::CONTENT_TYPE);
    query.listed = content_type.is_some_and(|kind| kind == LISTED);
    let builds = call.backends.builds.clone();
    Ok(reply::progress(builds.build(query, call.upload()).await?))
}

fn build_query(query: &Query) -> Result<BuildQuery> {
    let text = |name: &str| query.text(name).unwrap_or_default();
    let number = |name: &str| Ok::<i64, Error>(query.number(name)?.unwrap_or(0));
    if let Some(isolation) = query.text("isolation")
        && !matches!(isolation.as_str(), "" | "default")
    {
        return Err(Error::invalid(format!(
            "unsupported isolation: {isolation:?}"
        )));
    }
    let mut tags = query.all("t");
    tags.retain(|tag| !tag.is_empty());
    Ok(BuildQuery {
        dockerfile: text("dockerfile"),
        tags,
        remote: text("remote"),
        listed: false,
        contexts: json_of::<Option<BTreeMap<_, _>>>(query, "contexts")?.unwrap_or_default(),
        extra_hosts: extra_hosts(query),
        quiet: query.flag("q"),
        no_cache: query.flag("nocache"),
        rewrite_timestamp: query.flag("rewritetimestamp"),
        no_cache_filter: query.all("nocachefilter"),
        cache_from: json_of::<Option<Vec<String>>>(query, "cachefrom")?.unwrap_or_default(),
        cache_to: query.all("cacheto"),
        annotations: query.all("annotation"),
        build_id: text("buildid"),
        attest: query.all("attest"),
        pull: query.flag("pull"),
        remove: query.flag_or("rm", true),
        force_remove: query.flag("forcerm"),
        squash: query.flag("squash"),
        build_args: json_of::<Option<BTreeMap<_, _>>>(query, "buildargs")?.unwrap_or_default(),
        labels: json_of::<Option<BTreeMap<_, _>>>(query, "labels")?.unwrap_or_default(),
        target: text("target"),
        network: text("networkmode"),
        platform: text("platform"),
        outputs: text("outputs"),
        version: text("version"),
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        cgroup_parent: text("cgroupparent"),
        shm_size: number("shmsize")?,
        security_opt: query.all("securityopt"),
        ulimits: json_of::<Option<Vec<Ulimit>>>(query, "ulimits")?.unwrap_or_default(),
        session: text("session"),
        auths: BTreeMap::new(),
    })
}

/// Lines of `/etc/hosts`: several parameters, or several lines in one.
fn extra_hosts(query: &Query) -> Vec<String> {
    let hosts = query.all("extrahosts");
    let lines = hosts.iter().flat_map(|text| text.split([',', '\n']));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A parameter that holds JSON; an absent or empty one is the zero value.
fn json_of<T: DeserializeOwned + Default>(query: &Query, name: &str) -> Result<T> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else {
        return Ok(T::default());
    };
    decode::from_slice(text.as_bytes())
        .map_err(|error| Error::invalid(format!("error reading {name}: {error}")))
}

/// Ends a build that was given an id, as it does when its client goes. One that has ended is no error.
async fn cancel(call: Call) -> Result<Reply> {
    let id = call.query.text("id").unwrap_or_default();
    if id.is_empty() {
        return Err(Error::invalid("build ID not provided"));
    }
    call.backends.builds.cancel(&id);
    Ok(reply::empty(StatusCode::OK))
}

async fn grpc(_: Call) -> Result<Reply> {
    Err(not_built("the BuildKit protocol"))
}

/// The connection becomes one in which the daemon calls its client.
async fn session(call: Call) -> Result<Reply> {
    let text = |name| call.headers.get(name).and_then(|value| value.to_str().ok());
    let id = text("x-docker-expose-session-uuid").unwrap_or_default();
    if id.is_empty() {
        return Err(Error::invalid("a session has no id"));
    }
    if text("upgrade") != Some("h2c") {
        return Err(Error::invalid("a session has to become h2c"));
    }
    let hijack = call.backends.builds.session(id.to_owned()).await?;
    Ok(Reply::Hijack(hijack))
}

async fn export_cache(call: Call) -> Result<Reply> {
    let id = call.query.text("id").unwrap_or_default();
    let archive = call.backends.builds.export_cache(id).await?;
    Ok(reply::stream("application/x-tar", archive))
}

async fn import_cache(call: Call) -> Result<Reply> {
    let id = call.query.text("id").unwrap_or_default();
    let builds = call.backends.builds.clone();
    builds.import_cache(id, call.upload()).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn prune(call: Call) -> Result<Reply> {
    let size = |name: &str| Ok::<i64, Error>(call.query.number(name)?.unwrap_or(0));
    let query = BuildPruneQuery {
        all: call.query.flag("all"),
        filters: Filters::from_json(call.query.get("filters").unwrap_or_default())?,
        // The older name is the one of API 1.47 and before.
        reserved_space: size("reserved-space")?.max(size("keep-storage")?),
        max_used_space: size("max-used-space")?,
        min_free_space: size("min-free-space")?,
    };
    reply::json(&call.backends.builds.prune(query).await?)
}
