//! Images and registries by our command line and by docker's, on our daemon and through our registry.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use cais_testkit::TestDaemon;

use crate::served::Served;
use crate::{CAIS, daemon};

const PASSWORD: &str = "secret";

/// Our registry server on a port of its own, for user `someone`.
struct RegistryServer {
    address: String,
    /// Ends before its directory goes.
    _served: Served,
    _root: tempfile::TempDir,
}

impl RegistryServer {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let users = root.path().join("users");
        fs::write(&users, format!("someone:{}\n", hashed_password())).unwrap();
        let served = Served::start(root.path(), &["--htpasswd", &users.to_string_lossy()]);
        Self {
            address: served.http.address.clone(),
            _served: served,
            _root: root,
        }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

/// bcrypt of [`PASSWORD`], made by `htpasswd -B`.
fn hashed_password() -> &'static str {
    "$2y$05$7aq1nm1DHKVZ0EjexQmZgui2/d6.S0QmqX2Pex5NpP/Q4AHqxgmvm"
}

/// A user of a daemon with a configuration of their own.
struct User<'a> {
    daemon: &'a TestDaemon,
    config: &'a Path,
    program: &'a str,
}

impl User<'_> {
    fn output(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .daemon
            .client(self.program, args)
            .env("DOCKER_CONFIG", self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that reads nothing is gone before.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        self.feed(args, "")
    }

    fn feed(&self, args: &[&str], input: &str) -> String {
        let output = self.output(args, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.output(args, "");
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn login(&self, registry: &RegistryServer) {
        let args = [
            "login",
            "-u",
            "someone",
            "--password-stdin",
            &registry.address,
        ];
        assert_eq!(self.feed(&args, PASSWORD), "Login Succeeded\n");
    }
}

fn digest_line(text: &str) -> &str {
    let start = text.find("sha256:").unwrap();
    &text[start..start + "sha256:".len() + 64]
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let (daemon, registry) = (daemon(), RegistryServer::start());
    let config = tempfile::tempdir().unwrap();
    for program in [CAIS, "docker"] {
        let user = User {
            daemon: &daemon,
            config: config.path(),
            program,
        };
        let image = registry.image("team/app");
        user.run(&["tag", "busybox", &image]);
        let error = user.refused(&["push", &image]);
        assert!(error.contains("no basic auth credentials"), "{error}");
        user.login(&registry);
        let pushed = user.run(&["push", &image]);
        assert!(
            pushed.starts_with("Using default tag: latest\nThe push refers to repository ["),
            "{pushed}"
        );
        user.run(&["rmi", &image]);
        let pulled = user.run(&["pull", &image]);
        assert_eq!(digest_line(&pulled), digest_line(&pushed));
        assert!(
            pulled.contains(&format!(
                "Status: Downloaded newer image for {image}:latest\n"
            )),
            "{pulled}"
        );
        assert!(pulled.ends_with(&format!("\n{image}:latest\n")), "{pulled}");
        let again = user.run(&["pull", &image]);
        assert!(
            again.contains("Status: Image is up to date for "),
            "{again}"
        );
        user.run(&["rmi", &image]);
        let output = user.output(&["run", "--rm", &image, "echo", "hi"], "");
        assert_eq!(output.stdout, b"hi\n");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with(&format!("Unable to find image '{image}:latest' locally\n")),
            "{error}"
        );
        user.run(&["rmi", &image]);
        user.run(&["logout", &registry.address]);
        user.refused(&["run", "--rm", "--pull", "never", &image, "true"]);
        user.refused(&["pull", &image]);
    }
}

#[test]
fn all_tags_go_and_come_together() {
    let (daemon, registry) = (daemon(), RegistryServer::start());
    let config = tempfile::tempdir().unwrap();
    let user = User {
        daemon: &daemon,
        config: config.path(),
        program: CAIS,
    };
    user.login(&registry);
    let (one, two) = (registry.image("app:one"), registry.image("app:two"));
    for tag in [&one, &two] {
        user.run(&["tag", "busybox", tag]);
    }
    user.run(&["push", "-a", &registry.image("app")]);
    user.run(&["rmi", &one, &two]);
    user.run(&["pull", "-aq", &registry.image("app")]);
    let listed = user.run(&["images", "--format", "{{.Tag}}", &registry.image("app")]);
    let mut tags: Vec<&str> = listed.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["one", "two"]);
    let error = user.refused(&["pull", &registry.image("app:three")]);
    assert!(
        error.contains("app:three not found: manifest unknown"),
        "{error}"
    );
}

