//! Networks that users make, joined and left by the real docker command line.

use serde_json::Value;

use cais_testkit::TestDaemon;

use crate::daemon;

fn json(daemon: &TestDaemon, args: &[&str]) -> Value {
    serde_json::from_str(&daemon.docker(args).unwrap()).unwrap()
}

fn refused(daemon: &TestDaemon, args: &[&str]) -> String {
    let text = daemon.docker(args).unwrap_err().to_string();
    let start = text.find("Error response from daemon: ").unwrap_or(0);
    text[start..].trim().to_owned()
}

fn events(daemon: &TestDaemon, kind: &str) -> Vec<String> {
    let filter = format!("type={kind}");
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let until = jiff::Timestamp::now().as_second() + 1;
    let until = until.to_string();
    let args = [
        "events",
        "--since=0",
        "--until",
        &until,
        "--filter",
        &filter,
        "--format",
        format,
    ];
    let text = daemon.docker(&args).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_flag_of_network_create_is_shown_by_inspect() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("10.215.{number}.0/24");
    let (range, gateway) = (
        format!("10.215.{number}.128/25"),
        format!("10.215.{number}.254"),
    );
    let auxiliary = format!("router=10.215.{number}.129");
    let bridge = format!("caistn{number}");
    let id = daemon
        .docker(&[
            "network",
            "create",
            "--attachable",
            "--internal",
            "--ipv6",
            "--label=a=b",
            "--subnet",
            &subnet,
            "--ip-range",
            &range,
            "--gateway",
            &gateway,
            "--aux-address",
            &auxiliary,
            "--ipam-opt=x=y",
            "--subnet=fd00:aa::/64",
            "--gateway=fd00:aa::9",
            "-o",
            &format!("com.docker.network.bridge.name={bridge}"),
            "-o",
            "com.docker.network.driver.mtu=1400",
            "-o",
            "com.docker.network.bridge.gateway_mode_ipv4=isolated",
            "-o",
            "com.docker.network.container_iface_prefix=lan",
            "full",
        ])
        .unwrap();
    let shown = json(&daemon, &["network", "inspect", "full"]);
    let network = &shown[0];
    assert_eq!(network["Id"], id.trim());
    let created = network["Created"].as_str().unwrap();
    assert!(created.parse::<jiff::Timestamp>().is_ok(), "{created}");
    let want = serde_json::json!({
        "Name": "full", "Scope": "local", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": true,
        "Internal": true, "Attachable": true, "Ingress": false, "ConfigOnly": false,
        "ConfigFrom": {"Network": ""}, "Containers": {}, "Labels": {"a": "b"},
        "IPAM": {"Driver": "default", "Options": {"x": "y"}, "Config": [
            {"Subnet": subnet, "IPRange": range, "Gateway": gateway,
             "AuxiliaryAddresses": {"router": format!("10.215.{number}.129")}},
            {"Subnet": "fd00:aa::/64", "Gateway": "fd00:aa::9"},
        ]},
        "Options": {
            "com.docker.network.bridge.gateway_mode_ipv4": "isolated",
            "com.docker.network.bridge.name": bridge,
            "com.docker.network.container_iface_prefix": "lan",
            "com.docker.network.driver.mtu": "1400",
        },
    });
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(&network[key], value, "{key}");
    }
    let inside = daemon
        .docker(&["run", "--rm", "--network=full", "busybox", "sh", "-c",
            "cat /sys/class/net/lan0/mtu; ip -4 -o addr show dev lan0; ip -6 addr show dev lan0; ip route"])
        .unwrap();
    assert!(inside.starts_with("1400\n"), "{inside}");
    // The lowest address of the range is free, the second is somebody else's.
    assert!(
        inside.contains(&format!("10.215.{number}.128/24")),
        "{inside}"
    );
    assert!(inside.contains("fd00:aa::1/64"), "{inside}");
    assert!(!inside.contains("default"), "{inside}");
    let host = std::process::Command::new("ip")
        .args(["-4", "-o", "addr", "show", "dev", &bridge])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&host.stdout),
        "",
        "isolated: the host has no address"
    );
    daemon.docker(&["network", "rm", "full"]).unwrap();
}

