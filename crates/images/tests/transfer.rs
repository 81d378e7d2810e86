//! Images as a pull brings them and a push takes them.

use std::io::Read;
use std::sync::Arc;

use cais_images::{Form, Incoming, PushCompression, SeenForm, Store, digest};
use cais_types::oci::{Descriptor, media_type};
use cais_types::{Digest, Reference};

use crate::kit::{Root, Tar, TestImage, gzip, load};

fn layer(name: &str) -> Vec<u8> {
    Tar::default()
        .dir("d/")
        .file(&format!("d/{name}"), name.repeat(5000).as_bytes())
        .end()
}

/// What a registry has of an image: the manifest's layers with their streams.
struct Remote {
    image: TestImage,
    layers: Vec<(Descriptor, Vec<u8>)>,
}

impl Remote {
    fn new(layers: &[&str]) -> Self {
        let image = TestImage::new(&[], layers.iter().map(|name| layer(name)).collect());
        let packed = image.layers.iter().map(|plain| gzip(plain));
        let layers = packed
            .map(|packed| {
                let size = packed.len() as u64;
                let blob = Descriptor::new(media_type::LAYER_GZIP, digest(&packed), size);
                (blob, packed)
            })
            .collect();
        Self { image, layers }
    }

    fn diff(&self, place: usize) -> Digest {
        digest(&self.image.layers[place])
    }

    fn incoming(&self, name: &str) -> Incoming {
        let name: Reference = name.parse().unwrap();
        let manifest = br#"{"schemaVersion":2}"#.to_vec();
        let by_digest = name.with_digest(&digest(&manifest).to_string()).unwrap();
        let layers = self.layers.iter().enumerate();
        Incoming {
            config: self.image.config.clone(),
            media_type: media_type::MANIFEST.to_owned(),
            layers: layers
                .map(|(place, (blob, _))| (blob.clone(), self.diff(place)))
                .collect(),
            references: vec![name, by_digest],
            holder: None,
            manifest,
        }
    }

    fn unpack(&self, store: &Store, place: usize) -> Arc<cais_images::UnpackedLayer> {
        let (blob, packed) = &self.layers[place];
        Arc::new(
            store
                .unpack_layer(blob, &self.diff(place), &mut &packed[..])
                .unwrap(),
        )
    }

    fn pull(&self, store: &Store, name: &str) -> bool {
        let unpacked = (0..self.layers.len())
            .map(|place| self.unpack(store, place))
            .collect();
        let (id, unchanged) = store.commit_pulled(self.incoming(name), unpacked).unwrap();
        assert_eq!(id, self.image.id());
        unchanged
    }
}

