//! Images to and from registries, with the real docker command line, docker-py, skopeo and Debian's docker-registry.

use std::process::Command;

use crate::registry_kit::{Registry, check_whole, digests, docker_refused, id};
use crate::{CAIS, daemon};

#[test]
fn docker_pushes_pulls_and_runs_and_digests_stay() {
    let (daemon, registry) = (daemon(), Registry::start());
    let name = registry.name("team/box:1");
    let image = id(&daemon, "busybox");
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    let first = daemon.docker(&["push", &name]).unwrap();
    let repository = registry.name("team/box");
    assert!(
        first.starts_with(&format!("The push refers to repository [{repository}]\n")),
        "{first}"
    );
    assert!(first.contains(": Pushed\n1: digest: sha256:"), "{first}");
    let second = daemon.docker(&["push", &name]).unwrap();
    assert!(second.contains(": Layer already exists\n"), "{second}");
    let digest = digests(&daemon, &name).remove(0);
    assert!(second.contains(&digest) && first.contains(&digest));

    // Another daemon, by tag, by digest, and by running it.
    let other = cais_testkit::TestDaemon::start(CAIS).unwrap();
    let pulled = other.docker(&["pull", &name]).unwrap();
    for line in [
        "1: Pulling from team/box\n",
        ": Pull complete\n",
        "Status: Downloaded newer image",
    ] {
        assert!(pulled.contains(line), "{pulled}");
    }
    assert!(pulled.contains(&format!("Digest: {digest}\n")), "{pulled}");
    assert_eq!(id(&other, &name), image);
    let again = other.docker(&["pull", &name]).unwrap();
    assert!(again.contains("Status: Image is up to date for"), "{again}");
    other.docker(&["rmi", &name]).unwrap();
    let by_digest = format!("{repository}@{digest}");
    other.docker(&["pull", &by_digest]).unwrap();
    assert_eq!(id(&other, &by_digest), image);
    other.docker(&["rmi", &by_digest]).unwrap();
    let ran = other.docker(&["run", "--rm", &name, "echo", "hi"]).unwrap();
    assert!(ran.ends_with("hi\n"), "{ran}");
    // What came with a manifest goes out with it.
    let back = registry.name("team/back:1");
    other.docker(&["tag", &name, &back]).unwrap();
    other.docker(&["push", &back]).unwrap();
    assert!(digests(&other, &back).iter().all(|one| *one == digest));
    check_whole(&other);
}

