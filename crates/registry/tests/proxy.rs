//! The pull-through cache, before a registry of ours, docker-registry, and upstreams that misbehave.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use cais_distribution::client::Credentials;
use cais_registry::UpstreamConfig;
use cais_testkit::http::{Answer, Http};

use super::peer::Peer;
use super::{Ours, code, digest, push_blob, push_image, status};

fn cache(upstream: &str, credentials: Option<Credentials>) -> Ours {
    Ours::with(|config| {
        config.upstreams = vec![UpstreamConfig {
            name: "docker.io".to_owned(),
            url: format!("http://{upstream}"),
            credentials,
        }];
    })
}

fn get(http: &Http, path: &str) -> Answer {
    http.send("GET", path, &[("Accept", "*/*")], &[]).unwrap()
}

fn pulls_through(upstream: &Http) {
    let image = push_image(upstream, "library/app", "v1", "x");
    let cache = cache(&upstream.address, None);
    let layer = digest(b"layer x");
    for path in [
        "/v2/docker.io/library/app/manifests/v1".to_owned(),
        "/v2/docker.io/app/manifests/v1".to_owned(),
        "/v2/library/app/manifests/v1?ns=docker.io".to_owned(),
        format!("/v2/docker.io/library/app/manifests/{image}"),
    ] {
        let answer = get(&cache.http, &path);
        assert_eq!(
            (answer.status, digest(&answer.body)),
            (200, image.clone()),
            "{path}"
        );
    }
    let path = format!("/v2/library/app/blobs/{layer}?ns=docker.io");
    let head = cache.http.send("HEAD", &path, &[], &[]).unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("7"))
    );
    assert_eq!(get(&cache.http, &path).text(), "layer x");
    let tags = get(&cache.http, "/v2/library/app/tags/list?ns=docker.io").json();
    assert_eq!(tags["tags"], serde_json::json!(["v1"]));
    // Nothing is pushed to an upstream's repository, and unknown things stay unknown.
    let answer = cache
        .http
        .send("POST", "/v2/docker.io/library/app/blobs/uploads/", &[], &[]);
    assert_eq!(answer.unwrap().status, 405);
    let answer = get(&cache.http, "/v2/docker.io/library/app/manifests/none");
    assert_eq!(
        (answer.status, code(&answer)),
        (404, "MANIFEST_UNKNOWN".to_owned())
    );
    let answer = get(
        &cache.http,
        &format!("/v2/docker.io/library/app/blobs/{}", digest(b"no")),
    );
    assert_eq!(
        (answer.status, code(&answer)),
        (404, "BLOB_UNKNOWN".to_owned())
    );
    let answer = get(&cache.http, "/v2/library/app/manifests/v1?ns=quay.io");
    assert_eq!(
        (answer.status, code(&answer)),
        (404, "NAME_UNKNOWN".to_owned())
    );
    // A tag that moved is followed.
    let moved = push_image(upstream, "library/app", "v1", "y");
    let answer = get(&cache.http, "/v2/docker.io/library/app/manifests/v1");
    assert_eq!(digest(&answer.body), moved);
}

#[test]
fn images_come_through_from_ours_and_from_docker_registry() {
    pulls_through(&Ours::start().http);
    if let Some(peer) = Peer::start() {
        pulls_through(&peer.http);
    }
}

#[test]
fn what_was_fetched_serves_without_the_upstream() {
    let upstream = Ours::start();
    let image = push_image(&upstream.http, "library/app", "v1", "x");
    let cache = cache(&upstream.http.address, None);
    let layer = format!("/v2/docker.io/library/app/blobs/{}", digest(b"layer x"));
    let manifest = "/v2/docker.io/library/app/manifests/v1";
    assert_eq!(status(&cache.http, manifest), 200);
    assert_eq!(get(&cache.http, &layer).text(), "layer x");
    cais_testkit::wait_until("the blob is kept", || {
        let blobs = cache
            .folder()
            .join("blobs/sha256")
            .join(&digest(b"layer x")[7..9]);
        std::fs::read_dir(blobs).unwrap().count() == 1
    });
    drop(upstream);
    assert_eq!(digest(&get(&cache.http, manifest).body), image);
    assert_eq!(get(&cache.http, &layer).text(), "layer x");
    let other = "/v2/docker.io/library/other/manifests/v1";
    assert_eq!(status(&cache.http, other), 503);
}

#[test]
fn a_fallback_serves_names_that_are_not_here() {
    let upstream = Ours::start();
    push_image(&upstream.http, "library/app", "v1", "x");
    let cache = Ours::with(|config| {
        config.upstreams = vec![UpstreamConfig {
            name: "docker.io".to_owned(),
            url: format!("http://{}", upstream.http.address),
            credentials: None,
        }];
        config.fallback = Some("docker.io".to_owned());
    });
    assert_eq!(status(&cache.http, "/v2/library/app/manifests/v1"), 200);
    push_image(&cache.http, "own", "v1", "y");
    assert_eq!(status(&cache.http, "/v2/own/manifests/v1"), 200);
    assert_eq!(status(&cache.http, "/v2/nowhere/manifests/v1"), 404);
}

/// An upstream made of a function from a request's head to the answer's bytes; what it was asked.
fn upstream(
    answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, seen) = channel();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (answer, heads) = (Arc::clone(&answer), heads.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let _test_ended = heads.send(head.clone());
                answer(&head, &mut stream);
            });
        }
    });
    (address, seen)
}