#[test]
fn a_list_of_manifests_is_made_pushed_and_pulled() {
    let (daemon, registry) = (daemon(), RegistryServer::start());
    let config = tempfile::tempdir().unwrap();
    let user = User {
        daemon: &daemon,
        config: config.path(),
        program: CAIS,
    };
    user.login(&registry);
    let (ours, other) = (registry.image("busybox"), registry.image("other"));
    user.run(&["tag", "busybox", &ours]);
    user.run(&["push", "-q", &ours]);
    user.feed(
        &["import", "--platform", "linux/arm64", "-", &other],
        &empty_archive(),
    );
    user.run(&["push", "-q", &other]);
    let list = registry.image("list");
    assert_eq!(
        user.run(&["manifest", "create", &list, &ours, &other]),
        format!("Created manifest list {list}:latest\n")
    );
    user.run(&["manifest", "annotate", "--variant", "v8", &list, &other]);
    let shown = user.run(&["manifest", "inspect", &list]);
    let local: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(local["manifests"][1]["platform"]["variant"], "v8");
    let pushed = user.run(&["manifest", "push", "-p", &list]);
    assert_eq!(pushed.matches("Pushed ref ").count(), 2, "{pushed}");
    let digest = pushed.lines().last().unwrap();
    // The local list is gone: this is what the registry has.
    assert_eq!(user.run(&["manifest", "inspect", &list]), shown);
    assert_eq!(
        user.run(&["manifest", "inspect", &format!("{list}@{digest}")]),
        shown
    );
    let error = user.refused(&["manifest", "rm", &list]);
    assert_eq!(error, format!("No such manifest: {list}:latest\n"));
    let pulled = user.run(&["pull", &list]);
    assert_eq!(digest_line(&pulled), digest);
    assert_eq!(user.run(&["run", "--rm", &list, "echo", "hi"]), "hi\n");
    // docker makes the same bytes of the same manifests.
    let docker = User {
        program: "docker",
        ..user
    };
    docker.run(&["manifest", "create", "--insecure", &list, &ours, &other]);
    docker.run(&["manifest", "annotate", "--variant", "v8", &list, &other]);
    assert_eq!(docker.run(&["manifest", "inspect", &list]), shown);
    let again = docker.run(&["manifest", "push", "--insecure", &list]);
    assert_eq!(again.lines().last(), Some(digest));
}

/// A tar archive without entries.
fn empty_archive() -> String {
    "\0".repeat(1024)
}

#[test]
fn lines_about_images_print_the_same_as_with_docker() {
    let (daemon, registry) = (daemon(), RegistryServer::start());
    let config = tempfile::tempdir().unwrap();
    let user = |program| User {
        daemon: &daemon,
        config: config.path(),
        program,
    };
    user(CAIS).login(&registry);
    let image = registry.image("same");
    user(CAIS).run(&["tag", "busybox", &image]);
    user(CAIS).run(&["push", "-q", &image]);
    user(CAIS).run(&["pull", "-q", &image]);
    let nowhere = registry.image("nowhere");
    let archive = daemon.scratch().join("same.tar");
    let archive = archive.to_str().unwrap();
    user(CAIS).run(&["save", "-o", archive, "busybox"]);
    for args in [
        &["pull", image.as_str()][..],
        &["pull", "-q", &image],
        &["pull", "-a", &image],
        &["pull", &nowhere],
        &["pull", "--platform", "linux/arm64", &image],
        &["pull", "--platform", "a/b/c/d", &image],
        &["push", &image],
        &["push", "-q", &image],
        &["push", &nowhere],
        &["images", "--digests", &image],
        &["images", "--tree"],
        &["images", "--format", "json", &image],
        &["history", "--no-trunc", "busybox"],
        &["history", "--platform", "linux/arm64", "busybox"],
        &["image", "inspect", "--platform", "linux/amd64", "busybox"],
        &["image", "inspect", "--platform", "linux/arm64", "busybox"],
        &["image", "inspect", &image],
        &["save", "--platform", "linux/arm64", "busybox"],
        &["load", "-i", archive],
        &["load", "--platform", "linux/arm64", "-i", archive],
        &["rmi", &nowhere],
        &["image", "prune", "-f"],
        &["system", "df"],
        &["login", &registry.address],
        &["search", "--limit", "200", "x"],
    ] {
        let told = |program| {
            let output = user(program).output(args, "");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("cais", "docker");
            (
                output.status.code(),
                text(&output.stdout),
                text(&output.stderr),
            )
        };
        assert_eq!(told(CAIS), told("docker"), "{args:?}");
    }
}
