//! `--build-context NAME=oci-layout://DIRECTORY[:TAG|@DIGEST]`: an image of an OCI layout, given to the daemon.

use std::fs;
use std::path::{Path, PathBuf};

use cais_types::oci::{Descriptor, Index, media_type};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::error::{CliError, Result};

/// The tag of an image that no tag is asked for.
const LATEST: &str = "latest";
/// Annotations that have the tag, or the name with the tag.
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// An image of a layout.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
    tag: Option<String>,
    digest: Option<String>,
}

impl Layout {
    /// Reads what stands behind `oci-layout://`.
    pub fn parse(place: &str) -> Self {
        let (rest, digest) = match place.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (place, None),
        };
        // A directory may have a colon of its own.
        let tagged = rest.rsplit_once(':').filter(|_| !Path::new(rest).is_dir());
        let (directory, tag) = match tagged.filter(|(_, tag)| !tag.contains('/')) {
            Some((directory, tag)) => (directory, Some(tag.to_owned())),
            None => (rest, None),
        };
        Self {
            directory: directory.into(),
            tag,
            digest,
        }
    }

    /// The image alone, as an archive without names.
    ///
    /// # Errors
    /// A directory that is no layout; an image that it does not have.
    pub fn archive(&self) -> Result<NamedTempFile> {
        let failed = |error: &dyn std::fmt::Display| {
            CliError::new(format!("oci-layout {}: {error}", self.directory.display()))
        };
        let text = fs::read(self.directory.join("index.json")).map_err(|error| failed(&error))?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
        let mut image = self.choose(&index).map_err(|error| failed(&error))?.clone();
        image.annotations = None;
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [image],
        });
        let mut archive = tar::Builder::new(NamedTempFile::new()?);
        for (name, document) in [
            ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
            ("index.json", index),
        ] {
            let text = document.to_string();
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes())?;
        }
        archive.append_dir_all("blobs", self.directory.join("blobs"))?;
        Ok(archive.into_inner()?)
    }

    fn choose<'a>(&self, index: &'a Index) -> std::result::Result<&'a Descriptor, String> {
        let mut all = index.manifests.iter();
        if let Some(digest) = &self.digest {
            let found = all.find(|one| one.digest.to_string() == *digest);
            return found.ok_or_else(|| format!("no image with digest {digest}"));
        }
        let tag = self.tag.as_deref().unwrap_or(LATEST);
        let tagged = |one: &&Descriptor| {
            let annotations = one.annotations.as_ref();
            let names = NAMES.iter().filter_map(|key| annotations?.get(*key));
            let mut names =
                names.map(|name| name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag));
            names.any(|name| name == tag)
        };
        match (all.find(tagged), &index.manifests[..]) {
            (Some(found), _) => Ok(found),
            (None, [only]) if self.tag.is_none() => Ok(only),
            _ => Err(format!("no image with tag {tag}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use cais_types::Digest;

    use super::*;

    #[test]
    fn an_image_has_a_tag_a_digest_or_is_the_only_one() {
        let parse = |text| {
            let layout = Layout::parse(text);
            let directory = layout.directory.to_string_lossy().into_owned();
            (directory, layout.tag, layout.digest)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parse("a/b"), ("a/b".to_owned(), None, None));
        assert_eq!(parse("/a:1/b:2"), ("/a:1/b".to_owned(), some("2"), None));
        assert_eq!(parse("/a:1/b"), ("/a:1/b".to_owned(), None, None));
        assert_eq!(
            parse("a@sha256:0"),
            ("a".to_owned(), None, some("sha256:0"))
        );
        let image = |text: &str, name: Option<&str>| {
            let mut image = Descriptor::new(media_type::MANIFEST, Digest::of(text.as_bytes()), 1);
            image.annotations = name.map(|name| [(NAMES[0].to_owned(), name.to_owned())].into());
            image
        };
        let mut index = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![image("a", Some("1")), image("b", Some("localhost/x:2"))],
            subject: None,
            annotations: None,
        };
        let chosen =
            |place: &str, index: &Index| Layout::parse(place).choose(index).map(|one| one.digest);
        assert_eq!(chosen("d:2", &index), Ok(Digest::of(b"b")));
        assert_eq!(
            chosen("d", &index),
            Err("no image with tag latest".to_owned())
        );
        let by_digest = format!("d@{}", Digest::of(b"a"));
        assert_eq!(chosen(&by_digest, &index), Ok(Digest::of(b"a")));
        index.manifests.pop();
        assert_eq!(chosen("d", &index), Ok(Digest::of(b"a")));
        assert!(chosen("d:2", &index).is_err());
    }
}
