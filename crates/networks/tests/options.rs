//! Options of the bridge driver: what each does to links, addresses and packets.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use cais_networks::{EndpointRequest, NetworkRequest, PoolRequest, Sandbox, Store};
use cais_types::ErrorClass;

use crate::firewall::agreed;
use crate::host::{HOST, NEIGHBOUR, inside, on_host, output, request, serve, talk};

/// A second address of the host.
const SECOND: &str = "192.0.2.7";

fn wanted(options: &[(&str, &str)]) -> NetworkRequest {
    let option = |(key, value): &(&str, &str)| {
        let key = format!("com.docker.network.{key}");
        (key, (*value).to_owned())
    };
    let mut options: BTreeMap<_, _> = options.iter().map(option).collect();
    let name = "com.docker.network.bridge.name".to_owned();
    options.insert(name, "net0".to_owned());
    NetworkRequest {
        name: "net".to_owned(),
        pools: vec![PoolRequest {
            subnet: "10.9.0.0/24".to_owned(),
            ..PoolRequest::default()
        }],
        options,
        ..NetworkRequest::default()
    }
}

fn open(store: &Store, number: u8, ports: &[(&str, &str, &str)]) -> Sandbox {
    let mut wanted = request(number, ports);
    wanted.endpoints = BTreeMap::from([("net".to_owned(), EndpointRequest::default())]);
    store.open(&wanted).unwrap()
}

/// The only container of the network with these options.
fn only(store: &Store, options: &[(&str, &str)], ports: &[(&str, &str, &str)]) -> Sandbox {
    store.create_network(&wanted(options)).unwrap();
    open(store, 1, ports)
}

/// Who the neighbour thinks it talks to.
fn seen_from(netns: &OwnedFd, neighbour: &OwnedFd) -> String {
    serve(neighbour, "0.0.0.0", 7000);
    inside(netns, || talk(&format!("{NEIGHBOUR}:7000")).unwrap())
}

fn lead_back(neighbour: &OwnedFd) {
    inside(neighbour, || {
        output("ip", &["route", "add", "10.9.0.0/24", "via", HOST])
    });
}

#[test]
fn packets_leave_under_the_address_that_was_chosen() {
    on_host(|host| {
        output("ip", &["addr", "add", "192.0.2.7/24", "dev", "wire0"]);
        let store = host.store();
        let sandbox = only(&store, &[("host_ipv4", SECOND)], &[("80/tcp", "", "8080")]);
        assert_eq!(seen_from(&sandbox.netns, &host.neighbour), SECOND);
        serve(&sandbox.netns, "0.0.0.0", 80);
        let source = inside(&host.neighbour, || talk(&format!("{HOST}:8080")).unwrap());
        assert_eq!(source, NEIGHBOUR, "what comes in keeps its source");
        let own = inside(&sandbox.netns, || talk(&format!("{HOST}:8080")).unwrap());
        assert_eq!(own, "10.9.0.1", "and what comes back has the bridge's");
        assert!(agreed(&store).contains(&format!("snat to {SECOND}")));
    });
}

#[test]
fn packets_of_ipv6_leave_under_the_address_that_was_chosen() {
    on_host(|host| {
        let store = host.store();
        let wrong = wanted(&[("host_ipv4", "fd07::7")]);
        let error = store.create_network(&wrong).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid);
        let text = "failed to parse com.docker.network.host_ipv4 value: fd07::7 (nil ip)";
        assert_eq!(error.to_string(), text);
        let mut six = wanted(&[("host_ipv6", "fd07::7")]);
        six.ipv6 = Some(true);
        store.create_network(&six).unwrap();
        let rules = agreed(&store);
        assert!(
            rules.contains("oifname != \"net0\" snat to fd07::7"),
            "{rules}"
        );
    });
}

#[test]
fn packets_leave_as_they_are_without_masquerading() {
    on_host(|host| {
        let store = host.store();
        lead_back(&host.neighbour);
        let sandbox = only(&store, &[("bridge.enable_ip_masquerade", "false")], &[]);
        assert_eq!(seen_from(&sandbox.netns, &host.neighbour), "10.9.0.2");
    });
}

