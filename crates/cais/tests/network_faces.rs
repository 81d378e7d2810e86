//! What the commands and the API say of networks, and what follows from a change while a container runs.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use cais_testkit::TestDaemon;
use cais_testkit::http::{Answer, read_answer};

use crate::{daemon, inspect, refused};

/// A container that waits.
fn run(daemon: &TestDaemon, name: &str, flags: &[&str]) {
    let name = format!("--name={name}");
    let args = [&["run", "-d", &name], flags, &["busybox", "sleep", "1000"]].concat();
    daemon.cais(&args).unwrap();
}

fn exec(daemon: &TestDaemon, container: &str, script: &str) -> String {
    daemon
        .cais(&["exec", container, "sh", "-c", script])
        .unwrap()
}

fn resolv_conf(daemon: &TestDaemon, container: &str) -> String {
    exec(daemon, container, "cat /etc/resolv.conf")
}

#[test]
fn what_is_refused_is_refused_in_dockers_words() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("--subnet=10.217.{number}.0/24");
    daemon.cais(&["network", "create", &subnet, "one"]).unwrap();
    daemon
        .cais(&["network", "create", "--config-only", "conf"])
        .unwrap();
    daemon
        .cais(&["network", "create", "--config-from=conf", "two"])
        .unwrap();
    run(&daemon, "box", &[]);
    let half = format!("--subnet=10.217.{number}.0/25");
    let inside = format!("--ip=10.217.{number}.9");
    for (args, want) in [
        (
            &["network", "create", &half, "x"][..],
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            &["network", "create", "one"],
            "network with name one already exists",
        ),
        (
            &["network", "create", "--ingress", "x"],
            "Ingress network can only be global scope network",
        ),
        (
            &["network", "create", "--scope=swarm", "x"],
            "cannot create a swarm scoped network when swarm is not active",
        ),
        (
            &["network", "create", "--config-only", "--internal", "x"],
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ),
        (
            &["network", "rm", "conf"],
            "error while removing network: configuration network \"conf\" is in use",
        ),
        (
            &["network", "connect", "--ip=bad", "one", "box"],
            "invalid endpoint settings:\n* invalid IPv4 address: bad\n\
             * no configured subnet or ip-range contain the IP address bad",
        ),
        (
            &["network", "connect", &inside, "two", "box"],
            "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with \
             user configured subnets",
        ),
        (
            &["network", "disconnect", "-f", "one", "nobody"],
            "endpoint nobody not found",
        ),
        (
            &["network", "disconnect", "one", "nobody"],
            "No such container: nobody",
        ),
        (
            &["run", "--network=container:nobody", "busybox", "true"],
            "No such container: nobody",
        ),
    ] {
        let text = refused(&daemon, args);
        let said = text.starts_with(&format!("Error response from daemon: {want}\n"))
            || text.starts_with(&format!("cais: Error response from daemon: {want}\n"));
        assert!(said, "{args:?}: {text}");
    }
}

#[test]
fn prune_leaves_configurations() {
    let daemon = daemon();
    for (flag, name) in [("--config-only", "conf"), ("--internal", "plain")] {
        daemon.cais(&["network", "create", flag, name]).unwrap();
    }
    let pruned = daemon.cais(&["network", "prune", "-f"]).unwrap();
    assert_eq!(pruned, "Deleted Networks:\nplain\n\n");
    daemon.cais(&["network", "rm", "conf"]).unwrap();
}

#[test]
fn links_are_names_of_their_targets() {
    let daemon = daemon();
    run(&daemon, "target", &["--expose=80"]);
    run(&daemon, "parent", &["--link=target:alias"]);
    let all = [
        "ps",
        "--no-trunc",
        "--format={{.Names}}",
        "--filter=name=target",
    ];
    assert_eq!(daemon.cais(&all).unwrap(), "target,parent/alias\n");
    assert_eq!(daemon.docker(&all).unwrap(), "target,parent/alias\n");
    assert_eq!(
        daemon.cais(&["ps", "--format={{.Names}}"]).unwrap(),
        "parent\ntarget\n"
    );
    let address = inspect(&daemon, "target", "{{.NetworkSettings.IPAddress}}");
    let variables = exec(&daemon, "parent", "env");
    let port = format!("ALIAS_PORT_80_TCP=tcp://{address}:80\n");
    assert!(variables.contains(&port), "{variables}");
    daemon.cais(&["network", "create", "other"]).unwrap();
    run(&daemon, "apart", &["--network=other"]);
    let text = refused(&daemon, &["run", "--link=apart", "busybox", "true"]);
    let want = "Cannot link to /apart, as it does not belong to the default network";
    assert!(text.contains(want), "{text}");
    daemon.cais(&["rm", "--link", "parent/alias"]).unwrap();
    assert_eq!(daemon.cais(&all).unwrap(), "target\n");
}

