//! Who reaches what: every kind of client and every kind of port, in namespaces of their own, through the real docker. The
//! same code asks a real dockerd, for what an old one has.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use cais_testkit::{BaseImage, Space, TestDaemon, World, base_image, from_trixie, wait_until};

/// How long silence is waited for before it counts as one.
const PATIENCE: Duration = Duration::from_millis(250);

/// A daemon in the world's host, driven by the real docker.
struct Subject<'a> {
    world: &'a World,
    host: String,
    /// What br_netfilter is switched to when the containers are there.
    switch: Option<bool>,
}

/// Whether frames that stay on a bridge pass the rules for IP packets (`net.bridge.bridge-nf-call-iptables`).
fn filter_bridges(world: &World, on: bool) {
    let value = if on { "1" } else { "0" };
    world.host.inside(|| {
        for family in ["ip", "ip6"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
            match std::fs::write(path, value) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !on => {}
                other => other.unwrap(),
            }
        }
    });
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn can_filter_bridges() -> bool {
    let there = std::path::Path::new("/proc/sys/net/bridge").exists();
    if !there {
        eprintln!("skipped: this kernel has no br_netfilter");
    }
    there
}

impl Subject<'_> {
    /// Switches br_netfilter; the daemon takes notice when a container starts.
    fn switch(&self) {
        if let Some(on) = self.switch {
            filter_bridges(self.world, on);
            self.docker(&["run", "--rm", "busybox", "true"]);
        }
    }

    fn docker(&self, words: &[&str]) -> String {
        let output = Command::new("docker")
            .args(words)
            .env("DOCKER_HOST", &self.host)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs a container with servers on ports 80 and 81 and answers where it is.
    fn run(&self, name: &str, flags: &[&str]) -> Place {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(flags);
        words.extend(["busybox", "sleep", "1000"]);
        self.docker(&words);
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
        let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let space = Space::of(netns.into());
        for port in [80, 81] {
            serve(&space, port);
        }
        let of = |field: &str| {
            let format =
                format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}} {{{{end}}}}");
            let text = self.docker(&["inspect", "-f", &format, name]);
            text.split_whitespace()
                .next()
                .and_then(|one| one.parse().ok())
        };
        Place {
            space,
            addresses: [of("IPAddress"), of("GlobalIPv6Address")],
        }
    }
}

/// A container.
struct Place {
    space: Space,
    addresses: [Option<IpAddr>; 2],
}

/// Answers on TCP and UDP, on both families, with the address of who asks.
fn serve(space: &Space, port: u16) {
    let any: IpAddr = "::".parse().unwrap();
    let bind = || {
        let tcp = TcpListener::bind((any, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
        let udp = UdpSocket::bind((any, port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)));
        (tcp.unwrap(), udp.unwrap())
    };
    let (tcp, udp) = space.inside(bind);
    let plain = |address: SocketAddr| address.ip().to_canonical().to_string();
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let from = stream.peer_addr().map(plain).unwrap_or_default();
            let _ = stream.write_all(from.as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(plain(from).as_bytes(), from);
        }
    });
}

