//! What images an archive describes: `manifest.json` of docker save, or `index.json` of an OCI layout.

use cais_types::oci::set::{Annotations, REFERENCE_DIGEST, REFERENCE_TYPE};
use cais_types::oci::{Descriptor, ImageSet, Member, Platform, media_type};
use cais_types::{Digest, Reference};
use serde::Deserialize;

use super::load::Contents;
use crate::config::ManifestOrIndex;
use crate::error::ImageError;
use crate::tarball::place::clean;

/// Deepest nesting of indexes followed.
const NESTING_MAX: usize = 4;
/// The full name containerd gives an image in an index.
pub const NAME: &str = "io.containerd.image.name";
/// The tag, or with some writers the full name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image in an archive.
pub struct Plan {
    /// Path of the configuration.
    pub config: Vec<u8>,
    /// What it must hash to.
    pub config_digest: Option<Digest>,
    /// Paths of the layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    pub references: Vec<Reference>,
    /// The manifest as it came, and its media type.
    pub manifest: Option<(Vec<u8>, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of an archive, of several platforms the one that is wanted.
pub fn plans(contents: &Contents, platform: Option<&Platform>) -> Result<Vec<Plan>, ImageError> {
    let mut plans = if contents.documents.contains_key(&b"manifest.json"[..]) {
        docker_plans(contents)?
    } else {
        check_layout(contents)?;
        layout_plans(contents, platform)?
    };
    if let Some(platform) = platform {
        let fits = |plan: &Plan| {
            let own = contents
                .config(plan)
                .and_then(|config| own_platform(&config));
            own.is_ok_and(|own| platform.fit(&own).is_some())
        };
        plans.retain(fits);
        if plans.is_empty() && contents.has(b"index.json") {
            // `manifest.json` has one of several platforms only.
            plans = layout_plans(contents, Some(platform))?;
            plans.retain(fits);
        }
        if plans.is_empty() {
            return Err(not_provided(platform));
        }
    }
    Ok(plans)
}

/// A name of several images in an archive that has all of them.
pub struct SetPlan {
    pub name: Reference,
    /// With what is attested.
    pub set: ImageSet,
    /// Its images, without names.
    pub images: Vec<Plan>,
}

/// The names of several images. One of which the archive lacks something is none.
pub fn set_plans(contents: &Contents) -> Result<Vec<SetPlan>, ImageError> {
    let Ok(index) = contents.get(b"index.json") else {
        return Ok(Vec::new());
    };
    let index = parse::<ManifestOrIndex>("index.json", index)?;
    let mut plans = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let here = contents.has(&blob_path(&descriptor.digest));
        let name = names(&descriptor)?.into_iter().next();
        if let Some(name) = name.filter(|_| here) {
            plans.extend(set_plan(contents, &descriptor, name)?);
        }
    }
    Ok(plans)
}

fn set_plan(
    contents: &Contents,
    descriptor: &Descriptor,
    name: Reference,
) -> Result<Option<SetPlan>, ImageError> {
    let index = document(contents, descriptor)?;
    let (mut attestations, mut images, mut members) = (Vec::new(), Vec::new(), Vec::new());
    let mut set = ImageSet {
        annotations: index.annotations.unwrap_or_default(),
        descriptor_annotations: without_names(descriptor),
        ..ImageSet::default()
    };
    for one in index.manifests.unwrap_or_default() {
        if !contents.has(&blob_path(&one.digest)) {
            return Ok(None);
        }
        if let Some(about) = attests(&one) {
            attestations.push((about, document(contents, &one)?));
            continue;
        }
        let plan = oci_manifest(contents, &one)?;
        let whole = plan.filter(|plan| {
            let mut parts = plan.layers.iter().chain([&plan.config]);
            parts.all(|path| contents.has(path))
        });
        let Some((id, plan)) = whole.and_then(|plan| Some((plan.config_digest?, plan))) else {
            return Ok(None);
        };
        images.push(plan);
        let own = document(contents, &one)?;
        let mut member = Member::new(id);
        member.annotations = own.annotations.unwrap_or_default();
        member.descriptor_annotations = without_names(&one);
        members.push((one.digest, member));
    }
    for (about, attestation) in attestations {
        let member = members.iter_mut().find(|(digest, _)| *digest == about);
        let Some((_, member)) = member else { continue };
        for layer in attestation.layers.unwrap_or_default() {
            let statement = contents.get(&blob_path(&layer.digest))?;
            member.statements.push(parse("attestation", statement)?);
        }
    }
    set.members = members.into_iter().map(|(_, member)| member).collect();
    Ok((!images.is_empty() && set.is_index()).then_some(SetPlan { name, set, images }))
}

/// The manifest that another one attests something of.
fn attests(descriptor: &Descriptor) -> Option<Digest> {
    let annotations = descriptor.annotations.as_ref()?;
    let about = annotations.get(REFERENCE_DIGEST)?;
    annotations.get(REFERENCE_TYPE)?;
    about.parse().ok()
}

/// The annotations of a descriptor besides the names of what it leads to.
fn without_names(descriptor: &Descriptor) -> Annotations {
    let mut annotations = descriptor.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != NAME && key != REF_NAME);
    annotations
}

