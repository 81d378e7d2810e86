//! A test for each endpoint of distribution-spec, named by its id there, on our server.

use serde_json::json;

use super::{
    INDEX, MANIFEST, Ours, code, digest, location, manifest, open_upload, push_blob, push_image,
    put_manifest, put_upload, status,
};

#[test]
fn end_1_the_version_check() {
    let ours = Ours::start();
    for path in ["/v2/", "/v2"] {
        assert_eq!(status(&ours.http, path), 200, "{path}");
    }
    assert_eq!(status(&ours.http, "/v3/"), 404);
}

#[test]
fn end_2_blobs_with_get_and_head() {
    let ours = Ours::start();
    // More than one chunk of the server's.
    let large: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let blob = push_blob(&ours.http, "a", &large);
    let path = format!("/v2/a/blobs/{blob}");
    let answer = ours.http.get(&path).unwrap();
    assert_eq!(digest(&answer.body), blob);
    assert_eq!(answer.header("docker-content-digest"), Some(&*blob));
    let head = ours.http.send("HEAD", &path, &[], &[]).unwrap();
    assert_eq!(head.header("content-length"), Some("12000000"));
    let part = [("Range", "bytes=-1000000")];
    let answer = ours.http.send("GET", &path, &part, &[]).unwrap();
    assert_eq!(answer.status, 206);
    assert_eq!(answer.body, large[11_000_000..]);
    let behind = [("Range", "bytes=12000000-")];
    let answer = ours.http.send("GET", &path, &behind, &[]).unwrap();
    assert_eq!(answer.status, 416);
    assert_eq!(answer.header("content-range"), Some("bytes */12000000"));
    let escaped = path.replace(':', "%3A");
    assert_eq!(status(&ours.http, &escaped), 200);
}

#[test]
fn end_3_manifests_by_what_the_client_accepts() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    let get = |accept: &str| {
        let headers = [("Accept", accept)];
        let answer = ours.http.send("GET", "/v2/a/manifests/v1", &headers, &[]);
        answer.unwrap().status
    };
    for good in [MANIFEST, "*/*", &format!("{INDEX}, {MANIFEST};q=0.5")] {
        assert_eq!(get(good), 200, "{good}");
    }
    assert_eq!(get(INDEX), 404);
    assert_eq!(ours.http.get("/v2/a/manifests/v1").unwrap().status, 200);
}

#[test]
fn end_4a_an_upload_opens() {
    let ours = Ours::start();
    let answer = ours
        .http
        .send("POST", "/v2/a/b/blobs/uploads/", &[], &[])
        .unwrap();
    assert_eq!(answer.status, 202);
    let id = answer.header("docker-upload-uuid").unwrap();
    assert_eq!(location(&answer), format!("/v2/a/b/blobs/uploads/{id}"));
    let answer = ours
        .http
        .send("POST", "/v2/A/blobs/uploads/", &[], &[])
        .unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "NAME_INVALID".to_owned())
    );
}

#[test]
fn end_4b_a_blob_in_one_request() {
    let ours = Ours::start();
    let blob = digest(b"single");
    let path = format!("/v2/a/blobs/uploads/?digest={blob}");
    let answer = ours.http.send("POST", &path, &[], b"single").unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(location(&answer), format!("/v2/a/blobs/{blob}"));
    let answer = ours.http.send("POST", &path, &[], b"another").unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "DIGEST_INVALID".to_owned())
    );
    // Without a body the client is told to go on with PUT.
    let answer = ours.http.send("POST", &path, &[], b"").unwrap();
    assert_eq!(answer.status, 202);
    assert_eq!(
        put_upload(&ours.http, &location(&answer), &blob, b"single").status,
        201
    );
    let uploads = std::fs::read_dir(ours.folder().join("uploads")).unwrap();
    assert_eq!(uploads.count(), 0, "refused uploads are removed");
}