#[test]
fn wrong_requests_are_refused_in_dockers_words() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("10.215.{number}.0/24");
    daemon
        .docker(&["network", "create", "--subnet", &subnet, "one"])
        .unwrap();
    let part = format!("10.215.{number}.0/28");
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    let cases: &[(&[&str], &str)] = &[
        (&["one"], "network with name one already exists"),
        (
            &["bridge"],
            "operation is not permitted on predefined bridge network ",
        ),
        (&["--subnet", &part, "two"], overlap),
        (
            &["--subnet=10.212.0.1/24", "two"],
            "invalid network config:\ninvalid subnet 10.212.0.1/24: it should be 10.212.0.0/24",
        ),
        (
            &["-o", "com.docker.network.bridge.enable_icc=maybe", "two"],
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": \
             invalid syntax)",
        ),
        (&["--ipv4=false", "two"], "IPv4 or IPv6 must be enabled"),
        (&["-d", "weave", "two"], "plugin \"weave\" not found"),
        (
            &["-d", "host", "two"],
            "only one instance of \"host\" network is allowed",
        ),
        (
            &["--ingress", "two"],
            "Ingress network can only be global scope network",
        ),
    ];
    for (args, want) in cases {
        let args = [&["network", "create"], *args].concat();
        let text = refused(&daemon, &args);
        assert_eq!(
            text,
            format!("Error response from daemon: {want}").trim(),
            "{args:?}"
        );
    }
    let listed = daemon
        .docker(&["network", "ls", "--format={{.Name}}"])
        .unwrap();
    assert_eq!(listed, "bridge\nhost\nnone\none\n");
    let text = refused(&daemon, &["network", "rm", "bridge"]);
    assert!(
        text.contains("bridge is a pre-defined network and cannot be removed"),
        "{text}"
    );
    for (args, want) in [
        (
            &["run", "--rm", "--ip=10.1.1.1", "busybox", "true"][..],
            "invalid config for network bridge: invalid endpoint settings:\n\
             * user specified IP address is supported on user defined networks only\n\
             * user specified IP address is supported only when connecting to networks with user configured subnets",
        ),
        (
            &[
                "run",
                "--rm",
                "--network=one",
                "--ip=10.1.1.1",
                "busybox",
                "true",
            ],
            "invalid config for network one: invalid endpoint settings:\n\
             no configured subnet or ip-range contain the IP address 10.1.1.1",
        ),
    ] {
        let text = refused(&daemon, args);
        assert!(text.contains(want), "{args:?}: {text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one life, step by step")]
