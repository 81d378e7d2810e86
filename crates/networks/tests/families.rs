//! IPv6: where a network has it, and where it has not.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cais_networks::netlink::{Socket, link, route};
use cais_networks::{Config, EndpointRequest, Live, NetworkRequest, PoolRequest};
use ipnet::IpNet;

use crate::host::{container, eventually, inside, on_host, output, request};

fn six(name: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.to_owned(),
        ipv6: Some(true),
        ..NetworkRequest::default()
    }
}

fn on(network: &str, number: u8) -> cais_networks::SandboxRequest {
    let mut wanted = request(number, &[]);
    wanted.endpoints = [(network.to_owned(), EndpointRequest::default())].into();
    wanted
}

fn addresses(netns: &OwnedFd) -> Vec<String> {
    inside(netns, || {
        let found = route::addresses(&Socket::route().unwrap()).unwrap();
        let found = found.into_iter().filter(|(index, _)| *index != 1);
        found.map(|(_, net)| net.to_string()).collect()
    })
}

#[test]
fn moby_41703_an_ipv6_network_has_a_unique_local_subnet_that_stays() {
    on_host(|host| {
        let store = host.store();
        store.create_network(&six("six")).unwrap();
        store.create_network(&six("other")).unwrap();
        let subnet = |store: &cais_networks::Store, name: &str| {
            let record = store.inspect(name).unwrap().record;
            let pool = record.pools_of(true).next().unwrap().clone();
            (pool.subnet, pool.gateway.unwrap())
        };
        let (net, gateway) = subnet(&store, "six");
        assert_eq!(net.prefix_len(), 64);
        assert!(net.to_string().starts_with("fd"), "{net}");
        let (other, _) = subnet(&store, "other");
        let range = |net: IpNet| IpNet::new(net.addr(), 48).unwrap().trunc();
        assert_eq!(range(net), range(other), "one range per daemon");
        assert_ne!(net, other);

        let one = store.open(&on("six", 1)).unwrap();
        let two = store.open(&on("six", 2)).unwrap();
        let endpoint = &one.endpoints["six"];
        assert_eq!(endpoint.gateway_v6, Some(gateway));
        let address = endpoint.address_v6.unwrap().addr();
        // Usable at once: there is no duplicate address detection.
        let listener = inside(&one.netns, || TcpListener::bind((address, 80)).unwrap());
        inside(&two.netns, || {
            let there = (address, 80).into();
            std::net::TcpStream::connect_timeout(&there, Duration::from_secs(2)).unwrap();
            let routes = route::routes(&Socket::route().unwrap()).unwrap();
            let mut defaults = routes
                .iter()
                .filter(|one| one.destination.prefix_len() == 0);
            assert!(
                defaults.any(|one| one.gateway == Some(gateway)),
                "{routes:?}"
            );
        });
        // The host reaches it as well.
        std::net::TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(2))
            .unwrap();
        drop((listener, store));
        assert_eq!(subnet(&host.store(), "six"), (net, gateway));
    });
}

#[test]
fn moby_48237_ipv4_can_be_switched_off() {
    on_host(|host| {
        let store = host.store();
        let wanted = NetworkRequest {
            ipv4: Some(false),
            ..six("six")
        };
        store.create_network(&wanted).unwrap();
        let one = store.open(&on("six", 1)).unwrap();
        assert_eq!(one.endpoints["six"].address, None);
        let all = addresses(&one.netns);
        assert!(all.iter().all(|text| text.contains(':')), "{all:?}");
        let neither = NetworkRequest {
            ipv4: Some(false),
            ipv6: Some(false),
            ..six("neither")
        };
        let error = store.create_network(&neither).unwrap_err();
        assert_eq!(error.to_string(), "IPv4 or IPv6 must be enabled");
    });
}

#[test]
fn the_default_bridge_may_have_ipv6() {
    on_host(|host| {
        let config = Config {
            ipv6: true,
            fixed_cidr_v6: Some("fd00:88::/64".parse().unwrap()),
            default_gateway: Some("10.88.0.254".parse().unwrap()),
            ..host.config()
        };
        let store = host.store_with(config);
        let one = store.open(&request(1, &[])).unwrap();
        let endpoint = &one.endpoints["bridge"];
        assert_eq!(endpoint.address_v6.unwrap().to_string(), "fd00:88::2/64");
        assert_eq!(endpoint.gateway_v6.unwrap().to_string(), "fd00:88::1");
        assert_eq!(endpoint.gateway.unwrap().to_string(), "10.88.0.254");
        let shown = output("ip", &["-6", "addr", "show", "dev", "test0"]);
        assert!(shown.contains("fd00:88::1/64"), "{shown}");
        drop(store);
        // Without it again, a later daemon takes the address from the bridge.
        let store = host.store();
        assert!(
            store
                .inspect("bridge")
                .unwrap()
                .record
                .pools_of(true)
                .next()
                .is_none()
        );
        let shown = output("ip", &["-6", "addr", "show", "dev", "test0"]);
        assert!(!shown.contains("fd00:88"), "{shown}");
    });
}