#[test]
fn all_tags_platforms_and_names_that_are_not_there() {
    let (daemon, registry) = (daemon(), Registry::start());
    let repository = registry.name("box");
    for tag in ["a", "b"] {
        daemon
            .docker(&["tag", "busybox", &format!("{repository}:{tag}")])
            .unwrap();
    }
    daemon.docker(&["push", "-a", &repository]).unwrap();
    for tag in ["a", "b"] {
        daemon
            .docker(&["rmi", &format!("{repository}:{tag}")])
            .unwrap();
    }
    let pulled = daemon.docker(&["pull", "-a", &repository]).unwrap();
    assert!(
        pulled.contains("a: Pulling from box") && pulled.contains("b: Pulling from box"),
        "{pulled}"
    );
    let tags = daemon
        .docker(&["images", "--format", "{{.Tag}}", &repository])
        .unwrap();
    assert_eq!(tags.split_whitespace().count(), 2, "{tags}");
    for (args, want) in [
        (
            &["pull", &registry.name("box:none")][..],
            format!(
                "manifest for {} not found: manifest unknown",
                registry.name("box:none")
            ),
        ),
        (
            &["push", &registry.name("nothing:1")],
            format!(
                "An image does not exist locally with the tag: {}",
                registry.name("nothing")
            ),
        ),
        (
            &["push", &registry.name("box:none")],
            format!("tag does not exist: {}", registry.name("box:none")),
        ),
        (
            &["push", "--platform", "linux/arm64", &registry.name("box:a")],
            "does not match the specified platform".to_owned(),
        ),
        (
            &["pull", "localhost:1/none"],
            "connection refused".to_owned(),
        ),
    ] {
        let error = docker_refused(&daemon, args);
        assert!(error.contains(&want), "{args:?}: {error}");
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let until = (now.as_secs() + 1).to_string();
    let events = daemon
        .docker(&[
            "events",
            "--since",
            "1",
            "--until",
            &until,
            "--filter",
            "type=image",
            "--format",
            "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}",
        ])
        .unwrap();
    assert!(
        events.contains(&format!("push {repository} {repository}\n")),
        "{events}"
    );
    assert!(
        events.contains(&format!("pull {repository} {repository}\n")),
        "{events}"
    );
}

#[test]
fn a_registry_with_passwords_lets_in_who_logged_in() {
    let (daemon, registry) = (daemon(), Registry::with("me:secret"));
    let (server, name) = (registry.name("x").replace("/x", ""), registry.name("box:1"));
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    assert!(docker_refused(&daemon, &["push", &name]).contains("no basic auth credentials"));
    let wrong = docker_refused(&daemon, &["login", "-u", "me", "-p", "wrong", &server]);
    assert!(wrong.contains("401 Unauthorized"), "{wrong}");
    let right = daemon
        .docker(&["login", "-u", "me", "-p", "secret", &server])
        .unwrap();
    assert!(right.contains("Login Succeeded"), "{right}");
    daemon.docker(&["push", &name]).unwrap();
    daemon.docker(&["rmi", &name]).unwrap();
    daemon.docker(&["pull", &name]).unwrap();
    daemon.docker(&["logout", &server]).unwrap();
    daemon.docker(&["rmi", &name]).unwrap();
    assert!(docker_refused(&daemon, &["pull", &name]).contains("no basic auth credentials"));
}

#[test]
fn docker_py_pulls_and_pushes() {
    let (daemon, registry) = (daemon(), Registry::start());
    let closed = Registry::with("someone:secret");
    let script = r#"
import docker, sys
client, name = docker.from_env(), sys.argv[1]
image = client.images.get("busybox")
assert image.tag(name, tag="py")
lines = list(client.api.push(name, tag="py", stream=True, decode=True))
aux = [line["aux"] for line in lines if "aux" in line]
assert aux and aux[0]["Tag"] == "py" and aux[0]["Digest"].startswith("sha256:"), lines
client.images.remove(name + ":py")
pulled = client.images.pull(name, tag="py")
assert pulled.id == image.id and name + "@" + aux[0]["Digest"] in pulled.attrs["RepoDigests"], pulled.attrs
data = client.images.get_registry_data(name + ":py")
assert data.id == aux[0]["Digest"], data.attrs
try:
    client.images.pull(name, tag="none")
    raise SystemExit("pulled what is not there")
except docker.errors.NotFound as error:
    assert "manifest unknown" in str(error), error

# A registry with passwords: by login, and by a password of one call.
name = sys.argv[2]
image.tag(name, tag="py")
def errors(**more):
    return [line["error"] for line in client.api.push(name, tag="py", stream=True, decode=True, **more) if "error" in line]
assert errors() == ["no basic auth credentials"], errors()
assert errors(auth_config={"username": "someone", "password": "wrong"})
assert not errors(auth_config={"username": "someone", "password": "secret"})
server = name.split("/")[0]
try:
    client.login("someone", "wrong", registry=server)
    raise SystemExit("a wrong password was taken")
except docker.errors.APIError as error:
    assert error.status_code in (401, 500) and "unauthorized" in str(error).lower(), error
assert client.login("someone", "secret", registry=server)["Status"] == "Login Succeeded"
assert not errors()
client.images.remove(name + ":py")
assert client.images.pull(name, tag="py").id == image.id
"#;
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/bin/python");
    let output = daemon
        .client(
            python,
            &["-c", script, &registry.name("box"), &closed.name("box")],
        )
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_skopeo_pushes_is_pulled_and_back_it_has_the_same_digest() {
    let (daemon, registry) = (
        cais_testkit::TestDaemon::start(CAIS).unwrap(),
        Registry::start(),
    );
    let archive = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    let skopeo = |args: &[&str]| {
        let output = Command::new("skopeo").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let (name, back) = (registry.name("skopeo:1"), registry.name("back:1"));
    for format in ["v2s2", "oci"] {
        skopeo(&[
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "-f",
            format,
            &format!("docker-archive:{}", archive.display()),
            &format!("docker://{name}"),
        ]);
        let inspect = ["inspect", "--tls-verify=false", "-f", "{{.Digest}}"];
        let digest = skopeo(&[&inspect[..], &[&format!("docker://{name}")]].concat());
        daemon.docker(&["pull", &name]).unwrap();
        assert_eq!(digests(&daemon, &name), [digest.trim()]);
        daemon.docker(&["tag", &name, &back]).unwrap();
        daemon.docker(&["push", &back]).unwrap();
        assert_eq!(
            skopeo(&[&inspect[..], &[&format!("docker://{back}")]].concat()),
            digest
        );
        daemon.docker(&["rmi", &name, &back]).unwrap();
    }
}

#[test]
fn many_clients_fetch_each_layer_and_the_configuration_once() {
    let (daemon, registry) = (daemon(), Registry::start());
    let name = registry.name("box:1");
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    daemon.docker(&["push", &name]).unwrap();
    daemon.docker(&["rmi", "-f", &id(&daemon, &name)]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| daemon.docker(&["pull", "-q", &name]).unwrap());
        }
    });
    let log = registry.log();
    let fetched: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("\"GET /v2/box/blobs/"))
        .filter_map(|line| line.split("/blobs/").nth(1)?.split(' ').next())
        .collect();
    // The configuration and the layer.
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    assert!(fetched.contains(&&*id(&daemon, &name)), "{fetched:?}");
    check_whole(&daemon);
}
