//! What others have on the same host goes on as if we were not there.

use std::os::fd::OwnedFd;

use crate::host::{
    HOST, NEIGHBOUR, eventually, inside, on_host, output, request, serve, serve_udp,
    space_with_loopback, talk, talk_udp,
};

/// A machine behind a bridge of somebody else's, as libvirt and LXD have them, routed on both families.
fn machine(neighbour: &OwnedFd) -> OwnedFd {
    let machine = space_with_loopback();
    let ip = |words: &str| output("ip", &words.split(' ').collect::<Vec<_>>());
    ip("link add virbr9 type bridge");
    ip("addr add 10.99.0.1/24 dev virbr9");
    ip("addr add fd99::1/64 dev virbr9 nodad");
    ip("addr add fd98::1/64 dev wire0 nodad");
    ip("link add vnet9 type veth peer name eth0");
    let own = {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), machine.as_raw_fd())
    };
    ip(&format!("link set eth0 netns {own}"));
    ip("link set vnet9 master virbr9 up");
    ip("link set virbr9 up");
    inside(&machine, || {
        for words in [
            "addr add 10.99.0.2/24 dev eth0",
            "addr add fd99::2/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.99.0.1",
            "-6 route add default via fd99::1",
        ] {
            output("ip", &words.split(' ').collect::<Vec<_>>());
        }
    });
    inside(neighbour, || {
        for words in [
            "addr add fd98::2/64 dev wire0 nodad".to_owned(),
            format!("route add 10.99.0.0/24 via {HOST}"),
            "-6 route add fd99::/64 via fd98::1".to_owned(),
        ] {
            output("ip", &words.split(' ').collect::<Vec<_>>());
        }
    });
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
    }
    machine
}

/// moby#39439, moby#48365, moby#52612: virtual machines lost their network when dockerd set FORWARD to DROP, on IPv6 too.
#[test]
fn moby_39439_moby_48365_machines_behind_bridges_of_others_stay_reachable() {
    on_host(|host| {
        let machine = machine(&host.neighbour);
        serve(&machine, "::", 80);
        serve(&host.neighbour, "::", 80);
        let all = || {
            let into = inside(&host.neighbour, || {
                (talk("10.99.0.2:80").is_ok(), talk("[fd99::2]:80").is_ok())
            });
            let out = inside(&machine, || {
                let at = format!("{NEIGHBOUR}:80");
                (talk(&at).is_ok(), talk("[fd98::2]:80").is_ok())
            });
            (into, out)
        };
        let open = ((true, true), (true, true));
        // Addresses of IPv6 take their time.
        eventually("the ways before there is a daemon", || all() == open);
        let mut config = host.config();
        config.ipv6 = true;
        let store = host.store_with(config);
        let web = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        assert_eq!(all(), open, "beside one");
        let rules = output("nft", &["list", "ruleset"]);
        assert!(!rules.contains("policy drop"), "{rules}");
        drop(web);
        store.close(&crate::host::container(1)).unwrap();
        store.destroy().unwrap();
        assert_eq!(all(), open, "and after it");
    });
}

/// moby#26824, moby#49634: rules are nftables of our own; nothing is put where iptables or others look.
#[test]
fn moby_26824_rules_are_in_our_own_table_only() {
    on_host(|host| {
        let store = host.store();
        let _web = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        assert_eq!(output("nft", &["list", "tables"]), "table ip cais-test\n");
    });
}

/// moby#15086: whoever asks a published port is seen under the own address.
#[test]
fn moby_15086_published_ports_see_who_asks() {
    on_host(|host| {
        let store = host.store();
        let ports = [("80/tcp", "", "8080"), ("53/udp", "", "5300")];
        let web = store.open(&request(1, &ports)).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        serve_udp(&web.netns, 53);
        inside(&host.neighbour, || {
            assert_eq!(talk(&format!("{HOST}:8080")).unwrap(), NEIGHBOUR);
            assert_eq!(talk_udp(&format!("{HOST}:5300")).unwrap(), NEIGHBOUR);
        });
    });
}