fn a_running_container_joins_and_leaves_networks() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("10.215.{number}.0/24");
    daemon
        .docker(&["network", "create", "--subnet", &subnet, "back"])
        .unwrap();
    let id = daemon
        .docker(&["run", "-d", "--name=web", "busybox", "sleep", "1000"])
        .unwrap();
    let id = id.trim();
    let ip = format!("10.215.{number}.77");
    daemon
        .docker(&[
            "network",
            "connect",
            "--ip",
            &ip,
            "--alias=www",
            "--link-local-ip=169.254.9.9",
            "--gw-priority=3",
            "--driver-opt=com.docker.network.endpoint.ifname=lan7",
            "back",
            "web",
        ])
        .unwrap();
    let shown = json(&daemon, &["network", "inspect", "back"]);
    let there = &shown[0]["Containers"][id];
    assert_eq!(there["Name"], "web");
    assert_eq!(there["IPv4Address"], format!("{ip}/24"));
    assert_eq!(there["IPv6Address"], "");
    let endpoint = &json(&daemon, &["inspect", "web"])[0]["NetworkSettings"]["Networks"]["back"];
    assert_eq!(endpoint["IPAddress"], ip.as_str());
    assert_eq!(endpoint["EndpointID"], there["EndpointID"]);
    assert_eq!(endpoint["NetworkID"], shown[0]["Id"]);
    assert_eq!(endpoint["Aliases"], serde_json::json!(["www"]));
    assert_eq!(endpoint["GwPriority"], 3);
    assert_eq!(endpoint["IPAMConfig"]["IPv4Address"], ip.as_str());
    assert_eq!(
        endpoint["DNSNames"],
        serde_json::json!(["web", "www", &id[..12]])
    );
    let seen = daemon
        .docker(&[
            "exec",
            "web",
            "sh",
            "-c",
            "ip addr show dev lan7; ip route; cat /etc/hosts",
        ])
        .unwrap();
    for text in [
        format!("inet {ip}/24"),
        "169.254.9.9/16".to_owned(),
        format!("default via 10.215.{number}.1 dev lan7"),
        format!("{ip}\t{}\n", &id[..12]),
    ] {
        assert!(seen.contains(&text), "{text}: {seen}");
    }
    assert_eq!(
        refused(&daemon, &["network", "connect", "back", "web"]),
        "Error response from daemon: endpoint with name web already exists in network back"
    );
    let text = refused(&daemon, &["network", "rm", "back"]);
    let network = shown[0]["Id"].as_str().unwrap();
    assert!(
        text.contains(&format!(
            "error while removing network: network back id {network} has active endpoints (name:\"web\" id:\""
        )),
        "{text}"
    );
    daemon
        .docker(&["network", "disconnect", "bridge", "web"])
        .unwrap();
    daemon
        .docker(&["network", "disconnect", "back", "web"])
        .unwrap();
    let seen = daemon
        .docker(&[
            "exec",
            "web",
            "sh",
            "-c",
            "ls /sys/class/net; cat /etc/hosts",
        ])
        .unwrap();
    assert!(seen.starts_with("lo\n127.0.0.1"), "{seen}");
    assert!(!seen.contains(&id[..12]), "{seen}");
    let text = refused(&daemon, &["network", "disconnect", "back", "web"]);
    assert!(
        text.ends_with(&format!("container {id} is not connected to network back")),
        "{text}"
    );
    daemon
        .docker(&["network", "connect", "back", "web"])
        .unwrap();
    daemon.docker(&["restart", "-t0", "web"]).unwrap();
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(crate::inspect(&daemon, "web", networks), "back");
    daemon.docker(&["rm", "-f", "web"]).unwrap();
    daemon.docker(&["network", "rm", "back"]).unwrap();
    assert_eq!(
        events(&daemon, "network"),
        [
            "network create back",
            "network connect bridge",
            "network connect back",
            "network disconnect bridge",
            "network disconnect back",
            "network connect back",
            "network disconnect back",
            "network connect back",
            "network disconnect back",
            "network destroy back",
        ]
    );
}

