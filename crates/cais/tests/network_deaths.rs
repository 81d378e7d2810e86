//! The daemon dies at each point of each change of networks and published ports: the next one leaves nothing, traffic goes
//! on all the while, and the same command again does what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cais_testkit::{TestDaemon, wait_until};
use serde_json::Value;

use crate::network_kills::{assert_agrees, knock, links};
use crate::{daemon, inspect};

/// Ports that the firewall translates: `tcp 0.0.0.0 8080 10.0.0.2 80`.
pub fn translated(daemon: &TestDaemon) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (family, any) in [("ip", "0.0.0.0"), ("ip6", "::")] {
        for map in ["published", "published-anywhere"] {
            let args = ["-j", "list", "map", family, &daemon.name(), map];
            let output = std::process::Command::new("nft").args(args).output();
            let listed: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
            let object = listed["nftables"].as_array().into_iter().flatten();
            let elements = object.filter_map(|one| one["map"]["elem"].as_array());
            for element in elements.flatten() {
                let words = |side: &Value| -> Vec<String> {
                    let parts = side["concat"].as_array().into_iter().flatten();
                    let text = |part: &Value| part.to_string().trim_matches('"').to_owned();
                    parts.map(text).collect()
                };
                let mut key = words(&element[0]);
                if key.len() == 2 {
                    key.insert(0, any.to_owned());
                }
                key.swap(0, 1);
                found.insert([key, words(&element[1])].concat().join(" "));
            }
        }
    }
    found
}

/// The same as clients are told. What is published is also what is wished for.
fn told(daemon: &TestDaemon) -> BTreeSet<String> {
    let ids = daemon.cais(&["ps", "-q"]).unwrap();
    let mut args = vec!["inspect"];
    args.extend(ids.split_whitespace());
    let all: Value = serde_json::from_str(&daemon.cais(&args).unwrap()).unwrap();
    let mut found = BTreeSet::new();
    for container in all.as_array().unwrap() {
        let settings = &container["NetworkSettings"];
        let networks: BTreeMap<String, Value> =
            serde_json::from_value(settings["Networks"].clone()).unwrap();
        let priority = |one: &Value| -one["GwPriority"].as_i64().unwrap_or(0);
        let gateway = networks
            .iter()
            .min_by_key(|(name, one)| (priority(one), *name));
        let address = gateway.map_or("", |(_, one)| one["IPAddress"].as_str().unwrap());
        let bindings = |map: &Value| -> BTreeSet<(String, String, String)> {
            let ports = map.as_object().into_iter().flatten();
            let one = |(port, list): (&String, &Value)| -> Vec<_> {
                let text = |binding: &Value, field| binding[field].as_str().unwrap().to_owned();
                let list = list.as_array().into_iter().flatten();
                list.map(|one| {
                    let ip = text(one, "HostIp");
                    let ip = if ip.is_empty() {
                        "0.0.0.0".to_owned()
                    } else {
                        ip
                    };
                    (port.clone(), ip, text(one, "HostPort"))
                })
                .collect()
            };
            ports.flat_map(one).collect()
        };
        let published = bindings(&settings["Ports"]);
        assert_eq!(
            published,
            bindings(&container["HostConfig"]["PortBindings"]),
            "{}",
            container["Name"]
        );
        for (port, ip, number) in published {
            let (port, protocol) = port.split_once('/').unwrap();
            found.insert(format!("{protocol} {ip} {number} {address} {port}"));
        }
    }
    found
}

/// What clients are told is in the firewall, and held, and nothing else is.
pub fn assert_ports_agree(daemon: &TestDaemon, range: std::ops::Range<u16>) {
    let told = told(daemon);
    assert_eq!(translated(daemon), told);
    for port in range {
        let published = told.iter().any(|line| line.contains(&format!(" {port} ")));
        let free = || TcpListener::bind(("0.0.0.0", port)).is_ok();
        if published {
            assert!(!free(), "port {port} is published and not held");
        } else {
            wait_until("a port that nobody has", free);
        }
    }
}

/// The daemon's sockets, but for those of its clients and monitors, and the network namespaces of containers that it holds.
pub fn held(daemon: &TestDaemon) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let local = fs::read_to_string("/proc/net/unix").unwrap();
    let local: BTreeSet<&str> = local
        .lines()
        .filter_map(|line| line.split_whitespace().nth(6))
        .collect();
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let host = host.to_string_lossy().into_owned();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    for entry in descriptors.flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        let (kind, inode) = link.split_once(':').unwrap_or(("", ""));
        let inode = inode.trim_matches(['[', ']']);
        if ["socket", "net"].contains(&kind) && !local.contains(inode) && link != host {
            *found.entry(kind.to_owned()).or_default() += 1;
        }
    }
    found
}

