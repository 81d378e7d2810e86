//! Blobs: is one there, get it or a part of it, take it from a repository (end-2, end-10).

use std::sync::Arc;

use cais_types::Digest;
use http::{HeaderMap, StatusCode, header};

use super::call::Call;
use super::error::{ErrorCode, RegistryError};
use super::file_body::{FileBody, read_part};
use super::name::RepositoryName;
use super::registry::Registry;
use super::reply::{self, Body, DOCKER_CONTENT_DIGEST, Result};
use super::store::Change;

/// Blobs up to this size are read at once.
const SMALL: u64 = 64 << 10;
/// Content under a digest never changes.
pub const FOREVER: &str = "max-age=31536000, immutable";

/// GET and HEAD. Asking for a blob also keeps it from collection for a while, because a push relies on the answer.
///
/// # Errors
/// `BLOB_UNKNOWN` when this repository has no right to it, whatever other repositories have.
pub async fn get(
    registry: &Arc<Registry>,
    call: Call,
    name: RepositoryName,
    digest: Digest,
) -> Result {
    let size = registry.store.read(|index| {
        index.link(&name, &digest).map(|link| {
            link.touched.touch();
            link.record.size
        })
    });
    let Some(size) = size else {
        if registry.proxy.owns(&name) {
            return registry.proxy.blob(registry, &call, name, digest).await;
        }
        return Err(RegistryError::blob_unknown(&digest));
    };
    let builder = reply::status(StatusCode::OK)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ETAG, format!("\"{digest}\""))
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, FOREVER)
        .header(DOCKER_CONTENT_DIGEST, digest.to_string());
    if not_modified(&call.headers, &digest) {
        return reply::finish(builder.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let part = part(&call.headers, &digest, size)?;
    let (start, end) = part.unwrap_or((0, size));
    let builder = match part {
        Some(_) => builder.status(StatusCode::PARTIAL_CONTENT).header(
            header::CONTENT_RANGE,
            format!("bytes {start}-{}/{size}", end - 1),
        ),
        None => builder,
    };
    if call.method == http::Method::HEAD {
        let builder = builder.header(header::CONTENT_LENGTH, end - start);
        return reply::finish(builder, Body::empty());
    }
    let body = open(registry, digest, start, end).await?;
    reply::finish(builder, body)
}

async fn open(registry: &Arc<Registry>, digest: Digest, start: u64, end: u64) -> Result<Body> {
    let registry = Arc::clone(registry);
    let opened = tokio::task::spawn_blocking(move || {
        let file = registry.store.open_blob(&digest)?;
        if end - start <= SMALL {
            return read_part(&file, start, end - start).map(|bytes| Body::Full(Some(bytes)));
        }
        Ok(Body::File(FileBody::new(file, start, end)))
    });
    match opened.await? {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(RegistryError::blob_unknown(&digest))
        }
        other => Ok(other?),
    }
}

/// DELETE: the repository's right to the blob goes; the file goes with the last right.
///
/// # Errors
/// 405 when deleting is off; `BLOB_UNKNOWN`.
pub async fn delete(
    registry: &Arc<Registry>,
    repository: RepositoryName,
    digest: Digest,
) -> Result {
    registry.may_delete()?;
    registry
        .store
        .change(Change::DeleteLink { repository, digest })
        .await?;
    let builder = reply::status(StatusCode::ACCEPTED).header(header::CONTENT_LENGTH, 0);
    reply::finish(
        builder.header(DOCKER_CONTENT_DIGEST, digest.to_string()),
        Body::empty(),
    )
}

/// Whether the client has this content already (RFC 9110, "If-None-Match").
pub fn not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    let tag = format!("\"{digest}\"");
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().trim_start_matches("W/"))
        .any(|value| value == "*" || value == tag || value == tag.trim_matches('"'))
}

/// The part that is asked for, first byte and the one after the last (RFC 9110, "Range"). Several parts at once, other units
/// and broken ranges count as the whole, as the RFC allows.
///
/// # Errors
/// 416: the part begins behind the end.
pub fn part(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Option<(u64, u64)>> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if text(header::IF_RANGE).is_some_and(|tag| tag != format!("\"{digest}\"")) {
        return Ok(None);
    }
    let Some((first, last)) = range.split_once('-') else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let wanted = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
        (Some(first), None) if last.trim().is_empty() => (first, size),
        (None, Some(count)) if first.trim().is_empty() => (size.saturating_sub(count), size),
        _ => return Ok(None),
    };
    if wanted.0 >= wanted.1 {
        return Err(
            RegistryError::new(ErrorCode::SizeInvalid, "invalid content range")
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(header::CONTENT_RANGE, format!("bytes */{size}")),
        );
    }
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let digest = Digest::from_bytes([1; 32]);
        let ask = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            part(&headers, &digest, 10).map_err(|error| error.status.as_u16())
        };
        assert_eq!(ask("bytes=0-3"), Ok(Some((0, 4))));
        assert_eq!(ask("bytes=4-"), Ok(Some((4, 10))));
        assert_eq!(ask("bytes=-3"), Ok(Some((7, 10))));
        assert_eq!(ask("bytes=5-18446744073709551615"), Ok(Some((5, 10))));
        assert_eq!(ask("bytes=10-"), Err(416));
        assert_eq!(ask("bytes=-0"), Err(416));
        for whole in ["bytes=3-1", "bytes=0-1,3-4", "lines=1-2", "bytes=x-"] {
            assert_eq!(ask(whole), Ok(None), "{whole}");
        }
    }
}
