//! The handles that the composition root gives to the API: thin, one line per duty.

use std::sync::Arc;

use cais_monitor::protocol::Request;
use cais_types::api::query::{
    AttachQuery, ContainerListQuery, Filters, LogsQuery, RemoveQuery, StopQuery, TtySize,
    WaitCondition,
};
use cais_types::api::{
    ContainerCreateRequest, ContainerCreateResponse, ContainerInspect, ContainerPruneResponse,
    ContainerSummary, ContainerUpdateRequest, ContainerUpdateResponse, ContainerWaitResponse,
    ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest, FilesystemChange,
};
use cais_types::oci::Platform;
use cais_types::{Error, Result};
use futures_core::future::BoxFuture;

use crate::house::{House, blocking};
use crate::listing;
use crate::{
    Changed, Hijack, Logs, attach, create, exec, inspect, links, pause, remove, rename, replay,
    start, stop, update, wait,
};

/// `/containers` of the Engine API, except exec.
#[derive(Clone)]
pub struct Containers {
    house: Arc<House>,
}

impl Containers {
    /// Over an engine's parts.
    pub fn new(house: Arc<House>) -> Self {
        Self { house }
    }

    /// See [`listing::list`].
    ///
    /// # Errors
    /// Unknown filters.
    pub async fn list(&self, query: ContainerListQuery) -> Result<Vec<ContainerSummary>> {
        listing::list(&self.house, query).await
    }

    /// See [`listing::prune`].
    ///
    /// # Errors
    /// Unknown filters.
    pub async fn prune(&self, filters: Filters) -> Result<ContainerPruneResponse> {
        listing::prune(&self.house, filters).await
    }

    /// See [`create::create`].
    ///
    /// # Errors
    /// As there.
    pub async fn create(
        &self,
        name: Option<String>,
        platform: Option<Platform>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let house = Arc::clone(&self.house);
        blocking(move || create::create(&house, name.as_deref(), platform.as_ref(), request)).await
    }

    /// See [`inspect::inspect`].
    ///
    /// # Errors
    /// `No such container: x`.
    pub async fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        inspect::inspect(&self.house, &self.house.store.find(name)?, size).await
    }

    /// See [`start::start`]. The detach keys of a start are those of the attach that goes with it.
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self, name: &str, _detach_keys: Option<String>) -> Result<Changed> {
        start::start(&self.house, &self.house.store.find(name)?).await
    }

    /// Variables for the next start of a container, which no record and no inspection shows.
    ///
    /// # Errors
    /// Not found.
    pub fn lend_env(&self, name: &str, env: Vec<String>) -> Result<()> {
        self.house.store.find(name)?.session().lent_env = env;
        Ok(())
    }

    /// See [`stop::stop`].
    ///
    /// # Errors
    /// As there.
    pub async fn stop(&self, name: &str, query: StopQuery) -> Result<Changed> {
        stop::stop(&self.house, &self.house.store.find(name)?, &query).await
    }

    /// See [`stop::restart`].
    ///
    /// # Errors
    /// As there.
    pub async fn restart(&self, name: &str, query: StopQuery) -> Result<()> {
        stop::restart(&self.house, &self.house.store.find(name)?, &query).await
    }

    /// See [`stop::kill`].
    ///
    /// # Errors
    /// As there.
    pub async fn kill(&self, name: &str, signal: Option<String>) -> Result<()> {
        let killed = match self.house.store.find(name) {
            Ok(container) => stop::kill(&self.house, &container, signal.as_deref()).await,
            Err(error) => Err(error),
        };
        killed.map_err(|error| {
            let text = format!("cannot kill container: {name}: {}", error.message());
            Error::new(error.class(), text).with_source(error)
        })
    }

    /// See [`pause::pause`].
    ///
    /// # Errors
    /// As there.
    pub async fn pause(&self, name: &str) -> Result<()> {
        pause::pause(&self.house, &self.house.store.find(name)?).await
    }

    /// See [`pause::unpause`].
    ///
    /// # Errors
    /// As there.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        pause::unpause(&self.house, &self.house.store.find(name)?).await
    }

    /// See [`rename::rename`].
    ///
    /// # Errors
    /// As there.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        rename::rename(&self.house, &self.house.store.find(name)?, new_name).await
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// `container ID is not running`.
    pub async fn resize(&self, name: &str, size: TtySize) -> Result<()> {
        let container = self.house.store.find(name)?;
        let request = Request::Resize {
            exec_id: None,
            rows: size.height,
            columns: size.width,
        };
        container.monitor()?.request(request, None).await?;
        let extra = [
            ("height", size.height.to_string()),
            ("width", size.width.to_string()),
        ];
        self.house
            .events
            .container(&container.record(), "resize", &extra);
        Ok(())
    }

    /// See [`update::update`].
    ///
    /// # Errors
    /// As there.
    pub async fn update(
        &self,
        name: &str,
        request: ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        update::update(&self.house, &self.house.store.find(name)?, request).await
    }

    /// See [`remove::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, name: &str, query: RemoveQuery) -> Result<()> {
        if query.link {
            return links::remove(&self.house, name);
        }
        remove::remove(&self.house, &self.house.store.find(name)?, query).await
    }

    /// Checks the name at once; the inner future ends when the condition holds.
    ///
    /// # Errors
    /// `No such container: x`.
    #[expect(clippy::unused_async, reason = "the API's traits are async throughout")]
    pub async fn wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, Result<ContainerWaitResponse>>> {
        Ok(wait::wait(&self.house.store.find(name)?, condition))
    }

    /// What the container changed in its file system; `None` for nothing.
    ///
    /// # Errors
    /// Those of the images room.
    pub async fn changes(&self, name: &str) -> Result<Option<Vec<FilesystemChange>>> {
        let (house, record) = (
            Arc::clone(&self.house),
            self.house.store.find(name)?.record(),
        );
        let changes =
            blocking(move || house.ports.rootfs.changes(&record.id, &record.image)).await?;
        Ok((!changes.is_empty()).then_some(changes))
    }

    /// See [`replay::logs`].
    ///
    /// # Errors
    /// As there.
    pub async fn logs(&self, name: &str, query: LogsQuery) -> Result<Logs> {
        let house = Arc::clone(&self.house);
        let container = self.house.store.find(name)?;
        blocking(move || replay::logs(&house, &container, &query)).await
    }

    /// See [`attach::attach`].
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::unused_async, reason = "the API's traits are async throughout")]
    pub async fn attach(&self, name: &str, query: AttachQuery) -> Result<Hijack> {
        attach::attach(&self.house, &self.house.store.find(name)?, &query)
    }
}

