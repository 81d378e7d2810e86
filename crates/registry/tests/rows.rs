//! The rows of distribution-spec in one table: each endpoint as it succeeds and as it fails, each error code, header, query and
//! grammar. What stands behind the ids is in `endpoints.rs`.

use std::collections::BTreeSet;
use std::io::Write as _;

use cais_registry::AuthConfig;
use cais_testkit::http::{Answer, read_answer};
use serde_json::json;

use super::{
    INDEX, MANIFEST, Ours, code, digest, location, manifest, open_upload, push_blob, push_image,
    put_manifest,
};

/// What a row asks with and what it wants: id, method, path, header, body, status, code. In paths and bodies `{blob}` is a blob of
/// `a`, `{none}` a digest of nothing that is there, `{image}` the image `a:v1`, `{upload}` a fresh upload with the bytes `abc`,
/// `{abc}` their digest.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    Option<(&'static str, &'static str)>,
    &'static str,
    u16,
    &'static str,
);

const AS_MANIFEST: Option<(&str, &str)> = Some(("Content-Type", MANIFEST));
/// Another name of the image that is there.
const AGAIN: &str = "{document}";
const LACKS: &str = "{lacks}";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("end-1", "GET", "/v2/", None, "", 200, ""),
    ("end-1", "GET", "/v9/", None, "", 404, "UNSUPPORTED"),
    ("end-2", "GET", "/v2/a/blobs/{blob}", None, "", 200, ""),
    ("end-2", "HEAD", "/v2/a/blobs/{blob}", None, "", 200, ""),
    ("end-2", "GET", "/v2/a/blobs/{blob}", Some(("Range", "bytes=1-2")), "", 206, ""),
    ("end-2", "GET", "/v2/a/blobs/{none}", None, "", 404, "BLOB_UNKNOWN"),
    ("end-2", "GET", "/v2/b/blobs/{blob}", None, "", 404, "BLOB_UNKNOWN"),
    ("end-2", "GET", "/v2/a/blobs/sha256:12", None, "", 400, "DIGEST_INVALID"),
    ("end-3", "GET", "/v2/a/manifests/v1", None, "", 200, ""),
    ("end-3", "HEAD", "/v2/a/manifests/{image}", None, "", 200, ""),
    ("end-3", "GET", "/v2/a/manifests/v1", Some(("Accept", INDEX)), "", 404, "MANIFEST_UNKNOWN"),
    ("end-3", "GET", "/v2/a/manifests/none", None, "", 404, "MANIFEST_UNKNOWN"),
    ("end-3", "GET", "/v2/a/manifests/{none}", None, "", 404, "MANIFEST_UNKNOWN"),
    ("end-4a", "POST", "/v2/a/blobs/uploads/", None, "", 202, ""),
    ("end-4a", "POST", "/v2/A/blobs/uploads/", None, "", 400, "NAME_INVALID"),
    ("end-4b", "POST", "/v2/a/blobs/uploads/?digest={abc}", None, "abc", 201, ""),
    ("end-4b", "POST", "/v2/a/blobs/uploads/?digest={abc}", None, "", 202, ""),
    ("end-4b", "POST", "/v2/a/blobs/uploads/?digest={none}", None, "abc", 400, "DIGEST_INVALID"),
    ("end-4c", "POST", "/v2/a/blobs/uploads/?digest-algorithm=sha256", None, "", 202, ""),
    ("end-4c", "POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", None, "", 400, "DIGEST_INVALID"),
    ("end-5", "PATCH", "{upload}", Some(("Content-Range", "3-4")), "de", 202, ""),
    ("end-5", "PATCH", "{upload}", None, "de", 202, ""),
    ("end-5", "PATCH", "{upload}", Some(("Content-Range", "4-5")), "de", 416, "BLOB_UPLOAD_INVALID"),
    ("end-5", "PATCH", "{upload}", Some(("Content-Range", "3-9")), "de", 400, "SIZE_INVALID"),
    ("end-5", "PATCH", "{gone}", None, "de", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("end-6", "PUT", "{upload}?digest={abc}", None, "", 201, ""),
    ("end-6", "PUT", "{upload}?digest={none}", None, "", 400, "DIGEST_INVALID"),
    ("end-6", "PUT", "{upload}", None, "", 400, "DIGEST_INVALID"),
    ("end-6", "PUT", "{upload}?digest={abc}", Some(("Content-Range", "9-10")), "de", 416, "BLOB_UPLOAD_INVALID"),
    ("end-6", "PUT", "{gone}?digest={abc}", None, "", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("end-7a", "PUT", "/v2/a/manifests/v2", AS_MANIFEST, AGAIN, 201, ""),
    ("end-7a", "PUT", "/v2/a/manifests/{image}", AS_MANIFEST, AGAIN, 201, ""),
    ("end-7a", "PUT", "/v2/a/manifests/{none}", AS_MANIFEST, AGAIN, 400, "DIGEST_INVALID"),
    ("end-7a", "PUT", "/v2/a/manifests/v3", AS_MANIFEST, "{}", 400, "MANIFEST_INVALID"),
    ("end-7a", "PUT", "/v2/a/manifests/v3", AS_MANIFEST, LACKS, 400, "MANIFEST_BLOB_UNKNOWN"),
    ("end-7a", "PUT", "/v2/a/manifests/v3", AS_MANIFEST, "{huge}", 413, "MANIFEST_INVALID"),
    ("end-7b", "PUT", "/v2/a/manifests/{image}?tag=x&tag=y", AS_MANIFEST, AGAIN, 201, ""),
    ("end-7b", "PUT", "/v2/a/manifests/{image}?tag=.", AS_MANIFEST, AGAIN, 400, "MANIFEST_INVALID"),
    ("end-8a", "GET", "/v2/a/tags/list", None, "", 200, ""),
    ("end-8a", "GET", "/v2/none/tags/list", None, "", 404, "NAME_UNKNOWN"),
    ("end-8b", "GET", "/v2/a/tags/list?n=1&last=v1", None, "", 200, ""),
    ("end-8b", "GET", "/v2/a/tags/list?n=-1", None, "", 400, "PAGINATION_NUMBER_INVALID"),
    ("end-11", "POST", "/v2/c/blobs/uploads/?mount={blob}&from=a", None, "", 201, ""),
    ("end-11", "POST", "/v2/c/blobs/uploads/?mount={none}&from=a", None, "", 202, ""),
    ("end-11", "POST", "/v2/c/blobs/uploads/?mount=x&from=a", None, "", 400, "DIGEST_INVALID"),
    ("end-12a", "GET", "/v2/a/referrers/{image}", None, "", 200, ""),
    ("end-12a", "GET", "/v2/a/referrers/{none}", None, "", 200, ""),
    ("end-12a", "GET", "/v2/a/referrers/v1", None, "", 400, "DIGEST_INVALID"),
    ("end-12b", "GET", "/v2/a/referrers/{image}?artifactType=x/y", None, "", 200, ""),
    ("end-12b", "GET", "/v2/a/referrers/x?artifactType=x/y", None, "", 400, "DIGEST_INVALID"),
    ("end-13", "GET", "{upload}", None, "", 204, ""),
    ("end-13", "GET", "{gone}", None, "", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("end-14", "DELETE", "{upload}", None, "", 204, ""),
    ("end-14", "DELETE", "{gone}", None, "", 404, "BLOB_UPLOAD_UNKNOWN"),
    ("end-9", "DELETE", "/v2/a/manifests/v2", None, "", 202, ""),
    ("end-9", "DELETE", "/v2/a/manifests/none", None, "", 404, "MANIFEST_UNKNOWN"),
    ("end-9", "DELETE", "/v2/none/manifests/v1", None, "", 404, "NAME_UNKNOWN"),
    ("end-9", "DELETE", "/v2/a/manifests/{image}", None, "", 202, ""),
    ("end-10", "DELETE", "/v2/a/blobs/{blob}", None, "", 202, ""),
    ("end-10", "DELETE", "/v2/a/blobs/{blob}", None, "", 404, "BLOB_UNKNOWN"),
    ("end-10", "PUT", "/v2/a/blobs/{blob}", None, "", 405, "UNSUPPORTED"),
];

#[rustfmt::skip]
const ENDPOINTS: [&str; 19] = [
    "end-1", "end-2", "end-3", "end-4a", "end-4b", "end-4c", "end-5", "end-6", "end-7a", "end-7b",
    "end-8a", "end-8b", "end-9", "end-10", "end-11", "end-12a", "end-12b", "end-13", "end-14",
];

/// What rows put in the place of their words.
struct World {
    ours: Ours,
    blob: String,
    image: String,
    document: serde_json::Value,
}

impl World {
    fn new() -> Self {
        let ours = Ours::start();
        let blob = push_blob(&ours.http, "a", b"content");
        let image = push_image(&ours.http, "a", "v1", "x");
        push_image(&ours.http, "b", "v1", "y");
        let document = manifest(br#"{"seed":"x"}"#, &[b"layer x"]);
        Self {
            ours,
            blob,
            image,
            document,
        }
    }

    fn upload(&self) -> String {
        let upload = open_upload(&self.ours.http, "a");
        let sent = self.ours.http.send("PATCH", &upload, &[], b"abc").unwrap();
        location(&sent)
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let none = digest(b"nothing");
        let huge = || json!({"filler": "x".repeat(5 << 20)}).to_string();
        let lacks = || manifest(b"not here", &[]).to_string();
        let gone = || "/v2/a/blobs/uploads/01234567-0123-0123-0123-0123456789ab".to_owned();
        let words: [(&str, &dyn Fn() -> String); 9] = [
            ("{upload}", &|| self.upload()),
            ("{gone}", &gone),
            ("{blob}", &|| self.blob.clone()),
            ("{image}", &|| self.image.clone()),
            ("{none}", &|| none.clone()),
            ("{abc}", &|| digest(b"abc")),
            ("{document}", &|| self.document.to_string()),
            ("{lacks}", &lacks),
            ("{huge}", &huge),
        ];
        for (word, value) in words {
            if text.contains(word) {
                text = text.replace(word, &value());
            }
        }
        text
    }

    fn ask(&self, row: &Row) -> Answer {
        let (_, method, path, header, body, ..) = row;
        let headers: Vec<_> = header.iter().copied().collect();
        let (path, body) = (self.fill(path), self.fill(body));
        let http = &self.ours.http;
        http.send(method, &path, &headers, body.as_bytes()).unwrap()
    }
}

#[test]
fn every_endpoint_answers_as_its_row_says() {
    let world = World::new();
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    let mut codes = BTreeSet::from(["UNAUTHORIZED", "TOOMANYREQUESTS"].map(str::to_owned));
    for row in ROWS {
        let (id, method, path, _, _, status, wanted) = *row;
        let answer = world.ask(row);
        let place = format!("{id} {method} {path}: {}", answer.text());
        assert_eq!(answer.status, status, "{place}");
        if wanted.is_empty() {
            good.insert(id);
            continue;
        }
        bad.insert(id);
        assert_eq!(code(&answer), wanted, "{place}");
        let error = &answer.json()["errors"][0];
        assert!(error["message"].is_string(), "{place}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{place}"
        );
        codes.insert(wanted.to_owned());
    }
    let all = BTreeSet::from(ENDPOINTS);
    assert_eq!((&good, &bad), (&all, &all));
    // The two that are left have tests of their own below. DENIED is answered to nobody: who may not is asked who he is.
    for wanted in [
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    ] {
        assert!(codes.contains(wanted), "{wanted}");
    }
}

#[test]
fn unauthorized_comes_with_a_challenge() {
    let ours = Ours::with(|config| {
        let file = config.root.with_file_name("htpasswd");
        std::fs::write(
            &file,
            format!("me:{}\n", bcrypt::hash("secret", 4).unwrap()),
        )
        .unwrap();
        let realm = "here".to_owned();
        config.auth = AuthConfig::Htpasswd { realm, file };
    });
    for path in ["/v2/", "/v2/a/tags/list", "/v2/_catalog"] {
        let answer = ours.http.get(path).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (401, "UNAUTHORIZED".to_owned())
        );
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm=\"here\""), "{challenge}");
    }
}

