//! Names, removal, pruning, and what survives a restart.

use cais_images::{ImageUser, RemoveOptions, Removed, Store};
use std::collections::BTreeMap;

use crate::kit::{Root, Tar, TestImage, container, load};

const PLAIN: RemoveOptions = RemoveOptions {
    force: false,
    prune_parents: true,
};
/// Those that images of the kit have.
fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("a".to_owned(), "b".to_owned())])
}

const FORCED: RemoveOptions = RemoveOptions {
    force: true,
    prune_parents: true,
};

fn image(tags: &[&str], text: &str) -> TestImage {
    let base = Tar::default().file("base", b"base").end();
    let top = Tar::default().file("top", text.as_bytes()).end();
    TestImage::new(tags, vec![base, top])
}

#[test]
fn images_are_found_by_name_id_and_prefix() {
    let (root, image) = (Root::new(), image(&["app:v1"], "1"));
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let id = image.id();
    let short = &id.hex()[..7];
    for text in [
        "app:v1",
        "docker.io/library/app:v1",
        &id.to_string(),
        &id.hex(),
        short,
    ] {
        assert_eq!(store.resolve(text).unwrap().id, id, "{text}");
    }
    for (text, want) in [
        ("app", "No such image: app:latest"),
        ("nope:v2", "No such image: nope:v2"),
        (
            "Foo",
            "invalid reference format: repository name (library/Foo) must be lowercase",
        ),
        ("a b", "invalid reference format"),
    ] {
        assert_eq!(store.resolve(text).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_name_can_be_given_moved_and_taken() {
    let root = Root::new();
    let store = root.open();
    let (one, two) = (image(&["app:v1"], "1"), image(&["app:v2"], "2"));
    load(&store, &one.docker_archive()).unwrap();
    load(&store, &two.docker_archive()).unwrap();
    assert_eq!(store.tag("app:v1", &"app".parse().unwrap()).unwrap(), None);
    let before = store.tag("app:v2", &"app:latest".parse().unwrap()).unwrap();
    assert_eq!(before, Some(one.id()));
    assert_eq!(
        store.inspect("app").unwrap().tags(),
        ["app:latest", "app:v2"]
    );
    let removed = store.remove_image("app", PLAIN, &[]).unwrap();
    assert_eq!(
        removed,
        [Removed::Untagged("app:latest".into(), two.id(), labels())]
    );
    let usage = store.disk_usage();
    assert_eq!(usage.layers, 4 + 1 + 1);
    assert!(usage.shared.iter().all(|(_, shared)| *shared == 4));
    let removed = store.remove_image("app:v2", PLAIN, &[]).unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    assert_eq!(removed[1], Removed::Image(two.id()));
    assert_eq!(root.names("layers").len(), 2);
    store.remove_image(&one.id().short(), PLAIN, &[]).unwrap();
    assert_eq!(root.names("layers"), Vec::<String>::new());
    assert_eq!(root.names("blobs/sha256"), Vec::<String>::new());
}

#[test]
fn what_stands_in_the_way_is_told_in_dockers_words() {
    let root = Root::new();
    let store = root.open();
    let image = image(&["app:v1"], "1");
    load(&store, &image.docker_archive()).unwrap();
    let short = image.id().short();
    let user = |running| {
        [ImageUser {
            container: container(0xab),
            image: image.id(),
            running,
        }]
    };
    let refused = |text: &str, options, users: &[ImageUser]| {
        store
            .remove_image(text, options, users)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("app:v1", PLAIN, &user(false)),
        format!(
            "conflict: unable to remove repository reference \"app:v1\" (must force) - \
             container abababababab is using its referenced image {short}"
        )
    );
    assert_eq!(
        refused(&short, PLAIN, &user(false)),
        format!(
            "conflict: unable to delete {short} (must be forced) - \
             image is being used by stopped container abababababab"
        )
    );
    assert_eq!(
        refused(&short, FORCED, &user(true)),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - \
             image is being used by running container abababababab"
        )
    );
    store.tag("app:v1", &"other:v1".parse().unwrap()).unwrap();
    assert_eq!(
        refused(&short, PLAIN, &[]),
        format!(
            "conflict: unable to delete {short} (must be forced) - \
             image is referenced in multiple repositories"
        )
    );
    assert_eq!(refused("app:v9", PLAIN, &[]), "No such image: app:v9");
    let removed = store.remove_image(&short, FORCED, &user(false)).unwrap();
    assert_eq!(removed.len(), 5, "{removed:?}");
}

#[test]
fn pruning_takes_what_has_no_name_and_no_user() {
    let root = Root::new();
    let store = root.open();
    let (old, new, free) = (
        image(&["app"], "old"),
        image(&["app"], "new"),
        image(&[], "free"),
    );
    for image in [&old, &new, &free] {
        load(&store, &image.docker_archive()).unwrap();
    }
    let users = [ImageUser {
        container: container(1),
        image: old.id(),
        running: false,
    }];
    let pruned = store.prune_images(false, &users, |_| false).unwrap();
    assert_eq!(pruned.freed, 4);
    assert_eq!(pruned.removed[0], Removed::Image(free.id()));
    assert_eq!(store.list(false).len(), 2);
    assert!(
        store
            .prune_images(true, &[], |_| true)
            .unwrap()
            .removed
            .is_empty()
    );
    let pruned = store.prune_images(true, &[], |_| false).unwrap();
    assert_eq!(pruned.freed, 4 + 3 + 3);
    assert!(store.list(true).is_empty());
}

#[test]
fn what_is_held_loses_its_name_only() {
    let (root, image) = (Root::new(), image(&["app"], "1"));
    let store = root.open();
    load(&store, &image.docker_archive()).unwrap();
    let id = image.id();
    let holder = Store::holder(&store);
    holder.hold(&id).unwrap();
    let prune = || store.prune_images(true, &[], |_| false).unwrap();
    assert!(prune().removed.is_empty());
    let removed = store.remove_image("app", PLAIN, &[]).unwrap();
    assert_eq!(
        removed,
        [Removed::Untagged("app:latest".to_owned(), id, labels())]
    );
    let refused = store.remove_image(&id.to_string(), FORCED, &[]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("used by a running build"), "{refused}");
    assert!(prune().removed.is_empty());
    drop(holder);
    assert_eq!(prune().removed[0], Removed::Image(id));
    let gone = Store::holder(&store).hold(&id).unwrap_err().to_string();
    assert!(gone.contains("No such image"), "{gone}");
}

#[test]
fn everything_is_there_after_a_restart_and_half_things_are_not() {
    let root = Root::new();
    let (whole, broken) = (image(&["whole"], "1"), image(&["broken"], "2"));
    let broken_top = {
        let store = root.open();
        load(&store, &whole.docker_archive()).unwrap();
        load(&store, &broken.docker_archive()).unwrap();
        store.resolve("broken").unwrap().top().unwrap()
    };
    let layers = root.path().join("layers");
    std::fs::remove_dir_all(layers.join(broken_top.hex())).unwrap();
    // What a kill in the middle leaves: a temporary layer, a layer without a record, a blob without an image.
    std::fs::create_dir_all(layers.join("tmp-7/diff/a/b")).unwrap();
    std::fs::create_dir_all(layers.join("c".repeat(64)).join("diff")).unwrap();
    std::fs::write(root.path().join("blobs/sha256").join("d".repeat(64)), b"x").unwrap();
    let store = root.open();
    assert_eq!(store.resolve("whole").unwrap().id, whole.id());
    // It stays, so that it can be mended; no new container is made on it.
    assert!(store.has_image(&whole.id()) && !store.has_image(&broken.id()));
    let error = store.create(&container(1), &broken.id()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(root.names("containers"), Vec::<String>::new());
    assert_eq!(store.list(true).len(), 2);
    assert_eq!(root.names("layers").len(), 2);
    assert_eq!(root.names("blobs/sha256").len(), 2);
    load(&store, &broken.docker_archive()).unwrap();
    assert_eq!(store.resolve("broken").unwrap().id, broken.id());
    store.create(&container(1), &broken.id()).unwrap();
}
