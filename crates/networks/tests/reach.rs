//! Who reaches what.

use cais_networks::{EndpointRequest, NetworkRequest, PoolRequest};

use crate::host::{
    HOST, NEIGHBOUR, bridge_netfilter, container, inside, on_host, output, request, serve,
    serve_udp, talk, talk_udp, without_bridge_netfilter,
};

#[test]
fn moby_41872_moby_45610_the_outside_sees_the_host_and_published_ports_only() {
    on_host(|host| {
        let store = host.store();
        let ports = [
            ("80/tcp", "", "8080"),
            ("80/tcp", "127.0.0.1", "8081"),
            ("53/udp", "", "5300"),
        ];
        let web = store.open(&request(1, &ports)).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        serve(&web.netns, "0.0.0.0", 81);
        serve_udp(&web.netns, 53);
        serve(&host.neighbour, "0.0.0.0", 7000);

        let outbound = inside(&web.netns, || talk(&format!("{NEIGHBOUR}:7000")).unwrap());
        assert_eq!(
            outbound, HOST,
            "outbound traffic leaves under the host's address"
        );

        inside(&host.neighbour, || {
            assert_eq!(
                talk(&format!("{HOST}:8080")).unwrap(),
                NEIGHBOUR,
                "published, client seen"
            );
            assert_eq!(talk_udp(&format!("{HOST}:5300")).unwrap(), NEIGHBOUR);
            assert!(
                talk(&format!("{HOST}:8081")).is_err(),
                "published on loopback only"
            );
            output("ip", &["route", "add", "10.88.0.0/24", "via", HOST]);
            assert!(
                talk("10.88.0.2:81").is_err(),
                "unpublished, routed through the host"
            );
            assert!(
                talk("10.88.0.2:80").is_err(),
                "published, but routed around its port"
            );
            std::fs::write("/proc/sys/net/ipv4/conf/wire0/route_localnet", "1").unwrap();
            output("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            output(
                "ip",
                &[
                    "route",
                    "add",
                    "127.0.0.1/32",
                    "via",
                    HOST,
                    "src",
                    NEIGHBOUR,
                ],
            );
            assert!(
                talk("127.0.0.1:8081").is_err(),
                "loopback of the host, from its link"
            );
        });
    });
}

#[test]
fn the_host_reaches_published_ports_without_a_proxy() {
    on_host(|host| {
        let store = host.store();
        let ports = [("80/tcp", "", "8080"), ("80/tcp", "127.0.0.1", "8081")];
        let web = store.open(&request(1, &ports)).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        serve(&web.netns, "0.0.0.0", 81);
        assert_eq!(talk("127.0.0.1:8080").unwrap(), "10.88.0.1");
        assert_eq!(talk("127.0.0.1:8081").unwrap(), "10.88.0.1");
        assert_eq!(talk("127.0.0.9:8080").unwrap(), "10.88.0.1");
        assert_eq!(talk(&format!("{HOST}:8080")).unwrap(), HOST);
        assert!(talk(&format!("{HOST}:8081")).is_err());
        assert_eq!(talk("10.88.0.2:81").unwrap(), "10.88.0.1");
    });
}

#[test]
fn the_host_reaches_ports_of_ipv6_networks_at_its_loopback_address() {
    on_host(|host| {
        without_bridge_netfilter();
        let store = host.store();
        for (number, name) in [(1, "one"), (2, "two")] {
            let pool = PoolRequest {
                subnet: format!("fd0{number}::/64"),
                ..PoolRequest::default()
            };
            store
                .create_network(&NetworkRequest {
                    name: name.to_owned(),
                    pools: vec![pool],
                    ipv6: Some(true),
                    ..NetworkRequest::default()
                })
                .unwrap();
        }
        let on = |network: &str, number: u8, ports: &[(&str, &str, &str)]| {
            let mut wanted = request(number, ports);
            wanted.endpoints = [(network.to_owned(), EndpointRequest::default())].into();
            let sandbox = store.open(&wanted).unwrap();
            serve(&sandbox.netns, "::", 80);
            sandbox
        };
        let ports = [("80/tcp", "", "8080"), ("80/tcp", "::1", "8081")];
        let one = on("one", 1, &ports);
        let _two = on("two", 2, &[("80/tcp", "::1", "8082")]);
        serve(&cais_sys::netns::current().unwrap(), "::1", 9000);
        let reached = || {
            let ports = ["[::1]:8080", "[::1]:8081", "[::1]:8082", "[::1]:9000"];
            ports.map(|at| talk(at).unwrap())
        };
        assert_eq!(reached(), ["fd01::1", "fd01::1", "fd02::1", "::1"]);
        for at in ["[fd01::1]:8081", "[fd01::1]:9000", "[::1]:9000"] {
            let answer = inside(&one.netns, || talk(at));
            assert!(answer.is_err(), "{at} is the host's own: {answer:?}");
        }
        drop(host.store());
        assert_eq!(reached(), ["fd01::1", "fd01::1", "fd02::1", "::1"]);
        store.remove_network("two").unwrap_err();
        store.close(&container(2)).unwrap();
        store.remove_network("two").unwrap();
        assert_eq!(talk("[::1]:8081").unwrap(), "fd01::1");
    });
}