/// One change, and where a daemon may die while it makes it.
struct Change {
    points: &'static [&'static str],
    /// Commands before, the command itself, and commands behind; `NET`, `PORT` and `MORE` stand for names of the test's.
    before: &'static [&'static str],
    command: &'static str,
    after: &'static [&'static str],
    /// What a repeated command may say when everything was done the first time.
    done: &'static str,
    /// What must be so in the end: a script in the container `lasting`.
    then: &'static str,
}

const CREATE: &str = "network create -o com.docker.network.bridge.name=NET NET";
const WEB: &str = "create --name web --network NET -p PORT:80 busybox httpd -f -h /etc";
const CONNECTED: &str = "ip -o link show eth1 && grep -q $(ip -o -4 addr show eth1 | \
                         sed 's/.*inet \\([0-9.]*\\).*/\\1/') /etc/hosts && grep -q 127.0.0.11 /etc/resolv.conf";
const APART: &str = "! ip -o link show eth1 && ! grep -q 127.0.0.11 /etc/resolv.conf && \
                     [ $(grep -c $(hostname) /etc/hosts) = 1 ]";

const CONNECT: &[&str] = &[
    "connect-allocated",
    "connect-recorded",
    "connect-plugged",
    "connect-published",
    "connect-named",
    "connect-made",
    "network-filed",
    "network-told",
];
const DISCONNECT: &[&str] = &[
    "disconnect-published",
    "disconnect-named",
    "disconnect-unplugged",
    "disconnect-released",
    "disconnect-made",
    "network-filed",
    "network-told",
];
const PUBLISH: &[&str] = &[
    "publish-wished",
    "publish-reserved",
    "publish-recorded",
    "publish-changed",
    "publish-made",
];

const CHANGES: &[Change] = &[
    Change {
        points: &["network-recorded", "network-raised", "network-ready"],
        before: &[],
        command: CREATE,
        after: &["network rm NET"],
        done: "network with name NET already exists",
        then: "true",
    },
    Change {
        points: &["network-unruled", "network-lowered", "network-forgotten"],
        before: &[CREATE],
        command: "network rm NET",
        after: &[],
        done: "network NET not found",
        then: "true",
    },
    Change {
        points: CONNECT,
        before: &[CREATE],
        command: "network connect NET lasting",
        after: &["network disconnect NET lasting", "network rm NET"],
        done: "endpoint with name lasting already exists in network NET",
        then: CONNECTED,
    },
    // Published ports move to another gateway and back.
    Change {
        points: CONNECT,
        before: &[CREATE],
        command: "network connect --gw-priority 1 NET lasting",
        after: &["network disconnect NET lasting", "network rm NET"],
        done: "endpoint with name lasting already exists in network NET",
        then: CONNECTED,
    },
    Change {
        points: DISCONNECT,
        before: &[CREATE, "network connect --gw-priority 1 NET lasting"],
        command: "network disconnect NET lasting",
        after: &["network rm NET"],
        done: "is not connected to network NET",
        then: APART,
    },
    Change {
        points: &[
            "open-allocated",
            "open-recorded",
            "open-published",
            "open-built",
            "start-prepared",
            "start-ran",
        ],
        before: &[CREATE, WEB],
        command: "start web",
        after: &["rm -f web", "network rm NET"],
        done: "",
        then: "true",
    },
    Change {
        points: &[
            "close-released",
            "close-published",
            "close-unpublished",
            "close-forgotten",
        ],
        before: &[CREATE, WEB, "start web"],
        command: "stop -t 0 web",
        after: &["rm web", "network rm NET"],
        done: "",
        then: "true",
    },
    Change {
        points: PUBLISH,
        before: &[],
        command: "update --publish-add PORT:81 --publish-add MORE:81 lasting",
        after: &["update --publish-rm 81 lasting"],
        done: "",
        then: "true",
    },
    Change {
        points: PUBLISH,
        before: &["update --publish-add PORT:81 --publish-add MORE:81 lasting"],
        command: "update --publish-rm PORT:81 lasting",
        after: &["update --publish-rm 81 lasting"],
        done: "port 81/tcp is not published",
        then: "true",
    },
];

/// A daemon with a container that runs throughout, and what its network must be like when nothing else is there.
struct Scene {
    daemon: TestDaemon,
    net: String,
    port: u16,
    base: BTreeMap<String, usize>,
}

