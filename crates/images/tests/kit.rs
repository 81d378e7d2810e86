//! A store in its own directory, and small archives made by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_images::{LoadEvent, LoadedImage, Store, digest};
use cais_state::Db;
use cais_types::{ContainerId, Digest};
use serde_json::json;

/// A data root that goes with the test.
pub struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn open(&self) -> Store {
        std::fs::create_dir_all(self.path()).unwrap();
        let db = Db::open(&self.path().join("cais.db")).unwrap();
        Store::open(&self.path(), Arc::new(db)).unwrap()
    }

    /// Names in a directory of the data root.
    pub fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.path().join(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Writes a tar stream with any bytes in any field.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn entry(mut self, path: &str, kind: u8, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        header.set_mtime(1_600_000_000);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.raw(data)
    }

    /// A file's header that says a size of its own; what follows is left to the caller.
    pub fn sized(mut self, path: &str, size: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_mtime(1_600_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    /// Bytes filled up to a block.
    pub fn raw(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path, b'0', "", 0o644, data)
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(path, b'5', "", 0o755, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', target, 0o777, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', target, 0o644, b"")
    }

    /// A pax header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            write!(body, "{length} {key}=").unwrap();
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry("PaxHeaders/x", b'x', "", 0o644, &body)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An image to be put into an archive.
pub struct TestImage {
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub tags: Vec<String>,
}

impl TestImage {
    pub fn new(tags: &[&str], layers: Vec<Vec<u8>>) -> Self {
        let diffs: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let mut config = String::new();
        write!(
            config,
            "{}",
            json!({
                "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
                "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
                "rootfs": {"type": "layers", "diff_ids": diffs},
                "history": layers.iter().enumerate().map(|(place, _)| {
                    json!({"created": "2024-01-02T03:04:05Z", "created_by": format!("step {place}")})
                }).collect::<Vec<_>>(),
            })
        )
        .unwrap();
        Self {
            config: config.into_bytes(),
            layers,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    pub fn id(&self) -> Digest {
        digest(&self.config)
    }

    /// As docker save writes it: blobs before the manifest.
    pub fn docker_archive(&self) -> Vec<u8> {
        let mut blobs = BTreeMap::new();
        blobs.insert(self.id(), self.config.clone());
        for layer in &self.layers {
            blobs.insert(digest(layer), layer.clone());
        }
        let mut tar = Tar::default();
        for (name, bytes) in &blobs {
            tar = tar.file(&blob(name), bytes);
        }
        let manifest = json!([{
            "Config": blob(&self.id()),
            "RepoTags": self.tags,
            "Layers": self.layers.iter().map(|layer| blob(&digest(layer))).collect::<Vec<_>>(),
        }]);
        tar.file("manifest.json", manifest.to_string().as_bytes())
            .end()
    }

    /// An OCI layout with compressed layers, the index first.
    pub fn oci_archive(&self, compress: impl Fn(&[u8]) -> Vec<u8>, media_type: &str) -> Vec<u8> {
        let layers: Vec<_> = self.layers.iter().map(|layer| compress(layer)).collect();
        let describe = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe(&self.config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|layer| describe(layer, media_type)).collect::<Vec<_>>(),
        })
        .to_string();
        let mut descriptor = describe(
            manifest.as_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        descriptor["annotations"] = json!({"io.containerd.image.name": self.tags[0]});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
        let mut tar = Tar::default()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", index.as_bytes())
            .file(&blob(&digest(manifest.as_bytes())), manifest.as_bytes());
        for layer in &layers {
            tar = tar.file(&blob(&digest(layer)), layer);
        }
        tar.file(&blob(&self.id()), &self.config).end()
    }
}

pub fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub fn load(store: &Store, archive: &[u8]) -> Result<Vec<LoadedImage>, String> {
    load_events(store, archive).0
}

pub fn load_events(
    store: &Store,
    archive: &[u8],
) -> (Result<Vec<LoadedImage>, String>, Vec<LoadEvent>) {
    let mut events = Vec::new();
    let result = store.load(archive, None, &mut |event| events.push(event));
    (result.map_err(|error| error.to_string()), events)
}

/// Loads one layer as an image and answers the directory it is unpacked in.
pub fn load_layer(root: &Root, store: &Store, layer: Vec<u8>) -> Result<PathBuf, String> {
    let image = TestImage::new(&["test:layer"], vec![layer]);
    load(store, &image.docker_archive())?;
    let chain = digest(&image.layers[0]);
    Ok(root.path().join("layers").join(chain.hex()).join("diff"))
}

pub fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

/// A path through an open directory, for plain `std::fs` calls on a detached mount.
pub fn through(fd: &std::os::fd::OwnedFd, below: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())).join(below)
}
