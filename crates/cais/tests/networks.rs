//! The default bridge, published ports and the special networks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use cais_testkit::{TestDaemon, wait_until};

use crate::security::inside;
use crate::{daemon, probe};

fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

#[test]
fn a_published_port_answers_and_closes() {
    let daemon = daemon();
    let serve = "echo quay > /var/www/index.html; exec httpd -f -h /var/www";
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "127.0.0.1::80",
            "busybox",
            "sh",
            "-c",
            serve,
        ])
        .unwrap();
    let address = daemon
        .cais(&["port", "web", "80"])
        .unwrap()
        .trim()
        .to_owned();
    wait_until("the server", || {
        fetch(&address).is_some_and(|answer| answer.contains("quay"))
    });
    let ip = daemon
        .cais(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"])
        .unwrap();
    let inside = daemon
        .cais(&[
            "run",
            "--rm",
            "busybox",
            "wget",
            "-qO-",
            &format!("http://{}/", ip.trim()),
        ])
        .unwrap();
    assert_eq!(inside, "quay\n");
    daemon.cais(&["rm", "-f", "web"]).unwrap();
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn the_special_networks_are_what_they_say() {
    let daemon = daemon();
    let none = daemon
        .cais(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "ls",
            "/sys/class/net",
        ])
        .unwrap();
    assert_eq!(none, "lo\n");
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let shown = daemon
        .cais(&[
            "run",
            "--rm",
            "--network",
            "host",
            "busybox",
            "readlink",
            "/proc/self/ns/net",
        ])
        .unwrap();
    assert_eq!(shown.trim(), host.to_string_lossy());
    daemon
        .cais(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"])
        .unwrap();
    let own = daemon
        .cais(&["exec", "first", "readlink", "/proc/self/ns/net"])
        .unwrap();
    let joined = daemon
        .cais(&[
            "run",
            "--rm",
            "--network",
            "container:first",
            "busybox",
            "readlink",
            "/proc/self/ns/net",
        ])
        .unwrap();
    assert_eq!(own, joined);
    assert_ne!(own.trim(), host.to_string_lossy());
}

#[test]
fn name_files_say_who_the_container_is() {
    let daemon = daemon();
    let output = daemon
        .cais(&[
            "run",
            "--rm",
            "--name",
            "named",
            "-h",
            "quay",
            "--add-host",
            "peer:10.9.8.7",
            "--dns",
            "10.1.2.3",
            "busybox",
            "sh",
            "-c",
            "cat /etc/hostname; cat /etc/hosts; cat /etc/resolv.conf; hostname -i",
        ])
        .unwrap();
    assert!(output.starts_with("quay\n"), "{output}");
    assert!(output.contains("10.9.8.7\tpeer\n"), "{output}");
    assert!(output.contains("nameserver 10.1.2.3\n"), "{output}");
    assert!(output.contains("127.0.0.1\tlocalhost\n"), "{output}");
}

/// Ports of the host that nobody uses, as many in a row as asked for; no other test is given them, nor the kernel's own choice.
pub fn free_ports(daemon: &TestDaemon, count: u16) -> u16 {
    const EACH: u16 = 40;
    let first = 20_000 + EACH * u16::from(daemon.subnet().number());
    let free = |port| TcpListener::bind(("0.0.0.0", port)).is_ok();
    let mut starts = first..first + EACH - count;
    starts
        .find(|start| (*start..start + count).all(free))
        .expect("free ports in a row")
}

fn serve(daemon: &TestDaemon, name: &str, flags: &[&str]) {
    let script = format!(
        "echo {name} >/var/www/index.html; for p in 80 81 82; do httpd -p $p -h /var/www; done; sleep 1000"
    );
    let args = [
        &["run", "-d", "--name", name],
        flags,
        &["busybox", "sh", "-c", &script],
    ]
    .concat();
    daemon.cais(&args).unwrap();
}

fn answers(address: &str, text: &str) {
    wait_until(address, || {
        fetch(address).is_some_and(|answer| answer.contains(text))
    });
}

#[test]
fn ranges_addresses_and_protocols_are_published() {
    let daemon = daemon();
    let first = free_ports(&daemon, 4);
    let range = format!("-p={first}-{}:80-82", first + 2);
    let local = format!("-p=127.0.0.1:{}:80", first + 3);
    serve(
        &daemon,
        "web",
        &[&range, &local, "-p=81", "-p=127.0.0.1::53/udp"],
    );
    for port in first..first + 3 {
        answers(&format!("127.0.0.1:{port}"), "web");
        let gateway = daemon.subnet().gateway();
        answers(
            &format!("{}:{port}", gateway.split('/').next().unwrap()),
            "web",
        );
    }
    answers(&format!("127.0.0.1:{}", first + 3), "web");
    // Published on one address is not published on another.
    let gateway = daemon.subnet().gateway();
    let gateway = gateway.split('/').next().unwrap();
    assert!(TcpStream::connect((gateway, first + 3)).is_err());
    let shown = daemon.cais(&["port", "web"]).unwrap();
    for line in [
        format!("80/tcp -> 0.0.0.0:{first}"),
        format!("80/tcp -> 127.0.0.1:{}", first + 3),
        format!("81/tcp -> 0.0.0.0:{}", first + 1),
        format!("82/tcp -> 0.0.0.0:{}", first + 2),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let random = shown
        .lines()
        .filter_map(|line| line.strip_prefix("81/tcp -> 0.0.0.0:"));
    let random: Vec<u16> = random.map(|port| port.parse().unwrap()).collect();
    assert_eq!(random.len(), 2, "{shown}");
    for port in random {
        answers(&format!("127.0.0.1:{port}"), "web");
    }
    assert!(shown.contains("53/udp -> 127.0.0.1:"), "{shown}");
    let listed = daemon.cais(&["ps", "--format", "{{.Ports}}"]).unwrap();
    assert!(
        listed.contains("53/udp") && listed.contains("->80/tcp"),
        "{listed}"
    );
}

#[test]
fn udp_goes_both_ways() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "echo",
            &probe::mount(),
            "-p=127.0.0.1::7/udp",
            "busybox",
            "/probe",
            "udp",
            "7",
        ])
        .unwrap();
    let address = daemon.cais(&["port", "echo", "7/udp"]).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address.trim()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    wait_until("the echo", || {
        let mut text = [0; 16];
        let _ = socket.send(b"quay");
        socket
            .recv(&mut text)
            .is_ok_and(|length| &text[..length] == b"quay")
    });
}