fn not_provided(platform: &Platform) -> ImageError {
    let text = format!("image archive does not provide the specified platform ({platform})");
    ImageError::Archive(text)
}

/// What a configuration says it is for.
fn own_platform(config: &[u8]) -> Result<Platform, ImageError> {
    parse::<Platform>("image configuration", config)
}

/// Whether the archive is an OCI layout; if not, why it is nothing.
fn check_layout(contents: &Contents) -> Result<(), ImageError> {
    match contents.get(b"index.json") {
        Ok(_) => Ok(()),
        Err(error) if contents.has_large(b"index.json") => Err(error),
        Err(_) if contents.documents.contains_key(&b"repositories"[..]) => {
            let text = "image archives from before Docker 1.10 are not supported: save it again";
            Err(ImageError::Unsupported(text.to_owned()))
        }
        Err(_) => contents.get(b"manifest.json").map(drop).map_err(|error| {
            if contents.has_large(b"manifest.json") {
                return error;
            }
            let text = "invalid archive: does not contain a manifest.json";
            ImageError::Archive(text.to_owned())
        }),
    }
}

fn layout_plans(contents: &Contents, platform: Option<&Platform>) -> Result<Vec<Plan>, ImageError> {
    let index = parse::<ManifestOrIndex>("index.json", contents.get(b"index.json")?)?;
    let mut wanted = platform.cloned().unwrap_or_else(Platform::host);
    let descriptors = index.manifests.unwrap_or_default();
    let fits = |wanted: &Platform| descriptors.iter().any(|one| rank(wanted, one).is_some());
    if platform.is_none() && !fits(&wanted) {
        // Nothing for this machine: what is there may still be kept and passed on.
        let first = descriptors.iter().find_map(|one| one.platform.clone());
        wanted = first.unwrap_or(wanted);
    }
    let mut plans: Vec<Plan> = Vec::new();
    for descriptor in &descriptors {
        let references = names(descriptor)?;
        let Some(mut plan) = oci_plan(contents, descriptor, &wanted, 0)? else {
            continue;
        };
        let same = plans
            .iter_mut()
            .find(|other| other.config_digest == plan.config_digest);
        match same {
            Some(other) => other.references.extend(references),
            None => {
                plan.references = references;
                plans.push(plan);
            }
        }
    }
    if plans.is_empty() {
        let text = "invalid archive: no image for this platform in index.json";
        let failure = || ImageError::Archive(text.to_owned());
        return Err(platform.map_or_else(failure, not_provided));
    }
    Ok(plans)
}

fn docker_plans(contents: &Contents) -> Result<Vec<Plan>, ImageError> {
    let images: Vec<DockerImage> = parse("manifest.json", contents.get(b"manifest.json")?)?;
    let plan = |image: DockerImage| {
        let config = clean(image.config.as_bytes())?;
        let layers = image.layers.unwrap_or_default();
        let layers: Result<_, _> = layers.iter().map(|path| clean(path.as_bytes())).collect();
        let mut references = Vec::new();
        for tag in image.repo_tags.unwrap_or_default() {
            references.push(tag.parse::<Reference>()?.with_default_tag());
        }
        let mut plan = Plan {
            config_digest: blob_digest(&config),
            config,
            layers: layers?,
            references,
            manifest: None,
        };
        plan.manifest = manifest_of(contents, &plan);
        Ok(plan)
    };
    images.into_iter().map(plan).collect()
}

/// The OCI manifest of an image in an archive that is a layout as well, when it names the same blobs.
fn manifest_of(contents: &Contents, plan: &Plan) -> Option<(Vec<u8>, String)> {
    let index = contents.get(b"index.json").ok()?;
    let index = parse::<ManifestOrIndex>("index.json", index).ok()?;
    let fits = |descriptor: Descriptor| {
        let other = oci_manifest(contents, &descriptor).ok()??;
        (other.config == plan.config && other.layers == plan.layers).then_some(other.manifest)?
    };
    index.manifests?.into_iter().find_map(fits)
}

