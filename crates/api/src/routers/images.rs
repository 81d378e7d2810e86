//! `/images`.

use cais_types::api::query::{CommitQuery, ImageListQuery, ImageRemoveQuery, ImportQuery};
use cais_types::api::{ContainerConfig, IdResponse};
use cais_types::oci::Platform;
use cais_types::{Error, Result};
use http::StatusCode;

use crate::compat;
use crate::reply::{self, Reply};
use crate::request::Call;
use crate::route::{Route, route};

pub fn routes() -> Vec<Route> {
    vec![
        route!(GET "/images/json" => list),
        route!(GET "/images/get" => save),
        route!(POST "/images/create" => create),
        route!(POST "/images/load" => load),
        route!(POST "/images/prune" => prune),
        route!(GET "/images/{name}/get" => save),
        route!(GET "/images/{name}/history" => history),
        route!(GET "/images/{name}/json" => inspect),
        route!(POST "/images/{name}/tag" => tag),
        route!(DELETE "/images/{name}" => remove),
        route!(GET "/cais/images/{name}/tree" => tree),
        route!(POST "/commit" => commit),
    ]
}

async fn list(call: Call) -> Result<Reply> {
    let mut filters = call.query.filters()?;
    if let Some(reference) = call.query.get("filter").filter(|_| call.version.before(41)) {
        filters.add("reference", reference);
    }
    let query = ImageListQuery {
        all: call.query.flag("all"),
        filters,
        shared_size: call.query.flag("shared-size"),
        digests: call.query.flag("digests"),
        manifests: call.query.flag("manifests"),
    };
    let mut images = call.backends.images.list(query).await?;
    compat::image_list(call.version, &mut images);
    reply::json(&images)
}

async fn inspect(call: Call) -> Result<Reply> {
    let platform = call.platform()?;
    if platform.is_some() && call.query.flag("manifests") {
        let text = "conflicting options: manifests and platform options cannot both be set";
        return Err(Error::invalid(text));
    }
    let image = call.backends.images.inspect(call.name(), platform).await?;
    reply::json(&compat::image_inspect(call.version, image)?)
}

async fn history(call: Call) -> Result<Reply> {
    let platform = call.platform()?;
    reply::json(&call.backends.images.history(call.name(), platform).await?)
}

async fn tag(call: Call) -> Result<Reply> {
    let repo = call.query.get("repo").unwrap_or("");
    let tag = call.query.get("tag").unwrap_or("");
    call.backends.images.tag(call.name(), repo, tag).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Result<Reply> {
    let query = ImageRemoveQuery {
        force: call.query.flag("force"),
        no_prune: call.query.flag("noprune"),
        platforms: call.platforms("platforms")?,
        // Only our own client asks for it.
        untag: call.query.flag("untag"),
    };
    reply::json(&call.backends.images.remove(call.name(), query).await?)
}

async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    reply::json(&call.backends.images.prune(filters).await?)
}

/// Archives are of one platform.
fn single_platform(call: &Call) -> Result<Option<Platform>> {
    let mut platforms = call.platforms("platform")?;
    if platforms.len() > 1 {
        return Err(Error::invalid("multiple platform parameters not supported"));
    }
    Ok(platforms.pop())
}

async fn load(call: Call) -> Result<Reply> {
    let platform = single_platform(&call)?;
    let quiet = call.query.flag_or("quiet", true);
    let images = call.backends.images.clone();
    let progress = images.load(call.upload(), quiet, platform).await?;
    Ok(reply::progress(progress))
}

async fn save(call: Call) -> Result<Reply> {
    let platform = single_platform(&call)?;
    let names = match call.params.first() {
        Some(name) => vec![name.clone()],
        None => call.query.all("names"),
    };
    let archive = call.backends.images.save(names, platform).await?;
    Ok(reply::stream("application/x-tar", archive))
}

async fn tree(call: Call) -> Result<Reply> {
    let name = call.name().to_owned();
    let directory = call.query.text("directory").unwrap_or_default();
    let archive = call.backends.images.tree(name, directory).await?;
    Ok(reply::stream("application/x-tar", archive))
}

async fn create(call: Call) -> Result<Reply> {
    if let Some(image) = call.query.text("fromImage") {
        return super::registries::pull(&call, &image).await;
    }
    let text = |name: &str| call.query.text(name).unwrap_or_default();
    let query = ImportQuery {
        source: text("fromSrc"),
        repo: text("repo"),
        tag: text("tag"),
        message: text("message"),
        changes: call.query.all("changes"),
        platform: text("platform"),
    };
    if query.source.is_empty() {
        return Err(Error::invalid("fromImage or fromSrc must be given"));
    }
    let images = call.backends.images.clone();
    Ok(reply::progress(images.import(query, call.upload()).await?))
}

async fn commit(mut call: Call) -> Result<Reply> {
    let config = call.json_or_none::<Option<ContainerConfig>>().await?;
    let text = |name: &str| call.query.text(name).unwrap_or_default();
    let query = CommitQuery {
        container: text("container"),
        repo: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        pause: call.query.get("pause").is_none() || call.query.flag("pause"),
        changes: call.query.all("changes"),
    };
    let images = call.backends.images.clone();
    let id = images.commit(query, config.flatten()).await?;
    reply::json_as(StatusCode::CREATED, &IdResponse { id })
}