#[test]
fn containers_reach_the_world_under_the_hosts_address() {
    let daemon = daemon();
    let Some(server) = ("deb.debian.org", 80)
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.find(|address| address.is_ipv4()))
    else {
        eprintln!("skipped: this host does not know deb.debian.org");
        return;
    };
    if let Err(error) = TcpStream::connect_timeout(&server, Duration::from_secs(5)) {
        eprintln!("skipped: this host cannot reach {server}: {error}");
        return;
    }
    // Any answer of HTTP will do, even that there is no such page.
    let url = format!("http://{}/debian/dists/stable/Release", server.ip());
    let wget = format!(
        "timeout 10 wget -S -O /dev/null --header 'Host: deb.debian.org' {url} 2>&1 | grep -m1 -o HTTP/1"
    );
    assert_eq!(inside(&daemon, &[], &wget), "HTTP/1\n");
}

#[test]
fn containers_of_a_bridge_reach_each_other_and_their_gateway() {
    let daemon = daemon();
    serve(&daemon, "web", &[]);
    let field = |field: &str| {
        let format = format!("{{{{.NetworkSettings.{field}}}}}");
        daemon
            .cais(&["inspect", "-f", &format, "web"])
            .unwrap()
            .trim()
            .to_owned()
    };
    let (address, gateway) = (field("IPAddress"), field("Gateway"));
    assert_eq!(
        daemon.subnet().gateway(),
        format!("{gateway}/{}", field("IPPrefixLen"))
    );
    let fetch = format!(
        "until wget -qO- http://{address}/ 2>/dev/null; do :; done; ip route | grep -c 'default via {gateway} dev eth0'"
    );
    assert_eq!(inside(&daemon, &[], &fetch), "web\n1\n");
    answers(&format!("{address}:80"), "web");
    let mac = inside(
        &daemon,
        &["--mac-address=02:11:22:33:44:55"],
        "cat /sys/class/net/eth0/address",
    );
    assert_eq!(mac, "02:11:22:33:44:55\n");
}