#[test]
fn too_many_requests_on_one_upload_are_told_when_to_come_back() {
    let ours = Ours::start();
    let upload = open_upload(&ours.http, "a");
    let mut first = ours.http.connect().unwrap();
    let headers = [("Content-Length", "10")];
    ours.http
        .head(&mut first, "PATCH", &upload, &headers)
        .unwrap();
    first.write_all(b"\r\n12345").unwrap();
    cais_testkit::wait_until("the first to have its turn", || {
        std::fs::read_dir(ours.folder().join("uploads"))
            .unwrap()
            .count()
            == 1
    });
    let mut status = 0;
    cais_testkit::wait_until("another to be refused", || {
        let second = ours.http.send("PATCH", &upload, &[], b"").unwrap();
        status = second.status;
        if status == 429 {
            assert_eq!(code(&second), "TOOMANYREQUESTS");
            assert_eq!(second.header("retry-after"), Some("1"));
        }
        status == 429
    });
    first.write_all(b"67890").unwrap();
    let answer = read_answer(&mut first, "PATCH").unwrap();
    assert_eq!((answer.status, answer.header("range")), (202, Some("0-9")));
}

#[test]
fn headers_are_those_of_the_rows() {
    let world = World::new();
    let subject = json!({"mediaType": MANIFEST, "digest": world.image, "size": world.document.to_string().len()});
    let mut about = manifest(br#"{"seed":"x"}"#, &[]);
    about["subject"] = subject;
    let put = put_manifest(&world.ours.http, "a", "about", &about);
    assert_eq!(put.header("oci-subject"), Some(&*world.image));
    let none = "";
    #[rustfmt::skip]
    let rows: [(&str, Row, &str); 12] = [
        ("docker-content-digest", ("", "GET", "/v2/a/manifests/v1", None, "", 200, none), "{image}"),
        ("docker-content-digest", ("", "HEAD", "/v2/a/blobs/{blob}", None, "", 200, none), "{blob}"),
        ("location", ("", "PUT", "{upload}?digest={abc}", None, "", 201, none), "/v2/a/blobs/{abc}"),
        ("location", ("", "PUT", "/v2/a/manifests/v1", AS_MANIFEST, AGAIN, 201, none), "/v2/a/manifests/{image}"),
        ("range", ("", "PATCH", "{upload}", Some(("Content-Range", "3-4")), "de", 202, none), "0-4"),
        ("range", ("", "GET", "{upload}", None, "", 204, none), "0-2"),
        ("content-range", ("", "GET", "/v2/a/blobs/{blob}", Some(("Range", "bytes=1-2")), "", 206, none), "bytes 1-2/7"),
        ("oci-filters-applied", ("", "GET", "/v2/a/referrers/{image}?artifactType=x/y", None, "", 200, none), "artifactType"),
        ("oci-tag", ("", "PUT", "/v2/a/manifests/{image}?tag=one", AS_MANIFEST, AGAIN, 201, none), "one"),
        ("link", ("", "GET", "/v2/a/tags/list?n=1", None, "", 200, none), "</v2/a/tags/list?last=about&n=1>; rel=\"next\""),
        // Any chunk is taken, and nothing is warned of.
        ("oci-chunk-min-length", ("", "POST", "/v2/a/blobs/uploads/", None, "", 202, none), none),
        ("warning", ("", "GET", "/v2/a/manifests/v1", None, "", 200, none), none),
    ];
    for (name, row, wanted) in rows {
        let answer = world.ask(&row);
        assert_eq!(answer.status, row.5, "{name}: {}", answer.text());
        let wanted = world.fill(wanted);
        assert_eq!(
            answer.header(name).unwrap_or_default(),
            wanted,
            "{name} of {}",
            row.2
        );
    }
}

#[test]
fn names_tags_and_chunk_ranges_follow_their_grammars() {
    let world = World::new();
    let http = &world.ours.http;
    for (name, good) in [
        ("a", true),
        ("a/b/c", true),
        ("a.b", true),
        ("a_b", true),
        ("a__b", true),
        ("a-b", true),
        ("a--b", true),
        ("a---b/0", true),
        ("0", true),
        ("a___b", false),
        ("a..b", false),
        ("a._b", false),
        (".a", false),
        ("a.", false),
        ("-a", false),
        ("a/-b", false),
        ("a//b", false),
        ("A", false),
        ("a+b", false),
        ("%C3%A9", false),
    ] {
        let path = format!("/v2/{name}/blobs/uploads/");
        let answer = http.send("POST", &path, &[], &[]).unwrap();
        assert_eq!(answer.status == 202, good, "{name}: {}", answer.text());
        assert!(
            good || matches!(answer.status, 400 | 404),
            "{name}: {}",
            answer.text()
        );
    }
    let (longest, longer) = ("t".repeat(128), "t".repeat(129));
    for (tag, good) in [
        ("v1", true),
        ("_", true),
        ("A.b-C_1", true),
        ("0", true),
        (&longest, true),
        (&longer, false),
        (".a", false),
        ("-a", false),
        ("a+b", false),
        ("a%20b", false),
    ] {
        let answer = put_manifest(http, "a", tag, &world.document);
        assert_eq!(answer.status == 201, good, "{tag}: {}", answer.text());
        assert!(good || answer.status == 400, "{tag}: {}", answer.text());
    }
    for (range, good) in [
        ("3-4", true),
        ("3-", false),
        ("-4", false),
        ("+3-4", false),
        ("3-4 ", true),
        ("bytes 3-4/5", false),
        ("3-4/5", false),
        ("0x3-4", false),
    ] {
        let headers = [("Content-Range", range)];
        let answer = http
            .send("PATCH", &world.upload(), &headers, b"de")
            .unwrap();
        assert_eq!(answer.status == 202, good, "{range}: {}", answer.text());
    }
}
