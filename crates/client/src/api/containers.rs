//! `/containers`, except exec.

use cais_types::api::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerInspect, ContainerPruneResponse,
    ContainerStats, ContainerSummary, ContainerTopResponse, ContainerUpdateRequest,
    ContainerUpdateResponse, FilesystemChange,
};
use http::Method;

use super::options::{AttachOptions, ListOptions, LogsOptions, RemoveOptions, StopOptions};
use super::streams::{LogStream, Waiting};
use super::{Filters, filters_query};
use crate::answer::{Answer, ByteStream};
use crate::body::Body;
use crate::call::Call;
use crate::client::Client;
use crate::error::Result;
use crate::hijack::Hijacked;
use crate::path::segment;

impl Client {
    fn container(&self, method: Method, name: &str, rest: &str) -> Call<'_> {
        self.call(method, format!("/containers/{}{rest}", segment(name)))
    }

    /// `GET /containers/json`.
    pub async fn container_list(
        &self,
        options: &ListOptions,
    ) -> Result<Answer<Vec<ContainerSummary>>> {
        let limit = options.limit.map(|limit| limit.to_string());
        self.call(Method::GET, "/containers/json")
            .query_flag("all", options.all)
            .query_opt("limit", limit.as_deref())
            .query_flag("size", options.size)
            .query_opt("filters", filters_query(&options.filters).as_deref())
            .answer()
            .await
    }

    /// `POST /containers/create`. `platform` is `os/arch[/variant]`.
    pub async fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: &ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        self.call(Method::POST, "/containers/create")
            .query_opt("name", name)
            .query_opt("platform", platform)
            .json_body(request)?
            .json()
            .await
    }

    /// `GET /containers/{id}/json`.
    pub async fn container_inspect(
        &self,
        name: &str,
        size: bool,
    ) -> Result<Answer<ContainerInspect>> {
        self.container(Method::GET, name, "/json")
            .query_flag("size", size)
            .answer()
            .await
    }

    /// `POST /containers/{id}/start`; false when it ran already.
    pub async fn container_start(&self, name: &str, detach_keys: Option<&str>) -> Result<bool> {
        let keys = detach_keys.filter(|keys| !keys.is_empty());
        self.container(Method::POST, name, "/start")
            .query_opt("detachKeys", keys)
            .done()
            .await
    }

    /// `POST /containers/{id}/stop`; false when it was stopped already.
    pub async fn container_stop(&self, name: &str, options: &StopOptions) -> Result<bool> {
        stop_query(self.container(Method::POST, name, "/stop"), options)
            .done()
            .await
    }

    /// `POST /containers/{id}/restart`.
    pub async fn container_restart(&self, name: &str, options: &StopOptions) -> Result<()> {
        stop_query(self.container(Method::POST, name, "/restart"), options)
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/{id}/kill`. An empty signal is `SIGKILL`.
    pub async fn container_kill(&self, name: &str, signal: &str) -> Result<()> {
        let signal = Some(signal).filter(|signal| !signal.is_empty());
        self.container(Method::POST, name, "/kill")
            .query_opt("signal", signal)
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/{id}/pause`.
    pub async fn container_pause(&self, name: &str) -> Result<()> {
        self.container(Method::POST, name, "/pause").done().await?;
        Ok(())
    }

    /// `POST /containers/{id}/unpause`.
    pub async fn container_unpause(&self, name: &str) -> Result<()> {
        self.container(Method::POST, name, "/unpause")
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/{id}/rename`.
    pub async fn container_rename(&self, name: &str, new_name: &str) -> Result<()> {
        self.container(Method::POST, name, "/rename")
            .query("name", new_name)
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/{id}/resize`, in characters.
    pub async fn container_resize(&self, name: &str, height: u16, width: u16) -> Result<()> {
        self.container(Method::POST, name, "/resize")
            .query("h", &height.to_string())
            .query("w", &width.to_string())
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/{id}/update`.
    pub async fn container_update(
        &self,
        name: &str,
        request: &ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        self.container(Method::POST, name, "/update")
            .json_body(request)?
            .json()
            .await
    }

    /// `DELETE /containers/{id}`.
    pub async fn container_remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        self.container(Method::DELETE, name, "")
            .query_flag("v", options.volumes)
            .query_flag("link", options.link)
            .query_flag("force", options.force)
            .done()
            .await?;
        Ok(())
    }

    /// `POST /containers/prune`.
    pub async fn container_prune(&self, filters: &Filters) -> Result<ContainerPruneResponse> {
        self.call(Method::POST, "/containers/prune")
            .query_opt("filters", filters_query(filters).as_deref())
            .json()
            .await
    }

    /// `POST /containers/{id}/wait`. Returns once the daemon has taken note, so that nothing started afterwards is
    /// missed. `condition` is `not-running`, `next-exit` or `removed`.
    pub async fn container_wait(&self, name: &str, condition: &str) -> Result<Waiting> {
        let condition = Some(condition).filter(|condition| !condition.is_empty());
        Waiting::begin(
            self.container(Method::POST, name, "/wait")
                .query_opt("condition", condition),
        )
        .await
    }

    /// `GET /containers/{id}/top`.
    pub async fn container_top(
        &self,
        name: &str,
        ps_args: Option<&str>,
    ) -> Result<ContainerTopResponse> {
        self.container(Method::GET, name, "/top")
            .query_opt("ps_args", ps_args)
            .json()
            .await
    }

    /// `GET /containers/{id}/changes`; `None` when nothing changed.
    pub async fn container_changes(&self, name: &str) -> Result<Option<Vec<FilesystemChange>>> {
        self.container(Method::GET, name, "/changes").json().await
    }

    /// `GET /containers/{id}/logs`.
    pub async fn container_logs(&self, name: &str, options: &LogsOptions) -> Result<LogStream> {
        let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let call = self
            .container(Method::GET, name, "/logs")
            .query_flag("stdout", options.stdout)
            .query_flag("stderr", options.stderr)
            .query_flag("follow", options.follow)
            .query_flag("timestamps", options.timestamps)
            .query_flag("details", options.details)
            .query_opt("since", some(&options.since).as_deref())
            .query_opt("until", some(&options.until).as_deref())
            .query_opt("tail", some(&options.tail).as_deref());
        LogStream::begin(call).await
    }

    /// `GET /containers/{id}/stats` as a stream of [`ContainerStats`] documents.
    pub async fn container_stats(&self, name: &str) -> Result<crate::JsonLines> {
        let call = self
            .container(Method::GET, name, "/stats")
            .query("stream", "1");
        Ok(call.stream().await?.json_lines())
    }

    /// `GET /containers/{id}/stats` once; `one_shot` leaves out the sample before.
    pub async fn container_stats_once(&self, name: &str, one_shot: bool) -> Result<ContainerStats> {
        self.container(Method::GET, name, "/stats")
            .query("stream", "0")
            .query_flag("one-shot", one_shot)
            .json()
            .await
    }

    /// `POST /containers/{id}/attach`.
    pub async fn container_attach(&self, name: &str, options: &AttachOptions) -> Result<Hijacked> {
        let keys = Some(options.detach_keys.as_str()).filter(|keys| !keys.is_empty());
        self.container(Method::POST, name, "/attach")
            .query_flag("stream", options.stream)
            .query_flag("stdin", options.stdin)
            .query_flag("stdout", options.stdout)
            .query_flag("stderr", options.stderr)
            .query_flag("logs", options.logs)
            .query_opt("detachKeys", keys)
            .hijack()
            .await
    }

    /// `GET /containers/{id}/export`: a tar stream.
    pub async fn container_export(&self, name: &str) -> Result<ByteStream> {
        self.container(Method::GET, name, "/export").stream().await
    }

    /// `GET /containers/{id}/archive`: a tar stream of one path.
    pub async fn container_archive(&self, name: &str, path: &str) -> Result<ByteStream> {
        self.container(Method::GET, name, "/archive")
            .query("path", path)
            .stream()
            .await
    }

    /// `PUT /containers/{id}/archive`: unpacks a tar stream below a path.
    pub async fn container_unpack(
        &self,
        name: &str,
        path: &str,
        copy_ownership: bool,
        archive: Body,
    ) -> Result<()> {
        self.container(Method::PUT, name, "/archive")
            .query("path", path)
            .query("noOverwriteDirNonDir", "true")
            .query_flag("copyUIDGID", copy_ownership)
            .body("application/x-tar", archive)
            .done()
            .await?;
        Ok(())
    }
}

fn stop_query<'a>(call: Call<'a>, options: &StopOptions) -> Call<'a> {
    let timeout = options.timeout.map(|seconds| seconds.to_string());
    call.query_opt(
        "signal",
        options
            .signal
            .as_deref()
            .filter(|signal| !signal.is_empty()),
    )
    .query_opt("t", timeout.as_deref())
}
