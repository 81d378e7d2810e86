//! Names and passwords, tokens, and TLS.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cais_registry::{AuthConfig, TokenConfig};
use cais_testkit::http::{Answer, Http};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{Ours, code, push_image};

fn with_authorization(http: &Http, method: &str, path: &str, value: &str) -> Answer {
    let headers = [("Authorization", value), ("Accept", "*/*")];
    http.send(method, path, &headers, &[]).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A server with one user, on content that is there already.
fn htpasswd(anonymous: bool) -> Ours {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    let root = ours.stop();
    let file = root.path().join("htpasswd");
    let hash = bcrypt::hash("right", 4)
        .unwrap()
        .replacen("$2b$", "$2y$", 1);
    std::fs::write(&file, format!("# users\nuser:{hash}\n")).unwrap();
    Ours::at(root, |config| {
        config.auth = AuthConfig::Htpasswd {
            realm: "here".to_owned(),
            file,
        };
        config.anonymous_pull = anonymous;
    })
}

#[test]
fn htpasswd_lets_users_in() {
    let ours = htpasswd(false);
    for path in ["/v2/", "/v2/_catalog", "/v2/a/manifests/v1"] {
        let answer = ours.http.get(path).unwrap();
        assert_eq!(
            (answer.status, code(&answer)),
            (401, "UNAUTHORIZED".to_owned()),
            "{path}"
        );
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic realm=\"here\"")
        );
        for (user, password, want) in [
            ("user", "right", 200),
            ("user", "wrong", 401),
            ("user", "right", 200),
            ("nobody", "right", 401),
            ("nobody", "", 401),
            ("user", "", 401),
        ] {
            let answer = with_authorization(&ours.http, "GET", path, &basic(user, password));
            assert_eq!(answer.status, want, "{path} {user} {password}");
        }
    }
    for bad in ["Basic", "Basic !!!", "Bearer x", "Digest x"] {
        assert_eq!(
            with_authorization(&ours.http, "GET", "/v2/", bad).status,
            401,
            "{bad}"
        );
    }
}

#[test]
fn htpasswd_takes_bcrypt_only() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("htpasswd");
    std::fs::write(&file, "user:$apr1$abc$def\n").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = super::config(root.path().join("registry"));
    config.auth = AuthConfig::Htpasswd {
        realm: "here".to_owned(),
        file,
    };
    let Err(error) = runtime.block_on(cais_registry::Server::bind(config)) else {
        panic!("taken");
    };
    assert!(error.to_string().contains("only bcrypt"), "{error}");
}

#[test]
fn everybody_may_pull_when_that_is_wanted() {
    let ours = htpasswd(true);
    assert_eq!(ours.http.get("/v2/a/manifests/v1").unwrap().status, 200);
    assert_eq!(ours.http.get("/v2/a/tags/list").unwrap().status, 200);
    // The base still asks, or clients would never send credentials.
    assert_eq!(ours.http.get("/v2/").unwrap().status, 401);
    let path = "/v2/a/blobs/uploads/";
    assert_eq!(ours.http.send("POST", path, &[], &[]).unwrap().status, 401);
    let answer = with_authorization(&ours.http, "POST", path, &basic("user", "right"));
    assert_eq!(answer.status, 202);
    // Wrong credentials are wrong, even where none are needed.
    let answer = with_authorization(
        &ours.http,
        "GET",
        "/v2/a/manifests/v1",
        &basic("user", "no"),
    );
    assert_eq!(answer.status, 401);
}

/// A key that signs tokens, and its public half as a PEM file.
struct Signer {
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self { pair }
    }

    /// SubjectPublicKeyInfo of a P-256 key: a fixed beginning and the point.
    fn write(&self, path: &Path) {
        let mut der = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        der.extend_from_slice(self.pair.public_key().as_ref());
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        );
        std::fs::write(path, pem).unwrap();
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
               "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn claims(name: &str, actions: &[&str]) -> Value {
    json!({"iss": "issuer", "sub": "user", "aud": "service", "exp": now() + 300, "nbf": now() - 10,
           "access": [{"type": "repository", "name": name, "actions": actions}]})
}

