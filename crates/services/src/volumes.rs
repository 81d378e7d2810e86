//! `/volumes`: the volume store joined with events.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::api::query::Filters;
use cais_types::api::{
    Volume, VolumeCreateRequest, VolumeListResponse, VolumePruneResponse, VolumeUsage,
};
use cais_types::{ContainerId, Result};

use cais_engine::filter::PruneFilter;
use cais_engine::house::{House, blocking};

/// A volume as its store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeRecord {
    pub name: String,
    pub driver: String,
    pub mountpoint: String,
    /// RFC 3339.
    pub created_at: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Made without a name.
    pub anonymous: bool,
    pub users: Vec<ContainerId>,
}

/// What the service needs from the volume store. Blocking.
pub trait VolumeCatalog: Send + Sync {
    fn all(&self) -> Result<Vec<VolumeRecord>>;
    /// Not found: `get NAME: no such volume`.
    fn find(&self, name: &str) -> Result<VolumeRecord>;
    /// Makes a volume, or answers the one that is there with the same driver and options; `true` when it is new.
    fn create(&self, request: &VolumeCreateRequest) -> Result<(VolumeRecord, bool)>;
    /// Conflict: `remove NAME: volume is in use - [ids]`.
    fn remove(&self, name: &str) -> Result<()>;
    /// Bytes in the volume.
    fn usage(&self, name: &str) -> Result<u64>;
}

/// The volumes of the engine.
pub struct Volumes {
    house: Arc<House>,
    catalog: Arc<dyn VolumeCatalog>,
}

impl Volumes {
    /// Joins the store with the engine's events.
    pub fn new(house: Arc<House>, catalog: Arc<dyn VolumeCatalog>) -> Self {
        Self { house, catalog }
    }

    /// `GET /volumes`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn list(&self, filters: Filters) -> Result<VolumeListResponse> {
        let volumes = self
            .matching(filters)
            .await?
            .into_iter()
            .map(shown)
            .collect();
        Ok(VolumeListResponse {
            volumes,
            warnings: None,
        })
    }

    /// All volumes with the bytes in each and how many containers use it.
    ///
    /// # Errors
    /// Invalid filters, or those of the store.
    pub async fn list_with_usage(&self, filters: Filters) -> Result<Vec<Volume>> {
        let records = self.matching(filters).await?;
        let catalog = Arc::clone(&self.catalog);
        blocking(move || {
            records
                .into_iter()
                .map(|record| with_usage(&*catalog, record))
                .collect()
        })
        .await
    }

    async fn matching(&self, filters: Filters) -> Result<Vec<VolumeRecord>> {
        filters.validate(&["dangling", "driver", "label", "name"])?;
        let dangling = filters
            .contains("dangling")
            .then(|| filters.bool_or("dangling", false))
            .transpose()?;
        let catalog = Arc::clone(&self.catalog);
        let records = blocking(move || catalog.all()).await?;
        let names = filters.get("name");
        Ok(records
            .into_iter()
            .filter(|record| {
                dangling.is_none_or(|dangling| dangling == record.users.is_empty())
                    && filters.matches("driver", &record.driver)
                    && filters.matches_map("label", &record.labels)
                    && (names.is_empty()
                        || names.iter().any(|name| record.name.contains(name.as_str())))
            })
            .collect())
    }

    /// `GET /volumes/{name}`.
    ///
    /// # Errors
    /// Not found.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let (catalog, name) = (Arc::clone(&self.catalog), name.to_owned());
        blocking(move || catalog.find(&name)).await.map(shown)
    }

    /// `POST /volumes/create`.
    ///
    /// # Errors
    /// Invalid: the name, the driver or its options.
    pub async fn create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        let catalog = Arc::clone(&self.catalog);
        let (record, new) = blocking(move || catalog.create(&request)).await?;
        if new {
            self.publish("create", &record);
        }
        Ok(shown(record))
    }

    /// `DELETE /volumes/{name}`; with `force` a missing volume is no error.
    ///
    /// # Errors
    /// Not found, or in use.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let (catalog, owned) = (Arc::clone(&self.catalog), name.to_owned());
        let removed = blocking(move || {
            let record = catalog.find(&owned)?;
            catalog.remove(&owned)?;
            Ok(record)
        });
        match removed.await {
            Ok(record) => self.publish("destroy", &record),
            Err(error) if force && error.class() == cais_types::ErrorClass::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// `POST /volumes/prune`: anonymous volumes that nobody uses; named ones too with `all`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn prune(&self, filters: Filters) -> Result<VolumePruneResponse> {
        filters.validate(&["all", "label", "label!"])?;
        let all = filters.bool_or("all", false)?;
        let mut labels = Filters::default();
        for (name, values) in filters.iter().filter(|(name, _)| *name != "all") {
            values.iter().for_each(|value| labels.add(name, value));
        }
        let filter = PruneFilter::new(labels)?;
        let catalog = Arc::clone(&self.catalog);
        let (response, removed) = blocking(move || {
            let mut response = VolumePruneResponse::default();
            let mut removed = Vec::new();
            for record in catalog.all()? {
                let wanted = record.users.is_empty() && (all || record.anonymous);
                if !wanted || !filter.accepts(&record.created_at, &record.labels) {
                    continue;
                }
                let bytes = catalog.usage(&record.name).unwrap_or(0);
                if catalog.remove(&record.name).is_ok() {
                    response.space_reclaimed += bytes;
                    response
                        .volumes_deleted
                        .get_or_insert_default()
                        .push(record.name.clone());
                    removed.push(record);
                }
            }
            Ok((response, removed))
        })
        .await?;
        removed
            .iter()
            .for_each(|record| self.publish("destroy", record));
        let reclaimed =
            BTreeMap::from([("reclaimed".to_owned(), response.space_reclaimed.to_string())]);
        self.house.events.publish("volume", "prune", "", reclaimed);
        Ok(response)
    }

    fn publish(&self, action: &str, record: &VolumeRecord) {
        let attributes = BTreeMap::from([("driver".to_owned(), record.driver.clone())]);
        self.house
            .events
            .publish("volume", action, &record.name, attributes);
    }
}

fn with_usage(catalog: &dyn VolumeCatalog, record: VolumeRecord) -> Result<Volume> {
    let usage = VolumeUsage {
        ref_count: i64::try_from(record.users.len()).unwrap_or(i64::MAX),
        size: catalog.usage(&record.name)?.cast_signed(),
    };
    Ok(Volume {
        usage_data: Some(usage),
        ..shown(record)
    })
}

fn shown(record: VolumeRecord) -> Volume {
    let some = |map: BTreeMap<String, String>| (!map.is_empty()).then_some(map);
    Volume {
        created_at: record.created_at,
        driver: record.driver,
        labels: some(record.labels),
        mountpoint: record.mountpoint,
        name: record.name,
        options: some(record.options),
        scope: "local".to_owned(),
        ..Volume::default()
    }
}