/// What the server answers, by TCP or UDP; `-` when nothing comes.
fn ask(space: &Space, (address, port): (IpAddr, u16), tcp: bool) -> String {
    let at = SocketAddr::new(address, port);
    let talk = move || -> std::io::Result<String> {
        let mut buffer = [0; 64];
        let length = if tcp {
            let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read(&mut buffer)?
        } else {
            let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(at)?;
            socket.send(b"?")?;
            socket.recv(&mut buffer)?
        };
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    match space.inside(talk) {
        Ok(text) if !text.is_empty() => text,
        _ => "-".to_owned(),
    }
}

/// Rows of `target client: tcp udp`, with `yes` or `no`.
type Table = BTreeMap<String, String>;

/// Asks for one port from one place by both protocols.
fn cell(table: &mut Table, row: &str, space: &Space, at: (IpAddr, u16)) {
    let answers = [true, false].map(|tcp| {
        let answer = ask(space, at, tcp);
        if answer == "-" { "no" } else { "yes" }
    });
    let text = if answers[0] == answers[1] {
        answers[0].to_owned()
    } else {
        format!("tcp {} udp {}", answers[0], answers[1])
    };
    table.insert(row.to_owned(), text);
}

const NETWORKS: [(&str, &[&str]); 3] = [("plain", &[]), ("other", &[]), ("inner", &["--internal"])];

/// The targets that every daemon has, on IPv4.
fn classic(subject: &Subject<'_>) -> Table {
    for (name, flags) in NETWORKS {
        let mut words = vec!["network", "create"];
        words.extend(flags);
        words.push(name);
        subject.docker(&words);
    }
    let published = [
        "--network=plain",
        "-p",
        "8080:80/tcp",
        "-p",
        "8080:80/udp",
        "-p",
        "127.0.0.1:8081:80/tcp",
        "-p",
        "127.0.0.1:8081:80/udp",
    ];
    let web = subject.run("web", &published);
    let same = subject.run("same", &["--network=plain"]);
    let other = subject.run("other", &["--network=other"]);
    let inner = subject.run("inner", &["--network=inner"]);
    let mate = subject.run("mate", &["--network=inner"]);
    subject.switch();
    let world = subject.world;
    let mut table = Table::new();
    let clients = [
        ("itself", &web.space),
        ("same network", &same.space),
        ("other network", &other.space),
        ("internal network", &inner.space),
        ("host", &world.host),
        ("neighbour", &world.neighbour),
        ("routed", &world.far),
    ];
    let own = web.addresses[0].unwrap();
    let closed = inner.addresses[0].unwrap();
    let host: IpAddr = World::HOST[0].parse().unwrap();
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    for (client, space) in clients {
        let mut ask = |what: &str, at| cell(&mut table, &format!("{what} | {client}"), space, at);
        ask("published, host's address", (host, 8080));
        ask("published on 127.0.0.1, host's address", (host, 8081));
        ask("published, container's address", (own, 80));
        ask("unpublished, container's address", (own, 81));
        if client != "internal network" {
            ask("internal, container's address", (closed, 80));
        }
    }
    cell(
        &mut table,
        "published, 127.0.0.1 | host",
        &world.host,
        (local, 8080),
    );
    cell(
        &mut table,
        "published on 127.0.0.1, 127.0.0.1 | host",
        &world.host,
        (local, 8081),
    );
    cell(
        &mut table,
        "internal, container's address | internal network",
        &mate.space,
        (closed, 80),
    );
    table
}

/// How clients appear to the container: their own addresses.
fn sources(subject: &Subject<'_>) -> Table {
    let world = subject.world;
    let host: IpAddr = World::HOST[0].parse().unwrap();
    let mut table = Table::new();
    for (client, space) in [("neighbour", &world.neighbour), ("routed", &world.far)] {
        for tcp in [true, false] {
            let row = format!("{client} {}", if tcp { "tcp" } else { "udp" });
            table.insert(row, ask(space, (host, 8080), tcp));
        }
    }
    table
}

fn clients<'a>(near: &'a str, far: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("neighbour tcp", near),
        ("neighbour udp", near),
        ("routed tcp", far),
        ("routed udp", far),
    ]
}

fn expected(rows: &[(&str, &str)]) -> Table {
    let rows = rows.iter();
    rows.map(|(row, text)| ((*row).to_owned(), (*text).to_owned()))
        .collect()
}