fn es256() -> Value {
    json!({"typ": "JWT", "alg": "ES256"})
}

fn token_server(signer: &Signer, anonymous: bool) -> Ours {
    let ours = Ours::start();
    push_image(&ours.http, "a", "v1", "x");
    push_image(&ours.http, "b", "v1", "x");
    let root = ours.stop();
    let key = root.path().join("key.pem");
    signer.write(&key);
    Ours::at(root, |config| {
        config.auth = AuthConfig::Token(TokenConfig {
            realm: "https://auth.example/token".to_owned(),
            service: "service".to_owned(),
            issuer: "issuer".to_owned(),
            keys: vec![key],
        });
        config.anonymous_pull = anonymous;
    })
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn tokens_grant_what_they_say() {
    let signer = Signer::new();
    let ours = token_server(&signer, false);
    let answer = ours.http.get("/v2/a/manifests/v1").unwrap();
    assert_eq!(
        answer.header("www-authenticate"),
        Some(
            "Bearer realm=\"https://auth.example/token\",service=\"service\",scope=\"repository:a:pull\""
        )
    );
    let pull = bearer(&signer.token(&es256(), &claims("a", &["pull"])));
    let ask = |method: &str, path: &str, token: &str| {
        with_authorization(&ours.http, method, path, token).status
    };
    assert_eq!(ask("GET", "/v2/", &pull), 200);
    assert_eq!(ask("GET", "/v2/a/manifests/v1", &pull), 200);
    assert_eq!(ask("GET", "/v2/b/manifests/v1", &pull), 401);
    assert_eq!(ask("POST", "/v2/a/blobs/uploads/", &pull), 401);
    assert_eq!(ask("DELETE", "/v2/a/manifests/v1", &pull), 401);
    assert_eq!(ask("GET", "/v2/_catalog", &pull), 401);
    let push = bearer(&signer.token(&es256(), &claims("a", &["pull", "push"])));
    assert_eq!(ask("POST", "/v2/a/blobs/uploads/", &push), 202);
    // Mounting from where the token may not read opens an upload, and tells nothing.
    let blob = super::digest(b"layer x");
    let mount = format!("/v2/a/blobs/uploads/?mount={blob}&from=b");
    assert_eq!(ask("POST", &mount, &push), 202);
    let answer = with_authorization(&ours.http, "POST", "/v2/a/blobs/uploads/", &pull);
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.ends_with("scope=\"repository:a:pull,push\",error=\"insufficient_scope\""));
    let all = bearer(&signer.token(&es256(), &claims("a", &["*"])));
    assert_eq!(ask("DELETE", "/v2/a/manifests/v1", &all), 202);
    let mut catalog = claims("a", &[]);
    catalog["access"] = json!([{"type": "registry", "name": "catalog", "actions": ["*"]}]);
    assert_eq!(
        ask(
            "GET",
            "/v2/_catalog",
            &bearer(&signer.token(&es256(), &catalog))
        ),
        200
    );
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let signer = Signer::new();
    let ours = token_server(&signer, false);
    let ask = |header: &Value, claims: &Value| {
        let token = bearer(&signer.token(header, claims));
        with_authorization(&ours.http, "GET", "/v2/a/manifests/v1", &token).status
    };
    let good = claims("a", &["pull"]);
    assert_eq!(ask(&es256(), &good), 200);
    for (field, value) in [
        ("iss", json!("somebody")),
        ("aud", json!("other")),
        ("aud", json!(["x", "y"])),
        ("exp", json!(now() - 120)),
        ("nbf", json!(now() + 120)),
    ] {
        let mut claims = good.clone();
        claims[field] = value.clone();
        assert_eq!(ask(&es256(), &claims), 401, "{field} {value}");
    }
    for algorithm in ["none", "HS256", "RS256", "ES384", ""] {
        assert_eq!(ask(&json!({"alg": algorithm}), &good), 401, "{algorithm}");
    }
    let token = signer.token(&es256(), &good);
    let (unsigned, _) = token.rsplit_once('.').unwrap();
    for bad in [unsigned, &format!("{unsigned}."), "a.b.c", "", &token[1..]] {
        let answer = with_authorization(&ours.http, "GET", "/v2/a/manifests/v1", &bearer(bad));
        assert_eq!(answer.status, 401, "{bad}");
    }
}

