//! kill -9 of the daemon while networks are in use and change: no packet is lost, and nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cais_testkit::{TestDaemon, wait_until};

use crate::network_deaths::{assert_ports_agree, translated};
use crate::networks::free_ports;
use crate::{CAIS, daemon, inspect};

#[test]
fn a_restart_of_the_daemon_loses_no_packet() {
    let mut daemon = daemon();
    daemon.cais(&["network", "create", "back"]).unwrap();
    for name in ["peer", "pinger"] {
        let args = [
            "run",
            "-d",
            "--name",
            name,
            "--network=back",
            "-p=127.0.0.1::80",
            "busybox",
        ];
        let serve = ["httpd", "-f", "-p", "80", "-h", "/etc"];
        daemon.cais(&[&args[..], &serve[..]].concat()).unwrap();
    }
    let address = inspect(
        &daemon,
        "peer",
        "{{.NetworkSettings.Networks.back.IPAddress}}",
    );
    let script = format!("exec ping -i 0.01 {address} >/pings");
    daemon
        .cais(&["exec", "-d", "pinger", "sh", "-c", &script])
        .unwrap();
    let port = daemon.cais(&["port", "peer", "80"]).unwrap();
    let port = port.trim().to_owned();
    let pings = |daemon: &TestDaemon| {
        let args = ["exec", "pinger", "sh", "-c", "wc -l </pings"];
        daemon
            .cais(&args)
            .unwrap()
            .trim()
            .parse::<u32>()
            .unwrap_or(0)
    };
    wait_until("the first pings", || pings(&daemon) > 20);
    let (done, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    let failed = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| knock(&port, &done, &tried));
        for _ in 0..3 {
            daemon.restart().unwrap();
            let before = (tried.load(Ordering::Relaxed), pings(&daemon));
            wait_until("some more connections and pings", || {
                tried.load(Ordering::Relaxed) > before.0 + 20 && pings(&daemon) > before.1 + 20
            });
        }
        done.store(true, Ordering::Relaxed);
        knocking.join().unwrap()
    });
    assert_eq!(failed, Vec::<String>::new(), "of {tried:?} connections");
    let read = daemon.cais(&["exec", "pinger", "cat", "/pings"]).unwrap();
    let answered: Vec<u32> = read
        .lines()
        .filter_map(|line| line.split_once("seq=")?.1.split(' ').next()?.parse().ok())
        .collect();
    let all: Vec<u32> = (0..).take(answered.len()).collect();
    assert!(answered.len() > 60, "{read}");
    assert_eq!(answered, all, "a ping without an answer");
}

