//! Ports published and taken back while a container runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cais_testkit::{TestDaemon, wait_until};

use crate::networks::free_ports;
use crate::{daemon, refused};

/// How long one connection may take; what comes while the container restarts may be lost.
const PATIENCE: Duration = Duration::from_secs(2);

fn answers(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else {
        return false;
    };
    if stream.set_read_timeout(Some(PATIENCE)).is_err() {
        return false;
    }
    let mut text = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok();
    asked && stream.read_to_string(&mut text).is_ok() && text.contains("quay")
}

fn ports(daemon: &TestDaemon, name: &str) -> String {
    daemon.docker(&["port", name]).unwrap()
}

#[test]
fn ports_change_while_the_container_runs_and_stay_changed() {
    let mut daemon = daemon();
    let first = free_ports(&daemon, 3);
    let (one, two, three) = (first, first + 1, first + 2);
    let serve = "echo quay >/var/www/index.html; exec httpd -f -h /var/www";
    let publish = format!("127.0.0.1:{one}:80");
    let words = [
        "run",
        "-d",
        "--name=web",
        "-p",
        &publish,
        "busybox",
        "sh",
        "-c",
        serve,
    ];
    daemon.docker(&words).unwrap();
    wait_until("the server", || answers(one));
    let add = [format!("{two}:80"), format!("127.0.0.1:{three}:80")];
    let words = [
        "update",
        "--publish-add",
        &add[0],
        "--publish-add",
        &add[1],
        "web",
    ];
    assert_eq!(daemon.cais(&words).unwrap(), "web\n");
    assert!(answers(one) && answers(two) && answers(three));
    let text = format!(
        "80/tcp -> 0.0.0.0:{two}\n80/tcp -> 127.0.0.1:{one}\n80/tcp -> 127.0.0.1:{three}\n"
    );
    assert_eq!(ports(&daemon, "web"), text);

    let remove = format!("127.0.0.1:{one}:80");
    daemon
        .cais(&["update", "--publish-rm", &remove, "web"])
        .unwrap();
    assert!(!answers(one) && answers(two));
    let listed = daemon.docker(&["ps", "--format", "{{.Ports}}"]).unwrap();
    assert!(
        listed.contains(&two.to_string()) && !listed.contains(&one.to_string()),
        "{listed}"
    );
    let own = TcpStream::connect(("127.0.0.1", one));
    assert!(own.is_err());

    daemon.restart().unwrap();
    wait_until("the port after a restart of the daemon", || answers(two));
    // Neighbours remember for half a minute which Ethernet address has an IP address.
    let card = ["exec", "web", "cat", "/sys/class/net/eth0/address"];
    let before = daemon.docker(&card).unwrap();
    daemon.docker(&["restart", "-t", "0", "web"]).unwrap();
    assert_eq!(daemon.docker(&card).unwrap(), before);
    wait_until("the port after a restart of the container", || {
        answers(two) && answers(three)
    });
    assert!(!answers(one));

    let wrong = refused(&daemon, &["update", "--publish-rm", "81", "web"]);
    assert!(wrong.contains("port 81/tcp is not published"), "{wrong}");
    let other = format!("{two}:80");
    let taken = ["run", "-d", "--name=other", "-p", &other, "busybox", "true"];
    let text = refused(&daemon, &taken);
    let words =
        format!("Bind for 0.0.0.0:{two} failed: port is already allocated by container web");
    assert!(text.contains(&words), "{text}");
    daemon
        .cais(&["update", "--publish-rm", "80", "web"])
        .unwrap();
    assert_eq!(ports(&daemon, "web"), "");
    daemon.docker(&["start", "other"]).unwrap();
}
