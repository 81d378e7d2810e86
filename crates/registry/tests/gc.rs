//! Garbage collection beside a running server, and what it leaves alone.

use std::path::Path;
use std::time::Duration;

use cais_registry::admin::{Answer, Request, ask};
use cais_registry::{Collected, GcPolicy};
use serde_json::json;

use super::{
    INDEX, MANIFEST, Ours, digest, manifest, open_upload, push_blob, push_image, put_manifest,
    put_upload, status,
};

const NOW: GcPolicy = GcPolicy {
    grace: Duration::ZERO,
    untagged: None,
    uploads: Duration::from_secs(1000),
    dry_run: false,
};

fn collect(folder: &Path, policy: GcPolicy) -> Collected {
    match ask(folder, &Request::Gc(policy)).unwrap() {
        Answer::Collected(collected) => collected,
        other => panic!("{other:?}"),
    }
}

/// Files of the content store.
fn files(folder: &Path) -> usize {
    let shelves = std::fs::read_dir(folder.join("blobs/sha256")).unwrap();
    shelves
        .map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count())
        .sum()
}

#[test]
fn what_nothing_refers_to_goes_and_the_rest_stays() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "kept");
    let loose = push_blob(&ours.http, "a", b"loose");
    let dead = push_image(&ours.http, "a", "v2", "dead");
    let path = format!("/v2/a/manifests/{dead}");
    assert_eq!(
        ours.http.send("DELETE", &path, &[], &[]).unwrap().status,
        202
    );
    let grace = GcPolicy {
        grace: Duration::from_secs(3600),
        ..NOW
    };
    assert_eq!(collect(&ours.folder(), grace), Collected::default());
    let dry = GcPolicy {
        dry_run: true,
        ..NOW
    };
    assert_eq!(collect(&ours.folder(), dry).links, 3);
    assert_eq!(files(&ours.folder()), 6);
    let collected = collect(&ours.folder(), NOW);
    assert_eq!((collected.links, collected.files), (3, 3));
    assert_eq!(files(&ours.folder()), 3);
    assert_eq!(status(&ours.http, &format!("/v2/a/blobs/{loose}")), 404);
    assert_eq!(status(&ours.http, "/v2/a/manifests/v1"), 200);
    let layer = digest(b"layer kept");
    assert_eq!(status(&ours.http, &format!("/v2/a/blobs/{layer}")), 200);
}

#[test]
fn uploads_in_flight_and_blobs_just_asked_for_stay() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        ours.http
            .stream("PATCH", &upload, &[b"half "])
            .unwrap()
            .status,
        202
    );
    push_blob(&ours.http, "a", b"old");
    let asked = push_blob(&ours.http, "a", b"old, but asked for");
    let mounted = push_blob(&ours.http, "b", b"mounted");
    let grace = Duration::from_millis(1500);
    std::thread::sleep(grace);
    let head = ours
        .http
        .send("HEAD", &format!("/v2/a/blobs/{asked}"), &[], &[]);
    assert_eq!(head.unwrap().status, 200);
    let mount = format!("/v2/a/blobs/uploads/?mount={mounted}&from=b");
    assert_eq!(
        ours.http.send("POST", &mount, &[], &[]).unwrap().status,
        201
    );
    let collected = collect(&ours.folder(), GcPolicy { grace, ..NOW });
    // "old" of a, and b's right to what a has mounted.
    assert_eq!((collected.links, collected.files), (2, 1));
    for kept in [&asked, &mounted] {
        assert_eq!(status(&ours.http, &format!("/v2/a/blobs/{kept}")), 200);
    }
    let whole = b"half and half";
    let answer = put_upload(&ours.http, &upload, &digest(whole), b"and half");
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn manifests_without_a_tag_go_when_that_is_wanted() {
    let ours = Ours::start();
    let http = &ours.http;
    let child = push_image(http, "a", "child", "child");
    let size = http
        .send("HEAD", "/v2/a/manifests/child", &[], &[])
        .unwrap();
    let size: u64 = size.header("content-length").unwrap().parse().unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": MANIFEST, "digest": child, "size": size}]});
    assert_eq!(put_manifest(http, "a", "index", &index).status, 201);
    // A signature of the child.
    let mut signature = manifest(b"{\"seed\":\"child\"}", &[]);
    signature["subject"] = json!({"mediaType": MANIFEST, "digest": child, "size": size});
    let referrer = digest(signature.to_string().as_bytes());
    assert_eq!(put_manifest(http, "a", &referrer, &signature).status, 201);
    let lonely = push_image(http, "a", "lonely", "lonely");
    for tag in ["child", "lonely"] {
        let path = format!("/v2/a/manifests/{tag}");
        assert_eq!(http.send("DELETE", &path, &[], &[]).unwrap().status, 202);
    }
    assert_eq!(
        collect(&ours.folder(), NOW).manifests,
        0,
        "they are kept unless said otherwise"
    );
    let untagged = GcPolicy {
        untagged: Some(Duration::ZERO),
        ..NOW
    };
    let collected = collect(&ours.folder(), untagged);
    assert_eq!((collected.manifests, collected.links), (1, 2));
    assert_eq!(status(http, &format!("/v2/a/manifests/{lonely}")), 404);
    // The index's tag keeps the child, and the child its signature.
    for kept in [&child, &referrer] {
        assert_eq!(status(http, &format!("/v2/a/manifests/{kept}")), 200);
    }
    assert_eq!(
        http.send("DELETE", "/v2/a/manifests/index", &[], &[])
            .unwrap()
            .status,
        202
    );
    assert_eq!(collect(&ours.folder(), untagged).manifests, 3);
    assert_eq!(files(&ours.folder()), 0);
    assert_eq!(
        status(http, "/v2/a/tags/list"),
        404,
        "an empty repository is gone"
    );
}