/// What Docker documents for 28: "Packet filtering and firewalls", "Port publishing and mapping", "Bridge network driver".
const CLASSIC: &[(&str, &str)] = &[
    ("published, host's address | itself", "yes"),
    ("published, host's address | same network", "yes"),
    ("published, host's address | other network", "yes"),
    ("published, host's address | internal network", "no"),
    ("published, host's address | host", "yes"),
    ("published, host's address | neighbour", "yes"),
    ("published, host's address | routed", "yes"),
    ("published, 127.0.0.1 | host", "yes"),
    ("published on 127.0.0.1, 127.0.0.1 | host", "yes"),
    ("published on 127.0.0.1, host's address | itself", "no"),
    (
        "published on 127.0.0.1, host's address | same network",
        "no",
    ),
    (
        "published on 127.0.0.1, host's address | other network",
        "no",
    ),
    (
        "published on 127.0.0.1, host's address | internal network",
        "no",
    ),
    ("published on 127.0.0.1, host's address | host", "no"),
    ("published on 127.0.0.1, host's address | neighbour", "no"),
    ("published on 127.0.0.1, host's address | routed", "no"),
    ("published, container's address | itself", "yes"),
    ("published, container's address | same network", "yes"),
    ("published, container's address | other network", "no"),
    ("published, container's address | internal network", "no"),
    ("published, container's address | host", "yes"),
    ("published, container's address | neighbour", "no"),
    ("published, container's address | routed", "no"),
    ("unpublished, container's address | itself", "yes"),
    ("unpublished, container's address | same network", "yes"),
    ("unpublished, container's address | other network", "no"),
    ("unpublished, container's address | internal network", "no"),
    ("unpublished, container's address | host", "yes"),
    ("unpublished, container's address | neighbour", "no"),
    ("unpublished, container's address | routed", "no"),
    ("internal, container's address | itself", "no"),
    ("internal, container's address | same network", "no"),
    ("internal, container's address | other network", "no"),
    ("internal, container's address | internal network", "yes"),
    ("internal, container's address | host", "yes"),
    ("internal, container's address | neighbour", "no"),
    ("internal, container's address | routed", "no"),
];

fn daemon_in(world: &World, flags: &[&str]) -> TestDaemon {
    let daemon = TestDaemon::start_in(crate::CAIS, &world.host, flags).unwrap();
    let archive = base_image(BaseImage::Busybox).unwrap();
    daemon
        .docker(&["load", "-q", "-i", &archive.to_string_lossy()])
        .unwrap();
    daemon
}

/// How br_netfilter is when the daemon starts, and when the containers are there.
fn ports_are_reached((before, after): (bool, bool)) {
    let world = World::new().unwrap();
    filter_bridges(&world, before);
    let daemon = daemon_in(&world, &[]);
    let subject = Subject {
        world: &world,
        host: daemon.host(),
        switch: (before != after).then_some(after),
    };
    let table = classic(&subject);
    assert_eq!(table, expected(CLASSIC));
    let [near, _] = World::NEIGHBOUR;
    let [far, _] = World::FAR;
    assert_eq!(sources(&subject), expected(&clients(near, far)));
}

#[test]
fn ports_are_reached_as_docker_documents() {
    ports_are_reached((false, false));
}

#[test]
fn ports_are_reached_where_bridged_frames_pass_the_rules() {
    if can_filter_bridges() {
        ports_are_reached((true, true));
    }
}

#[test]
fn ports_are_reached_when_that_changes() {
    if can_filter_bridges() {
        ports_are_reached((false, true));
        ports_are_reached((true, false));
    }
}

