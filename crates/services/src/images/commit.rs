//! `POST /commit`: an image made of a container.

use std::sync::Arc;

use cais_types::api::query::CommitQuery;
use cais_types::api::{ContainerConfig, ImageConfig};
use cais_types::{Digest, Error, Result};

use super::{CommitOrder, Images, Seed};
use cais_engine::container::Container;
use cais_engine::create::merge::inherit;
use cais_engine::pause;
use cais_engine::state::Status;

impl Images {
    /// Makes an image of what a container has written, on top of the container's own image. Without a configuration in the
    /// request the container's own is taken. The container is paused while its files are read.
    ///
    /// # Errors
    /// Not found; invalid: a bad name or change; conflict: the container is going.
    pub async fn commit(
        self: &Arc<Self>,
        query: CommitQuery,
        config: Option<ContainerConfig>,
    ) -> Result<Digest> {
        // A task of its own: a client that goes away must not leave the container paused.
        let own = Arc::clone(self);
        let task = tokio::spawn(async move { own.commit_whole(query, config).await });
        task.await
            .map_err(|error| Error::internal(format!("commit: {error}")))?
    }

    async fn commit_whole(
        &self,
        query: CommitQuery,
        config: Option<ContainerConfig>,
    ) -> Result<Digest> {
        let container = self.house.store.find(&query.container)?;
        let record = container.record();
        let gone = match record.state.status {
            Status::Dead => Some("which is Dead"),
            Status::Removing => Some("which is being removed"),
            _ => None,
        };
        if let Some(why) = gone {
            let text = format!("You cannot commit container {} {why}", record.id);
            return Err(Error::conflict(text));
        }
        let (repo, tag) = (query.repo.clone(), query.tag.clone());
        let reference = self
            .with_catalog(move |catalog| catalog.new_name(&repo, &tag))
            .await?;
        let base: ImageConfig = config.unwrap_or_else(|| record.config.clone()).into();
        let changes = query.changes.clone();
        let config = self
            .with_catalog(move |catalog| catalog.apply_changes(base, &changes))
            .await?;
        let mut config = ContainerConfig::from(config);
        inherit(&mut config, &record.config);
        let order = CommitOrder {
            config: config.into(),
            author: query.author.clone(),
            comment: query.comment.clone(),
            created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
            reference: reference.clone(),
        };
        let seed = self.read(&container, query.pause).await?;
        let image = cais_engine::house::blocking(move || seed(order)).await?;
        if let Some(name) = &reference {
            self.tagged(image, name).await;
        }
        let mut extra = vec![("imageID", image.to_string())];
        if !query.comment.is_empty() {
            extra.push(("comment", query.comment));
        }
        if let Some(name) = reference {
            extra.push(("imageRef", name));
        }
        self.house.events.container(&record, "commit", &extra);
        Ok(image)
    }

    /// Reads the container's files, with the container paused if it can be.
    async fn read(&self, container: &Arc<Container>, pause: bool) -> Result<Seed> {
        let pausing = pause && container.record().state.status == Status::Running;
        // A container that ends this very moment cannot be paused and need not be.
        let paused = pausing && pause::pause(&self.house, container).await.is_ok();
        let (id, image) = (container.id, container.record().image);
        let read = self
            .with_catalog(move |catalog| catalog.read_container(&id, &image))
            .await;
        if paused {
            // Somebody may have unpaused or killed it meanwhile.
            if let Err(error) = pause::unpause(&self.house, container).await {
                tracing::debug!(%id, %error, "unpausing a container that was committed");
            }
        }
        read
    }
}