/// CVE-2024-32473: interfaces had IPv6 although their network has only IPv4.
#[test]
fn cve_2024_32473_no_ipv6_on_interfaces_of_ipv4_networks() {
    on_host(|host| {
        let store = host.store();
        store.create_network(&six("six")).unwrap();
        let one = store.open(&request(1, &[])).unwrap();
        assert_eq!(addresses(&one.netns), ["10.88.0.2/24"]);
        let both = store.open(&on("six", 2)).unwrap();
        let id = container(2);
        let live = Live {
            container: &id,
            name: "c2",
            netns: both.netns.as_fd(),
        };
        store
            .connect(&live, "bridge", &EndpointRequest::default())
            .unwrap();
        inside(&both.netns, || {
            let read = |name: &str| {
                let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
                std::fs::read_to_string(path).unwrap()
            };
            assert_eq!(
                (read("eth0").as_str(), read("eth1").as_str()),
                ("0\n", "1\n")
            );
            let shown = output("ip", &["-6", "addr", "show", "dev", "eth1"]);
            assert_eq!(shown, "");
        });
    });
}

/// CVE-2020-13401: a container sent router advertisements, and the host took routes and addresses from them.
#[test]
fn cve_2020_13401_router_advertisements_from_containers_change_nothing() {
    on_host(|host| {
        let store = host.store();
        store.create_network(&six("six")).unwrap();
        let bridge = store.inspect("six").unwrap().record.bridge.unwrap().name;
        let (one, two) = (
            store.open(&on("six", 1)).unwrap(),
            store.open(&on("six", 2)).unwrap(),
        );
        let routes = || output("ip", &["-6", "route"]) + &output("ip", &["-6", "addr"]);
        let settled = |text: &str| !text.contains("tentative");
        eventually("link-local addresses are settled", || {
            settled(&routes()) && settled(&inside(&one.netns, || output("ip", &["-6", "addr"])))
        });
        let strip = |text: String| {
            let lines = text.lines().filter(|line| !line.contains("valid_lft"));
            // Duplicate address detection ends in its own time.
            let text = lines.collect::<Vec<_>>().join("\n");
            text.replace(" tentative", "")
        };
        let before = strip(routes());
        let before_two = strip(inside(&two.netns, routes));
        inside(&one.netns, advertise);
        // A sure sign that the advertisement is through: what was sent after it has arrived.
        inside(&one.netns, || {
            let gateway = store.inspect("six").unwrap().record;
            let gateway = gateway.pools_of(true).next().unwrap().gateway.unwrap();
            let there = (gateway, 9).into();
            let refused = std::net::TcpStream::connect_timeout(&there, Duration::from_secs(5));
            let kind = refused.unwrap_err().kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
        });
        assert_eq!(strip(routes()), before);
        assert_eq!(strip(inside(&two.netns, routes)), before_two);
        let read = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{bridge}/accept_ra"));
        assert_eq!(read.unwrap(), "0\n");
        let index = link::find(&Socket::route().unwrap(), &bridge)
            .unwrap()
            .unwrap();
        assert!(index.up);
    });
}

/// Sends a router advertisement with a prefix and a default route out of `eth0` (RFC 4861 §4.2).
fn advertise() {
    let script = r"
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
index = socket.if_nametoindex('eth0')
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
head = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 7200, 7200, 0) + socket.inet_pton(socket.AF_INET6, '2001:db8:bad::')
for _ in range(3):
    s.sendto(head + prefix, ('ff02::1', 0, 0, index))
";
    output("python3", &["-c", script]);
}

#[test]
fn moby_29376_two_hundred_networks_get_subnets_that_avoid_routes_of_the_host() {
    on_host(|host| {
        output("ip", &["route", "add", "172.18.5.0/24", "dev", "wire0"]);
        let store = host.store();
        let mut subnets = std::collections::BTreeSet::new();
        for number in 0..200 {
            let wanted = NetworkRequest {
                name: format!("n{number}"),
                ..NetworkRequest::default()
            };
            store.create_network(&wanted).unwrap();
            let record = store.inspect(&wanted.name).unwrap().record;
            subnets.insert(record.pools[0].subnet.to_string());
        }
        assert_eq!(subnets.len(), 200);
        assert!(!subnets.contains("172.18.5.0/24"));
        assert!(subnets.contains("172.18.6.0/24"));
        for number in 0..200 {
            store.remove_network(&format!("n{number}")).unwrap();
        }
        let bridges = output("ip", &["-o", "link", "show", "type", "bridge"]);
        assert_eq!(bridges.lines().count(), 1, "{bridges}");
    });
}

#[test]
fn configurations_are_kept_for_other_networks() {
    on_host(|host| {
        let store = host.store();
        let config = NetworkRequest {
            config_only: true,
            pools: vec![PoolRequest {
                subnet: "10.97.0.0/24".to_owned(),
                gateway: "10.97.0.9".to_owned(),
                ..PoolRequest::default()
            }],
            ..NetworkRequest::default()
        };
        let config = NetworkRequest {
            name: "config".to_owned(),
            ..config
        };
        store.create_network(&config).unwrap();
        let error = store.open(&on("config", 1)).unwrap_err();
        assert_eq!(error.to_string(), "config is a configuration-only network");
        let real = NetworkRequest {
            name: "real".to_owned(),
            config_from: Some("config".to_owned()),
            ..NetworkRequest::default()
        };
        store.create_network(&real).unwrap();
        let record = store.inspect("real").unwrap().record;
        assert_eq!(record.pools[0].gateway.unwrap().to_string(), "10.97.0.9");
        let error = store.remove_network("config").unwrap_err();
        assert_eq!(
            error.to_string(),
            "error while removing network: configuration network \"config\" is in use"
        );
        store.remove_network("real").unwrap();
        store.remove_network("config").unwrap();
    });
}
