//! Known holes of registries, each tried on ours.

use std::io::Write as _;
use std::time::Duration;

use cais_testkit::http::read_answer;
use serde_json::json;

use super::{
    INDEX, MANIFEST, Ours, code, digest, manifest, open_upload, push_blob, push_image,
    put_manifest, status,
};

#[test]
fn cve_2021_41190_ghsa_qq97_vm5h_rrhg_a_document_that_is_manifest_and_index_is_refused() {
    let ours = Ours::start();
    push_blob(&ours.http, "a", b"{}");
    let both = |mut document: serde_json::Value| {
        document["manifests"] = json!([]);
        document
    };
    let mut untyped = both(manifest(b"{}", &[]));
    untyped.as_object_mut().unwrap().remove("mediaType");
    for bad in [both(manifest(b"{}", &[])), untyped] {
        let answer = put_manifest(&ours.http, "a", "v1", &bad);
        assert_eq!(
            (answer.status, code(&answer)),
            (400, "MANIFEST_INVALID".to_owned())
        );
    }
    // What it is, what it says, and what it is announced as must agree.
    let document = manifest(b"{}", &[]).to_string();
    let headers = [("Content-Type", INDEX)];
    let path = "/v2/a/manifests/v1";
    let answer = ours
        .http
        .send("PUT", path, &headers, document.as_bytes())
        .unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "MANIFEST_INVALID".to_owned())
    );
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    let headers = [("Content-Type", MANIFEST)];
    let answer = ours
        .http
        .send("PUT", path, &headers, index.as_bytes())
        .unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(status(&ours.http, path), 404);
    // An index may not call a manifest an index.
    let image = push_image(&ours.http, "a", "v1", "x");
    let size = ours.http.send("HEAD", path, &[], &[]).unwrap();
    let size: u64 = size.header("content-length").unwrap().parse().unwrap();
    let confused = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": INDEX, "digest": image, "size": size}]});
    assert_eq!(put_manifest(&ours.http, "a", "v2", &confused).status, 400);
}

#[test]
fn cve_2023_2253_the_number_of_names_is_bounded() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    for n in [
        "9223372036854775807",
        "18446744073709551616",
        "999999999999999999999999",
    ] {
        for path in ["/v2/_catalog", "/v2/a/tags/list"] {
            let answer = ours.http.get(&format!("{path}?n={n}")).unwrap();
            assert_eq!(
                (answer.status, answer.header("link")),
                (200, None),
                "{path} {n}"
            );
        }
    }
    for n in ["-1", "1e3", "0x10", "+5"] {
        let answer = ours.http.get(&format!("/v2/_catalog?n={n}")).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (400, "PAGINATION_NUMBER_INVALID".to_owned()),
            "{n}"
        );
    }
}

#[test]
fn cve_2017_11468_a_manifest_of_a_gigabyte_is_refused() {
    let ours = Ours::start();
    let path = "/v2/a/manifests/v1";
    // Announced: refused before it is read.
    let mut stream = ours.http.connect().unwrap();
    let headers = [("Content-Type", MANIFEST), ("Content-Length", "1073741824")];
    ours.http.head(&mut stream, "PUT", path, &headers).unwrap();
    stream.write_all(b"\r\n{").unwrap();
    let answer = read_answer(&mut stream, "PUT").unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (413, "MANIFEST_INVALID".to_owned())
    );
    // Not announced: refused as soon as it is too long.
    let mut stream = ours.http.connect().unwrap();
    let headers = [("Content-Type", MANIFEST), ("Transfer-Encoding", "chunked")];
    ours.http.head(&mut stream, "PUT", path, &headers).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let megabyte = vec![b' '; 1 << 20];
    let mut sent = 0;
    while sent < 1024
        && write!(stream, "100000\r\n")
            .and_then(|()| stream.write_all(&megabyte))
            .and_then(|()| stream.write_all(b"\r\n"))
            .is_ok()
    {
        sent += 1;
    }
    assert!(sent < 1024, "a gigabyte was read");
    // The largest one that must be taken is taken.
    push_blob(&ours.http, "a", b"{}");
    let mut document = manifest(b"{}", &[]);
    document["annotations"] = json!({"filler": "x".repeat((4 << 20) - 600)});
    assert_eq!(put_manifest(&ours.http, "a", "v1", &document).status, 201);
    document["annotations"] = json!({"filler": "x".repeat(4 << 20)});
    assert_eq!(put_manifest(&ours.http, "a", "v1", &document).status, 413);
}

