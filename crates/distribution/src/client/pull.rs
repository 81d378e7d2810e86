//! Pull: manifest, configuration, all layers side by side, one commit.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cais_sys::failpoint;
use cais_types::oci::{Descriptor, Document, Index, Manifest, Platform, media_type};
use cais_types::{Digest, Reference};
use futures_util::future::try_join_all;
use serde::Deserialize;

use super::configs::Share;
use super::error::RegistryError;
use super::progress::{Event, ProgressSink, Step};
use super::registry::{Shared, find_manifest};
use super::repository::{digest_of, is_image_config};
use super::request::{PullRequest, PulledReference, RawManifest};
use super::store::{PullStore, PulledImage, UnpackedLayer};
use super::transfers::{Source, Ticket, Wanted, blocking};

/// Image configurations that are read: what a pull needs of them (image-spec config.md).
#[derive(Debug, Deserialize)]
pub struct ConfigOutline {
    #[serde(flatten)]
    pub platform: Platform,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// An image as a registry describes it.
pub struct Resolved {
    /// Of what the registry has under the name.
    pub digest: Digest,
    pub manifest: Manifest,
    pub raw: RawManifest,
    pub source: Source,
}

struct Pull<'a> {
    shared: &'a Shared,
    request: &'a PullRequest,
    store: Arc<dyn PullStore>,
    progress: &'a ProgressSink,
}

/// Layers of an image, by what has to be done about them.
struct Plan {
    layers: Vec<(Descriptor, Digest)>,
    missing: Vec<(Descriptor, Digest)>,
}

/// Pulls one image or all tags.
pub async fn pull(
    shared: &Shared,
    request: &PullRequest,
    store: Arc<dyn PullStore>,
    progress: &ProgressSink,
) -> Result<Vec<PulledReference>, RegistryError> {
    let pull = Pull {
        shared,
        request,
        store,
        progress,
    };
    let references = pull.references().await?;
    let mut pulled = Vec::new();
    for reference in references {
        pulled.push(pull.one(reference).await?);
    }
    let is_new = pulled.iter().any(|one| !one.image.unchanged);
    let name = match request.all_tags {
        true => request.reference.familiar_name(),
        false => request.reference.clone().with_default_tag().familiar(),
    };
    progress.line(match is_new {
        true => format!("Status: Downloaded newer image for {name}"),
        false => format!("Status: Image is up to date for {name}"),
    });
    Ok(pulled)
}

