//! One image on its way through the tools of others: built by docker, saved, loaded here, pushed to our registry, pulled by podman,
//! skopeo and containerd. Its digests are the same all the way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cais_testkit::{TestDaemon, wait_until};
use serde_json::Value;

use crate::CAIS;
use crate::images_archives::{podman, run};
use crate::registry_kit::{digests, id};
use crate::served::Served;

const DOCKERFILE: &str = "FROM busybox\n\
    ENV GREETING=hello\n\
    COPY --chown=3:4 greeting /etc/greeting\n\
    RUN ln /etc/greeting /etc/again && chmod 4711 /etc/again && rm -f /etc/group\n\
    LABEL made.by=docker\n\
    ENTRYPOINT [\"/bin/cat\", \"/etc/greeting\"]\n";

/// Builds and saves with a real dockerd; none when there is none here. Answers the image's id and its layers.
fn built_by_docker(work: &Path, archive: &Path) -> Option<(String, Value)> {
    let context = work.join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    std::fs::write(context.join("greeting"), "hello\n").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-dockerd");
    let there = "DOCKER_BUILDKIT=0 docker build -q --network none -t example.org/way:1 $1 >/dev/null 2>&1 && \
        docker save -o $2 example.org/way:1 && docker image inspect example.org/way:1";
    let mut command = Command::new(script);
    command.args(["sh", "-c", there, "sh"]);
    let output = command.args([&context, archive]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), &output.stderr);
        return None;
    }
    assert!(output.status.success(), "{told}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = made[0]["RootFS"]["Layers"].clone();
    Some((made[0]["Id"].as_str().unwrap().to_owned(), layers))
}

/// A containerd of the test's own.
struct Containerd {
    process: Child,
    work: PathBuf,
}

impl Containerd {
    fn start(work: &Path) -> Option<Self> {
        let work = work.join("containerd");
        std::fs::create_dir(&work).unwrap();
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
            disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/s\"\n",
            work.display()
        );
        std::fs::write(work.join("config.toml"), config).unwrap();
        let log = std::fs::File::create(work.join("log")).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(work.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let own = match process {
            Ok(process) => Self { process, work },
            Err(_) => return None,
        };
        wait_until("containerd to answer", || {
            own.command(&["version"]).output().unwrap().status.success()
        });
        Some(own)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.work.join("s"));
        command.args(words);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[test]
fn what_docker_built_keeps_its_digests_on_every_way() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let work = daemon.scratch();
    let archive = work.join("built.tar");
    let Some((want, layers)) = built_by_docker(work, &archive) else {
        return;
    };
    daemon
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .unwrap();
    assert_eq!(id(&daemon, "example.org/way:1"), want);
    let inspected = daemon.docker(&["image", "inspect", "example.org/way:1"]);
    let inspected: Value = serde_json::from_str(&inspected.unwrap()).unwrap();
    assert_eq!(inspected[0]["RootFS"]["Layers"], layers);

    let served = Served::start(work, &[]);
    let name = served.name("way:1");
    daemon.docker(&["tag", "example.org/way:1", &name]).unwrap();
    daemon.docker(&["push", &name]).unwrap();
    let pushed = digests(&daemon, &name);
    let [digest] = &pushed[..] else {
        panic!("{pushed:?}")
    };

    let (hex, short) = (want.strip_prefix("sha256:").unwrap(), served.name("way"));
    podman(work, &["pull", "-q", "--tls-verify=false", &name]);
    let seen = podman(
        work,
        &["image", "inspect", "-f", "{{.Id}} {{.Digest}}", &name],
    );
    assert_eq!(seen, format!("{hex} {digest}"));
    let seen = podman(
        work,
        &["image", "inspect", "-f", "{{json .RootFS.Layers}}", &name],
    );
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap(), layers);
    let again = served.name("podman:1");
    podman(
        work,
        &[
            "push",
            "-q",
            "--tls-verify=false",
            "--format=v2s2",
            &name,
            &again,
        ],
    );

    let skopeo = |what: &[&str], of: &str| {
        let mut command = Command::new("skopeo");
        command.args(["inspect", "--tls-verify=false"]).args(what);
        run(command.arg(format!("docker://{of}")))
    };
    assert_eq!(skopeo(&["-f", "{{.Digest}}"], &name), *digest);
    let config: Value = serde_json::from_str(&skopeo(&["--config", "--raw"], &again)).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], layers);

    if let Some(containerd) = Containerd::start(work) {
        let to = served.name("containerd:1");
        let flags = ["--plain-http", "--snapshotter", "native"];
        run(containerd
            .command(&["images", "pull"])
            .args(flags)
            .arg(&name));
        let listed = run(&mut containerd.command(&["images", "ls"]));
        assert!(listed.contains(digest.as_str()), "{listed}");
        run(containerd.command(&["images", "tag"]).args([&name, &to]));
        run(containerd
            .command(&["images", "push", "--plain-http"])
            .arg(&to));
        assert_eq!(skopeo(&["-f", "{{.Digest}}"], &to), *digest);
    } else {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"skipped: containerd is not installed\n",
        );
    }

    // And home again, without anything that it could be taken from here.
    daemon.docker(&["rmi", "-f", &want]).unwrap();
    daemon
        .docker(&["pull", "-q", &format!("{short}@{digest}")])
        .unwrap();
    daemon.docker(&["pull", "-q", &again]).unwrap();
    assert_eq!(id(&daemon, &again), want);
    let told = daemon.docker(&["run", "--rm", &again]).unwrap();
    assert_eq!(told, "hello\n");
}
