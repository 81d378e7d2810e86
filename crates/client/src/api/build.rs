//! `/build`, as far as it is about the builder's cache.

use http::Method;
use serde::Deserialize;

use super::{Filters, filters_query};
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
    /// `POST /build/prune`.
    pub async fn build_prune(&self, all: bool, filters: &Filters) -> Result<BuildPruneResponse> {
        self.call(Method::POST, "/build/prune")
            .query_flag("all", all)
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }
}
