//! The default bridge, published ports and the special networks.

use std::io::{Read, Write};
use std::net::TcpStream;

use cais_testkit::wait_until;

use crate::daemon;

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
