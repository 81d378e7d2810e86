//! What a container finds in its namespace, and what is left behind.

use std::thread;
use std::time::Instant;

use cais_networks::netlink::{Socket, link, route};

use crate::host::{container, eventually, inside, on_host, output, request};

#[test]
fn a_container_finds_its_interface_address_and_route() {
    on_host(|host| {
        let store = host.store();
        let mut wanted = request(1, &[]);
        wanted.sysctls = [(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "7".to_owned(),
        )]
        .into();
        let sandbox = store.open(&wanted).unwrap();
        let endpoint = &sandbox.endpoints["bridge"];
        assert_eq!(endpoint.address.unwrap().addr().to_string(), "10.88.0.2");
        assert_eq!(endpoint.gateway.unwrap().to_string(), "10.88.0.1");
        inside(&sandbox.netns, || {
            let socket = Socket::route().unwrap();
            let links = link::list(&socket).unwrap();
            let names: Vec<_> = links
                .iter()
                .map(|one| (one.name.as_str(), one.up))
                .collect();
            assert_eq!(names, [("lo", true), ("eth0", true)]);
            let addresses = route::addresses(&socket).unwrap();
            let texts: Vec<_> = addresses.iter().map(|(_, net)| net.to_string()).collect();
            assert!(texts.contains(&"10.88.0.2/24".to_owned()), "{texts:?}");
            assert!(
                !texts.iter().any(|text| text.starts_with("fe80")),
                "{texts:?}"
            );
            let routes = route::routes(&socket).unwrap();
            let default = routes.iter().find(|one| one.destination.prefix_len() == 0);
            assert_eq!(default.unwrap().gateway, endpoint.gateway);
            let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
            assert_eq!(std::fs::read_to_string(start).unwrap().trim(), "7");
        });
        let port = output("ip", &["-o", "addr", "show", "type", "veth"]);
        assert!(!port.contains("fe80"), "{port}");
    });
}

#[test]
fn interfaces_go_with_the_namespace_and_addresses_come_back() {
    on_host(|host| {
        let store = host.store();
        let first = store.open(&request(1, &[])).unwrap();
        let second = store.open(&request(2, &[])).unwrap();
        assert_eq!(
            second.endpoints["bridge"]
                .address
                .unwrap()
                .addr()
                .to_string(),
            "10.88.0.3"
        );
        drop(first);
        store.close(&container(1)).unwrap();
        store.close(&container(1)).unwrap();
        let veths = || {
            let links = link::list(&Socket::route().unwrap()).unwrap();
            links
                .iter()
                .filter(|one| one.name.starts_with("veth"))
                .count()
        };
        eventually("one veth is left", || veths() == 1);
        let third = store.open(&request(3, &[])).unwrap();
        assert_eq!(
            third.endpoints["bridge"]
                .address
                .unwrap()
                .addr()
                .to_string(),
            "10.88.0.2"
        );
        drop((second, third));
        store.close(&container(2)).unwrap();
        store.close(&container(3)).unwrap();
        eventually("no veth is left", || veths() == 0);
        store.destroy().unwrap();
        assert_eq!(output("nft", &["list", "ruleset"]), "");
        assert!(
            link::find(&Socket::route().unwrap(), "test0")
                .unwrap()
                .is_none()
        );
    });
}

#[test]
fn a_sandbox_without_networks_has_loopback_only() {
    on_host(|host| {
        let store = host.store();
        for network in [None, Some("none".to_owned())] {
            let mut wanted = request(1, &[]);
            wanted.endpoints = network
                .into_iter()
                .map(|name| (name, Default::default()))
                .collect();
            let sandbox = store.open(&wanted).unwrap();
            inside(&sandbox.netns, || {
                let links = link::list(&Socket::route().unwrap()).unwrap();
                assert_eq!(links.len(), 1);
                assert!(links[0].up);
            });
        }
    });
}

#[test]
fn a_failed_open_gives_everything_back() {
    on_host(|host| {
        let store = host.store();
        let mut wanted = request(1, &[("80/tcp", "", "8080")]);
        wanted.sysctls = [("net.no.such.setting".to_owned(), "1".to_owned())].into();
        let error = store.open(&wanted).unwrap_err();
        assert!(
            error.to_string().contains("/proc/sys/net/no/such/setting"),
            "{error}"
        );
        store.settle();
        assert!(!output("nft", &["list", "ruleset"]).contains("8080"));
        let sandbox = store.open(&request(2, &[("80/tcp", "", "8080")])).unwrap();
        assert_eq!(
            sandbox.endpoints["bridge"]
                .address
                .unwrap()
                .addr()
                .to_string(),
            "10.88.0.2"
        );
    });
}

#[test]
fn fifty_at_once_get_fifty_addresses() {
    on_host(|host| {
        let store = host.store();
        let start = Instant::now();
        let single = store.open(&request(200, &[("80/tcp", "", "")])).unwrap();
        println!("first open: {:?}", start.elapsed());
        let start = Instant::now();
        store.close(&container(200)).unwrap();
        println!("close: {:?}", start.elapsed());
        drop(single);
        for number in 201..211 {
            let start = Instant::now();
            let one = store.open(&request(number, &[("80/tcp", "", "")])).unwrap();
            println!("open: {:?}", start.elapsed());
            drop(one);
            let start = Instant::now();
            store.close(&container(number)).unwrap();
            println!("close: {:?}", start.elapsed());
        }
        let start = Instant::now();
        let store = &store;
        let mut sandboxes: Vec<_> = thread::scope(|scope| {
            let opening: Vec<_> = (0..50)
                .map(|number| scope.spawn(move || store.open(&request(number, &[])).unwrap()))
                .collect();
            opening.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let elapsed = start.elapsed();
        println!("50 opened: {elapsed:?}");
        let mut addresses: Vec<_> = sandboxes
            .iter()
            .map(|one| one.endpoints["bridge"].address.unwrap())
            .collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 50);
        let start = Instant::now();
        sandboxes.clear();
        for number in 0..50 {
            store.close(&container(number)).unwrap();
        }
        println!("50 closed: {:?}", start.elapsed());
    });
}