#[test]
fn end_4c_the_algorithm_of_the_digest() {
    let ours = Ours::start();
    let open = |algorithm: &str| {
        let path = format!("/v2/a/blobs/uploads/?digest-algorithm={algorithm}");
        ours.http.send("POST", &path, &[], &[]).unwrap()
    };
    assert_eq!(open("sha256").status, 202);
    let answer = open("sha512");
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "DIGEST_INVALID".to_owned())
    );
}

#[test]
fn end_5_chunks_come_in_order() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    let chunk = |range: &str, bytes: &[u8]| {
        let headers = [("Content-Range", range)];
        ours.http.send("PATCH", &upload, &headers, bytes).unwrap()
    };
    assert_eq!(chunk("0-2", b"abc").status, 202);
    for wrong in ["0-2", "4-6", "2-4"] {
        let answer = chunk(wrong, b"def");
        assert_eq!(answer.status, 416, "{wrong}");
        assert_eq!(answer.header("range"), Some("0-2"));
        assert_eq!(location(&answer), upload);
    }
    assert_eq!(code(&chunk("3-9", b"def")), "SIZE_INVALID");
    assert_eq!(chunk("three-five", b"def").status, 400);
    let answer = chunk("3-5", b"def");
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-5")));
    assert_eq!(
        put_upload(&ours.http, &upload, &digest(b"abcdef"), b"").status,
        201
    );
    assert_eq!(code(&chunk("6-6", b"g")), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn end_6_an_upload_is_finished() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    let answer = ours.http.send("PUT", &upload, &[], b"abc").unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "DIGEST_INVALID".to_owned())
    );
    // The session is still there after a request that said nothing; another repository does not see it.
    let elsewhere = upload.replace("/v2/a/", "/v2/b/");
    let answer = put_upload(&ours.http, &elsewhere, &digest(b"abc"), b"abc");
    assert_eq!(
        (answer.status, code(&answer)),
        (404, "BLOB_UPLOAD_UNKNOWN".to_owned())
    );
    let path = format!("{upload}?digest={}", digest(b"abc"));
    let answer = ours
        .http
        .send("PUT", &path, &[("Content-Range", "1-3")], b"abc")
        .unwrap();
    assert_eq!(answer.status, 416);
    assert_eq!(
        put_upload(&ours.http, &upload, &digest(b"abc"), b"abc").status,
        201
    );
    // An empty blob.
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        put_upload(&ours.http, &upload, &digest(b""), b"").status,
        201
    );
    let answer = ours
        .http
        .get(&format!("/v2/a/blobs/{}", digest(b"")))
        .unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn end_7a_a_manifest_is_put() {
    let ours = Ours::start();
    push_blob(&ours.http, "a", b"{}");
    let document = manifest(b"{}", &[]);
    let wanted = digest(document.to_string().as_bytes());
    let answer = put_manifest(&ours.http, "a", "v1", &document);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("docker-content-digest"), Some(&*wanted));
    assert_eq!(location(&answer), format!("/v2/a/manifests/{wanted}"));
    assert_eq!(answer.header("oci-subject"), None);
    let answer = put_manifest(&ours.http, "a", &digest(b"x"), &document);
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "DIGEST_INVALID".to_owned())
    );
    let mut wrong = manifest(b"{}", &[]);
    wrong["config"]["size"] = json!(3);
    let answer = put_manifest(&ours.http, "a", "v1", &wrong);
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "SIZE_INVALID".to_owned())
    );
    let answer = put_manifest(&ours.http, "a", "-v1", &document);
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "MANIFEST_INVALID".to_owned())
    );
    let answer = put_manifest(
        &ours.http,
        "a",
        "v1",
        &json!({"schemaVersion": 1, "fsLayers": []}),
    );
    assert_eq!(
        (answer.status, code(&answer)),
        (400, "MANIFEST_INVALID".to_owned())
    );
    // A layer that says where it is need not be here.
    let mut foreign = manifest(b"{}", &[b"far"]);
    foreign["layers"][0]["mediaType"] =
        json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    assert_eq!(put_manifest(&ours.http, "a", "v1", &foreign).status, 400);
    foreign["layers"][0]["urls"] = json!(["https://example.com/layer"]);
    assert_eq!(put_manifest(&ours.http, "a", "v1", &foreign).status, 201);
}

