//! `/images`.

use cais_types::api::{
    HistoryItem, ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary,
};
use http::Method;

use super::options::ImportOptions;
use super::{Filters, filters_query};
use crate::answer::{Answer, ByteStream, JsonLines};
use crate::body::Body;
use crate::client::Client;
use crate::error::Result;
use crate::path::segment;

impl Client {
    /// `GET /images/json`.
    pub async fn image_list(
        &self,
        all: bool,
        filters: &Filters,
    ) -> Result<Answer<Vec<ImageSummary>>> {
        self.call(Method::GET, "/images/json")
            .query_flag("all", all)
            .query_opt("filters", filters_query(filters).as_deref())
            .answer()
            .await
    }

    /// `GET /images/{name}/json`.
    pub async fn image_inspect(&self, name: &str) -> Result<Answer<ImageInspect>> {
        self.call(Method::GET, format!("/images/{}/json", segment(name)))
            .answer()
            .await
    }

    /// `GET /images/{name}/history`.
    pub async fn image_history(&self, name: &str) -> Result<Answer<Vec<HistoryItem>>> {
        self.call(Method::GET, format!("/images/{}/history", segment(name)))
            .answer()
            .await
    }

    /// `POST /images/{name}/tag`.
    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        self.call(Method::POST, format!("/images/{}/tag", segment(name)))
            .query("repo", repo)
            .query_opt("tag", Some(tag).filter(|tag| !tag.is_empty()))
            .done()
            .await?;
        Ok(())
    }

    /// `DELETE /images/{name}`.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<ImageDeleteItem>> {
        self.call(Method::DELETE, format!("/images/{}", segment(name)))
            .query_flag("force", force)
            .query_flag("noprune", no_prune)
            .json()
            .await
    }

    /// `POST /images/prune`.
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagePruneResponse> {
        self.call(Method::POST, "/images/prune")
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }

    /// `POST /images/load`; progress documents.
    pub async fn image_load(&self, archive: Body, quiet: bool) -> Result<JsonLines> {
        let call = self
            .call(Method::POST, "/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .body("application/x-tar", archive);
        Ok(call.stream().await?.json_lines())
    }

    /// `GET /images/get`: a tar stream of these images.
    pub async fn image_save(&self, names: &[String]) -> Result<ByteStream> {
        let mut call = self.call(Method::GET, "/images/get");
        for name in names {
            call = call.query("names", name);
        }
        call.stream().await
    }

    /// `POST /images/create?fromSrc=`; progress documents.
    pub async fn image_import(&self, options: &ImportOptions, archive: Body) -> Result<JsonLines> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut call = self
            .call(Method::POST, "/images/create")
            .query("fromSrc", &options.source)
            .query_opt("repo", some(&options.repo).as_deref())
            .query_opt("tag", some(&options.tag).as_deref())
            .query_opt("message", some(&options.message).as_deref())
            .query_opt("platform", some(&options.platform).as_deref());
        for change in &options.changes {
            call = call.query("changes", change);
        }
        Ok(call
            .body("text/plain", archive)
            .stream()
            .await?
            .json_lines())
    }

    /// `POST /images/create?fromImage=`; progress documents. `registry_auth` is the `X-Registry-Auth` header.
    pub async fn image_pull(
        &self,
        image: &str,
        tag: &str,
        platform: Option<&str>,
        registry_auth: Option<&str>,
    ) -> Result<JsonLines> {
        let mut call = self
            .call(Method::POST, "/images/create")
            .query("fromImage", image)
            .query_opt("tag", Some(tag).filter(|tag| !tag.is_empty()))
            .query_opt("platform", platform);
        if let Some(auth) = registry_auth {
            call = call.header("X-Registry-Auth", auth);
        }
        Ok(call.stream().await?.json_lines())
    }
}