#[test]
fn cve_2025_24976_a_key_that_a_token_brings_is_not_trusted() {
    let ours = token_server(&Signer::new(), false);
    let attacker = Signer::new();
    let mut parameters = rcgen::CertificateParams::new(vec!["attacker".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::NoCa;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    for extra in [
        json!({"jwk": attacker.jwk()}),
        json!({"x5c": [STANDARD.encode(certificate.der())]}),
        json!({"jku": "http://127.0.0.1/keys"}),
        json!({"kid": "key.pem"}),
    ] {
        let mut header = es256();
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let token = bearer(&attacker.token(&header, &claims("a", &["pull"])));
        let answer = with_authorization(&ours.http, "GET", "/v2/a/manifests/v1", &token);
        assert_eq!(answer.status, 401, "{extra}");
    }
}

#[test]
fn tokens_signed_by_a_certificates_key_and_by_rsa_are_taken() {
    // An RSA key made by openssl for tests, and the key of a certificate.
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(args)
            .current_dir(root.path())
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    openssl(&[
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
        "rsa.key",
    ]);
    openssl(&["pkey", "-in", "rsa.key", "-pubout", "-out", "rsa.pem"]);
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["auth.example".to_owned()]).unwrap();
    std::fs::write(
        path("bundle.pem"),
        parameters.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.serialized_der(), &SystemRandom::new());
    let certified = Signer {
        pair: pair.unwrap(),
    };
    let ours = Ours::with(|config| {
        config.auth = AuthConfig::Token(TokenConfig {
            realm: "https://auth.example/token".to_owned(),
            service: "service".to_owned(),
            issuer: "issuer".to_owned(),
            keys: vec![path("rsa.pem"), path("bundle.pem")],
        });
    });
    let token = certified.token(&es256(), &claims("a", &["pull"]));
    assert_eq!(
        with_authorization(&ours.http, "GET", "/v2/", &bearer(&token)).status,
        200
    );
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(&json!({"alg": "RS256"})),
        part(&claims("a", &["pull"]))
    );
    std::fs::write(path("signed"), &signed).unwrap();
    let signature = openssl(&["dgst", "-sha256", "-sign", "rsa.key", "signed"]);
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
    assert_eq!(
        with_authorization(&ours.http, "GET", "/v2/", &bearer(&token)).status,
        200
    );
    // The other algorithm's name on the same signature.
    let (_, rest) = token.split_once('.').unwrap();
    let confused = format!("{}.{rest}", part(&es256()));
    assert_eq!(
        with_authorization(&ours.http, "GET", "/v2/", &bearer(&confused)).status,
        401
    );
}

#[test]
fn tokens_and_anonymous_pull_go_together() {
    let signer = Signer::new();
    let ours = token_server(&signer, true);
    assert_eq!(ours.http.get("/v2/a/manifests/v1").unwrap().status, 200);
    let other = bearer(&signer.token(&es256(), &claims("other", &["push"])));
    let answer = with_authorization(&ours.http, "GET", "/v2/a/manifests/v1", &other);
    assert_eq!(answer.status, 200);
    let answer = ours
        .http
        .send("POST", "/v2/a/blobs/uploads/", &[], &[])
        .unwrap();
    assert_eq!(answer.status, 401);
}