#[test]
fn end_7b_a_manifest_gets_many_tags() {
    let ours = Ours::start();
    push_blob(&ours.http, "a", b"{}");
    let document = manifest(b"{}", &[]);
    let wanted = digest(document.to_string().as_bytes());
    let reference = format!("{wanted}?tag=1&tag=two&tag=3");
    let answer = put_manifest(&ours.http, "a", &reference, &document);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.all("oci-tag").collect::<Vec<_>>(), ["1", "two", "3"]);
    let tags = ours.http.get("/v2/a/tags/list").unwrap().json();
    assert_eq!(tags["tags"], json!(["1", "3", "two"]));
    let bad = format!("{wanted}?tag=ok&tag=.bad");
    assert_eq!(put_manifest(&ours.http, "a", &bad, &document).status, 400);
    let many: String = (0..101).map(|number| format!("tag={number}&")).collect();
    let answer = put_manifest(&ours.http, "a", &format!("{wanted}?{many}"), &document);
    assert_eq!(answer.status, 414);
}

#[test]
fn end_8a_tags_in_order() {
    let ours = Ours::start();
    for tag in ["b", "A", "a.1", "_x", "a"] {
        push_image(&ours.http, "a", tag, "x");
    }
    let answer = ours.http.get("/v2/a/tags/list").unwrap();
    assert_eq!(
        answer.json(),
        json!({"name": "a", "tags": ["A", "_x", "a", "a.1", "b"]})
    );
    let answer = ours.http.get("/v2/none/tags/list").unwrap();
    assert_eq!(
        (answer.status, code(&answer)),
        (404, "NAME_UNKNOWN".to_owned())
    );
}

#[test]
fn end_8b_tags_in_pages() {
    let ours = Ours::start();
    for tag in ["a", "b", "c", "d", "e"] {
        push_image(&ours.http, "r", tag, "x");
    }
    let mut path = "/v2/r/tags/list?n=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = ours.http.get(&path).unwrap();
        pages.push(answer.json()["tags"].clone());
        let Some(link) = answer.header("link") else {
            break;
        };
        assert!(link.ends_with("; rel=\"next\""), "{link}");
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(pages, [json!(["a", "b"]), json!(["c", "d"]), json!(["e"])]);
    let tags = |query: &str| {
        let answer = ours.http.get(&format!("/v2/r/tags/list?{query}")).unwrap();
        (
            answer.json()["tags"].clone(),
            answer.header("link").is_some(),
        )
    };
    assert_eq!(tags("last=c"), (json!(["d", "e"]), false));
    assert_eq!(tags("n=5"), (json!(["a", "b", "c", "d", "e"]), false));
    assert_eq!(tags("n=0"), (json!([]), false));
    assert_eq!(tags("last=bb&n=1"), (json!(["c"]), true));
    assert_eq!(status(&ours.http, "/v2/r/tags/list?n=-1"), 400);
}

#[test]
fn end_9_tags_and_manifests_are_deleted() {
    let ours = Ours::start();
    let image = push_image(&ours.http, "a", "v1", "x");
    push_image(&ours.http, "a", "v2", "x");
    let delete = |reference: &str| {
        let path = format!("/v2/a/manifests/{reference}");
        ours.http.send("DELETE", &path, &[], &[]).unwrap().status
    };
    assert_eq!(delete("v1"), 202);
    assert_eq!(status(&ours.http, "/v2/a/manifests/v1"), 404);
    assert_eq!(status(&ours.http, "/v2/a/manifests/v2"), 200);
    assert_eq!(status(&ours.http, &format!("/v2/a/manifests/{image}")), 200);
    assert_eq!(delete("v1"), 404);
    assert_eq!(delete(&image), 202);
    assert_eq!(status(&ours.http, "/v2/a/manifests/v2"), 404);
    let tags = ours.http.get("/v2/a/tags/list").unwrap();
    assert_eq!((tags.status, tags.json()["tags"].clone()), (200, json!([])));
}