/// Targets on IPv6, and the modes of gateways on both families.
fn modern(subject: &Subject<'_>) -> Table {
    let modes = |mode: &str| {
        ["ipv4", "ipv6"]
            .map(|family| format!("com.docker.network.bridge.gateway_mode_{family}={mode}"))
    };
    for (number, (name, mode)) in [
        ("nat", "nat"),
        ("open", "nat-unprotected"),
        ("direct", "routed"),
    ]
    .into_iter()
    .enumerate()
    {
        let subnet = format!("fd09:{number}::/64");
        let [four, six] = modes(mode);
        let words = [
            "network", "create", "--ipv6", "--subnet", &subnet, "-o", &four, "-o", &six, name,
        ];
        subject.docker(&words);
    }
    let publish = |network: &'static str, port: u16| {
        let words = [
            format!("--network={network}"),
            format!("-p={port}:80/tcp"),
            format!("-p={port}:80/udp"),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        subject.run(network, &words)
    };
    let nat = publish("nat", 8090);
    let open = publish("open", 8091);
    let direct = publish("direct", 8092);
    subject.switch();
    let world = subject.world;
    let clients = [
        ("itself", &nat.space),
        ("other network", &open.space),
        ("host", &world.host),
        ("neighbour", &world.neighbour),
        ("routed", &world.far),
    ];
    let mut table = Table::new();
    for (family, name) in [(0, "v4"), (1, "v6")] {
        let host: IpAddr = World::HOST[family].parse().unwrap();
        for (client, space) in clients {
            let mut ask =
                |what: &str, at| cell(&mut table, &format!("{name} {what} | {client}"), space, at);
            ask("nat, host's address", (host, 8090));
            ask("routed, host's address", (host, 8092));
            for (mode, place) in [("nat", &nat), ("unprotected", &open), ("routed", &direct)] {
                let address = place.addresses[family].unwrap();
                ask(&format!("{mode}, published"), (address, 80));
                ask(&format!("{mode}, unpublished"), (address, 81));
            }
        }
    }
    table
}

/// The same for both families.
const MODERN: &[(&str, &str)] = &[
    ("nat, host's address | itself", "yes"),
    ("nat, host's address | other network", "yes"),
    ("nat, host's address | host", "yes"),
    ("nat, host's address | neighbour", "yes"),
    ("nat, host's address | routed", "yes"),
    ("nat, published | itself", "yes"),
    ("nat, published | other network", "no"),
    ("nat, published | host", "yes"),
    ("nat, published | neighbour", "no"),
    ("nat, published | routed", "no"),
    ("nat, unpublished | itself", "yes"),
    ("nat, unpublished | other network", "no"),
    ("nat, unpublished | host", "yes"),
    ("nat, unpublished | neighbour", "no"),
    ("nat, unpublished | routed", "no"),
    ("routed, host's address | itself", "no"),
    ("routed, host's address | other network", "no"),
    ("routed, host's address | host", "no"),
    ("routed, host's address | neighbour", "no"),
    ("routed, host's address | routed", "no"),
    ("routed, published | itself", "yes"),
    ("routed, published | other network", "yes"),
    ("routed, published | host", "yes"),
    ("routed, published | neighbour", "yes"),
    ("routed, published | routed", "yes"),
    ("routed, unpublished | itself", "no"),
    ("routed, unpublished | other network", "no"),
    ("routed, unpublished | host", "yes"),
    ("routed, unpublished | neighbour", "no"),
    ("routed, unpublished | routed", "no"),
    ("unprotected, published | itself", "no"),
    ("unprotected, published | other network", "yes"),
    ("unprotected, published | host", "yes"),
    ("unprotected, published | neighbour", "yes"),
    ("unprotected, published | routed", "yes"),
    ("unprotected, unpublished | itself", "no"),
    ("unprotected, unpublished | other network", "yes"),
    ("unprotected, unpublished | host", "yes"),
    ("unprotected, unpublished | neighbour", "yes"),
    ("unprotected, unpublished | routed", "yes"),
];

fn gateway_modes_hold((before, after): (bool, bool)) {
    let world = World::new().unwrap();
    filter_bridges(&world, before);
    let flags = ["--default-address-pool=base=10.216.0.0/16,size=24"];
    let daemon = daemon_in(&world, &flags);
    let subject = Subject {
        world: &world,
        host: daemon.host(),
        switch: (before != after).then_some(after),
    };
    let mut wanted = Table::new();
    for family in ["v4", "v6"] {
        wanted.extend(
            MODERN
                .iter()
                .map(|(row, text)| (format!("{family} {row}"), (*text).to_owned())),
        );
    }
    assert_eq!(modern(&subject), wanted);
}

