//! What our server and docker-registry must do alike. Running on both proves the tests.

use cais_testkit::http::Http;
use serde_json::json;

use super::peer::Peer;
use super::{
    INDEX, MANIFEST, Ours, code, digest, location, manifest, open_upload, push_blob, push_image,
    put_manifest, put_upload, status,
};

/// Runs a test on ours, then on docker-registry.
fn both(test: impl Fn(&Http)) {
    let ours = Ours::start();
    test(&ours.http);
    if let Some(peer) = Peer::start() {
        test(&peer.http);
    }
}

#[test]
fn the_base_answers() {
    both(|http| {
        let answer = http.get("/v2/").unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            Some("registry/2.0")
        );
        assert_eq!(answer.json(), json!({}));
    });
}

#[test]
fn an_image_goes_up_and_comes_back() {
    both(|http| {
        let digest = push_image(http, "library/app", "v1", "x");
        for reference in ["v1", &digest] {
            let path = format!("/v2/library/app/manifests/{reference}");
            for method in ["GET", "HEAD"] {
                let answer = http
                    .send(method, &path, &[("Accept", MANIFEST)], &[])
                    .unwrap();
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("content-type"), Some(MANIFEST));
                assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
                assert!(
                    answer
                        .header("content-length")
                        .is_some_and(|length| length != "0")
                );
                if method == "GET" {
                    assert_eq!(super::digest(&answer.body), digest);
                }
            }
        }
        let tags = http.get("/v2/library/app/tags/list").unwrap().json();
        assert_eq!(tags, json!({"name": "library/app", "tags": ["v1"]}));
        let catalog = http.get("/v2/_catalog").unwrap().json();
        assert_eq!(catalog, json!({"repositories": ["library/app"]}));
    });
}

#[test]
fn blobs_go_up_in_every_way() {
    both(|http| {
        // POST, PUT.
        push_blob(http, "a", b"in one piece");
        // A stream without a length, as docker sends it.
        let upload = open_upload(http, "a");
        let answer = http
            .stream("PATCH", &upload, &[b"in ", b"a ", b"stream"])
            .unwrap();
        assert_eq!(answer.status, 202);
        assert_eq!(answer.header("range"), Some("0-10"));
        let streamed = digest(b"in a stream");
        assert_eq!(
            put_upload(http, &location(&answer), &streamed, b"").status,
            201
        );
        // Chunks, the last one with PUT.
        let upload = open_upload(http, "a");
        let headers = [
            ("Content-Range", "0-4"),
            ("Content-Type", "application/octet-stream"),
        ];
        let answer = http.send("PATCH", &upload, &headers, b"in ch").unwrap();
        assert_eq!(answer.status, 202);
        let chunked = digest(b"in chunks");
        let answer = put_upload(http, &location(&answer), &chunked, b"unks");
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("docker-content-digest"), Some(&*chunked));
        assert!(location(&answer).ends_with(&format!("/v2/a/blobs/{chunked}")));
        let answer = http.get(&format!("/v2/a/blobs/{chunked}")).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "in chunks"));
        let answer = http
            .send("HEAD", &format!("/v2/a/blobs/{streamed}"), &[], &[])
            .unwrap();
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, Some("11"))
        );
    });
}

#[test]
fn an_upload_tells_how_far_it_is_and_can_be_given_up() {
    both(|http| {
        let upload = open_upload(http, "a");
        let answer = http.stream("PATCH", &upload, &[b"12345"]).unwrap();
        let upload = location(&answer);
        let answer = http.get(&upload).unwrap();
        assert_eq!((answer.status, answer.header("range")), (204, Some("0-4")));
        let upload = location(&answer);
        assert_eq!(http.send("DELETE", &upload, &[], &[]).unwrap().status, 204);
        let answer = http.get(&upload).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (404, "BLOB_UPLOAD_UNKNOWN".to_owned())
        );
    });
}

#[test]
fn a_wrong_digest_makes_no_blob() {
    both(|http| {
        let upload = open_upload(http, "a");
        let wrong = digest(b"something else");
        let answer = put_upload(http, &upload, &wrong, b"content");
        assert_eq!(
            (answer.status, code(&answer)),
            (400, "DIGEST_INVALID".to_owned())
        );
        for digest in [&wrong, &digest(b"content")] {
            let answer = http.get(&format!("/v2/a/blobs/{digest}")).unwrap();
            assert_eq!(
                (answer.status, code(&answer)),
                (404, "BLOB_UNKNOWN".to_owned())
            );
        }
    });
}

#[test]
fn blobs_are_mounted_from_other_repositories() {
    both(|http| {
        let blob = push_blob(http, "source", b"shared");
        let path = format!("/v2/target/blobs/uploads/?mount={blob}&from=source");
        let answer = http.send("POST", &path, &[], &[]).unwrap();
        assert_eq!(answer.status, 201);
        assert!(location(&answer).ends_with(&format!("/v2/target/blobs/{blob}")));
        assert_eq!(status(http, &format!("/v2/target/blobs/{blob}")), 200);
        let path = format!(
            "/v2/target/blobs/uploads/?mount={}&from=source",
            digest(b"no")
        );
        let answer = http.send("POST", &path, &[], &[]).unwrap();
        assert_eq!(answer.status, 202);
        assert!(location(&answer).contains("/v2/target/blobs/uploads/"));
    });
}