#[test]
fn end_10_a_blob_is_deleted_from_one_repository() {
    let ours = Ours::start();
    let blob = push_blob(&ours.http, "a", b"shared");
    push_blob(&ours.http, "b", b"shared");
    let path = |name: &str| format!("/v2/{name}/blobs/{blob}");
    assert_eq!(
        ours.http
            .send("DELETE", &path("a"), &[], &[])
            .unwrap()
            .status,
        202
    );
    assert_eq!(status(&ours.http, &path("a")), 404);
    assert_eq!(status(&ours.http, &path("b")), 200);
    assert_eq!(
        ours.http
            .send("DELETE", &path("b"), &[], &[])
            .unwrap()
            .status,
        202
    );
    let shelf = ours.folder().join("blobs/sha256").join(&blob[7..9]);
    assert_eq!(
        std::fs::read_dir(shelf).unwrap().count(),
        0,
        "the last one frees the file"
    );
}

#[test]
fn end_11_a_mount_needs_a_source() {
    let ours = Ours::start();
    let blob = push_blob(&ours.http, "a", b"shared");
    let post = |query: &str| {
        let path = format!("/v2/b/blobs/uploads/?{query}");
        ours.http.send("POST", &path, &[], &[]).unwrap().status
    };
    assert_eq!(post(&format!("mount={blob}")), 202);
    assert_eq!(status(&ours.http, &format!("/v2/b/blobs/{blob}")), 404);
    assert_eq!(post(&format!("mount={blob}&from=a")), 201);
    assert_eq!(status(&ours.http, &format!("/v2/b/blobs/{blob}")), 200);
    assert_eq!(post("mount=sha256:12&from=a"), 400);
}

/// A manifest about another one.
fn about(subject: &str, kind: &str, note: &str) -> serde_json::Value {
    let mut document = manifest(b"{}", &[]);
    document["artifactType"] = json!(kind);
    document["annotations"] = json!({"note": note});
    document["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
    document
}

#[test]
fn end_12a_referrers_are_listed() {
    let ours = Ours::start();
    let subject = digest(b"not there yet");
    let path = format!("/v2/a/referrers/{subject}");
    let answer = ours.http.get(&path).unwrap();
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some(INDEX))
    );
    assert_eq!(answer.json()["manifests"], json!([]));
    assert_eq!(status(&ours.http, "/v2/a/referrers/sha256:12"), 400);

    push_blob(&ours.http, "a", b"{}");
    let document = about(&subject, "text/sbom", "one");
    let referrer = digest(document.to_string().as_bytes());
    let answer = put_manifest(&ours.http, "a", &referrer, &document);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("oci-subject"), Some(&*subject));
    let listed = ours.http.get(&path).unwrap().json();
    assert_eq!(
        listed["manifests"],
        json!([{"mediaType": MANIFEST, "digest": referrer, "size": document.to_string().len(),
                "annotations": {"note": "one"}, "artifactType": "text/sbom"}])
    );
    let gone = format!("/v2/a/manifests/{referrer}");
    assert_eq!(
        ours.http.send("DELETE", &gone, &[], &[]).unwrap().status,
        202
    );
    assert_eq!(ours.http.get(&path).unwrap().json()["manifests"], json!([]));
}