/// The manifest behind a descriptor for this platform; none for attestations and other platforms.
fn oci_plan(
    contents: &Contents,
    descriptor: &Descriptor,
    wanted: &Platform,
    depth: usize,
) -> Result<Option<Plan>, ImageError> {
    if rank(wanted, descriptor).is_none() {
        return Ok(None);
    }
    let Some(mut manifests) = document(contents, descriptor)?.manifests else {
        return oci_manifest(contents, descriptor);
    };
    if depth >= NESTING_MAX {
        let text = "invalid archive: indexes are nested too deep";
        return Err(ImageError::Archive(text.to_owned()));
    }
    // The best first; of equals the first.
    manifests.sort_by_key(|one| rank(wanted, one).unwrap_or(u32::MAX));
    for descriptor in manifests {
        // An archive may lack the platforms it was not saved for.
        let path = blob_path(&descriptor.digest);
        if contents.get(&path).is_err() && !contents.has_large(&path) {
            continue;
        }
        if let Some(plan) = oci_plan(contents, &descriptor, wanted, depth + 1)? {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

/// The document behind a descriptor, checked.
fn document(contents: &Contents, descriptor: &Descriptor) -> Result<ManifestOrIndex, ImageError> {
    let bytes = contents.get(&blob_path(&descriptor.digest))?;
    let have = crate::content::digest(bytes);
    if have != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(ImageError::Verification {
            what: "manifest",
            want: descriptor.digest.to_string(),
            have: have.to_string(),
        });
    }
    let document = parse::<ManifestOrIndex>("manifest", bytes)?;
    check_kind(descriptor, &document)?;
    Ok(document)
}

/// The image of a manifest; none for signatures and attestations, which are manifests too.
fn oci_manifest(contents: &Contents, descriptor: &Descriptor) -> Result<Option<Plan>, ImageError> {
    let document = document(contents, descriptor)?;
    if document.manifests.is_some() {
        return Ok(None);
    }
    let (Some(config), Some(layers)) = (document.config, document.layers) else {
        let text = "invalid manifest: no config or no layers";
        return Err(ImageError::Archive(text.to_owned()));
    };
    let mut encrypted = layers.iter();
    if let Some(layer) = encrypted.find(|layer| media_type::is_encrypted(&layer.media_type)) {
        let text = format!(
            "layer {} is encrypted, which is not supported: {}",
            layer.digest, layer.media_type
        );
        return Err(ImageError::Unsupported(text));
    }
    let is_layer = |layer: &Descriptor| layer.media_type.contains("tar");
    if !layers.iter().all(is_layer) {
        return Ok(None);
    }
    let bytes = contents.get(&blob_path(&descriptor.digest))?.to_vec();
    let media_type = document.media_type.filter(|text| !text.is_empty());
    let media_type = media_type.unwrap_or_else(|| descriptor.media_type.clone());
    Ok(Some(Plan {
        config: blob_path(&config.digest),
        config_digest: Some(config.digest),
        layers: layers
            .iter()
            .map(|layer| blob_path(&layer.digest))
            .collect(),
        references: Vec::new(),
        manifest: Some((bytes, media_type)),
    }))
}

/// Refuses documents that are an index to one reader and a manifest to another (CVE-2021-41190).
fn check_kind(descriptor: &Descriptor, document: &ManifestOrIndex) -> Result<(), ImageError> {
    let is_index = document.manifests.is_some();
    let both = is_index && (document.layers.is_some() || document.config.is_some());
    let says_index = media_type::is_index;
    let known = |media_type: &str| says_index(media_type) || media_type::is_manifest(media_type);
    let own = document.media_type.as_deref().filter(|one| !one.is_empty());
    let outer = Some(&*descriptor.media_type).filter(|one| known(one));
    let differs = |one: Option<&str>| one.is_some_and(|one| says_index(one) != is_index);
    if both || differs(own.filter(|one| known(one))) || differs(outer) {
        let text = format!(
            "invalid manifest {}: ambiguous media type",
            descriptor.digest
        );
        return Err(ImageError::Archive(text));
    }
    Ok(())
}

/// How well an image serves where `wanted` is; smaller is better, none is not at all. One that does not say is taken as last.
fn rank(wanted: &Platform, descriptor: &Descriptor) -> Option<u32> {
    match &descriptor.platform {
        None => Some(u32::MAX - 1),
        Some(platform) => wanted.fit(platform),
    }
}

fn names(descriptor: &Descriptor) -> Result<Vec<Reference>, ImageError> {
    let Some(annotations) = &descriptor.annotations else {
        return Ok(Vec::new());
    };
    if let Some(name) = annotations.get(NAME) {
        return Ok(vec![name.parse::<Reference>()?.with_default_tag()]);
    }
    // A bare tag names no repository; such an image is loaded by its id.
    let full = annotations
        .get(REF_NAME)
        .filter(|name| name.contains([':', '/']));
    let parsed = full.and_then(|name| name.parse::<Reference>().ok());
    Ok(parsed
        .map(Reference::with_default_tag)
        .into_iter()
        .collect())
}

fn blob_path(digest: &Digest) -> Vec<u8> {
    format!("blobs/sha256/{}", digest.hex()).into_bytes()
}

/// The digest in a path of a configuration: `blobs/sha256/<hex>` or `<hex>.json`.
fn blob_digest(path: &[u8]) -> Option<Digest> {
    let path = std::str::from_utf8(path).ok()?;
    let digits = path
        .strip_prefix("blobs/sha256/")
        .or_else(|| path.strip_suffix(".json"))?;
    format!("sha256:{digits}").parse().ok()
}

fn parse<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Archive(format!("invalid {name}: {error}")))
}
