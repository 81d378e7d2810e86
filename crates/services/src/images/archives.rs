//! `save`, `load`, `import` and `export`: archives as streams.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use cais_types::oci::Platform;
use cais_types::{Digest, Error, Result};
use rustix::fs::{Mode, OFlags};

use super::{ImageCatalog, Images, LoadEvent, labels_of};
use crate::pipe::{AnswerWriter, Answers, UploadReader, answer};
use cais_engine::record::Record;

impl Images {
    /// `POST /images/load`: progress as JSON lines.
    ///
    /// # Errors
    /// None before the stream; a failed load is its last item.
    pub fn load(
        &self,
        archive: Answers<Bytes>,
        quiet: bool,
        platform: Option<Platform>,
    ) -> Answers<Bytes> {
        let (catalog, house) = (Arc::clone(&self.catalog), Arc::clone(&self.house));
        let mut archive = UploadReader::new(archive);
        answer(move |out| {
            let loaded = catalog.load(&mut archive, platform.as_ref(), &mut |event| {
                // A client that has gone does not stop the load: it will find the image there.
                if let Some(line) = load_line(&event, quiet) {
                    let _ = out.item(line);
                }
            })?;
            for id in loaded {
                let mut attributes = labels_of(&*catalog, &id);
                attributes.insert("name".to_owned(), id.to_string());
                house
                    .events
                    .publish("image", "load", &id.to_string(), attributes);
            }
            Ok(())
        })
    }

    /// `GET /images/get`: a tar of images.
    ///
    /// # Errors
    /// Not found.
    pub async fn save(
        &self,
        names: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<Answers<Bytes>> {
        let (checked, wanted) = (names.clone(), platform.clone());
        let images = self
            .with_catalog(move |catalog| {
                checked
                    .iter()
                    .map(|name| catalog.inspect(name, wanted.as_ref()))
                    .collect::<Result<Vec<_>>>()
            })
            .await?;
        for (image, name) in images.into_iter().zip(&names) {
            let labels = image.config.labels.unwrap_or_default();
            self.publish("save", &image.id, name, labels);
        }
        let catalog = Arc::clone(&self.catalog);
        Ok(answer(move |out: &mut AnswerWriter| {
            catalog.save(&names, platform.as_ref(), out)
        }))
    }

    /// `GET /cais/images/{name}/tree`: what a container of the image would find, as a tar stream, below a directory if one is
    /// named.
    ///
    /// # Errors
    /// Not found.
    pub async fn tree(&self, name: String, directory: String) -> Result<Answers<Bytes>> {
        let found = self.with_catalog(move |catalog| catalog.inspect(&name, None));
        let id: Digest = found.await?.id.parse().map_err(|error| {
            Error::internal(format!("the catalog has an image without an id: {error}"))
        })?;
        let catalog = Arc::clone(&self.catalog);
        Ok(answer(move |out: &mut AnswerWriter| {
            let root = catalog.open_image_root(&id)?;
            catalog.export(root.as_fd(), &directory, out)
        }))
    }

    /// `GET /containers/{id}/export`: the container's file system as a tar stream.
    ///
    /// # Errors
    /// Not found.
    pub fn export(&self, name: &str) -> Result<Answers<Bytes>> {
        let container = self.house.store.find(name)?;
        let record = container.record();
        let catalog = Arc::clone(&self.catalog);
        self.house.events.container(&record, "export", &[]);
        Ok(answer(move |out: &mut AnswerWriter| {
            let root = open_root(&*catalog, &record)?;
            catalog.export(root.as_fd(), "", out)
        }))
    }
}

/// A running container is read through its init: mounting its layers a second time is undefined.
fn open_root(catalog: &dyn ImageCatalog, record: &Record) -> Result<OwnedFd> {
    if !record.state.status.has_process() {
        return catalog.open_root(&record.id, &record.image);
    }
    let path = format!("/proc/{}/root", record.state.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|error| Error::internal(format!("open {path}: {error}")))
}

pub fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn load_line(event: &LoadEvent, quiet: bool) -> Option<Vec<u8>> {
    match event {
        LoadEvent::Layer { .. } if quiet => None,
        LoadEvent::Layer { id, current, total } => {
            let detail = serde_json::json!({ "current": current, "total": total });
            Some(line(
                &serde_json::json!({ "status": "Loading layer", "progressDetail": detail, "id": id }),
            ))
        }
        LoadEvent::Message(text) => {
            Some(line(&serde_json::json!({ "stream": format!("{text}\n") })))
        }
    }
}
