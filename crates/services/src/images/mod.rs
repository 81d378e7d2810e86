//! `/images`: the image store joined with containers and events.

mod archives;
mod catalog;
mod check;
mod commit;
mod downloads;
mod garbage;
mod listing;

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::api::query::{Filters, ImageRemoveQuery};
use cais_types::api::{HistoryItem, ImageDeleteItem, ImageInspect, ImagePruneResponse};
use cais_types::oci::Platform;
use cais_types::{Digest, Result};

use cais_engine::filter::PruneFilter;
use cais_engine::house::{House, blocking};
use cais_engine::record::Record;

pub use catalog::{CommitOrder, GcPolicy, ImageCatalog, ImageUser, LoadEvent, RemovedImage, Seed};
pub use downloads::Downloads;

/// The images of the engine.
pub struct Images {
    house: Arc<House>,
    catalog: Arc<dyn ImageCatalog>,
    downloads: Arc<dyn Downloads>,
}

/// The labels of an image as attributes of its events; none when it is gone. Blocking.
fn labels_of(catalog: &dyn ImageCatalog, id: &Digest) -> BTreeMap<String, String> {
    let image = catalog.inspect(&id.to_string(), None).ok();
    image
        .and_then(|image| image.config.labels)
        .unwrap_or_default()
}

impl Images {
    /// Joins the store with the engine's containers and events.
    pub fn new(
        house: Arc<House>,
        catalog: Arc<dyn ImageCatalog>,
        downloads: Arc<dyn Downloads>,
    ) -> Self {
        Self {
            house,
            catalog,
            downloads,
        }
    }

    async fn with_catalog<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ImageCatalog) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let catalog = Arc::clone(&self.catalog);
        blocking(move || work(&*catalog)).await
    }

    fn users(&self) -> Vec<ImageUser> {
        let containers = self.house.store.all();
        let user = |record: &Record| ImageUser {
            container: record.id,
            image: record.image,
            running: record.state.status.is_running(),
        };
        containers
            .iter()
            .map(|container| user(&container.record()))
            .collect()
    }

    /// How many images there are.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn count(&self) -> Result<usize> {
        self.with_catalog(|catalog| Ok(catalog.count())).await
    }

    /// `GET /images/{name}/json`.
    ///
    /// # Errors
    /// Not found.
    pub async fn inspect(&self, name: &str, platform: Option<Platform>) -> Result<ImageInspect> {
        let name = name.to_owned();
        self.with_catalog(move |catalog| catalog.inspect(&name, platform.as_ref()))
            .await
    }

    /// `GET /images/{name}/history`.
    ///
    /// # Errors
    /// Not found.
    pub async fn history(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Vec<HistoryItem>> {
        let name = name.to_owned();
        self.with_catalog(move |catalog| {
            if platform.is_some() {
                let image = catalog.inspect(&name, platform.as_ref())?;
                return catalog.history(&image.id);
            }
            catalog.history(&name)
        })
        .await
    }

    /// `POST /images/{name}/tag`.
    ///
    /// # Errors
    /// Not found, or an invalid name.
    pub async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let target = if tag.is_empty() {
            repo.to_owned()
        } else {
            format!("{repo}:{tag}")
        };
        let (name, shown) = (name.to_owned(), target.clone());
        let id = self
            .with_catalog(move |catalog| catalog.tag(&name, &target))
            .await?;
        self.tagged(id, &shown).await;
        Ok(())
    }

    /// `DELETE /images/{name}`.
    ///
    /// # Errors
    /// Not found, or in use.
    pub async fn remove(
        &self,
        name: &str,
        query: ImageRemoveQuery,
    ) -> Result<Vec<ImageDeleteItem>> {
        let (users, name) = (self.users(), name.to_owned());
        let removed = self
            .with_catalog(move |catalog| {
                if query.untag {
                    return catalog.untag(&name);
                }
                let gone = catalog.remove_platforms(&name, &query.platforms, &users)?;
                if let Some(gone) = gone {
                    return Ok(gone);
                }
                // What is left is for one platform: it is the one that is meant, or not there.
                let mut missing = None;
                for platform in &query.platforms {
                    match catalog.inspect(&name, Some(platform)) {
                        Ok(_) => {
                            missing = None;
                            break;
                        }
                        Err(error) => missing = Some(error),
                    }
                }
                if let Some(error) = missing {
                    return Err(error);
                }
                catalog.remove(&name, query.force, !query.no_prune, &users)
            })
            .await?;
        Ok(self.told(&removed))
    }

    /// `POST /images/prune`: dangling images, or with `dangling=false` all that no container uses.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn prune(&self, filters: Filters) -> Result<ImagePruneResponse> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let all = !filters.bool_or("dangling", true)?;
        let mut rest = Filters::default();
        for (name, values) in filters.iter().filter(|(name, _)| *name != "dangling") {
            values.iter().for_each(|value| rest.add(name, value));
        }
        let filter = Arc::new(PruneFilter::new(rest)?);
        let (users, accepted) = (self.users(), Arc::clone(&filter));
        let (removed, freed) = self
            .with_catalog(move |catalog| {
                catalog.prune(all, &users, &|created, labels| {
                    accepted.accepts(created, labels)
                })
            })
            .await?;
        let space_reclaimed = freed + self.prune_downloads(filter).await?;
        let items = self.told(&removed);
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]);
        self.house.events.publish("image", "prune", "", reclaimed);
        Ok(ImagePruneResponse {
            images_deleted: (!items.is_empty()).then_some(items),
            space_reclaimed,
        })
    }

    /// Publishes what was removed and says it as the API does.
    fn told(&self, removed: &[RemovedImage]) -> Vec<ImageDeleteItem> {
        let deleted = |id: &Digest| ImageDeleteItem {
            deleted: id.to_string(),
            ..ImageDeleteItem::default()
        };
        removed
            .iter()
            .map(|one| match one {
                RemovedImage::Untagged(name, id, labels) => {
                    let id = id.to_string();
                    self.publish("untag", &id, &id, labels.clone());
                    ImageDeleteItem {
                        untagged: name.clone(),
                        ..ImageDeleteItem::default()
                    }
                }
                RemovedImage::Deleted(id) => {
                    let labels = BTreeMap::new();
                    self.publish("delete", &id.to_string(), &id.to_string(), labels);
                    deleted(id)
                }
                RemovedImage::Layer(id) => deleted(id),
            })
            .collect()
    }

    /// Tells that an image has got a name.
    async fn tagged(&self, id: Digest, name: &str) {
        let labels = self.labels(id).await;
        self.publish("tag", &id.to_string(), name, labels);
    }

    /// The labels of an image as attributes of its events; none when it is gone.
    pub(crate) async fn labels(&self, id: Digest) -> BTreeMap<String, String> {
        let labels = self.with_catalog(move |catalog| Ok(labels_of(catalog, &id)));
        labels.await.unwrap_or_default()
    }

    fn publish(
        &self,
        action: &str,
        id: &str,
        name: &str,
        mut attributes: BTreeMap<String, String>,
    ) {
        attributes.insert("name".to_owned(), name.to_owned());
        self.house.events.publish("image", action, id, attributes);
    }
}
