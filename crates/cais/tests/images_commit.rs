//! `commit`: images made of containers, with the real docker command line.

use cais_testkit::TestDaemon;
use serde_json::Value;

use crate::{daemon, refused};

fn json(daemon: &TestDaemon, name: &str) -> Value {
    let text = daemon.docker(&["image", "inspect", name]).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

/// All events so far, one a line.
fn events(daemon: &TestDaemon, format: &str) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let until = (now + 1).to_string();
    let args = [
        "events", "--since", "1", "--until", &until, "--format", format,
    ];
    daemon.docker(&args).unwrap()
}

#[test]
fn a_running_container_becomes_an_image() {
    let daemon = daemon();
    let run = [
        "run",
        "-d",
        "--name",
        "seed",
        "-e",
        "A=1",
        "-l",
        "from=run",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        "rm /etc/group; echo hello > /made; mkdir -p /d/e; ln /made /d/e/twin; chmod 4755 /made; echo ready; exec sleep 1000",
    ];
    daemon.docker(&run).unwrap();
    cais_testkit::wait_until("the files to be there", || {
        daemon.docker(&["logs", "seed"]).unwrap() == "ready\n"
    });
    let commit = [
        "commit",
        "-a",
        "Somebody <s@example.org>",
        "-m",
        "a message",
        "-c",
        "CMD [\"cat\", \"/made\"]",
        "-c",
        "ENV B=2",
        "-c",
        "LABEL from=commit",
        "seed",
        "made:one",
    ];
    let id = daemon.docker(&commit).unwrap();
    let id = id.trim();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(
        daemon
            .docker(&["inspect", "-f", "{{.State.Status}}", "seed"])
            .unwrap(),
        "running\n"
    );
    let image = json(&daemon, "made:one");
    assert_eq!(image["Id"], id);
    assert_eq!(image["Author"], "Somebody <s@example.org>");
    assert_eq!(image["Comment"], "a message");
    assert_eq!(image["RepoTags"], serde_json::json!(["made:one"]));
    let config = &image["Config"];
    assert_eq!(config["Cmd"], serde_json::json!(["cat", "/made"]));
    assert_eq!(config["Labels"], serde_json::json!({"from": "commit"}));
    let env: Vec<_> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(env.contains(&"A=1") && env.contains(&"B=2"), "{env:?}");
    assert!(config["ExposedPorts"]["80/tcp"].is_object(), "{config}");
    let base = json(&daemon, "busybox");
    assert_eq!(image["Parent"], base["Id"]);
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers(&image), layers(&base) + 1);
    let show =
        "stat -c '%a %h' /made; test -e /etc/group || echo gone; cat /made; ls -a / | grep -c wh";
    let seen = daemon
        .cais_output(&["run", "--rm", "made:one", "sh", "-c", show])
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout),
        "4755 2\ngone\nhello\n0\n"
    );
    assert_eq!(
        daemon.docker(&["run", "--rm", "made:one"]).unwrap(),
        "hello\n"
    );
    check_traces(&daemon, id);
}

/// The history and the events of the commit.
fn check_traces(daemon: &TestDaemon, id: &str) {
    let history = daemon
        .docker(&[
            "history",
            "--no-trunc",
            "--format",
            "{{.ID}} {{.CreatedBy}} {{.Comment}}",
            "made:one",
        ])
        .unwrap();
    let first = history.lines().next().unwrap();
    assert!(
        first.starts_with(&format!("{id} sh -c rm /etc/group")),
        "{first}"
    );
    assert!(first.ends_with("a message"), "{first}");
    let events = events(
        daemon,
        "{{.Type}} {{.Action}} {{.Actor.Attributes.imageRef}}",
    );
    for event in [
        "container pause",
        "container unpause",
        "image tag",
        "container commit made:one",
    ] {
        assert!(
            events.lines().any(|line| line.starts_with(event)),
            "{event}: {events}"
        );
    }
}

#[test]
fn a_stopped_container_and_one_without_changes() {
    let daemon = daemon();
    daemon
        .docker(&["run", "--name", "same", "busybox", "true"])
        .unwrap();
    let id = daemon.docker(&["commit", "same"]).unwrap();
    let id = id.trim();
    let (image, base) = (json(&daemon, id), json(&daemon, "busybox"));
    assert_eq!(image["RootFS"], base["RootFS"]);
    assert_eq!(image["RepoTags"], serde_json::json!([]));
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["true"]));
    // Dangling, but a child of a named image: shown, and removed by its id.
    assert!(
        daemon
            .docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"])
            .unwrap()
            .contains(id)
    );
    daemon.docker(&["rmi", id]).unwrap();
    // An entrypoint without a command takes the container's command away.
    daemon
        .docker(&[
            "commit",
            "-c",
            "ENTRYPOINT [\"echo\", \"hi\"]",
            "same",
            "entry",
        ])
        .unwrap();
    assert_eq!(daemon.docker(&["run", "--rm", "entry"]).unwrap(), "hi\n");
    assert_eq!(json(&daemon, "entry")["Config"]["Cmd"], Value::Null);
    let error = refused(&daemon, &["inspect", "nothing-here"]);
    assert!(error.contains("nothing-here"), "{error}");
    for (args, want) in [
        (
            &["commit", "nothing-here"][..],
            "No such container: nothing-here",
        ),
        (&["commit", "same", "Upper"], "must be lowercase"),
        (
            &["commit", "-c", "RUN true", "same"],
            "run is not a valid change command",
        ),
        (
            &["commit", "-c", "ENV", "same"],
            "ENV requires at least one argument",
        ),
    ] {
        let output = daemon.client("docker", args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && error.to_lowercase().contains(&want.to_lowercase()),
            "{args:?}: {error}"
        );
    }
}
