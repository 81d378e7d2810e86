//! Making an image of one layer from a root file system archive.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use cais_types::{Digest, Reference};
use serde_json::{Map, Value, json};

use crate::addition::NewImage;
use crate::error::ImageError;
use crate::layers::unpack::unpack;
use crate::store::Store;

/// What `docker import` asks for.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The name of the image; none leaves it without one.
    pub reference: Option<Reference>,
    /// The comment of the image; Docker's client sends `Imported from ...`.
    pub message: String,
    /// `Env`, `Cmd`, `Entrypoint`, ...
    pub config: Map<String, Value>,
    /// `linux/amd64`; empty means this host.
    pub platform: String,
}

impl Store {
    /// Makes an image from a tar stream of a root file system, compressed or not.
    pub fn import(
        &self,
        archive: impl Read + Send,
        request: &ImportRequest,
    ) -> Result<Digest, ImageError> {
        let (os, architecture, variant) = platform(&request.platform)?;
        if let Some(reference) = request
            .reference
            .as_ref()
            .filter(|one| one.digest().is_some())
        {
            let text = format!("cannot import digest reference {}", reference.familiar());
            return Err(ImageError::Invalid(text));
        }
        let layer = unpack(&self.layers, archive, self.limits)?.finish()?;
        let now = jiff::Timestamp::now().to_string();
        let mut document = json!({
            "comment": request.message,
            "created": now,
            "config": request.config,
            "architecture": architecture,
            "os": os,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff]},
            "history": [{"created": now, "comment": request.message}],
        });
        if let Some(variant) = variant {
            document["variant"] = Value::String(variant);
        }
        let references = request.reference.iter().cloned();
        let committed = self.commit(NewImage {
            config: document.to_string().into_bytes(),
            layers: HashMap::from([(layer.diff, Arc::new(layer))]),
            parent: None,
            references: references.map(Reference::with_default_tag).collect(),
            ..NewImage::default()
        })?;
        Ok(committed.image.id)
    }
}

fn platform(text: &str) -> Result<(String, String, Option<String>), ImageError> {
    let host = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let parts: Vec<_> = text.split('/').collect();
    match *parts.as_slice() {
        [""] | ["linux"] => Ok(("linux".to_owned(), host.to_owned(), None)),
        ["linux", architecture] if !architecture.is_empty() => {
            Ok(("linux".to_owned(), architecture.to_owned(), None))
        }
        ["linux", architecture, variant] if !architecture.is_empty() && !variant.is_empty() => {
            let variant = Some(variant.to_owned());
            Ok(("linux".to_owned(), architecture.to_owned(), variant))
        }
        [_] | [_, _] | [_, _, _] => {
            let text = format!("operating system is not supported: {text:?}");
            Err(ImageError::Invalid(text))
        }
        _ => {
            let text = format!("{text:?}: unknown operating system or architecture");
            Err(ImageError::Invalid(text))
        }
    }
}
