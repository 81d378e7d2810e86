//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

use cais_types::api::{DiskUsage, SystemInfo, SystemVersion};
use http::Method;

use super::{Filters, filters_query};
use crate::answer::{Answer, JsonLines};
use crate::call::Exchange;
use crate::client::Client;
use crate::error::Result;

/// What a daemon says of itself without being asked much.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// The newest API version it speaks.
    pub api_version: Option<String>,
    /// Operating system of its containers.
    pub os: Option<String>,
    /// Name and version of the server program.
    pub server: Option<String>,
}

impl Client {
    /// `GET /_ping`.
    pub async fn ping(&self) -> Result<Ping> {
        let Exchange { response, sender } = self
            .call(Method::GET, "/_ping")
            .unversioned()
            .send()
            .await?;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let ping = Ping {
            api_version: header("api-version"),
            os: header("ostype"),
            server: header("server"),
        };
        if http_body_util::BodyExt::collect(response.into_body())
            .await
            .is_ok()
        {
            self.keep(sender);
        }
        Ok(ping)
    }

    /// `GET /version`.
    pub async fn version(&self) -> Result<Answer<SystemVersion>> {
        self.call(Method::GET, "/version").answer().await
    }

    /// `GET /info`.
    pub async fn info(&self) -> Result<Answer<SystemInfo>> {
        self.call(Method::GET, "/info").answer().await
    }

    /// `GET /system/df`.
    pub async fn disk_usage(&self) -> Result<Answer<DiskUsage>> {
        self.call(Method::GET, "/system/df").answer().await
    }

    /// `POST /cais/system/check`: findings and a summary; only cais has it.
    pub async fn system_check(&self, repair: bool) -> Result<JsonLines> {
        let call = self
            .call(Method::POST, "/cais/system/check")
            .query("repair", if repair { "1" } else { "0" });
        Ok(call.stream().await?.json_lines())
    }

    /// `GET /events`. Times are seconds since the epoch with fraction.
    pub async fn events(
        &self,
        since: Option<&str>,
        until: Option<&str>,
        filters: &Filters,
    ) -> Result<JsonLines> {
        let call = self
            .call(Method::GET, "/events")
            .query_opt("since", since)
            .query_opt("until", until)
            .query_opt("filters", filters_query(filters).as_deref());
        Ok(call.stream().await?.json_lines())
    }
}
