//! `/networks`.

use cais_types::api::{
    Network, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkPruneResponse,
};
use http::Method;

use super::{Filters, filters_query};
use crate::answer::Answer;
use crate::client::Client;
use crate::error::Result;
use crate::path::segment;

impl Client {
    /// `GET /networks`.
    pub async fn network_list(&self, filters: &Filters) -> Result<Answer<Vec<Network>>> {
        self.call(Method::GET, "/networks")
            .query_opt("filters", filters_query(filters).as_deref())
            .answer()
            .await
    }

    /// `GET /networks/{id}`.
    pub async fn network_inspect(&self, name: &str, verbose: bool) -> Result<Answer<Network>> {
        self.call(Method::GET, format!("/networks/{}", segment(name)))
            .query_flag("verbose", verbose)
            .answer()
            .await
    }

    /// `POST /networks/create`.
    pub async fn network_create(
        &self,
        request: &NetworkCreateRequest,
    ) -> Result<NetworkCreateResponse> {
        self.call(Method::POST, "/networks/create")
            .json_body(request)?
            .json()
            .await
    }

    /// `DELETE /networks/{id}`.
    pub async fn network_remove(&self, name: &str) -> Result<()> {
        self.call(Method::DELETE, format!("/networks/{}", segment(name)))
            .done()
            .await?;
        Ok(())
    }

    /// `POST /networks/{id}/connect`.
    pub async fn network_connect(&self, name: &str, request: &NetworkConnectRequest) -> Result<()> {
        self.call(Method::POST, format!("/networks/{}/connect", segment(name)))
            .json_body(request)?
            .done()
            .await?;
        Ok(())
    }

    /// `POST /networks/{id}/disconnect`.
    pub async fn network_disconnect(
        &self,
        name: &str,
        request: &NetworkDisconnectRequest,
    ) -> Result<()> {
        self.call(
            Method::POST,
            format!("/networks/{}/disconnect", segment(name)),
        )
        .json_body(request)?
        .done()
        .await?;
        Ok(())
    }

    /// `POST /networks/prune`.
    pub async fn network_prune(&self, filters: &Filters) -> Result<NetworkPruneResponse> {
        self.call(Method::POST, "/networks/prune")
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }
}
