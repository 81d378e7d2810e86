//! Names in networks that users made, with the real docker and after the death of a daemon.

use cais_testkit::{TestDaemon, wait_until};

use crate::daemon;

/// What a program in a container prints.
fn exec(daemon: &TestDaemon, container: &str, script: &str) -> String {
    let words = ["exec", container, "sh", "-c", script];
    daemon
        .docker(&words)
        .unwrap_or_else(|error| error.to_string())
}

fn run(daemon: &TestDaemon, name: &str, flags: &[&str]) {
    let mut words = vec!["run", "-d", "--name", name, "-h", name];
    words.extend(flags);
    words.extend(["busybox", "sleep", "1000"]);
    daemon.docker(&words).unwrap();
}

/// The address that a container finds behind a name; empty for none.
fn find(daemon: &TestDaemon, from: &str, name: &str) -> String {
    let text = exec(daemon, from, &format!("nslookup -type=a {name}"));
    let answer = text.split_once("answer:").map_or("", |(_, answer)| answer);
    let address = answer
        .lines()
        .find_map(|line| line.strip_prefix("Address: "));
    address.unwrap_or_default().to_owned()
}

#[test]
fn containers_talk_by_name_alias_and_id() {
    let mut daemon = daemon();
    daemon.docker(&["network", "create", "front"]).unwrap();
    daemon
        .docker(&["network", "create", "--internal", "back"])
        .unwrap();
    run(&daemon, "web", &["--network=front", "--network-alias=www"]);
    run(&daemon, "db", &["--network=back"]);
    run(&daemon, "app", &["--network=front"]);
    let template = "{{.Id}} {{.NetworkSettings.Networks.front.IPAddress}}";
    let web = daemon.docker(&["inspect", "-f", template, "web"]).unwrap();
    let (id, address) = web.trim().split_once(' ').unwrap();
    for name in ["web", "www", "web.front", &id[..12]] {
        assert_eq!(find(&daemon, "app", name), address, "{name}");
    }
    exec(
        &daemon,
        "app",
        "ping -c 1 -w 5 www >/dev/null && echo >/tmp/reached",
    );
    assert_eq!(exec(&daemon, "app", "ls /tmp"), "reached\n");
    assert_eq!(find(&daemon, "app", "db"), "");
    let text = exec(&daemon, "app", "cat /etc/resolv.conf");
    assert!(text.contains("\nnameserver 127.0.0.11\n"), "{text}");
    let gateway = daemon.subnet().gateway();
    let host = find(&daemon, "db", "host.docker.internal");
    assert_eq!(Some(host.as_str()), gateway.split('/').next());

    daemon.restart().unwrap();
    wait_until("names after a restart", || {
        find(&daemon, "app", "web") == address
    });
    daemon.docker(&["rm", "-f", "web"]).unwrap();
    assert_eq!(find(&daemon, "app", "web"), "");
}

#[test]
fn the_daemons_flags_are_the_defaults_of_containers() {
    let flags = [
        "--dns=10.1.2.3",
        "--dns-search=quay.example",
        "--dns-opt=timeout:1",
    ];
    let daemon = TestDaemon::start_with(crate::CAIS, &flags).unwrap();
    let archive = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    daemon
        .cais(&["load", "-q", "-i", &archive.to_string_lossy()])
        .unwrap();
    let text = daemon
        .cais(&["run", "--rm", "busybox", "cat", "/etc/resolv.conf"])
        .unwrap();
    assert!(
        text.contains("nameserver 10.1.2.3\nsearch quay.example\noptions timeout:1\n"),
        "{text}"
    );
    daemon.cais(&["network", "create", "net"]).unwrap();
    let own = [
        "run",
        "--rm",
        "--network=net",
        "--dns=10.1.2.4",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let text = daemon.cais(&own).unwrap();
    assert!(
        text.contains("nameserver 127.0.0.11\nsearch quay.example\noptions timeout:1 ndots:0\n"),
        "{text}"
    );
    assert!(text.contains("# ExtServers: [10.1.2.4]\n"), "{text}");
}