#[test]
fn a_manifest_needs_its_blobs_and_an_index_its_manifests() {
    both(|http| {
        push_blob(http, "a", b"{}");
        let document = manifest(b"{}", &[b"not there"]);
        let answer = put_manifest(http, "a", "v1", &document);
        assert_eq!(
            (answer.status, code(&answer)),
            (400, "MANIFEST_BLOB_UNKNOWN".to_owned())
        );
        // Of another repository does not count.
        push_blob(http, "b", b"not there");
        assert_eq!(put_manifest(http, "a", "v1", &document).status, 400);

        let image = push_image(http, "a", "v1", "x");
        let size = http
            .send("HEAD", "/v2/a/manifests/v1", &[("Accept", MANIFEST)], &[])
            .unwrap();
        let size: u64 = size.header("content-length").unwrap().parse().unwrap();
        let index = |digest: &str| {
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
                {"mediaType": MANIFEST, "digest": digest, "size": size,
                 "platform": {"os": "linux", "architecture": "amd64"}}]})
        };
        assert_eq!(put_manifest(http, "a", "all", &index(&image)).status, 201);
        let answer = put_manifest(http, "a", "all", &index(&digest(b"no")));
        assert_eq!(
            (answer.status, code(&answer)),
            (400, "MANIFEST_BLOB_UNKNOWN".to_owned())
        );
    });
}

#[test]
fn things_are_deleted_by_digest() {
    both(|http| {
        let image = push_image(http, "a", "v1", "x");
        let path = format!("/v2/a/manifests/{image}");
        assert_eq!(http.send("DELETE", &path, &[], &[]).unwrap().status, 202);
        for reference in ["v1", &image] {
            let answer = http.get(&format!("/v2/a/manifests/{reference}")).unwrap();
            assert_eq!(
                (answer.status, code(&answer)),
                (404, "MANIFEST_UNKNOWN".to_owned())
            );
        }
        let blob = push_blob(http, "a", b"blob");
        let path = format!("/v2/a/blobs/{blob}");
        assert_eq!(http.send("DELETE", &path, &[], &[]).unwrap().status, 202);
        let answer = http.get(&path).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (404, "BLOB_UNKNOWN".to_owned())
        );
        assert_eq!(http.send("DELETE", &path, &[], &[]).unwrap().status, 404);
    });
}

#[test]
fn names_and_digests_that_break_the_grammar_are_refused() {
    both(|http| {
        let zeros = digest(b"x");
        for (path, want) in [
            ("/v2/a/tags/list".to_owned(), "NAME_UNKNOWN"),
            ("/v2/a/manifests/none".to_owned(), "MANIFEST_UNKNOWN"),
            (format!("/v2/a/manifests/{zeros}"), "MANIFEST_UNKNOWN"),
            (format!("/v2/a/blobs/{zeros}"), "BLOB_UNKNOWN"),
        ] {
            let answer = http.get(&path).unwrap();
            assert_eq!(
                (answer.status, code(&answer)),
                (404, want.to_owned()),
                "{path}"
            );
        }
        for path in [
            "/v2/a/blobs/sha256:12",
            "/v2/A/tags/list",
            "/v2/a/nothing",
            "/v2/%2e%2e/a/tags/list",
        ] {
            let answer = http.get(path).unwrap();
            assert!(
                (300..500).contains(&answer.status),
                "{path}: {}",
                answer.status
            );
        }
    });
}

#[test]
fn parts_of_blobs_are_served_and_known_content_is_not_sent_again() {
    both(|http| {
        let blob = push_blob(http, "a", b"0123456789");
        let path = format!("/v2/a/blobs/{blob}");
        let answer = http
            .send("GET", &path, &[("Range", "bytes=2-4")], &[])
            .unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (206, "234"));
        assert_eq!(answer.header("content-range"), Some("bytes 2-4/10"));
        let answer = http
            .send("GET", &path, &[("Range", "bytes=7-")], &[])
            .unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (206, "789"));
        let tag = format!("\"{blob}\"");
        let answer = http
            .send("GET", &path, &[("If-None-Match", &tag)], &[])
            .unwrap();
        assert_eq!(answer.status, 304);
        let image = push_image(http, "a", "v1", "x");
        let headers = [
            ("If-None-Match", &*format!("\"{image}\"")),
            ("Accept", MANIFEST),
        ];
        let answer = http
            .send("GET", "/v2/a/manifests/v1", &headers, &[])
            .unwrap();
        assert_eq!(answer.status, 304);
    });
}

#[test]
fn the_catalog_comes_in_pages() {
    both(|http| {
        for name in ["a", "b/c", "d"] {
            push_image(http, name, "v1", name);
        }
        let answer = http.get("/v2/_catalog?n=2").unwrap();
        assert_eq!(answer.json(), json!({"repositories": ["a", "b/c"]}));
        let link = answer.header("link").unwrap();
        let next = link.trim_start_matches('<').split('>').next().unwrap();
        let answer = http.get(next).unwrap();
        assert_eq!(answer.json(), json!({"repositories": ["d"]}));
        assert_eq!(answer.header("link"), None);
    });
}
