//! Each flag that is about networks, and what it does: seen inside a container, in the kernel, or by another command.

use std::process::Command;

use cais_testkit::TestDaemon;

use crate::{CAIS, daemon, inspect, refused};

/// Where the effect is looked for.
#[derive(Clone, Copy)]
enum Look {
    /// By a script in this container.
    In(&'static str, &'static str),
    /// By the host's own programs in the network namespace of the container `one`.
    Netns(&'static str),
    /// By the host's own programs.
    Host(&'static str),
    /// By what a command of ours prints.
    Says(&'static str),
    /// By what a command of ours is refused with.
    Refused(&'static str),
}

use Look::{Host, In, Netns, Refused, Says};

/// A flag, the commands that use it, where to look, and what must be there; behind `!` what must not be there. `RUN` and
/// `BOX` are the beginning and the end of running the container `one`, `SUB` and `SIX` begin addresses that are the
/// test's own, `NET` makes a network of them, `PORT` is a free port, `ID` the id of `net`.
type Row = (&'static str, &'static [&'static str], Look, &'static str);

const ADDRESS: Look = In("one", "ip -o -4 addr show eth0");
const SIX: Look = In("one", "ip -o -6 addr show eth0");
const ROUTE: Look = In("one", "ip route");
const RESOLV: Look = In("one", "cat /etc/resolv.conf");
const HOSTS: Look = In("one", "cat /etc/hosts");
const LISTED: Look = Says("network ls --format {{.Name}}");

#[rustfmt::skip]
const NETWORK: &[Row] = &[
    ("create --attachable", &["network create --attachable net"], Says("network inspect -f {{.Attachable}} net"), "true"),
    ("create --aux-address", &["network create --subnet SUB.0/29 --aux-address a=SUB.2 --aux-address b=SUB.3 net", "RUN --network net BOX"], ADDRESS, "SUB.4/29"),
    ("create --config-from", &["network create --config-only --subnet SUB.0/24 conf", "network create --config-from conf net", "RUN --network net BOX"], ADDRESS, "SUB.2/24"),
    ("create --config-only", &["network create --config-only --subnet SUB.0/24 net"], Host("ip -o route"), "!SUB.0/24"),
    ("create --driver", &["network create --driver macvlan --subnet SUB.0/24 net", "RUN --network net BOX"], Netns("ip -d -o link show eth0"), "macvlan mode bridge"),
    ("create --gateway", &["network create --subnet SUB.0/24 --gateway SUB.254 net", "RUN --network net BOX"], ROUTE, "default via SUB.254 dev eth0"),
    ("create --ingress", &[], Refused("network create --ingress net"), "Ingress network can only be global scope network"),
    ("create --internal", &["network create --internal net", "RUN --network net BOX"], ROUTE, "!default"),
    ("create --ip-range", &["network create --subnet SUB.0/24 --ip-range SUB.128/25 net", "RUN --network net BOX"], ADDRESS, "SUB.129/24"),
    ("create --ipam-driver", &["network create --ipam-driver null net", "RUN --network net BOX"], ADDRESS, "!inet"),
    ("create --ipam-opt", &["network create --ipam-opt a=b net"], Says("network inspect -f {{.IPAM.Options}} net"), "map[a:b]"),
    ("create --ipv4", &["network create --ipv4=false --ipv6 net", "RUN --network net BOX"], ADDRESS, "!inet"),
    ("create --ipv6", &["network create --ipv6 --subnet SIX/64 net", "RUN --network net BOX"], SIX, "SIX2/64"),
    ("create --label", &["network create --label a=b net"], Says("network ls --filter label=a=b --format {{.Name}}"), "net"),
    ("create --opt", &["network create --opt com.docker.network.driver.mtu=1400 net", "RUN --network net BOX"], In("one", "ip link show eth0"), "mtu 1400"),
    ("create --scope", &[], Refused("network create --scope swarm net"), "cannot create a swarm scoped network when swarm is not active"),
    ("create --subnet", &["network create --subnet SUB.0/24 net", "RUN --network net BOX"], ADDRESS, "SUB.2/24"),
    ("connect --alias", &["NET", "RUN BOX", "network connect --alias other net one", "run -d --name two --network net BOX"], In("two", "nslookup other"), "Address: SUB.2"),
    ("connect --driver-opt", &["NET", "RUN BOX", "network connect --driver-opt com.docker.network.endpoint.ifname=port7 net one"], In("one", "ip link"), "port7"),
    ("connect --gw-priority", &["NET", "RUN BOX", "network connect --gw-priority 1 net one"], ROUTE, "default via SUB.1"),
    ("connect --ip", &["NET", "RUN BOX", "network connect --ip SUB.77 net one"], In("one", "ip -o -4 addr show eth1"), "SUB.77/24"),
    ("connect --ip6", &["NET", "RUN BOX", "network connect --ip6 SIX77 net one"], In("one", "ip -o -6 addr show eth1"), "SIX77/64"),
    ("connect --link", &["NET", "RUN BOX", "run -d --name two --network net BOX", "network connect --link two:db net one"], In("one", "nslookup db"), "Address: SUB.2"),
    ("connect --link-local-ip", &["NET", "RUN BOX", "network connect --link-local-ip 169.254.7.7 net one"], In("one", "ip -o -4 addr show eth1"), "169.254.7.7/16"),
    ("disconnect --force", &["NET", "RUN --network net BOX", "network disconnect --force net one"], In("one", "ip link"), "!eth0"),
    ("inspect --format", &["NET"], Says("network inspect --format {{.Id}} net"), "ID"),
    ("inspect --verbose", &["NET"], Says("network inspect --verbose net"), "\"Name\": \"net\""),
    ("ls --filter", &["NET"], Says("network ls --filter driver=null --format {{.Name}}"), "!net"),
    ("ls --format", &["NET"], LISTED, "net"),
    ("ls --no-trunc", &["NET"], Says("network ls --no-trunc"), "ID"),
    ("ls --quiet", &["NET"], Says("network ls --quiet"), "!NAME"),
    ("prune --filter", &["NET", "network prune --force --filter label=x"], LISTED, "net"),
    ("prune --force", &["NET", "network prune --force"], LISTED, "!net"),
    ("rm --force", &["NET", "network rm --force net nothing"], LISTED, "!net"),
];

#[rustfmt::skip]
const RUN: &[Row] = &[
    ("--network", &["NET", "RUN --network net BOX"], ADDRESS, "SUB.2/24"),
    ("--network host", &["RUN --network host BOX"], In("one", "ip -o link"), "lo:"),
    ("--network none", &["RUN --network none BOX"], In("one", "ip -o link"), "!eth0"),
    ("--network container", &["run -d --name two BOX", "RUN --network container:two BOX"], HOSTS, "localhost"),
    ("--network ip", &["NET", "RUN --network name=net,ip=SUB.9 BOX"], ADDRESS, "SUB.9/24"),
    ("--network ip6", &["NET", "RUN --network name=net,ip6=SIX9 BOX"], SIX, "SIX9/64"),
    ("--network alias", &["NET", "RUN --network name=net,alias=other BOX"], In("one", "nslookup other"), "Address: SUB.2"),
    ("--network mac-address", &["NET", "RUN --network name=net,mac-address=02:42:ac:11:00:99 BOX"], In("one", "ip link show eth0"), "02:42:ac:11:00:99"),
    ("--network driver-opt", &["NET", "RUN --network name=net,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 BOX"], In("one", "cat /proc/sys/net/ipv4/conf/eth0/log_martians"), "1"),
    ("--network gw-priority", &["NET", "network create first", "RUN --network first --network name=net,gw-priority=1 BOX"], ROUTE, "default via SUB.1"),
    ("--network link-local-ip", &["NET", "RUN --network name=net,link-local-ip=169.254.7.7 BOX"], ADDRESS, "169.254.7.7/16"),
    ("--net", &["NET", "RUN --net net BOX"], ADDRESS, "SUB.2/24"),
    ("--network-alias", &["NET", "RUN --network net --network-alias other BOX"], In("one", "nslookup other"), "Address: SUB.2"),
    ("--net-alias", &["NET", "RUN --network net --net-alias other BOX"], In("one", "nslookup other"), "Address: SUB.2"),
    ("--ip", &["NET", "RUN --network net --ip SUB.9 BOX"], ADDRESS, "SUB.9/24"),
    ("--ip6", &["NET", "RUN --network net --ip6 SIX9 BOX"], SIX, "SIX9/64"),
    ("--link-local-ip", &["NET", "RUN --network net --link-local-ip 169.254.7.7 BOX"], ADDRESS, "169.254.7.7/16"),
    ("--mac-address", &["RUN --mac-address 02:42:ac:11:00:99 BOX"], In("one", "ip link show eth0"), "02:42:ac:11:00:99"),
    ("--link", &["run -d --name two BOX", "RUN --link two:db BOX"], HOSTS, "db"),
    ("--dns", &["RUN --dns 10.9.8.7 BOX"], RESOLV, "nameserver 10.9.8.7"),
    ("--dns-search", &["RUN --dns-search quay.example BOX"], RESOLV, "search quay.example"),
    ("--dns-option", &["RUN --dns-option timeout:7 BOX"], RESOLV, "options timeout:7"),
    ("--dns-opt", &["RUN --dns-opt timeout:7 BOX"], RESOLV, "options timeout:7"),
    ("--add-host", &["RUN --add-host quay:10.1.2.3 BOX"], HOSTS, "10.1.2.3\tquay"),
    ("--publish", &["RUN --publish 127.0.0.1:PORT:80 BOX"], Host("nft -n list map ip TABLE published"), "127.0.0.1 . 6 . PORT"),
    ("--publish-all", &["RUN --publish-all --expose 81/udp BOX"], Host("nft -n list map ip TABLE published-anywhere"), ". 81"),
    ("--expose", &["RUN --expose 81/udp BOX"], Says("inspect -f {{.NetworkSettings.Ports|json}} one"), "{\"81/udp\":null}"),
    ("--hostname", &["RUN --hostname quay BOX"], In("one", "hostname"), "quay"),
    ("--domainname", &["RUN --hostname quay --domainname example BOX"], HOSTS, "quay.example quay"),
    ("--sysctl", &["RUN --sysctl net.ipv4.ip_default_ttl=77 BOX"], In("one", "cat /proc/sys/net/ipv4/ip_default_ttl"), "77"),
];

struct Scene {
    daemon: TestDaemon,
    port: u16,
}

impl Scene {
    fn fill(&self, text: &str) -> String {
        let number = self.daemon.subnet().number();
        let id = self
            .daemon
            .cais(&["network", "inspect", "-f", "{{.Id}}", "net"])
            .unwrap_or_default();
        text.replace(
            "NET",
            "network create --ipv6 --subnet SUB.0/24 --subnet SIX/64 net",
        )
        .replace("RUN", "run -d --name one")
        .replace("BOX", "busybox sleep 1000")
        .replace("SUB", &format!("10.217.{number}"))
        .replace("SIX", &format!("fd17:{number:x}::"))
        .replace("PORT", &self.port.to_string())
        .replace("TABLE", &self.daemon.name())
        .replace("ID", id.trim())
    }

    fn cais(&self, text: &str) -> String {
        let text = self.fill(text);
        let words: Vec<&str> = text.split_whitespace().collect();
        self.daemon.cais(&words).unwrap()
    }

    fn look(&self, look: Look) -> String {
        let run = |words: &[&str]| {
            let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        match look {
            In(container, script) => {
                let args = ["exec", container, "sh", "-c", script];
                self.daemon.cais(&args).unwrap()
            }
            Netns(command) => {
                let pid = inspect(&self.daemon, "one", "{{.State.Pid}}");
                let enter = ["nsenter", "-n", "-t", &pid];
                let words: Vec<&str> = enter.into_iter().chain(command.split(' ')).collect();
                run(&words)
            }
            Host(command) => {
                let command = self.fill(command);
                run(&command.split(' ').collect::<Vec<_>>())
            }
            Says(command) => self.cais(command),
            Refused(command) => {
                let words: Vec<&str> = command.split(' ').collect();
                refused(&self.daemon, &words)
            }
        }
    }

    /// What is wrong with a row.
    fn check(&self, row: &Row) -> Option<String> {
        let (flag, commands, look, want) = row;
        for command in *commands {
            self.cais(command);
        }
        let seen = self.look(*look);
        let want = self.fill(want);
        let right = match want.strip_prefix('!') {
            Some(not) => !seen.contains(not),
            None => seen.contains(&want),
        };
        self.clear();
        (!right).then(|| format!("{flag}: want {want:?}, see {seen:?}"))
    }

    fn clear(&self) {
        for container in self.cais("ps -aq").split_whitespace() {
            self.cais(&format!("rm -f {container}"));
        }
        for name in ["net", "conf", "first"] {
            self.cais(&format!("network rm -f {name}"));
        }
    }
}

fn check_all(rows: &[Row]) {
    let daemon = daemon();
    let port = crate::networks::free_ports(&daemon, 1);
    let scene = Scene { daemon, port };
    let wrong: Vec<String> = rows.iter().filter_map(|row| scene.check(row)).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn flags_of_network_commands_do_what_they_say() {
    check_all(NETWORK);
    for verb in [
        "create",
        "connect",
        "disconnect",
        "inspect",
        "ls",
        "prune",
        "rm",
    ] {
        let help = Command::new(CAIS)
            .args(["network", verb, "--help"])
            .output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let flags = help.lines().filter_map(|line| {
            let (_, rest) = line
                .split_once("  --")
                .or_else(|| line.split_once(", --"))?;
            rest.split_whitespace().next()
        });
        let flags: Vec<&str> = flags.filter(|flag| *flag != "help").collect();
        assert!(!flags.is_empty(), "{help}");
        for flag in flags {
            let row = format!("{verb} --{flag}");
            let found = NETWORK.iter().any(|(name, ..)| *name == row);
            assert!(found, "{row} has no row");
        }
    }
}

#[test]
fn network_flags_of_run_do_what_they_say() {
    check_all(RUN);
}