#[test]
fn stopped_containers_keep_their_wishes() {
    let daemon = daemon();
    for name in ["front", "back"] {
        daemon.docker(&["network", "create", name]).unwrap();
    }
    daemon
        .docker(&[
            "create",
            "--name=web",
            "--network=name=front,mac-address=02:00:00:00:00:77",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    daemon
        .docker(&["network", "connect", "back", "web"])
        .unwrap();
    daemon.docker(&["start", "web"]).unwrap();
    let mac = "{{.NetworkSettings.Networks.front.MacAddress}}";
    assert_eq!(crate::inspect(&daemon, "web", mac), "02:00:00:00:00:77");
    // Others take the addresses in between, but not those of who had them.
    let address = "{{.NetworkSettings.Networks.front.IPAddress}}";
    daemon
        .docker(&[
            "run",
            "-d",
            "--name=first",
            "--network=front",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let second = crate::inspect(&daemon, "first", address);
    daemon.docker(&["stop", "-t0", "web", "first"]).unwrap();
    daemon.docker(&["start", "first", "web"]).unwrap();
    assert_eq!(crate::inspect(&daemon, "first", address), second);
    daemon.docker(&["stop", "-t0", "web"]).unwrap();
    daemon
        .docker(&["network", "disconnect", "back", "web"])
        .unwrap();
    let id = crate::inspect(&daemon, "web", "{{.Id}}");
    let text = refused(&daemon, &["network", "disconnect", "back", "web"]);
    assert!(
        text.ends_with(&format!(
            "container {id} is not connected to the network back"
        )),
        "{text}"
    );
    for (mode, name) in [
        ("host", "onhost"),
        ("none", "alone"),
        ("container:first", "shared"),
    ] {
        let network = format!("--network={mode}");
        daemon
            .docker(&["create", "--name", name, &network, "busybox", "true"])
            .unwrap();
        let text = refused(&daemon, &["network", "connect", "front", name]);
        let want = if mode == "none" {
            "private (none) mode"
        } else {
            "cannot be connected to any other network"
        };
        assert!(text.contains(want), "{mode}: {text}");
    }
    let text = refused(&daemon, &["network", "connect", "host", "first"]);
    assert!(
        text.contains(
            "container cannot be disconnected from host network or connected to host network"
        ),
        "{text}"
    );
    daemon
        .docker(&["network", "disconnect", "none", "alone"])
        .unwrap();
    daemon
        .docker(&["network", "connect", "front", "alone"])
        .unwrap();
    daemon.docker(&["start", "-a", "alone"]).unwrap();
}

#[test]
fn several_networks_at_once_have_their_own_settings() {
    let daemon = daemon();
    let number = daemon.subnet().number();
    let subnet = format!("10.215.{number}.0/24");
    daemon
        .docker(&["network", "create", "--subnet", &subnet, "b"])
        .unwrap();
    daemon.docker(&["network", "create", "a"]).unwrap();
    let b = format!(
        "name=b,ip=10.215.{number}.9,alias=x,alias=y,mac-address=02:00:00:00:00:09,gw-priority=1"
    );
    let out = daemon
        .docker(&["run", "--name=one", "--network", &b, "--network=name=a,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
            "busybox", "sh", "-c", "ip route | grep default; cat /sys/class/net/eth0/address /proc/sys/net/ipv4/conf/eth1/log_martians"])
        .unwrap();
    assert_eq!(
        out,
        format!("default via 10.215.{number}.1 dev eth0 \n02:00:00:00:00:09\n1\n")
    );
    let listed = daemon
        .docker(&["network", "ls", "-q", "--filter=dangling=true"])
        .unwrap();
    assert_eq!(listed.lines().count(), 2);
    let pruned = daemon.docker(&["network", "prune", "-f"]).unwrap();
    assert!(pruned.contains("a\n") && pruned.contains("b\n"), "{pruned}");
}

#[test]
fn legacy_links_give_names_and_variables() {
    let daemon = daemon();
    daemon
        .docker(&[
            "run",
            "-d",
            "--name=db",
            "--hostname=store",
            "--expose=6379",
            "-e",
            "MODE=fast",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let address = |name: &str| crate::inspect(&daemon, name, "{{.NetworkSettings.IPAddress}}");
    let first = address("db");
    daemon
        .docker(&[
            "run",
            "-d",
            "--name=web",
            "--link=db:my-db",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let seen = daemon
        .docker(&["exec", "web", "sh", "-c", "env; cat /etc/hosts"])
        .unwrap();
    for line in [
        "MY_DB_NAME=/web/my-db".to_owned(),
        format!("MY_DB_PORT=tcp://{first}:6379"),
        format!("MY_DB_PORT_6379_TCP=tcp://{first}:6379"),
        format!("MY_DB_PORT_6379_TCP_ADDR={first}"),
        "MY_DB_PORT_6379_TCP_PORT=6379".to_owned(),
        "MY_DB_PORT_6379_TCP_PROTO=tcp".to_owned(),
        "MY_DB_ENV_MODE=fast".to_owned(),
        format!("{first}\tmy-db store db"),
    ] {
        assert!(seen.lines().any(|have| have == line), "{line}: {seen}");
    }
    assert_eq!(
        crate::inspect(&daemon, "web", "{{json .HostConfig.Links}}"),
        "[\"/db:/web/my-db\"]"
    );
    // The other one comes back with another address, and is found there.
    daemon.docker(&["stop", "-t0", "db"]).unwrap();
    daemon
        .docker(&["run", "-d", "--name=thief", "busybox", "sleep", "1000"])
        .unwrap();
    daemon.docker(&["start", "db"]).unwrap();
    let second = address("db");
    assert_ne!(first, second);
    let line = format!("{second}\tmy-db store db");
    cais_testkit::wait_until("the new address", || {
        let hosts = daemon
            .docker(&["exec", "web", "cat", "/etc/hosts"])
            .unwrap();
        hosts.contains(&line) && !hosts.contains(&first)
    });
    daemon.docker(&["stop", "-t0", "db", "web"]).unwrap();
    let text = refused(&daemon, &["start", "web"]);
    assert!(
        text.contains("Cannot link to a non running container: /db AS /web/my-db"),
        "{text}"
    );
    daemon.docker(&["rm", "--link", "web/my-db"]).unwrap();
    daemon.docker(&["start", "web"]).unwrap();
    let text = refused(
        &daemon,
        &["run", "--rm", "--link=nobody", "busybox", "true"],
    );
    assert!(
        text.contains("could not get container for nobody: No such container: nobody"),
        "{text}"
    );
}
