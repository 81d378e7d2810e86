//! `/build`: the classic builder, and its cache.

use cais_types::api::BuildPruneResponse;
use cais_types::api::query::BuildPruneQuery;
use http::Method;

use super::filters_query;
use crate::answer::{ByteStream, JsonLines};
use crate::body::Body;
use crate::client::Client;
use crate::error::Result;
use crate::hijack::Hijacked;

impl Client {
    /// `POST /build` with these query parameters; progress documents. The body is an archive, `application/x-tar`, or
    /// what only our daemon takes. `credentials` is the header `X-Registry-Config`.
    pub async fn image_build(
        &self,
        query: &[(String, String)],
        credentials: Option<String>,
        media_type: &'static str,
        context: Body,
    ) -> Result<JsonLines> {
        let mut call = self.call(Method::POST, "/build");
        for (name, value) in query {
            call = call.query(name, value);
        }
        if let Some(credentials) = credentials {
            call = call.header("x-registry-config", credentials);
        }
        let call = call.body(media_type, context);
        Ok(call.stream().await?.json_lines())
    }

    /// `POST /session`: from then on the daemon calls, by HTTP/2, the methods that are served.
    pub async fn build_session(&self, id: &str, methods: &[&str]) -> Result<Hijacked> {
        let mut call = self.call(Method::POST, "/session");
        call = call.header("X-Docker-Expose-Session-Uuid", id);
        for method in methods {
            call = call.header("X-Docker-Expose-Session-Grpc-Method", *method);
        }
        call.upgrade("h2c").await
    }

    /// `GET /cais/build/cache`: the files of a cache mount as a tar stream; only cais has it.
    pub async fn build_cache_export(&self, id: &str) -> Result<ByteStream> {
        let call = self.call(Method::GET, "/cais/build/cache").query("id", id);
        call.stream().await
    }

    /// `POST /cais/build/cache`: puts the files of an archive in the place of those of a cache mount; only cais has it.
    pub async fn build_cache_import(&self, id: &str, archive: Body) -> Result<()> {
        let call = self.call(Method::POST, "/cais/build/cache").query("id", id);
        call.body("application/x-tar", archive)
            .done()
            .await
            .map(drop)
    }

    /// `POST /build/prune`.
    pub async fn build_prune(&self, query: &BuildPruneQuery) -> Result<BuildPruneResponse> {
        let size = |bytes: i64| (bytes > 0).then(|| bytes.to_string());
        self.call(Method::POST, "/build/prune")
            .query_flag("all", query.all)
            .query_opt("filters", filters_query(&query.filters).as_deref())
            // The first name is that of daemons before API 1.48.
            .query_opt("keep-storage", size(query.reserved_space).as_deref())
            .query_opt("reserved-space", size(query.reserved_space).as_deref())
            .query_opt("max-used-space", size(query.max_used_space).as_deref())
            .query_opt("min-free-space", size(query.min_free_space).as_deref())
            .json()
            .await
    }
}