#[test]
fn ports_are_bound_where_the_network_says() {
    on_host(|host| {
        output("ip", &["addr", "add", "192.0.2.7/24", "dev", "wire0"]);
        let store = host.store();
        let options = [("bridge.host_binding_ipv4", SECOND)];
        let ports = [("80/tcp", "", "8080"), ("81/tcp", HOST, "8081")];
        let sandbox = only(&store, &options, &ports);
        assert_eq!(sandbox.ports["80/tcp"][0].host_ip, SECOND);
        serve(&sandbox.netns, "0.0.0.0", 80);
        serve(&sandbox.netns, "0.0.0.0", 81);
        inside(&host.neighbour, || {
            assert_eq!(talk(&format!("{SECOND}:8080")).unwrap(), NEIGHBOUR);
            assert!(talk(&format!("{HOST}:8080")).is_err());
            assert_eq!(talk(&format!("{HOST}:8081")).unwrap(), NEIGHBOUR);
        });
    });
}

#[test]
fn trusted_interfaces_reach_published_ports_at_the_containers_address() {
    on_host(|host| {
        let store = host.store();
        lead_back(&host.neighbour);
        let options = [("bridge.trusted_host_interfaces", "wire0")];
        let sandbox = only(&store, &options, &[("80/tcp", "", "8080")]);
        serve(&sandbox.netns, "0.0.0.0", 80);
        serve(&sandbox.netns, "0.0.0.0", 81);
        inside(&host.neighbour, || {
            assert_eq!(talk("10.9.0.2:80").unwrap(), NEIGHBOUR);
            assert!(talk("10.9.0.2:81").is_err(), "unpublished");
        });
    });
}

#[test]
fn links_are_as_large_and_called_as_the_network_says() {
    on_host(|host| {
        let store = host.store();
        let options = [
            ("driver.mtu", "1400"),
            ("container_iface_prefix", "port"),
            ("bridge.inhibit_ipv4", "true"),
        ];
        let sandbox = only(&store, &options, &[]);
        let bridge = output("ip", &["-o", "addr", "show", "dev", "net0"]);
        assert!(!bridge.contains("inet 10.9.0.1"), "{bridge}");
        let bridge = output("ip", &["-o", "link", "show", "dev", "net0"]);
        assert!(bridge.contains("mtu 1400"), "{bridge}");
        let own = inside(&sandbox.netns, || output("ip", &["-o", "link"]));
        assert!(own.contains("port0@") && own.contains("mtu 1400"), "{own}");
    });
}

#[test]
fn neighbours_of_a_network_without_icc_do_not_meet() {
    on_host(|host| {
        let store = host.store();
        let one = only(&store, &[("bridge.enable_icc", "false")], &[]);
        let two = open(&store, 2, &[("80/tcp", "", "8080")]);
        serve(&two.netns, "0.0.0.0", 80);
        inside(&one.netns, || {
            assert!(talk("10.9.0.3:80").is_err());
            assert_eq!(talk(&format!("{HOST}:8080")).unwrap(), "10.9.0.1");
        });
    });
}

#[test]
fn auxiliary_addresses_are_nobodys() {
    on_host(|host| {
        let store = host.store();
        let mut small = wanted(&[]);
        small.pools[0] = PoolRequest {
            subnet: "10.9.0.0/29".to_owned(),
            gateway: "10.9.0.1".to_owned(),
            range: "10.9.0.4/30".to_owned(),
            auxiliary: [("router", "10.9.0.5"), ("printer", "10.9.0.4")]
                .map(|(name, address)| (name.to_owned(), address.to_owned()))
                .into(),
        };
        store.create_network(&small).unwrap();
        let one = open(&store, 1, &[]);
        let address = one.endpoints["net"].address.unwrap();
        assert_eq!(address.to_string(), "10.9.0.6/29");
        let mut more = request(2, &[]);
        more.endpoints = BTreeMap::from([("net".to_owned(), EndpointRequest::default())]);
        let text = store.open(&more).unwrap_err().to_string();
        assert!(text.starts_with("no available IPv4 addresses"), "{text}");
    });
}