fn say(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let _gone = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

#[test]
fn one_fetch_serves_many_clients_and_goes_on_where_it_was_cut() {
    let blob: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let (content, cuts) = (blob.clone(), AtomicUsize::new(0));
    let (address, seen) = upstream(move |head, stream| {
        let range = head.to_lowercase();
        let start = range
            .split("range: bytes=")
            .nth(1)
            .and_then(|rest| rest.split('-').next());
        let start: usize = start.map_or(0, |text| text.parse().unwrap());
        let status = if start > 0 {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let length = content.len() - start;
        let _gone = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n"
        );
        let end = if cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            start + 1_500_000
        } else {
            content.len()
        };
        let _gone = stream.write_all(&content[start..end.min(content.len())]);
    });
    let cache = cache(&address, None);
    let path = format!("/v2/docker.io/library/app/blobs/{}", digest(&blob));
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (http, path) = (cache.http.clone(), path.clone());
            std::thread::spawn(move || digest(&get(&http, &path).body))
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), digest(&blob));
    }
    let asked: Vec<String> = seen.try_iter().collect();
    assert_eq!(
        asked.len(),
        3,
        "one connection and two more after cuts: {asked:?}"
    );
}

#[test]
fn wrong_content_of_an_upstream_is_not_kept_and_not_served_whole() {
    let (address, _seen) = upstream(|_, stream| say(stream, "200 OK", "", b"something else"));
    let cache = cache(&address, None);
    let path = format!(
        "/v2/docker.io/library/app/blobs/{}",
        digest(b"wanted content")
    );
    let mut stream = cache.http.connect().unwrap();
    cache.http.head(&mut stream, "GET", &path, &[]).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let answer = cais_testkit::http::read_answer(&mut stream, "GET");
    assert!(answer.is_err(), "{answer:?}");
    let uploads = cache.folder().join("uploads");
    cais_testkit::wait_until("the upload is gone", || {
        std::fs::read_dir(&uploads).unwrap().count() == 0
    });
    let manifest = "/v2/docker.io/library/app/manifests/v1";
    assert_ne!(status(&cache.http, manifest), 200);
}

#[test]
fn an_upstream_that_has_too_many_requests_says_when_to_come_back() {
    let first = AtomicUsize::new(0);
    let (address, asked) = upstream(move |head, stream| {
        if head.contains("/manifests/old") && first.fetch_add(1, Ordering::SeqCst) == 0 {
            let kind = format!("Content-Type: {}\r\n", super::MANIFEST);
            let document = super::manifest(b"{}", &[]).to_string();
            return say(stream, "200 OK", &kind, document.as_bytes());
        }
        let headers = "Retry-After: 3600\r\n";
        say(stream, "429 Too Many Requests", headers, b"");
    });
    let cache = cache(&address, None);
    let path = "/v2/docker.io/library/app/manifests/v1";
    let answer = get(&cache.http, path);
    let wait = answer.header("retry-after");
    assert_eq!((answer.status, wait), (429, Some("3600")));
    assert_eq!(super::code(&answer), "TOOMANYREQUESTS");
    assert!(asked.try_iter().count() <= 2, "not asked again at once");
    // What was fetched before serves.
    for _ in 0..2 {
        let old = "/v2/docker.io/library/app/manifests/old";
        assert_eq!(get(&cache.http, old).status, 200);
    }
}

#[test]
fn cve_2026_33540_credentials_go_to_no_foreign_realm() {
    let (elsewhere, stolen) = upstream(|_, stream| say(stream, "200 OK", "", b"{\"token\":\"t\"}"));
    // A name of this machine is no loopback name to the rule: a realm that is not the upstream's host gets nothing.
    let port = elsewhere.rsplit(':').next().unwrap().to_owned();
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let realm = format!("http://{}:{port}/token", node.trim());
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"x\"\r\n");
    let (address, asked) =
        upstream(move |_, stream| say(stream, "401 Unauthorized", &challenge, b""));
    let cache = cache(&address, Some(Credentials::basic("user", "secret")));
    assert_ne!(
        status(&cache.http, "/v2/docker.io/library/app/manifests/v1"),
        200
    );
    assert!(asked.try_iter().count() > 0, "the upstream was asked");
    let stolen: Vec<String> = stolen.try_iter().collect();
    assert!(stolen.is_empty(), "{stolen:?}");
    // The client's own credentials are for the cache and go nowhere.
    let headers = [("Authorization", "Basic dXNlcjpteQ==")];
    let path = "/v2/docker.io/library/app/manifests/v2";
    cache.http.send("GET", path, &headers, &[]).unwrap();
    for head in asked.try_iter() {
        assert!(!head.contains("dXNlcjpteQ=="), "{head}");
    }
}

#[test]
fn credentials_reach_their_own_upstream() {
    let origin = Ours::start();
    push_image(&origin.http, "library/app", "v1", "x");
    push_blob(&origin.http, "library/app", b"more");
    let root = origin.stop();
    let file = root.path().join("htpasswd");
    std::fs::write(
        &file,
        format!("user:{}\n", bcrypt::hash("secret", 4).unwrap()),
    )
    .unwrap();
    let origin = Ours::at(root, |config| {
        config.auth = cais_registry::AuthConfig::Htpasswd {
            realm: "origin".to_owned(),
            file,
        };
    });
    let path = "/v2/docker.io/library/app/manifests/v1";
    let without = cache(&origin.http.address, None);
    assert_eq!(status(&without.http, path), 404);
    let with = cache(
        &origin.http.address,
        Some(Credentials::basic("user", "secret")),
    );
    assert_eq!(status(&with.http, path), 200);
}