impl Pull<'_> {
    async fn references(&self) -> Result<Vec<Reference>, RegistryError> {
        let asked = self.request.reference.clone();
        if !self.request.all_tags {
            return Ok(vec![asked.with_default_tag()]);
        }
        let auth = self.request.auth.as_ref();
        let source = self.shared.pull_source(&asked, auth).await?;
        let mut failure = None;
        for repository in source {
            match repository.tags().await {
                Ok(tags) => {
                    let named = tags.iter().filter_map(|tag| asked.with_tag(tag).ok());
                    return Ok(named.collect());
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| RegistryError::Settings("no server to ask".into())))
    }

    async fn one(&self, reference: Reference) -> Result<PulledReference, RegistryError> {
        let auth = self.request.auth.as_ref();
        let source = self.shared.pull_source(&reference, auth).await?;
        let word = wanted_word(&reference);
        let found = find_manifest(source, word).await?;
        self.progress.tell(Event::Message {
            id: Some(word.to_owned()),
            status: format!("Pulling from {}", reference.path()),
        });
        let wanted = self.request.platform.clone();
        let wanted = wanted.unwrap_or_else(Platform::host);
        let resolved = resolve(found, &wanted).await?;
        failpoint::reach("pull-manifest");
        let digest = resolved.manifest.config.digest;
        let share = self.shared.configs.join(&resolved.source, digest);
        let config = self.config(&resolved, &share).await?;
        failpoint::reach("pull-config");
        let outline = read_config(&config)?;
        if self.request.platform.is_some() && wanted.fit(&outline.platform).is_none() {
            self.progress.line(format!(
                "WARNING: image with reference {} was found but its platform ({}) does not match the specified platform ({wanted})",
                reference.familiar(),
                outline.platform.clone().normalized(),
            ));
        }
        let layers = layers_of(&resolved.manifest, &outline)?;
        let plan = self.plan(&resolved.manifest.config.digest, layers).await?;
        let tickets: Vec<Ticket> = plan
            .missing
            .iter()
            .map(|(layer, diff)| {
                let wanted = Wanted {
                    layer: layer.clone(),
                    diff: *diff,
                    store: self.store.clone(),
                };
                self.shared.transfers.join(wanted, resolved.source.clone())
            })
            .collect();
        let unpacked = try_join_all(tickets.iter().map(|ticket| async {
            let layer = ticket.follow(self.progress).await?;
            Ok::<_, RegistryError>(layer.map(|layer| (ticket.diff(), layer)))
        }))
        .await?;
        let unpacked = unpacked.into_iter().flatten().collect();
        let digest = resolved.digest;
        let image = self.image(&reference, resolved, config, plan.layers)?;
        let pulled = self.commit(image, unpacked, &tickets).await?;
        self.progress.line(format!("Digest: {digest}"));
        Ok(PulledReference {
            reference,
            digest,
            image: pulled,
        })
    }

    /// The configuration, the store's own where the image is there.
    async fn config(&self, resolved: &Resolved, share: &Share) -> Result<Bytes, RegistryError> {
        let wanted = &resolved.manifest.config;
        let (store, digest) = (self.store.clone(), wanted.digest);
        match blocking(move || store.config(&digest)).await? {
            Some(bytes) => Ok(bytes.into()),
            None => share.get(&resolved.source, wanted).await,
        }
    }

    /// What the store has already, told layer by layer.
    async fn plan(
        &self,
        config: &Digest,
        layers: Vec<(Descriptor, Digest)>,
    ) -> Result<Plan, RegistryError> {
        let (store, config, asked) = (self.store.clone(), *config, layers.clone());
        let has = blocking(move || {
            if store.has_image(&config) {
                return None;
            }
            let chains = chain_ids(asked.iter().map(|(_, diff)| *diff));
            let pairs = chains.iter().zip(&asked);
            Some(
                pairs
                    .map(|(chain, (_, diff))| store.has_layer(chain) || store.has_diff(diff))
                    .collect::<Vec<bool>>(),
            )
        })
        .await?;
        let mut missing: Vec<(Descriptor, Digest)> = Vec::new();
        let mut seen = HashSet::new();
        for ((layer, diff), has) in layers.iter().zip(has.into_iter().flatten()) {
            let id = layer.digest.short();
            if has {
                self.progress.step(&id, Step::AlreadyExists);
                continue;
            }
            self.progress.step(&id, Step::PullingFsLayer);
            if seen.insert(*diff) {
                missing.push((layer.clone(), *diff));
            }
        }
        Ok(Plan { layers, missing })
    }

    fn image(
        &self,
        reference: &Reference,
        resolved: Resolved,
        config: Bytes,
        layers: Vec<(Descriptor, Digest)>,
    ) -> Result<PulledImage, RegistryError> {
        let by_digest = reference
            .with_digest(&resolved.digest.to_string())
            .map_err(|error| RegistryError::Settings(error.to_string()))?;
        let by_tag = reference.digest().is_none().then(|| reference.clone());
        Ok(PulledImage {
            config: config.into(),
            manifest: resolved.raw.bytes.into(),
            media_type: resolved.raw.media_type,
            layers,
            references: by_tag.into_iter().chain([by_digest]).collect(),
        })
    }

    /// Commits, and deletes the partials of what is in the store now.
    async fn commit(
        &self,
        image: PulledImage,
        unpacked: Vec<(Digest, UnpackedLayer)>,
        tickets: &[Ticket],
    ) -> Result<super::store::Pulled, RegistryError> {
        let store = self.store.clone();
        let partials = self.shared.partials.clone();
        let digests: Vec<Digest> = tickets.iter().map(Ticket::digest).collect();
        let pulled = blocking(move || store.commit(image, unpacked))
            .await?
            .map_err(RegistryError::Store)?;
        // Nobody waits for the deletion of large files.
        tokio::task::spawn_blocking(move || digests.iter().for_each(|d| partials.forget(d)));
        Ok(pulled)
    }
}

/// What the registry is asked for: the digest, else the tag.
pub fn wanted_word(reference: &Reference) -> &str {
    reference.digest().or(reference.tag()).unwrap_or("latest")
}

