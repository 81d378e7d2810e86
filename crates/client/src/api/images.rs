//! `/images`, `/commit` and `/auth`.

use cais_types::api::{
    HistoryItem, ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary,
};
use cais_types::oci::Platform;
use http::Method;
use serde::Deserialize;

use super::options::{
    CommitOptions, ImageRemoveOptions, ImportOptions, PullOptions, PushOptions, SearchOptions,
};
use super::{Filters, filters_query};
use crate::answer::{Answer, ByteStream, JsonLines};
use crate::body::Body;
use crate::client::Client;
use crate::credentials::AuthConfig;
use crate::error::Result;
use crate::path::segment;

const REGISTRY_AUTH: &str = "X-Registry-Auth";

/// The answer of `POST /auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LoginResponse {
    /// What the user is told.
    pub status: String,
    /// Stands for the password from now on, if not empty.
    pub identity_token: String,
}

/// One answer of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub name: String,
    pub description: String,
    pub star_count: i64,
    pub is_official: bool,
}

/// A platform as the API takes it.
fn platform_query(platform: &Platform) -> String {
    serde_json::to_string(platform).unwrap_or_default()
}

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

    /// `GET /images/json?manifests=1`: with the manifests of each image, as raw JSON.
    pub async fn image_list_manifests(
        &self,
        all: bool,
        filters: &Filters,
    ) -> Result<Vec<serde_json::Value>> {
        self.call(Method::GET, "/images/json")
            .query_flag("all", all)
            .query_opt("filters", filters_query(filters).as_deref())
            .query("manifests", "1")
            .json()
            .await
    }

    /// `GET /images/{name}/json`.
    pub async fn image_inspect(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Answer<ImageInspect>> {
        self.call(Method::GET, format!("/images/{}/json", segment(name)))
            .query_opt("platform", platform.map(platform_query).as_deref())
            .answer()
            .await
    }

    /// `GET /images/{name}/history`.
    pub async fn image_history(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Answer<Vec<HistoryItem>>> {
        self.call(Method::GET, format!("/images/{}/history", segment(name)))
            .query_opt("platform", platform.map(platform_query).as_deref())
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
        options: &ImageRemoveOptions,
    ) -> Result<Vec<ImageDeleteItem>> {
        let mut call = self
            .call(Method::DELETE, format!("/images/{}", segment(name)))
            .query_flag("force", options.force)
            .query_flag("noprune", options.no_prune)
            .query_flag("untag", options.untag);
        for platform in &options.platforms {
            call = call.query("platforms", &platform_query(platform));
        }
        call.json().await
    }

    /// `POST /images/prune`.
    pub async fn image_prune(&self, filters: &Filters) -> Result<ImagePruneResponse> {
        self.call(Method::POST, "/images/prune")
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }

    /// `POST /images/load`; progress documents.
    pub async fn image_load(
        &self,
        archive: Body,
        quiet: bool,
        platform: Option<&Platform>,
    ) -> Result<JsonLines> {
        let call = self
            .call(Method::POST, "/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .query_opt("platform", platform.map(platform_query).as_deref())
            .body("application/x-tar", archive);
        Ok(call.stream().await?.json_lines())
    }

    /// `GET /images/get`: a tar stream of these images.
    pub async fn image_save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<ByteStream> {
        let mut call = self.call(Method::GET, "/images/get");
        for name in names {
            call = call.query("names", name);
        }
        call.query_opt("platform", platform.map(platform_query).as_deref())
            .stream()
            .await
    }

    /// `GET /cais/images/{name}/tree`: the image's file system as a tar stream, below a directory if one is named; only cais
    /// has it.
    pub async fn image_tree(&self, name: &str, directory: Option<&str>) -> Result<ByteStream> {
        let path = format!("/cais/images/{}/tree", crate::path::segment(name));
        let call = self.call(Method::GET, &path);
        call.query_opt("directory", directory).stream().await
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

    /// `POST /images/create?fromImage=`; progress documents.
    pub async fn image_pull(&self, options: &PullOptions) -> Result<JsonLines> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let call = self
            .call(Method::POST, "/images/create")
            .query("fromImage", &options.repository)
            .query_opt("tag", some(&options.tag).as_deref())
            .query_opt("platform", some(&options.platform).as_deref())
            .query_flag("whole", options.whole)
            .header(REGISTRY_AUTH, options.registry_auth.as_str());
        Ok(call.stream().await?.json_lines())
    }

    /// `POST /images/{name}/push`; progress documents.
    pub async fn image_push(&self, options: &PushOptions) -> Result<JsonLines> {
        let path = format!("/images/{}/push", segment(&options.repository));
        let platform = options.platform.as_ref().map(platform_query);
        let call = self
            .call(Method::POST, path)
            .query_opt(
                "tag",
                Some(options.tag.as_str()).filter(|tag| !tag.is_empty()),
            )
            .query_opt("platform", platform.as_deref())
            .header(REGISTRY_AUTH, options.registry_auth.as_str());
        Ok(call.stream().await?.json_lines())
    }

    /// `GET /images/search`.
    pub async fn image_search(&self, options: &SearchOptions) -> Result<Vec<SearchResult>> {
        let limit = (options.limit > 0).then(|| options.limit.to_string());
        self.call(Method::GET, "/images/search")
            .query("term", &options.term)
            .query_opt("limit", limit.as_deref())
            .query_opt("filters", filters_query(&options.filters).as_deref())
            .header(REGISTRY_AUTH, options.registry_auth.as_str())
            .json()
            .await
    }

    /// `POST /commit`: the id of the new image.
    pub async fn container_commit(&self, options: &CommitOptions) -> Result<String> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let mut call = self
            .call(Method::POST, "/commit")
            .query("container", &options.container)
            .query("repo", &options.repository)
            .query("tag", &options.tag)
            .query("comment", &options.comment)
            .query("author", &options.author);
        for change in &options.changes {
            call = call.query("changes", change);
        }
        if !options.pause {
            call = call.query("pause", "0");
        }
        let created: Created = call.json().await?;
        Ok(created.id)
    }

    /// `POST /auth`: asks a registry whether it knows a user.
    pub async fn login(&self, auth: &AuthConfig) -> Result<LoginResponse> {
        self.call(Method::POST, "/auth")
            .json_body(auth)?
            .json()
            .await
    }
}
