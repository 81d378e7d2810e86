//! Networks joined and left by a sandbox that is in use.

use std::os::fd::{AsFd, OwnedFd};

use cais_networks::netlink::{Socket, link, route};
use cais_networks::{EndpointRequest, Live, NetworkRequest, PoolRequest};
use cais_types::ContainerId;

use crate::host::{container, inside, on_host, output, request, serve, talk};

fn live<'a>(container: &'a ContainerId, netns: &'a OwnedFd) -> Live<'a> {
    Live {
        container,
        name: "c1",
        netns: netns.as_fd(),
    }
}

fn network(name: &str, subnet: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.to_owned(),
        pools: vec![PoolRequest {
            subnet: subnet.to_owned(),
            ..PoolRequest::default()
        }],
        ..NetworkRequest::default()
    }
}

/// Interface and next hop of the IPv4 default route of a namespace.
fn default_route(netns: &OwnedFd) -> Option<(String, String)> {
    inside(netns, || {
        let socket = Socket::route().unwrap();
        let routes = route::routes(&socket).unwrap();
        let default = routes
            .into_iter()
            .find(|one| one.destination.prefix_len() == 0 && one.destination.addr().is_ipv4())?;
        let name = link::find_index(&socket, default.interface?)
            .unwrap()
            .unwrap();
        Some((name.name, default.gateway?.to_string()))
    })
}

fn interfaces(netns: &OwnedFd) -> Vec<String> {
    inside(netns, || {
        let links = link::list(&Socket::route().unwrap()).unwrap();
        links.into_iter().map(|one| one.name).collect()
    })
}

#[test]
fn a_network_joined_while_running_carries_traffic_until_it_is_left() {
    on_host(|host| {
        let store = host.store();
        store
            .create_network(&network("back", "10.91.0.0/24"))
            .unwrap();
        let one = store.open(&request(1, &[])).unwrap();
        let mut other = request(2, &[]);
        other.endpoints = [("back".to_owned(), EndpointRequest::default())].into();
        let other = store.open(&other).unwrap();
        serve(&other.netns, "0.0.0.0", 80);
        let id = container(1);
        let made = store
            .connect(&live(&id, &one.netns), "back", &EndpointRequest::default())
            .unwrap();
        assert_eq!(made.address.unwrap().to_string(), "10.91.0.3/24");
        assert_eq!(interfaces(&one.netns), ["lo", "eth0", "eth1"]);
        assert_eq!(
            inside(&one.netns, || talk("10.91.0.2:80").unwrap()),
            "10.91.0.3"
        );
        let again = store.connect(&live(&id, &one.netns), "back", &EndpointRequest::default());
        assert_eq!(
            again.unwrap_err().to_string(),
            "endpoint with name c1 already exists in network back"
        );
        assert_eq!(store.inspect("back").unwrap().containers.len(), 2);

        store.disconnect(&live(&id, &one.netns), "back").unwrap();
        assert_eq!(interfaces(&one.netns), ["lo", "eth0"]);
        assert!(inside(&one.netns, || talk("10.91.0.2:80").is_err()));
        let again = store
            .disconnect(&live(&id, &one.netns), "back")
            .unwrap_err();
        assert_eq!(
            again.to_string(),
            format!("container {id} is not connected to network back")
        );
        let ports = output("ip", &["-o", "link", "show", "type", "veth"]);
        assert_eq!(
            ports.lines().filter(|line| line.contains("veth")).count(),
            2,
            "{ports}"
        );
        // The address and the number of the interface are free again.
        let made = store
            .connect(&live(&id, &one.netns), "back", &EndpointRequest::default())
            .unwrap();
        assert_eq!(made.address.unwrap().to_string(), "10.91.0.3/24");
        assert_eq!(interfaces(&one.netns), ["lo", "eth0", "eth1"]);
    });
}

#[test]
fn the_default_route_follows_priorities_then_names() {
    on_host(|host| {
        let store = host.store();
        for (name, subnet) in [
            ("a", "10.91.0.0/24"),
            ("c", "10.93.0.0/24"),
            ("d", "10.94.0.0/24"),
        ] {
            store.create_network(&network(name, subnet)).unwrap();
        }
        let inner = NetworkRequest {
            internal: true,
            ..network("0-inner", "10.95.0.0/24")
        };
        store.create_network(&inner).unwrap();
        let one = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        serve(&one.netns, "0.0.0.0", 80);
        let id = container(1);
        let join = |name: &str, gw_priority: i64| {
            let wanted = EndpointRequest {
                gw_priority,
                ..EndpointRequest::default()
            };
            store
                .connect(&live(&id, &one.netns), name, &wanted)
                .unwrap();
        };
        let is = |interface: &str, gateway: &str| {
            let found = default_route(&one.netns);
            assert_eq!(found, Some((interface.to_owned(), gateway.to_owned())));
            // Published ports lead to the endpoint with the default route.
            let target = gateway.replace(".0.1", ".0.2");
            let rules = output("nft", &["list", "table", "ip", "cais-test"]);
            assert!(
                rules.contains(&format!("{target} . 80")),
                "{target}: {rules}"
            );
            assert!(talk("127.0.0.1:8080").is_ok());
        };
        is("eth0", "10.88.0.1");
        join("c", 0);
        is("eth0", "10.88.0.1");
        join("a", 0);
        is("eth2", "10.91.0.1");
        join("0-inner", 9);
        is("eth2", "10.91.0.1");
        join("d", 5);
        is("eth4", "10.94.0.1");
        store.disconnect(&live(&id, &one.netns), "d").unwrap();
        is("eth2", "10.91.0.1");
        store.disconnect(&live(&id, &one.netns), "a").unwrap();
        is("eth0", "10.88.0.1");
        store.disconnect(&live(&id, &one.netns), "bridge").unwrap();
        is("eth1", "10.93.0.1");
        store.disconnect(&live(&id, &one.netns), "c").unwrap();
        assert_eq!(default_route(&one.netns), None);
    });
}