/// The manifest for a platform, from a manifest or through an index.
pub async fn resolve(
    (raw, source): (RawManifest, Source),
    wanted: &Platform,
) -> Result<Resolved, RegistryError> {
    let digest = raw.digest;
    let index = match Document::parse(&raw.bytes, Some(&raw.media_type))? {
        Document::Manifest(manifest) => return resolved(digest, *manifest, raw, source),
        Document::Index(index) => index,
    };
    let chosen = choose(&index, wanted).ok_or_else(|| {
        RegistryError::Unusable(format!(
            "no matching manifest for {wanted} in the manifest list entries"
        ))
    })?;
    let (mut raw, source) = described(source, chosen).await?;
    if raw.media_type.is_empty() {
        raw.media_type.clone_from(&chosen.media_type);
    }
    let announced = [chosen.media_type.as_str(), raw.media_type.as_str()];
    for kind in announced {
        match Document::parse(&raw.bytes, Some(kind))? {
            Document::Manifest(_) => {}
            Document::Index(_) => {
                return Err(RegistryError::Unusable(
                    "a manifest list in a manifest list is not supported".into(),
                ));
            }
        }
    }
    match Document::parse(&raw.bytes, None)? {
        Document::Manifest(manifest) => resolved(digest, *manifest, raw, source),
        Document::Index(_) => Err(RegistryError::Unusable("the manifest is none".into())),
    }
}

/// What a descriptor leads to, from the first server that has it.
async fn described(
    source: Source,
    descriptor: &Descriptor,
) -> Result<(RawManifest, Source), RegistryError> {
    let mut failure = None;
    for (place, repository) in source.iter().enumerate() {
        match repository.described(descriptor).await {
            Ok(raw) => {
                let rest = source[place..].to_vec();
                return Ok((raw, rest));
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| RegistryError::Settings("no server to ask".into())))
}

fn resolved(
    digest: Digest,
    manifest: Manifest,
    mut raw: RawManifest,
    source: Source,
) -> Result<Resolved, RegistryError> {
    let kind = manifest.config.media_type.as_str();
    if !is_image_config(kind) {
        let class = match kind {
            "application/vnd.docker.plugin.v1+json" => "plugin",
            _ => "unknown",
        };
        return Err(RegistryError::Unusable(format!(
            "Encountered remote {kind:?}({class}) when fetching"
        )));
    }
    if let Some(own) = manifest.media_type.as_ref().filter(|own| !own.is_empty()) {
        raw.media_type.clone_from(own);
    }
    Ok(Resolved {
        digest,
        manifest,
        raw,
        source,
    })
}

/// The entry that fits best; attestations and what has no platform are no images.
fn choose<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let fits = index.manifests.iter().filter_map(|entry| {
        let fit = wanted.fit(entry.platform.as_ref()?)?;
        Some((fit, entry))
    });
    fits.min_by_key(|(fit, _)| *fit).map(|(_, entry)| entry)
}

/// Reads the configuration of an image.
pub fn read_config(bytes: &[u8]) -> Result<ConfigOutline, RegistryError> {
    serde_json::from_slice(bytes)
        .map_err(|error| RegistryError::Unusable(format!("invalid image configuration: {error}")))
}

fn layers_of(
    manifest: &Manifest,
    config: &ConfigOutline,
) -> Result<Vec<(Descriptor, Digest)>, RegistryError> {
    let mut layers = manifest.layers.iter();
    if let Some(layer) = layers.find(|layer| media_type::is_encrypted(&layer.media_type)) {
        return Err(RegistryError::Unusable(format!(
            "layer {} is encrypted, which is not supported: {}",
            layer.digest, layer.media_type
        )));
    }
    let diffs = config.rootfs.as_ref().map(|rootfs| &rootfs.diff_ids);
    let diffs = diffs.map(Vec::as_slice).unwrap_or_default();
    if diffs.len() != manifest.layers.len() {
        return Err(RegistryError::Unusable(
            "layers from manifest don't match image configuration".into(),
        ));
    }
    let layers = manifest.layers.iter().cloned();
    Ok(layers.zip(diffs.iter().copied()).collect())
}

/// The ids of layers with all that is below each (image-spec config.md, ChainID).
pub fn chain_ids(diffs: impl Iterator<Item = Digest>) -> Vec<Digest> {
    let mut below: Option<Digest> = None;
    diffs
        .map(|diff| {
            let chain = match below {
                None => diff,
                Some(parent) => digest_of(format!("{parent} {diff}").as_bytes()),
            };
            below = Some(chain);
            chain
        })
        .collect()
}