#[test]
fn end_12b_referrers_are_filtered() {
    let ours = Ours::start();
    push_blob(&ours.http, "a", b"{}");
    let subject = digest(b"subject");
    for (kind, note) in [("a/sbom", "1"), ("a/signature", "2"), ("a/sbom", "3")] {
        let document = about(&subject, kind, note);
        let reference = digest(document.to_string().as_bytes());
        assert_eq!(
            put_manifest(&ours.http, "a", &reference, &document).status,
            201
        );
    }
    // Without an artifact type the configuration's media type counts.
    let mut plain = about(&subject, "", "4");
    plain.as_object_mut().unwrap().remove("artifactType");
    assert_eq!(put_manifest(&ours.http, "a", "plain", &plain).status, 201);
    let count = |query: &str| {
        let answer = ours
            .http
            .get(&format!("/v2/a/referrers/{subject}{query}"))
            .unwrap();
        let applied = answer.header("oci-filters-applied").map(str::to_owned);
        (
            answer.json()["manifests"].as_array().unwrap().len(),
            applied,
        )
    };
    let filtered = Some("artifactType".to_owned());
    assert_eq!(count(""), (4, None));
    assert_eq!(count("?artifactType=a/sbom"), (2, filtered.clone()));
    assert_eq!(count("?artifactType=none"), (0, filtered.clone()));
    let configuration = "?artifactType=application%2Fvnd.oci.image.config.v1%2Bjson";
    assert_eq!(count(configuration), (1, filtered));
}

#[test]
fn end_13_an_upload_survives_a_restart() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        ours.http
            .stream("PATCH", &upload, &[b"first ", b"half, "])
            .unwrap()
            .status,
        202
    );
    let unknown = "/v2/a/blobs/uploads/00000000-0000-0000-0000-000000000000";
    assert_eq!(status(&ours.http, unknown), 404);
    let ours = Ours::at(ours.stop(), |_| {});
    let answer = ours.http.get(&upload).unwrap();
    assert_eq!((answer.status, answer.header("range")), (204, Some("0-11")));
    let whole = b"first half, second half";
    let answer = put_upload(&ours.http, &upload, &digest(whole), b"second half");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = ours
        .http
        .get(&format!("/v2/a/blobs/{}", digest(whole)))
        .unwrap();
    assert_eq!(answer.body, whole);
}

#[test]
fn end_14_an_upload_is_cancelled() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    assert_eq!(
        ours.http
            .stream("PATCH", &upload, &[b"something"])
            .unwrap()
            .status,
        202
    );
    assert_eq!(
        ours.http.send("DELETE", &upload, &[], &[]).unwrap().status,
        204
    );
    for method in ["GET", "DELETE"] {
        assert_eq!(
            ours.http.send(method, &upload, &[], &[]).unwrap().status,
            404
        );
    }
    let uploads = std::fs::read_dir(ours.folder().join("uploads")).unwrap();
    assert_eq!(uploads.count(), 0);
}

#[test]
fn methods_that_a_noun_does_not_have_are_refused() {
    let ours = Ours::start();
    for (method, path) in [
        ("DELETE", "/v2/"),
        ("POST", "/v2/a/manifests/x"),
        ("PUT", "/v2/a/tags/list"),
        ("GET", "/v2/a/blobs/uploads/"),
    ] {
        let answer = ours.http.send(method, path, &[], &[]).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (405, "UNSUPPORTED".to_owned()),
            "{path}"
        );
        assert!(answer.header("allow").is_some());
    }
}

#[test]
fn a_read_only_registry_takes_nothing() {
    let ours = Ours::start();
    let image = push_image(&ours.http, "a", "v1", "x");
    let ours = Ours::at(ours.stop(), |config| config.limits.read_only = true);
    assert_eq!(status(&ours.http, "/v2/a/manifests/v1"), 200);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/v2".to_owned()),
        ("DELETE", "/v2/a/manifests/v1".to_owned()),
        ("DELETE", format!("/v2/a/manifests/{image}")),
    ] {
        let answer = ours.http.send(method, &path, &[], b"{}").unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (405, "UNSUPPORTED".to_owned()),
            "{path}"
        );
    }
}

#[test]
fn health_and_metrics() {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    assert_eq!(ours.http.get("/healthz").unwrap().text(), "ok\n");
    let text = ours.http.get("/metrics").unwrap().text();
    for line in [
        "cais_registry_requests_total{method=\"PUT\",noun=\"manifest\",status=\"201\"} 1\n",
        "cais_registry_repositories 1\n",
        "cais_registry_content_files 3\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