/// `/containers/{id}/exec` and `/exec` of the Engine API.
#[derive(Clone)]
pub struct Execs {
    house: Arc<House>,
}

impl Execs {
    /// Over an engine's parts.
    pub fn new(house: Arc<House>) -> Self {
        Self { house }
    }

    /// See [`exec::create`].
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::unused_async, reason = "the API's traits are async throughout")]
    pub async fn create(
        &self,
        name: &str,
        request: ExecCreateRequest,
    ) -> Result<ExecCreateResponse> {
        let container = self.house.store.find(name)?;
        exec::create(&self.house, &container, name, request)
    }

    /// See [`exec::start_attached`].
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::unused_async, reason = "the API's traits are async throughout")]
    pub async fn start_attached(&self, id: &str, request: ExecStartRequest) -> Result<Hijack> {
        exec::start_attached(&self.house, id, &request)
    }

    /// See [`exec::start_detached`].
    ///
    /// # Errors
    /// As there.
    pub async fn start_detached(&self, id: &str) -> Result<()> {
        exec::start_detached(&self.house, id).await
    }

    /// See [`exec::inspect`].
    ///
    /// # Errors
    /// As there.
    pub async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        exec::inspect(&self.house, id).await
    }

    /// See [`exec::resize`].
    ///
    /// # Errors
    /// As there.
    pub async fn resize(&self, id: &str, size: TtySize) -> Result<()> {
        exec::resize(&self.house, id, size).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(_: T) {}

    /// The API's traits want futures that move between threads; this compiles or does not.
    #[expect(dead_code, reason = "compiled, never run")]
    fn futures_are_send(containers: &Containers, execs: &Execs) {
        sendable(containers.list(ContainerListQuery::default()));
        sendable(containers.prune(Filters::default()));
        sendable(containers.create(None, None, ContainerCreateRequest::default()));
        sendable(containers.inspect("", true));
        sendable(containers.start("", None));
        sendable(containers.stop("", StopQuery::default()));
        sendable(containers.restart("", StopQuery::default()));
        sendable(containers.kill("", None));
        sendable(containers.pause(""));
        sendable(containers.unpause(""));
        sendable(containers.rename("", ""));
        sendable(containers.resize("", TtySize::default()));
        sendable(containers.update("", ContainerUpdateRequest::default()));
        sendable(containers.remove("", RemoveQuery::default()));
        sendable(containers.wait("", WaitCondition::default()));
        sendable(containers.changes(""));
        sendable(containers.logs("", LogsQuery::default()));
        sendable(containers.attach("", AttachQuery::default()));
        sendable(execs.create("", ExecCreateRequest::default()));
        sendable(execs.start_attached("", ExecStartRequest::default()));
        sendable(execs.start_detached(""));
        sendable(execs.inspect(""));
        sendable(execs.resize("", TtySize::default()));
    }
}