#[test]
fn moby_21860_the_host_has_a_name_everywhere() {
    let daemon = daemon();
    let gateway = daemon.subnet().gateway();
    let gateway = gateway.split('/').next().unwrap();
    daemon.cais(&["network", "create", "own"]).unwrap();
    run(&daemon, "plain", &[]);
    run(
        &daemon,
        "given",
        &["--add-host=host.docker.internal:10.9.8.7"],
    );
    run(&daemon, "named", &["--network=own"]);
    let ask = "ping -c1 -W1 host.docker.internal | sed -n '1s/.*(\\(.*\\)).*/\\1/p'";
    assert_eq!(exec(&daemon, "plain", ask).trim(), gateway);
    let hosts = exec(&daemon, "given", "grep host.docker.internal /etc/hosts");
    assert_eq!(hosts, "10.9.8.7\thost.docker.internal\n");
    let answer = exec(&daemon, "named", "nslookup host.docker.internal");
    assert!(
        answer.contains(&format!("Address: {gateway}\n")),
        "{answer}"
    );
    assert_eq!(
        exec(&daemon, "named", "grep -c docker /etc/hosts || true"),
        "0\n"
    );
}

#[test]
fn resolv_conf_follows_the_networks_until_it_is_written_to() {
    let daemon = daemon();
    let internal = "nameserver 127.0.0.11\n";
    daemon.cais(&["network", "create", "own"]).unwrap();
    run(&daemon, "peer", &["--network=own"]);
    for name in ["moves", "writes"] {
        run(&daemon, name, &["--dns=10.9.8.7"]);
        assert!(!resolv_conf(&daemon, name).contains(internal));
    }
    exec(&daemon, "writes", "echo '# mine' >>/etc/resolv.conf");
    let written = resolv_conf(&daemon, "writes");
    for name in ["moves", "writes"] {
        daemon.cais(&["network", "connect", "own", name]).unwrap();
    }
    assert!(resolv_conf(&daemon, "moves").contains(internal));
    let answer = exec(&daemon, "moves", "nslookup peer");
    let address = inspect(
        &daemon,
        "peer",
        "{{.NetworkSettings.Networks.own.IPAddress}}",
    );
    assert!(
        answer.contains(&format!("Address: {address}\n")),
        "{answer}"
    );
    assert_eq!(resolv_conf(&daemon, "writes"), written);
    daemon
        .cais(&["network", "disconnect", "own", "moves"])
        .unwrap();
    assert!(resolv_conf(&daemon, "moves").contains("nameserver 10.9.8.7\n"));
}

#[test]
fn without_a_default_bridge_containers_are_alone_unless_they_say_otherwise() {
    let mut daemon = daemon();
    daemon.restart_with(&["--bridge=none"]).unwrap();
    let names = ["network", "ls", "--format={{.Name}}"];
    assert_eq!(daemon.cais(&names).unwrap(), "host\nnone\n");
    let bridge = format!("/sys/class/net/{}", daemon.name());
    assert!(!std::path::Path::new(&bridge).exists(), "the former bridge");
    let list = ["ls", "/sys/class/net"];
    for flags in [&[][..], &["--network=bridge"], &["-p", "80"]] {
        let args = [&["run", "--rm"], flags, &["busybox"], &list].concat();
        assert_eq!(daemon.cais(&args).unwrap(), "lo\n", "{flags:?}");
    }
    daemon.cais(&["network", "create", "own"]).unwrap();
    let own = [&["run", "--rm", "--network=own", "busybox"], &list[..]].concat();
    assert_eq!(daemon.cais(&own).unwrap(), "eth0\nlo\n");
    let gateway = [
        "run",
        "--rm",
        "--add-host=x:host-gateway",
        "busybox",
        "true",
    ];
    let text = refused(&daemon, &gateway);
    let want = "unable to derive the IP value for host-gateway";
    assert!(text.contains(want), "{text}");
}

