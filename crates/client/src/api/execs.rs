//! `/containers/{id}/exec` and `/exec`.

use cais_types::api::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};
use http::Method;

use crate::client::Client;
use crate::error::Result;
use crate::hijack::Hijacked;
use crate::path::segment;

impl Client {
    /// `POST /containers/{id}/exec`.
    pub async fn exec_create(
        &self,
        container: &str,
        request: &ExecCreateRequest,
    ) -> Result<ExecCreateResponse> {
        self.call(
            Method::POST,
            format!("/containers/{}/exec", segment(container)),
        )
        .json_body(request)?
        .json()
        .await
    }

    /// `POST /exec/{id}/start` with streams.
    pub async fn exec_attach(&self, id: &str, request: &ExecStartRequest) -> Result<Hijacked> {
        self.call(Method::POST, format!("/exec/{}/start", segment(id)))
            .json_body(request)?
            .hijack()
            .await
    }

    /// `POST /exec/{id}/start` without streams.
    pub async fn exec_start(&self, id: &str, request: &ExecStartRequest) -> Result<()> {
        self.call(Method::POST, format!("/exec/{}/start", segment(id)))
            .json_body(request)?
            .done()
            .await?;
        Ok(())
    }

    /// `GET /exec/{id}/json`.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        self.call(Method::GET, format!("/exec/{}/json", segment(id)))
            .json()
            .await
    }

    /// `POST /exec/{id}/resize`, in characters.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        self.call(Method::POST, format!("/exec/{}/resize", segment(id)))
            .query("h", &height.to_string())
            .query("w", &width.to_string())
            .done()
            .await?;
        Ok(())
    }
}