impl Scene {
    fn words(&self, command: &str) -> Vec<String> {
        let words = command.split_whitespace().map(|word| {
            word.replace("NET", &self.net)
                .replace("PORT", &(self.port + 1).to_string())
                .replace("MORE", &(self.port + 2).to_string())
        });
        words.collect()
    }

    fn run(&self, command: &str) -> Result<String, String> {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = self.daemon.cais_output(&words).unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }

    fn assert_agrees(&self) {
        assert_agrees(&self.daemon, "lasting");
        assert_ports_agree(&self.daemon, self.port..self.port + 3);
        let listed = self.run("network ls --format={{.Name}}").unwrap();
        let named = listed.lines().filter(|name| name.starts_with(&self.net));
        assert_eq!(links(&self.net), named.map(str::to_owned).collect());
    }

    fn assert_bare(&self) {
        self.assert_agrees();
        assert_eq!(links(&self.net), BTreeSet::new());
        assert_eq!(translated(&self.daemon).len(), 1);
        let base = &self.base;
        wait_until(&format!("descriptors as before: {base:?}"), || {
            held(&self.daemon) == *base
        });
        let script = ["exec", "lasting", "sh", "-c", APART];
        self.daemon.cais(&script).unwrap();
    }

    fn die_at(&mut self, change: &Change, point: &str) {
        for command in change.before {
            self.run(command).unwrap();
        }
        let flag = format!("--failpoint={point}");
        self.daemon.restart_with(&[&flag]).unwrap();
        let answer = self.run(change.command);
        wait_until("the daemon's death", || self.daemon.has_ended());
        // A thread may die behind the answer.
        assert!(answer.is_err() || point.starts_with("close-"), "{point}");
        self.daemon.restart_with(&[]).unwrap();
        self.assert_agrees();
        if let Err(error) = self.run(change.command) {
            let done = change.done.replace("NET", &self.net);
            assert!(!done.is_empty() && error.contains(&done), "{error}");
        }
        self.assert_agrees();
        self.run(&format!("exec lasting sh -c {}", "true")).unwrap();
        let then = ["exec", "lasting", "sh", "-c", change.then];
        self.daemon.cais(&then).unwrap();
        for command in change.after {
            self.run(command).unwrap();
        }
        self.assert_bare();
    }
}

fn scene() -> (Scene, String) {
    let daemon = daemon();
    let port = crate::networks::free_ports(&daemon, 3);
    let publish = format!("-p=127.0.0.1:{port}:80");
    let serve = "httpd -p 81 -h /etc; exec httpd -f -p 80 -h /etc";
    for (name, flag) in [("lasting", publish.as_str()), ("pinger", "--init")] {
        let name = format!("--name={name}");
        let args = ["run", "-d", &name, flag, "busybox", "sh", "-c", serve];
        daemon.cais(&args).unwrap();
    }
    let address = inspect(&daemon, "lasting", "{{.NetworkSettings.IPAddress}}");
    let script = format!("exec ping -i 0.01 {address} >/pings");
    daemon
        .cais(&["exec", "-d", "pinger", "sh", "-c", &script])
        .unwrap();
    let net = format!("cy{}", daemon.subnet().number());
    let base = BTreeMap::new();
    let mut scene = Scene {
        daemon,
        net,
        port,
        base,
    };
    scene.daemon.restart().unwrap();
    scene.assert_agrees();
    scene.base = held(&scene.daemon);
    (scene, format!("127.0.0.1:{port}"))
}

#[test]
fn a_daemon_that_dies_anywhere_leaves_nothing_and_stops_no_traffic() {
    let (mut scene, published) = scene();
    let (done, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    let failed = std::thread::scope(|scope| {
        let knocking = scope.spawn(|| knock(&published, &done, &tried));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for change in CHANGES {
                for point in change.points {
                    println!("{}: {point}", change.command);
                    scene.die_at(change, point);
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        let failed = knocking.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        failed
    });
    assert_eq!(failed, Vec::<String>::new(), "of {tried:?} connections");
    let read = scene.run("exec pinger cat /pings").unwrap();
    let answered: Vec<u32> = read
        .lines()
        .filter_map(|line| line.split_once("seq=")?.1.split(' ').next()?.parse().ok())
        .collect();
    // The numbers have 16 bits.
    let all: Vec<u32> = (0..answered.len() as u32)
        .map(|number| number & 0xffff)
        .collect();
    assert!(answered.len() > 500, "{read}");
    assert_eq!(answered, all, "a ping without an answer");
    scene.run("rm -f lasting pinger").unwrap();
    crate::kills::assert_nothing_left(&scene.daemon);
}
