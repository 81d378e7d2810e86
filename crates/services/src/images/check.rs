//! `POST /cais/system/check`: whether the image store is whole.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cais_types::api::CheckMessage;

use super::Images;
use super::archives::line;
use crate::pipe::{Answers, answer};

impl Images {
    /// Findings as JSON lines, then a summary. With `repair` orphans go and what is damaged is marked.
    pub fn check(&self, repair: bool) -> Answers<Bytes> {
        let catalog = Arc::clone(&self.catalog);
        answer(move |out| {
            let out = Mutex::new(out);
            let send = |message: &CheckMessage| {
                let message = serde_json::to_value(message).unwrap_or_default();
                // A client that has gone does not stop a repair.
                let _ = out
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .item(line(&message));
            };
            let summary = catalog.check(repair, &|finding| {
                send(&CheckMessage {
                    finding: Some(finding),
                    ..CheckMessage::default()
                });
            })?;
            send(&CheckMessage {
                summary: Some(summary),
                ..CheckMessage::default()
            });
            Ok(())
        })
    }
}