#[test]
fn a_shared_network_is_one_with_its_owner() {
    let daemon = daemon();
    serve(&daemon, "web", &["-h", "quay", "--add-host=peer:10.9.8.7"]);
    let shared = inside(
        &daemon,
        &["--network=container:web"],
        "until wget -qO- http://127.0.0.1/ 2>/dev/null; do :; done; hostname; grep peer /etc/hosts; cat /etc/hostname",
    );
    assert_eq!(shared, "web\nquay\n10.9.8.7\tpeer\nquay\n");
    for (flags, why) in [
        (
            &["-p=80:80"][..],
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            &["-h=other"],
            "conflicting options: hostname and the network mode",
        ),
        (
            &["--dns=1.1.1.1"],
            "conflicting options: dns and the network mode",
        ),
        (
            &["--add-host=a:1.1.1.1"],
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
    ] {
        let args = [
            &["run", "--rm", "--network=container:web"],
            flags,
            &["busybox", "true"],
        ]
        .concat();
        let text = daemon.cais(&args).unwrap_err().to_string();
        assert!(text.contains(why), "{flags:?}: {text}");
    }
    daemon.cais(&["stop", "-t0", "web"]).unwrap();
    let text = daemon.cais(&["run", "--rm", "--network=container:web", "busybox", "true"]);
    let text = text.unwrap_err().to_string();
    assert!(
        text.contains("cannot join network namespace of a non running container"),
        "{text}"
    );
}

#[test]
fn name_files_follow_the_flags() {
    let daemon = daemon();
    let files = inside(
        &daemon,
        &[
            "--hostname=quay",
            "--domainname=example.org",
            "--dns=10.1.2.3",
            "--dns=10.1.2.4",
            "--dns-search=a.example",
            "--dns-option=ndots:3",
            "--add-host=up:host-gateway",
        ],
        "cat /etc/resolv.conf /etc/hosts /proc/sys/kernel/domainname",
    );
    for line in [
        "nameserver 10.1.2.3",
        "nameserver 10.1.2.4",
        "search a.example",
        "options ndots:3",
        "example.org",
    ] {
        assert!(files.lines().any(|have| have == line), "{line}: {files}");
    }
    let gateway = daemon.subnet().gateway();
    let up = format!("{}\tup\n", gateway.split('/').next().unwrap());
    assert!(
        files.contains(&up) && files.contains("\tquay.example.org quay\n"),
        "{files}"
    );
    // What a container writes into its files stays, and stays its own.
    daemon
        .cais(&[
            "run",
            "--name=writer",
            "busybox",
            "sh",
            "-c",
            "echo 10.9.9.9 late >>/etc/hosts",
        ])
        .unwrap();
    let host = std::fs::read_to_string("/etc/hosts").unwrap();
    assert!(!host.contains("10.9.9.9 late"));
    let none = inside(
        &daemon,
        &["--network=none", "-h=alone"],
        "cat /etc/hostname; ip route; ls /sys/class/net",
    );
    assert_eq!(none, "alone\nlo\n");
    let hosts = inside(&daemon, &["--network=host"], "hostname; cat /etc/hostname");
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(hosts, format!("{name}{name}"));
}