#[test]
fn a_connect_that_fails_leaves_nothing() {
    on_host(|host| {
        let store = host.store();
        store
            .create_network(&network("back", "10.91.0.0/24"))
            .unwrap();
        let one = store.open(&request(1, &[])).unwrap();
        let id = container(1);
        let sysctl = "net.ipv4.conf.IFNAME.no_such_setting=1".to_owned();
        let wanted = EndpointRequest {
            driver_options: [("com.docker.network.endpoint.sysctls".to_owned(), sysctl)].into(),
            gw_priority: 7,
            ..EndpointRequest::default()
        };
        let error = store
            .connect(&live(&id, &one.netns), "back", &wanted)
            .unwrap_err();
        assert!(error.to_string().contains("no_such_setting"), "{error}");
        assert_eq!(interfaces(&one.netns), ["lo", "eth0"]);
        assert_eq!(default_route(&one.netns).unwrap().1, "10.88.0.1");
        assert!(store.inspect("back").unwrap().containers.is_empty());
        let taken = EndpointRequest {
            address: Some("10.91.0.1".parse().unwrap()),
            ..EndpointRequest::default()
        };
        let error = store
            .connect(&live(&id, &one.netns), "back", &taken)
            .unwrap_err();
        assert_eq!(error.to_string(), "Address already in use");
        let named = EndpointRequest {
            address: Some("10.91.0.2".parse().unwrap()),
            mac: Some([2, 1, 1, 1, 1, 1]),
            link_local: vec!["169.254.7.7".parse().unwrap()],
            driver_options: [
                (
                    "com.docker.network.endpoint.ifname".to_owned(),
                    "lan".to_owned(),
                ),
                (
                    "com.docker.network.endpoint.sysctls".to_owned(),
                    "net.ipv4.conf.IFNAME.log_martians=1".to_owned(),
                ),
            ]
            .into(),
            ..EndpointRequest::default()
        };
        let made = store
            .connect(&live(&id, &one.netns), "back", &named)
            .unwrap();
        assert_eq!(made.mac, "02:01:01:01:01:01");
        inside(&one.netns, || {
            let shown = output("ip", &["addr", "show", "dev", "lan"]);
            for text in ["02:01:01:01:01:01", "10.91.0.2/24", "169.254.7.7/16"] {
                assert!(shown.contains(text), "{text}: {shown}");
            }
            let set = std::fs::read_to_string("/proc/sys/net/ipv4/conf/lan/log_martians");
            assert_eq!(set.unwrap(), "1\n");
        });
    });
}

#[test]
fn what_a_dead_daemon_left_half_done_is_settled() {
    on_host(|host| {
        let store = host.store();
        for (name, subnet) in [
            ("a", "10.91.0.0/24"),
            ("b", "10.92.0.0/24"),
            ("c", "10.93.0.0/24"),
        ] {
            store.create_network(&network(name, subnet)).unwrap();
        }
        let one = store.open(&request(1, &[])).unwrap();
        let first = one.endpoints["bridge"].endpoint_id.clone();
        let id = container(1);
        let join = |name| {
            let made = store.connect(&live(&id, &one.netns), name, &EndpointRequest::default());
            made.unwrap().endpoint_id
        };
        let (told, _untold, lost) = (join("a"), join("b"), join("c"));
        // It died before it made the interface of one and told a client of another.
        inside(&one.netns, || output("ip", &["link", "del", "eth3"]));
        drop(store);

        let store = host.store();
        store.retain(&[id]).unwrap();
        let known = [first.clone(), told.clone(), lost];
        let kept = store.compare(&live(&id, &one.netns), &known).unwrap();
        let kept: Vec<_> = kept
            .endpoints
            .into_iter()
            .map(|one| one.endpoint_id)
            .collect();
        assert_eq!(kept, [first, told]);
        assert_eq!(interfaces(&one.netns), ["lo", "eth0", "eth1"]);
        assert!(store.inspect("b").unwrap().containers.is_empty());
        store.remove_network("b").unwrap();
        store.remove_network("c").unwrap();
    });
}
