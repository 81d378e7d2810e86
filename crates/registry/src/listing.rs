//! Lists in pages: tags and repositories (end-8, and Docker's catalog). A page is cut from ordered maps; `n` is bounded, so that
//! no request makes an answer of any size (CVE-2023-2253).

use std::ops::Bound;
use std::sync::Arc;

use http::{StatusCode, header};
use serde_json::json;

use super::auth::Action;
use super::call::Call;
use super::error::{ErrorCode, RegistryError};
use super::name::RepositoryName;
use super::registry::Registry;
use super::reply::{self, Result};

/// Names on a page at most.
pub const MAX_TAGS: usize = 10_000;
/// Repositories on a page at most.
pub const MAX_REPOSITORIES: usize = 1000;

/// GET `/v2/<name>/tags/list`.
///
/// # Errors
/// `NAME_UNKNOWN`; `PAGINATION_NUMBER_INVALID`.
pub async fn tags(registry: &Arc<Registry>, call: Call, name: RepositoryName) -> Result {
    let limit = page_size(&call, MAX_TAGS)?;
    let after = after(&call);
    if let Some(tags) = registry.proxy.tags(&name).await {
        let later = tags.into_iter().filter(|tag| match after {
            Bound::Excluded(last) => tag.as_str() > last,
            _ => true,
        });
        return tag_page(&name, later.take(limit.saturating_add(1)).collect(), limit);
    }
    let listed = registry.store.read(|index| {
        let repository = index.repository(&name)?;
        let tags = repository.tags.range::<str, _>((after, Bound::Unbounded));
        let page: Vec<String> = tags
            .take(limit.saturating_add(1))
            .map(|(tag, _)| tag.to_string())
            .collect();
        Some(page)
    });
    let page = listed.ok_or_else(|| RegistryError::name_unknown(name.as_str()))?;
    tag_page(&name, page, limit)
}

fn tag_page(name: &RepositoryName, page: Vec<String>, limit: usize) -> Result {
    let (page, more) = cut(page, limit);
    let link = more.map(|last| next(&format!("/v2/{name}/tags/list"), &last, limit));
    answer(&json!({"name": name.as_str(), "tags": page}), link)
}

/// GET `/v2/_catalog`: the repositories that the client may know of.
///
/// # Errors
/// `PAGINATION_NUMBER_INVALID`.
pub async fn catalog(registry: &Arc<Registry>, call: Call) -> Result {
    let limit = page_size(&call, MAX_REPOSITORIES)?;
    let after = after(&call);
    let page: Vec<String> = registry.store.read(|index| {
        let all = index
            .repositories
            .range::<str, _>((after, Bound::Unbounded));
        all.filter(|(name, _)| call.access.catalog() || call.access.allows(name, Action::Pull))
            .take(limit.saturating_add(1))
            .map(|(name, _)| name.to_string())
            .collect()
    });
    let (page, more) = cut(page, limit);
    let link = more.map(|last| next("/v2/_catalog", &last, limit));
    answer(&json!({"repositories": page}), link)
}

fn answer(document: &serde_json::Value, link: Option<String>) -> Result {
    let mut builder = reply::status(StatusCode::OK);
    if let Some(link) = link {
        builder = builder.header(header::LINK, link);
    }
    reply::json(builder, "application/json", document)
}

fn after(call: &Call) -> Bound<&str> {
    call.query
        .get("last")
        .filter(|last| !last.is_empty())
        .map_or(Bound::Unbounded, Bound::Excluded)
}

/// How many names the client wants, bounded.
fn page_size(call: &Call, max: usize) -> Result<usize> {
    let Some(text) = call.query.get("n").filter(|text| !text.is_empty()) else {
        return Ok(max);
    };
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(RegistryError::new(
            ErrorCode::PaginationNumberInvalid,
            "invalid number of results requested",
        )
        .with_detail(text));
    }
    // More digits than fit are more than there may be.
    Ok(text.parse::<usize>().map_or(max, |wanted| wanted.min(max)))
}

/// The page, and its last name when there is another page. A page of no names has none after it.
fn cut(mut page: Vec<String>, limit: usize) -> (Vec<String>, Option<String>) {
    let more = page.len() > limit;
    page.truncate(limit);
    let last = page.last().filter(|_| more).cloned();
    (page, last)
}

fn next(path: &str, last: &str, limit: usize) -> String {
    let query = serde_urlencoded::to_string([("last", last), ("n", &limit.to_string())]);
    format!("<{path}?{}>; rel=\"next\"", query.unwrap_or_default())
}