#[test]
fn the_loopback_address_refuses_at_once_with_bridge_netfilter() {
    on_host(|host| {
        bridge_netfilter(true);
        let store = host.store();
        store
            .create_network(&NetworkRequest {
                name: "six".to_owned(),
                ipv6: Some(true),
                ..NetworkRequest::default()
            })
            .unwrap();
        let mut wanted = request(1, &[("80/tcp", "", "8080")]);
        wanted.endpoints = [("six".to_owned(), EndpointRequest::default())].into();
        let web = store.open(&wanted).unwrap();
        serve(&web.netns, "::", 80);
        let error = talk("[::1]:8080").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(talk("127.0.0.1:8080").is_ok());
    });
}

fn published_between_containers(filtered: bool) {
    on_host(move |host| {
        if filtered {
            bridge_netfilter(true);
        } else {
            without_bridge_netfilter();
        }
        let store = host.store();
        let web = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        let other = store.open(&request(2, &[])).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        for space in [&web.netns, &other.netns] {
            for address in [HOST, "10.88.0.1"] {
                let address = format!("{address}:8080");
                assert_eq!(inside(space, || talk(&address).unwrap()), "10.88.0.1");
            }
        }
        assert_eq!(
            inside(&other.netns, || talk("10.88.0.2:80").unwrap()),
            "10.88.0.3"
        );
    });
}

#[test]
fn containers_reach_themselves_and_each_other_through_published_ports() {
    published_between_containers(false);
}

#[test]
fn containers_reach_published_ports_with_bridge_netfilter() {
    published_between_containers(true);
}

fn without_icc(filtered: bool) {
    on_host(move |host| {
        if filtered {
            bridge_netfilter(true);
        } else {
            without_bridge_netfilter();
        }
        let mut config = host.config();
        config.icc = false;
        let store = host.store_with(config);
        let web = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        let other = store.open(&request(2, &[])).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        inside(&other.netns, || {
            assert!(talk("10.88.0.2:80").is_err());
            assert_eq!(talk(&format!("{HOST}:8080")).unwrap(), "10.88.0.1");
        });
    });
}

#[test]
fn without_icc_neighbours_meet_at_published_ports_only() {
    without_icc(false);
}

#[test]
fn without_icc_neighbours_meet_at_published_ports_only_with_bridge_netfilter() {
    without_icc(true);
}

/// Somebody loads or unloads br_netfilter, or sets its switch.
#[test]
fn ports_and_rules_follow_when_bridge_netfilter_is_switched() {
    on_host(|host| {
        bridge_netfilter(false);
        let mut config = host.config();
        config.icc = false;
        let store = host.store_with(config.clone());
        let six = NetworkRequest {
            name: "six".to_owned(),
            ipv6: Some(true),
            ..NetworkRequest::default()
        };
        store.create_network(&six).unwrap();
        let web = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        let other = store.open(&request(2, &[])).unwrap();
        let mut on_six = request(3, &[("80/tcp", "", "8081")]);
        on_six.endpoints = [("six".to_owned(), EndpointRequest::default())].into();
        let both = store.open(&on_six).unwrap();
        serve(&web.netns, "0.0.0.0", 80);
        serve(&both.netns, "::", 80);
        let check = |on: bool| {
            assert_eq!(talk("[::1]:8081").is_err(), on);
            for (space, port) in [(&other, 8080), (&web, 8080), (&both, 8081)] {
                inside(&space.netns, || {
                    talk(&format!("{HOST}:{port}")).unwrap();
                });
            }
            let neighbour = inside(&other.netns, || talk("10.88.0.2:80"));
            assert!(neighbour.is_err(), "{neighbour:?}");
        };
        check(false);
        for on in [true, false] {
            bridge_netfilter(on);
            drop(store.open(&request(9, &[])).unwrap());
            store.close(&container(9)).unwrap();
            check(on);
        }
        bridge_netfilter(true);
        drop(store);
        let store = host.store_with(config);
        check(true);
        store.retain(&[]).unwrap();
    });
}

#[test]
fn a_container_cannot_reach_the_hosts_loopback() {
    on_host(|host| {
        let store = host.store();
        let own = cais_sys::netns::current().unwrap();
        serve(&own, "127.0.0.1", 9000);
        let one = store.open(&request(1, &[])).unwrap();
        inside(&one.netns, || {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            output("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            output(
                "ip",
                &[
                    "route",
                    "add",
                    "127.0.0.1/32",
                    "via",
                    "10.88.0.1",
                    "src",
                    "10.88.0.2",
                ],
            );
            assert!(talk("127.0.0.1:9000").is_err());
        });
        assert_eq!(talk("127.0.0.1:9000").unwrap(), "127.0.0.1");
    });
}
