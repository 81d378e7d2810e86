//! The volume store behind the engine's ports.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cais_engine::ports::VolumeStore;
use cais_services::volumes::{VolumeCatalog, VolumeRecord};
use cais_types::api::VolumeCreateRequest;
use cais_types::{ContainerId, Error, Result};
use cais_volumes::{ListFilter, Store, Volume, VolumeRequest};

/// Adapts [`Store`].
pub struct Volumes(pub Arc<Store>);

impl VolumeStore for Volumes {
    fn acquire(
        &self,
        name: Option<&str>,
        driver: &str,
        container: &ContainerId,
    ) -> Result<(String, PathBuf)> {
        Ok(self.0.acquire(name, driver, container)?)
    }

    fn copy_up(&self, name: &str, source: OwnedFd) -> Result<()> {
        Ok(self.0.copy_up(name, source)?)
    }

    fn release(&self, container: &ContainerId, remove_anonymous: bool) -> Result<()> {
        Ok(self.0.release(container, remove_anonymous)?)
    }
}

impl VolumeCatalog for Volumes {
    fn all(&self) -> Result<Vec<VolumeRecord>> {
        Ok(self
            .0
            .list(&ListFilter::default())
            .into_iter()
            .map(record)
            .collect())
    }

    fn find(&self, name: &str) -> Result<VolumeRecord> {
        Ok(record(self.0.inspect(name)?))
    }

    fn create(&self, request: &VolumeCreateRequest) -> Result<(VolumeRecord, bool)> {
        if request.cluster_volume_spec.is_some() {
            return Err(Error::unsupported(
                "cluster volumes need a swarm, which is not built yet",
            ));
        }
        let new = request.name.is_empty() || self.0.inspect(&request.name).is_err();
        let volume = self.0.create(&VolumeRequest {
            name: request.name.clone(),
            driver: request.driver.clone(),
            labels: request.labels.clone().unwrap_or_default(),
            options: request.driver_opts.clone(),
        })?;
        Ok((record(volume), new))
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(self.0.remove(name, false)?)
    }

    fn usage(&self, name: &str) -> Result<u64> {
        Ok(self.0.usage(name)?.size)
    }
}

fn record(volume: Volume) -> VolumeRecord {
    VolumeRecord {
        anonymous: volume.is_anonymous(),
        name: volume.name,
        driver: volume.driver,
        mountpoint: volume.mountpoint,
        created_at: volume.created,
        labels: volume.labels,
        options: volume.options,
        users: volume.users.into_iter().collect(),
    }
}