/// Connects to a port again and again until it is `done`; answers what failed.
pub fn knock(port: &str, done: &AtomicBool, tried: &AtomicU32) -> Vec<String> {
    let mut failed = Vec::new();
    while !done.load(Ordering::Relaxed) {
        tried.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = TcpStream::connect(port) {
            failed.push(error.to_string());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    failed
}

/// Interfaces of the host by a prefix.
pub fn links(prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// What the container has inside is what `inspect` tells, and what the host has is what the container has.
pub fn assert_agrees(daemon: &TestDaemon, name: &str) {
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let told = inspect(daemon, name, networks);
    let inside = daemon
        .cais(&["exec", name, "ls", "/sys/class/net"])
        .unwrap();
    let inside = inside.lines().filter(|line| *line != "lo").count();
    assert_eq!(inside, told.split_whitespace().count(), "{told}");
    let veth = format!("veth{}", &inspect(daemon, name, "{{.Id}}")[..8]);
    assert_eq!(links(&veth).len(), inside, "{told}");
}

/// Takes away what a round has made, but for the container that lasts and its first port.
fn clear(daemon: &TestDaemon, prefix: &str, first: u16) {
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    for network in inspect(daemon, "lasting", networks).split_whitespace() {
        if network != "bridge" {
            daemon
                .cais(&["network", "disconnect", network, "lasting"])
                .unwrap();
        }
    }
    for port in daemon.cais(&["port", "lasting"]).unwrap().lines() {
        let (_, number) = port.rsplit_once(':').unwrap();
        if number != first.to_string() {
            let remove = format!("--publish-rm={number}:80");
            daemon.cais(&["update", &remove, "lasting"]).unwrap();
        }
    }
    let left = daemon.cais(&["ps", "-aq", "--no-trunc"]).unwrap();
    let own = inspect(daemon, "lasting", "{{.Id}}");
    for id in left.lines().filter(|id| *id != own) {
        let _ = daemon.cais(&["rm", "-f", id]);
    }
    wait_until("all networks to be free", || {
        daemon.cais(&["network", "prune", "-f"]).unwrap();
        links(prefix).is_empty()
    });
}

#[test]
fn kills_while_networks_change_leave_nothing() {
    let rounds: u32 = std::env::var("CAIS_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8);
    let mut daemon = daemon();
    let prefix = format!("cx{}x", daemon.subnet().number());
    let first = free_ports(&daemon, 5);
    let published: Vec<String> = (first..).take(5).map(|port| format!("{port}:80")).collect();
    let lasting = ["run", "-d", "--name=lasting", "-p", &published[0]];
    daemon
        .cais(&[&lasting[..], &["busybox", "sleep", "10000"]].concat())
        .unwrap();
    let address = inspect(&daemon, "lasting", "{{.NetworkSettings.IPAddress}}");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for round in 0..rounds {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let name = |kind: &str| format!("{prefix}{round}{kind}");
        let create = |name: &str| {
            let bridge = format!("com.docker.network.bridge.name={name}");
            daemon
                .cais(&["network", "create", "-o", &bridge, name])
                .unwrap();
        };
        create(&name("a"));
        create(&name("b"));
        create(&name("c"));
        daemon
            .cais(&["network", "connect", &name("b"), "lasting"])
            .unwrap();
        let add = ["update", "--publish-add", &published[1], "lasting"];
        daemon.cais(&add).unwrap();
        let bridge = format!("com.docker.network.bridge.name={}", name("d"));
        let mut clients: Vec<_> = [
            &["network", "create", "-o", &bridge, &name("d")][..],
            &["network", "connect", &name("a"), "lasting"],
            &["network", "disconnect", &name("b"), "lasting"],
            &["network", "rm", &name("c")],
            &["run", "--rm", "--network", &name("a"), "busybox", "true"],
            &["update", "--publish-add", &published[2], "lasting"],
            &["update", "--publish-rm", &published[1], "lasting"],
            &["run", "-d", "-p", &published[3], "busybox", "sleep", "1000"],
            &["run", "--rm", "-p", &published[4], "busybox", "true"],
        ]
        .into_iter()
        .map(|args| {
            let mut command = daemon.client(CAIS, args);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
        std::thread::sleep(Duration::from_micros(seed % 80_000));
        daemon.restart().unwrap();
        for client in &mut clients {
            client.wait().unwrap();
        }
        assert_agrees(&daemon, "lasting");
        wait_until("the end of what ends by itself", || {
            !daemon.cais(&["ps"]).unwrap().contains("true")
        });
        assert_ports_agree(&daemon, first..first + 5);
        let listed = daemon
            .cais(&["network", "ls", "--format={{.Name}}"])
            .unwrap();
        let named: BTreeSet<String> = listed
            .lines()
            .filter(|name| name.starts_with(&prefix))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            links(&prefix),
            named,
            "bridges without a network, or networks without a bridge"
        );
        clear(&daemon, &prefix, first);
        assert_agrees(&daemon, "lasting");
        assert_ports_agree(&daemon, first..first + 5);
        assert_eq!(translated(&daemon).len(), 1);
    }
    assert_eq!(
        inspect(&daemon, "lasting", "{{.NetworkSettings.IPAddress}}"),
        address
    );
    daemon.cais(&["rm", "-f", "lasting"]).unwrap();
    crate::kills::assert_nothing_left(&daemon);
}

#[test]
fn networks_that_come_and_go_cost_no_connection_to_a_published_port() {
    let daemon = daemon();
    let serve = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
    let run = ["run", "-d", "--name", "lasting", "-p", "127.0.0.1::80"];
    daemon.cais(&[&run[..], &serve[..]].concat()).unwrap();
    let port = daemon.cais(&["port", "lasting", "80"]).unwrap();
    let (done, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    let failed: Vec<String> = std::thread::scope(|scope| {
        let knocking = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut failed = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    tried.fetch_add(1, Ordering::Relaxed);
                    failed.extend(TcpStream::connect(port.trim()).err());
                }
                failed
            })
        });
        for _ in 0..60 {
            daemon.cais(&["network", "create", "passing"]).unwrap();
            daemon.cais(&["network", "rm", "passing"]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let failed = knocking.map(|thread| thread.join().unwrap());
        failed
            .into_iter()
            .flatten()
            .map(|error| error.to_string())
            .collect()
    });
    assert_eq!(failed, Vec::<String>::new(), "of {tried:?} connections");
}
