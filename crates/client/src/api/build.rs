//! `/build`: the classic builder, and its cache.

use http::Method;
use serde::Deserialize;

use super::{Filters, filters_query};
use crate::answer::JsonLines;
use crate::body::Body;
use crate::client::Client;
use crate::error::Result;

/// The answer of `POST /build/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildPruneResponse {
    /// Ids of removed records.
    pub caches_deleted: Option<Vec<String>>,
    /// In bytes.
    pub space_reclaimed: u64,
}

impl Client {
    /// `POST /build` with these query parameters; progress documents. `credentials` is the header `X-Registry-Config`.
    pub async fn image_build(
        &self,
        query: &[(String, String)],
        credentials: Option<String>,
        context: Body,
    ) -> Result<JsonLines> {
        let mut call = self.call(Method::POST, "/build");
        for (name, value) in query {
            call = call.query(name, value);
        }
        if let Some(credentials) = credentials {
            call = call.header("x-registry-config", credentials);
        }
        let call = call.body("application/x-tar", context);
        Ok(call.stream().await?.json_lines())
    }

    /// `POST /build/prune`.
    pub async fn build_prune(&self, all: bool, filters: &Filters) -> Result<BuildPruneResponse> {
        self.call(Method::POST, "/build/prune")
            .query_flag("all", all)
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }
}