#[test]
fn gateway_modes_hold_on_both_families() {
    gateway_modes_hold((false, false));
}

#[test]
fn gateway_modes_hold_where_bridged_frames_pass_the_rules() {
    if can_filter_bridges() {
        gateway_modes_hold((true, true));
    }
}

#[test]
fn gateway_modes_hold_when_that_changes() {
    if can_filter_bridges() {
        gateway_modes_hold((false, true));
        gateway_modes_hold((true, false));
    }
}

/// Rules of others come and go; ours stay.
#[test]
fn cve_2025_54388_and_54410_other_firewalls_reload() {
    let world = World::new().unwrap();
    let daemon = daemon_in(&world, &[]);
    let subject = Subject {
        world: &world,
        host: daemon.host(),
        switch: None,
    };
    let before = classic(&subject);
    // What firewalld, ufw and libvirt do: their own tables go and come back, the old ones of iptables are emptied.
    let reload = "table inet firewalld\ndelete table inet firewalld\ntable inet firewalld { chain filter_INPUT { \
                  type filter hook input priority 10; policy accept; ct state established accept; iifname \"lo\" accept; }\n }";
    for _ in 0..2 {
        world
            .host
            .run("nft", &[&reload.replace("\\n", "\n")])
            .unwrap();
        for words in [
            "-F",
            "-X",
            "-t nat -F",
            "-t nat -X",
            "-t raw -F",
            "-P FORWARD ACCEPT",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            world.host.run("iptables", &words).unwrap();
            world.host.run("ip6tables", &words).unwrap();
        }
    }
    let cleared = subject.docker(&["ps", "-aq"]);
    let mut words = vec!["rm", "-f"];
    words.extend(cleared.split_whitespace());
    subject.docker(&words);
    subject.docker(&["network", "prune", "-f"]);
    assert_eq!(classic(&subject), before);
    assert_eq!(before, expected(CLASSIC));
}

/// A real dockerd in a namespace.
struct Dockerd {
    child: Child,
    root: tempfile::TempDir,
}

/// Where programs are found: trixie's dockerd and containerd come before the installed ones.
fn path_with_trixie() -> String {
    let docker = from_trixie("docker.io").unwrap().join("usr/sbin");
    let containerd = from_trixie("containerd").unwrap().join("usr/bin");
    let others = std::env::var("PATH").unwrap();
    format!("{}:{}:{others}", docker.display(), containerd.display())
}