#[test]
fn flags_of_the_default_bridge_leave_other_networks_alone() {
    let mut daemon = daemon();
    let flags = [
        "--mtu=1400",
        "--icc=false",
        "--host-gateway-ip=10.1.2.3",
        "--ip=127.0.0.1",
        "--default-network-opt=bridge=com.docker.network.bridge.enable_ip_masquerade=false",
    ];
    daemon.restart_with(&flags).unwrap();
    daemon.cais(&["network", "create", "own"]).unwrap();
    let seen = "cat /sys/class/net/eth0/mtu; sed -n 's/\\tup$//p' /etc/hosts";
    for (network, want) in [("bridge", "1400\n10.1.2.3\n"), ("own", "1500\n10.1.2.3\n")] {
        let network = format!("--network={network}");
        let flags = ["run", "--rm", &network, "--add-host=up:host-gateway"];
        let args = [&flags[..], &["busybox", "sh", "-c", seen]].concat();
        assert_eq!(daemon.cais(&args).unwrap(), want, "{network}");
    }
    let option = |network: &str, option: &str| {
        let template = format!("{{{{index .Options \"com.docker.network.{option}\"}}}}");
        let args = ["network", "inspect", "-f", &template, network];
        daemon.cais(&args).unwrap().trim().to_owned()
    };
    assert_eq!(option("own", "bridge.enable_ip_masquerade"), "false");
    assert_eq!(option("own", "driver.mtu"), "");
    assert_eq!(option("bridge", "bridge.enable_icc"), "false");
    run(&daemon, "web", &["-p", "80"]);
    let port = daemon.cais(&["port", "web", "80"]).unwrap();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    let web = inspect(&daemon, "web", "{{.NetworkSettings.IPAddress}}");
    let ping = ["run", "--rm", "busybox", "ping", "-c1", "-W1", &web];
    let output = daemon.cais_output(&ping).unwrap();
    assert_eq!(output.status.code(), Some(1), "neighbours meet");
}

fn send(daemon: &TestDaemon, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let (kind, length) = ("application/json", body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    );
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
    read_answer(&mut stream, method).unwrap()
}

/// What the API answers to requests that no command line makes.
#[test]
fn requests_are_refused_with_dockers_statuses() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("--subnet=10.217.{number}.0/24");
    daemon.cais(&["network", "create", &subnet, "one"]).unwrap();
    run(&daemon, "box", &[]);
    let taken = format!(
        "{{\"Container\":\"box\",\"EndpointConfig\":{{\"IPAMConfig\":{{\"IPv4Address\":\"10.217.{number}.1\"}}}}}}"
    );
    for (method, path, body, status, text) in [
        (
            "GET",
            "/networks/one?scope=swarm",
            "",
            404,
            "network one not found",
        ),
        (
            "POST",
            "/networks/one/connect",
            "{}",
            400,
            "invalid name or ID supplied: \"\"",
        ),
        (
            "POST",
            "/networks/one/disconnect",
            "{}",
            400,
            "invalid name or ID supplied: \"\"",
        ),
        (
            "POST",
            "/networks/one/connect",
            &taken,
            403,
            "Address already in use",
        ),
        (
            "POST",
            "/networks/one/connect",
            r#"{"Container":"box","EndpointConfig":{"MacAddress":"zz"}}"#,
            400,
            "invalid MAC address zz",
        ),
    ] {
        let answer = send(&daemon, method, path, body);
        let said = answer.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(
            (answer.status, said.as_str()),
            (status, text),
            "{method} {path} {body}"
        );
    }
    let local = send(&daemon, "GET", "/networks/one?scope=local", "");
    assert_eq!(local.json()["Name"], "one");
}