#[test]
fn a_pulled_image_keeps_its_manifest_its_names_and_what_its_layers_came_as() {
    let (root, remote) = (Root::new(), Remote::new(&["one", "two"]));
    let store = Arc::new(root.open());
    assert!(!store.has_image(&remote.image.id()) && store.keep_diff(&remote.diff(0)).is_none());
    assert!(!remote.pull(&store, "localhost:5000/app:1"));
    assert!(store.has_image(&remote.image.id()) && store.keep_layer(&remote.diff(0)).is_some());
    assert!(
        store.keep_diff(&remote.diff(1)).is_some() && store.keep_layer(&remote.diff(1)).is_none()
    );
    let (_, unchanged) = store
        .commit_pulled(remote.incoming("localhost:5000/app:1"), vec![])
        .unwrap();
    assert!(unchanged);
    drop(store);
    let store = Arc::new(root.open());
    let named = store.inspect("localhost:5000/app:1").unwrap();
    assert_eq!(named.tags(), ["localhost:5000/app:1"]);
    assert_eq!(named.digests().len(), 1);
    let sent = store
        .outgoing(&"localhost:5000/app:1".parse().unwrap(), None)
        .unwrap();
    assert_eq!(sent.manifest.unwrap().0, br#"{"schemaVersion":2}"#);
    for (place, layer) in sent.layers.iter().enumerate() {
        let [
            Form {
                digest,
                repositories,
                ..
            },
        ] = &layer.forms[..]
        else {
            panic!("{:?}", layer.forms);
        };
        assert_eq!(*digest, remote.layers[place].0.digest);
        assert_eq!(repositories, &["localhost:5000/app"]);
        assert!(!layer.forms[0].reproducible());
    }
    let options = cais_images::RemoveOptions {
        force: true,
        prune_parents: true,
    };
    drop(sent.pin);
    store
        .remove_image(&remote.image.id().to_string(), options, &[])
        .unwrap();
    assert_eq!(root.names("blobs/sha256"), Vec::<String>::new());
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn what_is_not_as_announced_leaves_nothing() {
    let (root, remote) = (Root::new(), Remote::new(&["one", "two"]));
    let store = root.open();
    let (blob, packed) = &remote.layers[0];
    let other = Descriptor::new(
        blob.media_type.clone(),
        remote.layers[1].0.digest,
        blob.size,
    );
    let shorter = Descriptor::new(blob.media_type.clone(), blob.digest, blob.size - 1);
    let longer = Descriptor::new(blob.media_type.clone(), blob.digest, blob.size + 1);
    let mut flipped = packed.clone();
    flipped[100] ^= 1;
    for (blob, diff, bytes, want) in [
        (
            &other,
            remote.diff(0),
            packed,
            "filesystem layer verification failed for digest sha256:",
        ),
        (
            &shorter,
            remote.diff(0),
            packed,
            "filesystem layer verification failed for digest sha256:",
        ),
        (
            &longer,
            remote.diff(0),
            packed,
            "filesystem layer verification failed for digest sha256:",
        ),
        (
            blob,
            remote.diff(1),
            packed,
            "layers from manifest don't match image configuration",
        ),
        (
            blob,
            remote.diff(0),
            &flipped,
            "Error processing tar file: ",
        ),
        (
            blob,
            remote.diff(0),
            &packed[..90].to_vec(),
            "Error processing tar file: unexpected EOF",
        ),
    ] {
        let error = store
            .unpack_layer(blob, &diff, &mut &bytes[..])
            .err()
            .unwrap();
        assert!(error.to_string().starts_with(want), "{error}");
    }
    // A stream without an end is cut off at the announced size.
    let mut endless = (&packed[..]).chain(std::io::repeat(0));
    assert!(
        store
            .unpack_layer(blob, &remote.diff(0), &mut endless)
            .is_err()
    );
    let mut wrong = remote.incoming("app");
    wrong.layers.swap(0, 1);
    let unpacked = vec![remote.unpack(&store, 0), remote.unpack(&store, 1)];
    assert!(store.commit_pulled(wrong, unpacked).is_err());
    let only_one = vec![remote.unpack(&store, 0)];
    let error = store
        .commit_pulled(remote.incoming("app"), only_one)
        .unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert_eq!(root.names("layers"), Vec::<String>::new());
    assert!(store.list(true).is_empty());
}

#[test]
fn a_damaged_layer_is_found_by_a_push_and_replaced_by_a_pull() {
    let (root, remote) = (Root::new(), Remote::new(&["one", "two"]));
    let store = Arc::new(root.open());
    remote.pull(&store, "app:latest");
    let name: Reference = "app:latest".parse().unwrap();
    let broken = store.outgoing(&name, None).unwrap().layers[1].clone();
    let file = root
        .path()
        .join("layers")
        .join(broken.chain.hex())
        .join("diff/d/two");
    std::fs::write(&file, vec![b'x'; "two".len() * 5000]).unwrap();
    let write = |store: &Store| {
        store.write_layer(
            &broken.chain,
            &broken.diff,
            PushCompression::Gzip,
            &mut std::io::sink(),
        )
    };
    assert!(write(&store).is_err());
    assert!(store.keep_layer(&broken.chain).is_none() && !store.has_image(&remote.image.id()));
    // The mark survives, and a pull without the layer cannot pretend that all is well.
    drop(store);
    let store = Arc::new(root.open());
    assert!(store.keep_layer(&broken.chain).is_none());
    assert!(store.commit_pulled(remote.incoming("app"), vec![]).is_err());
    let unpacked = vec![remote.unpack(&store, 1)];
    store
        .commit_pulled(remote.incoming("app"), unpacked)
        .unwrap();
    assert!(store.has_image(&remote.image.id()));
    write(&store).unwrap();
    assert_eq!(
        std::fs::read(&file).unwrap(),
        "two".repeat(5000).into_bytes()
    );
    assert_eq!(root.names("layers").len(), 2);
    drop(store);
    assert!(root.open().has_image(&remote.image.id()));
}

#[test]
fn layers_are_written_in_the_forms_that_are_remembered() {
    let (root, remote) = (Root::new(), Remote::new(&["one"]));
    let store = Arc::new(root.open());
    load(
        &store,
        &TestImage::new(&["app"], remote.image.layers.clone()).docker_archive(),
    )
    .unwrap();
    let name: Reference = "app:latest".parse().unwrap();
    let layer = store.outgoing(&name, None).unwrap().layers.remove(0);
    assert!(layer.forms.is_empty());
    for (compression, media_type) in [
        (PushCompression::Gzip, media_type::LAYER_GZIP),
        (PushCompression::Zstd, media_type::LAYER_ZSTD),
        (PushCompression::None, media_type::LAYER),
    ] {
        let mut out = Vec::new();
        let blob = store
            .write_layer(&layer.chain, &layer.diff, compression, &mut out)
            .unwrap();
        assert_eq!(
            (blob.media_type.as_str(), blob.digest),
            (media_type, digest(&out))
        );
        store
            .remember_form(&SeenForm {
                diff: layer.diff,
                blob: blob.clone(),
                repository: "docker.io/library/app".to_owned(),
                reproducible: true,
            })
            .unwrap();
        let form = store.outgoing(&name, None).unwrap().layers[0].forms[0].clone();
        assert!(form.reproducible());
        assert_eq!((form.digest, form.size), (blob.digest, blob.size));
        // What was pushed can be pulled.
        let unpacked = store
            .unpack_layer(&blob, &layer.diff, &mut &out[..])
            .unwrap();
        assert_eq!(unpacked.blob, blob.digest);
    }
    let by_digest = name.with_digest(&layer.diff.to_string()).unwrap();
    store.pushed(&remote.image.id(), &by_digest).unwrap();
    assert_eq!(
        store.inspect("app").unwrap().digests(),
        [by_digest.familiar()]
    );
    assert_eq!(store.tags_of("docker.io/library/app"), [name]);
    for (name, want) in [
        ("app:other", "tag does not exist: app:other"),
        (
            "none:1",
            "An image does not exist locally with the tag: none",
        ),
    ] {
        let error = store.outgoing(&name.parse().unwrap(), None).err().unwrap();
        assert_eq!(error.to_string(), want);
    }
}

#[test]
fn an_image_that_is_pushed_keeps_its_layers_when_it_is_removed_meanwhile() {
    let (root, remote) = (Root::new(), Remote::new(&["one"]));
    let store = Arc::new(root.open());
    remote.pull(&store, "app:latest");
    let sent = store
        .outgoing(&"app:latest".parse().unwrap(), None)
        .unwrap();
    let options = cais_images::RemoveOptions {
        force: true,
        prune_parents: true,
    };
    store.remove_image("app", options, &[]).unwrap();
    let layer = &sent.layers[0];
    let mut out = std::io::sink();
    store
        .write_layer(&layer.chain, &layer.diff, PushCompression::Gzip, &mut out)
        .unwrap();
    drop(sent);
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn pulls_that_share_a_layer_unpack_it_once() {
    let (root, one) = (Root::new(), Remote::new(&["base", "one"]));
    let two = Remote::new(&["base", "two"]);
    let upside_down = Remote::new(&["one", "base"]);
    let store = Arc::new(root.open());
    let base = one.unpack(&store, 0);
    for remote in [&one, &two] {
        let unpacked = vec![base.clone(), remote.unpack(&store, 1)];
        let name = format!("app:{}", remote.image.id().short());
        store
            .commit_pulled(remote.incoming(&name), unpacked)
            .unwrap();
    }
    // In another place the layer is another one, made from the first.
    let unpacked = vec![base];
    store
        .commit_pulled(upside_down.incoming("app:down"), unpacked)
        .unwrap();
    assert_eq!(root.names("layers").len(), 5);
    let kept = store.keep_layer(&one.diff(0)).unwrap();
    for image in store.list(true) {
        let options = cais_images::RemoveOptions {
            force: true,
            prune_parents: true,
        };
        store
            .remove_image(&image.image.id.to_string(), options, &[])
            .unwrap();
    }
    assert_eq!(root.names("layers"), [one.diff(0).hex()]);
    drop(kept);
    assert_eq!(root.names("layers"), Vec::<String>::new());
}