#[test]
fn cve_2026_35172_a_deleted_blob_stays_deleted() {
    let ours = Ours::start();
    let blob = push_blob(&ours.http, "a", b"secret");
    push_blob(&ours.http, "b", b"secret");
    let path = |name: &str| format!("/v2/{name}/blobs/{blob}");
    assert_eq!(
        ours.http
            .send("DELETE", &path("a"), &[], &[])
            .unwrap()
            .status,
        202
    );
    for method in ["GET", "HEAD"] {
        assert_eq!(
            ours.http.send(method, &path("b"), &[], &[]).unwrap().status,
            200
        );
        assert_eq!(
            ours.http.send(method, &path("a"), &[], &[]).unwrap().status,
            404
        );
    }
    // Nor is it readable where it never was, or mountable from where it is no longer.
    assert_eq!(status(&ours.http, &path("c")), 404);
    let mount = format!("/v2/c/blobs/uploads/?mount={blob}&from=a");
    assert_eq!(
        ours.http.send("POST", &mount, &[], &[]).unwrap().status,
        202
    );
    assert_eq!(status(&ours.http, &path("c")), 404);
    let ours = Ours::at(ours.stop(), |_| {});
    assert_eq!(status(&ours.http, &path("a")), 404);
    assert_eq!(status(&ours.http, &path("b")), 200);
}

#[test]
fn cve_2026_41888_switched_off_deleting_is_off_for_tags_too() {
    let ours = Ours::with(|config| config.limits.delete = false);
    let image = push_image(&ours.http, "a", "v1", "x");
    let blob = push_blob(&ours.http, "a", b"blob");
    for path in [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{image}"),
        format!("/v2/a/blobs/{blob}"),
    ] {
        let answer = ours.http.send("DELETE", &path, &[], &[]).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (405, "UNSUPPORTED".to_owned()),
            "{path}"
        );
        assert_eq!(status(&ours.http, &path), 200, "{path}");
    }
    // An upload is no content yet.
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        ours.http.send("DELETE", &upload, &[], &[]).unwrap().status,
        204
    );
}

#[test]
fn blobs_above_the_limit_are_refused() {
    let ours = Ours::with(|config| config.limits.upload = 1000);
    let blob = vec![7; 1001];
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest(&blob));
    let answer = ours.http.send("POST", &path, &[], &blob).unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (413, "SIZE_INVALID".to_owned())
    );
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        ours.http
            .stream("PATCH", &upload, &[&blob[..600]])
            .unwrap()
            .status,
        202
    );
    assert_eq!(
        ours.http
            .stream("PATCH", &upload, &[&blob[..401]])
            .unwrap()
            .status,
        413
    );
    assert_eq!(status(&ours.http, &upload), 404, "the upload is given up");
    push_blob(&ours.http, "a", &blob[..1000]);
}

#[test]
fn heads_are_bounded() {
    let ours = Ours::start();
    let long = "x".repeat(300 << 10);
    let answer = ours.http.send("GET", "/v2/", &[("X-Long", &long)], &[]);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 431));
    let many = vec![("X-Many", "x"); 200];
    let answer = ours.http.send("GET", "/v2/", &many, &[]).unwrap();
    assert_eq!(answer.status, 431);
    assert_eq!(status(&ours.http, "/v2/"), 200);
}

#[test]
fn who_is_refused_while_it_sends_sees_why() {
    let ours = Ours::with(|config| config.limits.read_only = true);
    let mut stream = ours.http.connect().unwrap();
    let headers = [("Content-Length", "16777216")];
    let path = "/v2/a/blobs/uploads/";
    ours.http.head(&mut stream, "POST", path, &headers).unwrap();
    stream.write_all(b"\r\n").unwrap();
    // A connection that is reset takes the answer along.
    stream.write_all(&vec![7; 16 << 20]).unwrap();
    let answer = read_answer(&mut stream, "POST").unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (405, "UNSUPPORTED".to_owned())
    );
}

#[test]
fn a_client_that_sends_nothing_is_cut_off_and_can_go_on() {
    let ours = Ours::with(|config| config.limits.idle = Duration::from_millis(300));
    let upload = open_upload(&ours.http, "a");
    let mut stream = ours.http.connect().unwrap();
    ours.http
        .head(&mut stream, "PATCH", &upload, &[("Content-Length", "10")])
        .unwrap();
    stream.write_all(b"\r\n12345").unwrap();
    let answer = read_answer(&mut stream, "PATCH").unwrap();
    assert_eq!(answer.status, 408);
    let answer = ours.http.get(&upload).unwrap();
    assert_eq!(answer.header("range"), Some("0-4"), "what came is kept");
}

#[test]
fn requests_are_not_smuggled() {
    let ours = Ours::start();
    let smuggled = "GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for headers in [
        vec![("Content-Length", "5"), ("Content-Length", "50")],
        vec![("Transfer-Encoding", "chunked, identity")],
        vec![("Transfer-Encoding", "xchunked")],
    ] {
        let mut stream = ours.http.connect().unwrap();
        ours.http
            .head(&mut stream, "POST", "/v2/a/blobs/uploads/", &headers)
            .unwrap();
        write!(stream, "\r\n0\r\n\r\n{smuggled}").unwrap();
        let answer = read_answer(&mut stream, "POST").unwrap();
        assert_eq!(answer.status, 400, "{headers:?}");
    }
    let text = ours.http.get("/metrics").unwrap().text();
    assert!(!text.contains("status=\"404\""), "{text}");
}
