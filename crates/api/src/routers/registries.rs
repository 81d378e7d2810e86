//! What goes to registries: pull, push, search, `/auth`, `/distribution`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cais_types::api::query::{PullQuery, PushQuery, SearchQuery};
use cais_types::api::{AuthConfig, decode};
use cais_types::oci::Platform;
use cais_types::{Error, Reference, Result};
use serde::de::DeserializeOwned;

use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

/// The header with the credentials, base64url-encoded JSON.
const AUTH_HEADER: &str = "x-registry-auth";

/// The same of a build: a map by registry.
const CONFIG_HEADER: &str = "x-registry-config";

/// Clients pad or not, and some use the other alphabet.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/images/search" => search),
        route!(POST "/images/{name}/push" => push),
        route!(GET "/distribution/{name}/json" => distribution),
        route!(POST "/auth" => login),
    ]
}

/// `POST /images/create?fromImage=`. A name without a tag stands for all of them, as clients that mean `-a` ask.
pub async fn pull(call: &Call, image: &str) -> Result<Reply> {
    // `pull -a` of old clients.
    let name: Reference = image.strip_suffix(':').unwrap_or(image).parse()?;
    let reference = match call.query.get("tag") {
        None => name,
        // A tag has no colon.
        Some(tag) if tag.contains(':') => name.with_digest(tag)?,
        Some(tag) => name.with_tag(tag)?,
    };
    let platform = match call.query.get("platform") {
        Some(text) if !call.version.before(32) => Some(platform(text)?),
        _ => None,
    };
    let query = PullQuery {
        reference,
        platform,
        auth: header(call),
        holder: None,
        // Only our own client asks for it.
        whole: call.query.flag("whole"),
    };
    Ok(reply::progress(call.backends.registries.pull(query).await?))
}

async fn push(mut call: Call) -> Result<Reply> {
    let name: Reference = call.name().parse()?;
    let reference = match call.query.get("tag") {
        None => name,
        Some(tag) => name.with_tag(tag)?,
    };
    let platform = match call.query.get("platform") {
        Some(text) if !call.version.before(46) => Some(platform(text)?),
        _ => None,
    };
    // Clients of old send the credentials in the body.
    let auth = match header(&call) {
        Some(auth) => Some(auth),
        None if call.headers.contains_key(AUTH_HEADER) => None,
        None => call.json_or_none().await?,
    };
    let query = PushQuery {
        reference,
        platform,
        auth,
    };
    Ok(reply::progress(call.backends.registries.push(query).await?))
}

async fn search(call: Call) -> Result<Reply> {
    let query = SearchQuery {
        term: call.query.text("term").unwrap_or_default(),
        limit: call.query.number("limit")?,
        filters: call.query.filters()?,
        auth: header(&call),
    };
    reply::json(&call.backends.registries.search(query).await?)
}

async fn distribution(call: Call) -> Result<Reply> {
    let registries = &call.backends.registries;
    reply::json(&registries.distribution(call.name(), header(&call)).await?)
}

async fn login(mut call: Call) -> Result<Reply> {
    let auth: AuthConfig = call.json().await?;
    reply::json(&call.backends.registries.login(auth).await?)
}

/// The credentials of the header; what cannot be read counts as none, as in Docker.
fn header(call: &Call) -> Option<AuthConfig> {
    encoded(call, AUTH_HEADER)
}

/// The credentials of a build, by registry.
pub fn credentials(call: &Call) -> BTreeMap<String, AuthConfig> {
    encoded(call, CONFIG_HEADER).unwrap_or_default()
}

/// A header of base64url-encoded JSON.
fn encoded<T: DeserializeOwned>(call: &Call, name: &str) -> Option<T> {
    let text = call.headers.get(name)?.to_str().ok()?.trim();
    let alphabets = [base64::alphabet::URL_SAFE, base64::alphabet::STANDARD];
    let mut decoded = alphabets
        .iter()
        .filter_map(|alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text).ok());
    decode::from_slice(&decoded.next()?).ok()
}

/// `linux/arm64/v8`, or JSON of an OCI platform.
fn platform(text: &str) -> Result<Platform> {
    if text.starts_with('{') {
        let platform: Platform = decode::from_slice(text.as_bytes())
            .map_err(|error| Error::invalid(format!("invalid platform: {error}")))?;
        return Ok(platform.normalized());
    }
    text.parse()
        .map_err(|error: cais_types::oci::PlatformError| {
            Error::invalid(error.to_string()).with_source(error)
        })
}
