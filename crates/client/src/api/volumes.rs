//! `/volumes`.

use cais_types::api::{Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse};
use http::Method;

use super::{Filters, filters_query};
use crate::answer::Answer;
use crate::client::Client;
use crate::error::Result;
use crate::path::segment;

impl Client {
    /// `GET /volumes`.
    pub async fn volume_list(&self, filters: &Filters) -> Result<Answer<VolumeListResponse>> {
        self.call(Method::GET, "/volumes")
            .query_opt("filters", filters_query(filters).as_deref())
            .answer()
            .await
    }

    /// `POST /volumes/create`.
    pub async fn volume_create(&self, request: &VolumeCreateRequest) -> Result<Volume> {
        self.call(Method::POST, "/volumes/create")
            .json_body(request)?
            .json()
            .await
    }

    /// `GET /volumes/{name}`.
    pub async fn volume_inspect(&self, name: &str) -> Result<Answer<Volume>> {
        self.call(Method::GET, format!("/volumes/{}", segment(name)))
            .answer()
            .await
    }

    /// `DELETE /volumes/{name}`.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        self.call(Method::DELETE, format!("/volumes/{}", segment(name)))
            .query_flag("force", force)
            .done()
            .await?;
        Ok(())
    }

    /// `POST /volumes/prune`.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumePruneResponse> {
        self.call(Method::POST, "/volumes/prune")
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }
}
