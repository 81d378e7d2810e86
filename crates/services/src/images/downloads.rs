//! What comes from elsewhere besides images of registries: root file systems behind URLs; and what is left of downloads that broke
//! off.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use cais_engine::filter::PruneFilter;
use cais_types::api::query::ImportQuery;
use cais_types::{Error, Result};
use serde_json::json;

use super::archives::line;
use super::{Images, labels_of};
use crate::pipe::{AnswerWriter, Answers, UploadReader, answer};

/// Bytes between two lines of progress.
const STEP: u64 = 1 << 20;

/// What the image service needs of who fetches things.
#[async_trait]
pub trait Downloads: Send + Sync {
    /// Asks for what is behind an http(s) URL: its size, when that is told, and its bytes.
    async fn open(&self, url: &str) -> Result<(Option<u64>, Answers<Bytes>)>;
    /// Bytes of layers that did not arrive whole and are kept for the next pull. Blocking.
    fn partial_size(&self) -> u64;
    /// Deletes those of them that no pull is at and that `accepts` by their time; answers the bytes freed. Blocking.
    fn drop_partials(&self, accepts: &dyn Fn(SystemTime) -> bool) -> u64;
}

impl Images {
    /// `POST /images/create?fromSrc=`: an image from an archive of a root file system, which is the request's body (`-`) or behind a
    /// URL. Progress as JSON lines.
    ///
    /// # Errors
    /// A URL that leads to nothing; a failed import is the last item of the stream.
    pub async fn import(
        &self,
        mut query: ImportQuery,
        archive: Answers<Bytes>,
    ) -> Result<Answers<Bytes>> {
        if query.message.is_empty() {
            query.message = format!("Imported from {}", query.source);
        }
        let mut reader = Counted {
            stream: UploadReader::new(archive),
            current: 0,
        };
        let mut from = None;
        if query.source != "-" {
            let url = match query.source.contains("://") {
                true => query.source.clone(),
                false => format!("http://{}", query.source),
            };
            let (total, bytes) = self.downloads.open(&url).await?;
            reader.stream = UploadReader::while_read(bytes);
            from = Some((url, total));
        }
        let (catalog, house) = (Arc::clone(&self.catalog), Arc::clone(&self.house));
        Ok(answer(move |out| {
            let id = match &from {
                None => catalog.import(&query, &mut reader)?,
                Some((url, total)) => {
                    let text = format!("Downloading from {url}");
                    let _gone = out.item(line(&json!({ "status": text })));
                    let told = Told {
                        reader,
                        out,
                        total: *total,
                        told: 0,
                    };
                    catalog.import(&query, &mut { told })?
                }
            };
            let mut attributes = labels_of(&*catalog, &id);
            attributes.insert("name".to_owned(), id.to_string());
            house
                .events
                .publish("image", "import", &id.to_string(), attributes);
            let _gone = out.item(line(&json!({ "status": id })));
            Ok(())
        }))
    }

    /// Bytes of all layers, each once, and of what is kept of those that did not arrive whole.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn layers_size(&self) -> Result<u64> {
        let downloads = Arc::clone(&self.downloads);
        self.with_catalog(move |catalog| Ok(catalog.layers_size() + downloads.partial_size()))
            .await
    }

    /// Deletes what is kept of layers that no pull is at, as far as the filter accepts something of that time without labels;
    /// answers the bytes freed.
    pub(super) async fn prune_downloads(&self, filter: Arc<PruneFilter>) -> Result<u64> {
        let downloads = Arc::clone(&self.downloads);
        let accepts = move |time: SystemTime| {
            let time = jiff::Timestamp::try_from(time);
            time.is_ok_and(|time| filter.accepts(&time.to_string(), &BTreeMap::new()))
        };
        cais_engine::house::blocking(move || Ok(downloads.drop_partials(&accepts))).await
    }
}

/// Counts what is read.
struct Counted {
    stream: UploadReader,
    current: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.current += count as u64;
        Ok(count)
    }
}

/// A download that tells how far it is.
struct Told<'a> {
    reader: Counted,
    out: &'a mut AnswerWriter,
    total: Option<u64>,
    told: u64,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let current = self.reader.current;
        if count == 0 || current - self.told >= STEP {
            self.told = current;
            let detail = match self.total {
                Some(total) => json!({ "current": current, "total": total }),
                None => json!({ "current": current }),
            };
            let told = json!({ "status": "Importing", "progressDetail": detail });
            // Nobody waits for an image that its client does not want any more.
            self.out
                .item(line(&told))
                .map_err(|_| io::Error::other(Error::internal("the client has gone")))?;
        }
        Ok(count)
    }
}