impl Dockerd {
    fn start(space: &Space, programs: &str, flags: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_owned();
        let at = |name: &str| path.join(name).to_string_lossy().into_owned();
        std::fs::write(at("daemon.json"), "{}").unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let child = space.inside(|| {
            let mut command = Command::new("env");
            command.args([&format!("PATH={programs}"), "dockerd"]);
            command.args([
                "--config-file",
                &at("daemon.json"),
                "--data-root",
                &at("data"),
            ]);
            command.args(["--exec-root", &at("run"), "--pidfile", &at("pid")]);
            command.args([
                "--default-address-pool",
                "base=10.200.0.0/16,size=24",
                "--bip",
                "10.201.0.1/24",
            ]);
            command.args(["-H", &format!("unix://{}", at("s"))]);
            command.args(flags);
            command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
        });
        let dockerd = Self { child, root };
        let socket = at("s");
        wait_until("dockerd", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        dockerd
    }

    fn host(&self) -> String {
        format!("unix://{}", self.root.path().join("s").display())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let docker = |words: &[&str]| {
            Command::new("docker")
                .args(words)
                .env("DOCKER_HOST", self.host())
                .output()
        };
        if let Ok(list) = docker(&["ps", "-aq"]) {
            for id in String::from_utf8_lossy(&list.stdout).split_whitespace() {
                let _ = docker(&["rm", "-f", id]);
            }
        }
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// What Docker 20.10 and 26.1 do otherwise. Where forwarding was on before it started, it lets everybody who routes to a container
/// reach all of its ports (closed in 28, moby#14041, moby#48724). Datagrams of containers to a port published on the host
/// end in its proxy process, whose answers come from another address.
const BEFORE_28: &[(&str, &str)] = &[
    ("published, container's address | neighbour", "yes"),
    ("published, container's address | routed", "yes"),
    ("unpublished, container's address | neighbour", "yes"),
    ("unpublished, container's address | routed", "yes"),
    ("published, host's address | itself", "tcp yes udp no"),
    ("published, host's address | same network", "tcp yes udp no"),
    (
        "published, host's address | other network",
        "tcp yes udp no",
    ),
];

/// What Docker 26.1 does otherwise than 28 on both families.
const NAT_BEFORE_28: &[(&str, &str)] = &[
    ("nat, published | neighbour", "yes"),
    ("nat, published | routed", "yes"),
    ("nat, host's address | itself", "tcp yes udp no"),
    ("nat, host's address | other network", "tcp yes udp no"),
];

/// And on IPv4 only, whose forwarding was on before it started.
const NAT_V4_BEFORE_28: &[(&str, &str)] = &[
    ("nat, unpublished | neighbour", "yes"),
    ("nat, unpublished | routed", "yes"),
];

/// Does something with a real dockerd of a version.
fn with_dockerd((version, path): (&str, &str), flags: &[&str], work: impl FnOnce(&Subject<'_>)) {
    let world = World::new().unwrap();
    let dockerd = Dockerd::start(&world.host, path, flags);
    let subject = Subject {
        world: &world,
        host: dockerd.host(),
        switch: None,
    };
    let own = subject.docker(&["version", "-f", "{{.Server.Version}}"]);
    assert!(own.starts_with(version), "{own}");
    let archive = base_image(BaseImage::Busybox).unwrap();
    subject.docker(&["load", "-q", "-i", &archive.to_string_lossy()]);
    work(&subject);
}

fn agrees(subject: &Subject<'_>) {
    let mut wanted = expected(CLASSIC);
    wanted.extend(expected(BEFORE_28));
    assert_eq!(classic(subject), wanted);
    let [near, _] = World::NEIGHBOUR;
    let [far, _] = World::FAR;
    assert_eq!(sources(subject), expected(&clients(near, far)));
}

#[test]
#[ignore = "needs dockerd 20.10; scripts/test-long runs it"]
fn a_real_dockerd_agrees_but_for_what_docker_changed_since() {
    let path = std::env::var("PATH").unwrap();
    with_dockerd(("20.10.", &path), &[], agrees);
}

#[test]
#[ignore = "fetches dockerd 26.1 from trixie; scripts/test-long runs it"]
fn a_real_dockerd_of_trixie_agrees_but_for_what_docker_changed_since() {
    with_dockerd(("26.1.", &path_with_trixie()), &[], agrees);
}

/// Before 27 a gateway has one mode, which is today's `nat`, and IPv6 is translated by an experiment.
#[test]
#[ignore = "fetches dockerd 26.1 from trixie; scripts/test-long runs it"]
fn a_real_dockerd_of_trixie_agrees_on_both_families() {
    let flags = ["--experimental", "--ip6tables"];
    with_dockerd(("26.1.", &path_with_trixie()), &flags, |subject| {
        let mut found = modern(subject);
        found.retain(|row, _| row.contains(" nat, "));
        let mut wanted = Table::new();
        for (family, others) in [("v4", NAT_V4_BEFORE_28), ("v6", &[])] {
            let today = MODERN.iter().filter(|(row, _)| row.starts_with("nat, "));
            let rows = today.chain(NAT_BEFORE_28).chain(others);
            wanted.extend(rows.map(|(row, text)| (format!("{family} {row}"), (*text).to_owned())));
        }
        assert_eq!(found, wanted);
    });
}