#[test]
fn old_uploads_are_purged() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    assert_eq!(collect(&ours.folder(), NOW).uploads, 0);
    let uploads = GcPolicy {
        uploads: Duration::ZERO,
        ..NOW
    };
    assert_eq!(collect(&ours.folder(), uploads).uploads, 1);
    assert_eq!(status(&ours.http, &upload), 404);
}

#[test]
fn a_folder_without_a_server_is_collected_too() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    push_blob(&ours.http, "a", b"loose");
    let folder = ours.folder();
    let root = ours.stop();
    assert_eq!(collect(&folder, NOW).links, 1);
    let request = Request::Remove {
        repository: "a".to_owned(),
        what: Some("none".to_owned()),
    };
    let error = ask(&folder, &request).unwrap_err().to_string();
    assert!(error.contains("no such manifest"), "{error}");
    let request = Request::Remove {
        repository: "a".to_owned(),
        what: None,
    };
    assert_eq!(ask(&folder, &request).unwrap(), Answer::Removed);
    assert_eq!(files(&folder), 0);
    let ours = Ours::at(root, |_| {});
    assert_eq!(status(&ours.http, "/v2/a/tags/list"), 404);
}

#[test]
fn files_that_a_crash_left_without_a_record_are_removed() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    let folder = ours.folder();
    let root = ours.stop();
    let name = "ab".repeat(32);
    std::fs::write(folder.join("blobs/sha256/ab").join(&name), b"orphan").unwrap();
    std::fs::write(
        folder
            .join("uploads")
            .join("ffffffff-ffff-ffff-ffff-ffffffffffff"),
        b"x",
    )
    .unwrap();
    assert_eq!(files(&folder), 4);
    let ours = Ours::at(root, |_| {});
    cais_testkit::wait_until("the orphan is gone", || files(&folder) == 3);
    assert_eq!(
        std::fs::read_dir(folder.join("uploads")).unwrap().count(),
        0
    );
    assert_eq!(status(&ours.http, "/v2/a/manifests/v1"), 200);
}

#[test]
fn collection_runs_by_itself() {
    let ours = Ours::with(|config| {
        config.gc = NOW;
        config.gc_interval = Some(Duration::from_millis(50));
    });
    let blob = push_blob(&ours.http, "a", b"loose");
    cais_testkit::wait_until("the blob is gone", || {
        status(&ours.http, &format!("/v2/a/blobs/{blob}")) == 404
    });
}
