//! macvlan and ipvlan: children of an interface of the host.

use std::collections::BTreeMap;

use cais_networks::netlink::{Socket, link};
use cais_networks::{EndpointRequest, NetworkRequest, PoolRequest, SandboxRequest};
use cais_types::ErrorClass;

use crate::host::{inside, on_host, output, request, serve, talk};

fn network(driver: &str, name: &str, options: &[(&str, &str)]) -> NetworkRequest {
    NetworkRequest {
        name: name.to_owned(),
        driver: driver.to_owned(),
        pools: vec![PoolRequest {
            subnet: "192.0.2.0/24".to_owned(),
            range: "192.0.2.64/26".to_owned(),
            gateway: "192.0.2.2".to_owned(),
            ..PoolRequest::default()
        }],
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..NetworkRequest::default()
    }
}

fn on(network: &str, number: u8) -> SandboxRequest {
    let mut wanted = request(number, &[]);
    wanted.endpoints = BTreeMap::from([(network.to_owned(), EndpointRequest::default())]);
    wanted
}

fn exists(name: &str) -> bool {
    link::find(&Socket::route().unwrap(), name)
        .unwrap()
        .is_some()
}

#[test]
fn a_macvlan_container_is_a_neighbour_on_the_link() {
    on_host(|host| {
        let store = host.store();
        store
            .create_network(&network("macvlan", "lan", &[("parent", "wire0")]))
            .unwrap();
        let one = store.open(&on("lan", 1)).unwrap();
        let two = store.open(&on("lan", 2)).unwrap();
        let endpoint = &one.endpoints["lan"];
        assert_eq!(endpoint.address.unwrap().to_string(), "192.0.2.64/24");
        assert_eq!(endpoint.gateway.unwrap().to_string(), "192.0.2.2");
        serve(&one.netns, "0.0.0.0", 80);
        // From the neighbour on the link, from another container, and never from the host itself.
        assert_eq!(
            inside(&host.neighbour, || talk("192.0.2.64:80").unwrap()),
            "192.0.2.2"
        );
        assert_eq!(
            inside(&two.netns, || talk("192.0.2.64:80").unwrap()),
            "192.0.2.65"
        );
        assert!(talk("192.0.2.64:80").is_err());
        inside(&one.netns, || {
            let shown = output("ip", &["-d", "link", "show", "dev", "eth0"]);
            assert!(shown.contains("macvlan mode bridge"), "{shown}");
            let mac = format!("link/ether {}", endpoint.mac);
            assert!(shown.contains(&mac), "{mac}: {shown}");
        });
        drop((one, two));
        for number in [1, 2] {
            store.close(&crate::host::container(number)).unwrap();
        }
        store.remove_network("lan").unwrap();
        assert!(exists("wire0"), "the parent is the user's");
    });
}

#[test]
fn private_children_do_not_see_each_other() {
    on_host(|host| {
        let store = host.store();
        let options = [("parent", "wire0"), ("macvlan_mode", "private")];
        store
            .create_network(&network("macvlan", "lan", &options))
            .unwrap();
        let one = store.open(&on("lan", 1)).unwrap();
        let two = store.open(&on("lan", 2)).unwrap();
        serve(&one.netns, "0.0.0.0", 80);
        assert!(inside(&two.netns, || talk("192.0.2.64:80").is_err()));
        assert!(inside(&host.neighbour, || talk("192.0.2.64:80").is_ok()));
        let mut wrong = network(
            "macvlan",
            "odd",
            &[("parent", "wire0"), ("macvlan_mode", "x")],
        );
        wrong.pools.clear();
        assert_eq!(
            store.create_network(&wrong).unwrap_err().to_string(),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
    });
}

#[test]
fn every_mode_is_the_kernels() {
    for mode in ["vepa", "passthru"] {
        on_host(move |host| {
            let store = host.store();
            let options = [("parent", "wire0"), ("macvlan_mode", mode)];
            store
                .create_network(&network("macvlan", "lan", &options))
                .unwrap();
            let one = store.open(&on("lan", 1)).unwrap();
            inside(&one.netns, || {
                let shown = output("ip", &["-d", "link", "show", "dev", "eth0"]);
                assert!(shown.contains(&format!("macvlan mode {mode}")), "{shown}");
            });
            let mut other = network("macvlan", "other", &[("parent", "wire0")]);
            other.pools[0].subnet = "10.9.0.0/24".to_owned();
            other.pools[0].range.clear();
            other.pools[0].gateway.clear();
            let second = store.create_network(&other);
            assert_eq!(second.is_err(), mode == "passthru", "{second:?}");
        });
    }
}

#[test]
fn without_a_parent_the_network_leads_nowhere_and_its_interface_goes_with_it() {
    on_host(|host| {
        let store = host.store();
        let id = store
            .create_network(&network("macvlan", "alone", &[]))
            .unwrap();
        let record = store.inspect("alone").unwrap().record;
        assert!(record.internal);
        let parent = format!("dm-{}", id.short());
        assert!(exists(&parent));
        let one = store.open(&on("alone", 1)).unwrap();
        let two = store.open(&on("alone", 2)).unwrap();
        assert_eq!(one.endpoints["alone"].gateway, None);
        serve(&one.netns, "0.0.0.0", 80);
        assert!(inside(&two.netns, || talk("192.0.2.64:80").is_ok()));
        drop((one, two, store));
        // A later daemon finds it, and makes it again where it is missing.
        output("ip", &["link", "del", &parent]);
        let store = host.store();
        assert!(exists(&parent));
        store.retain(&[]).unwrap();
        store.remove_network("alone").unwrap();
        assert!(!exists(&parent));
        let links = output("ip", &["-o", "link"]);
        assert!(!links.contains("dm"), "{links}");
    });
}

#[test]
fn a_vlan_is_made_for_its_network_and_removed_with_it() {
    on_host(|host| {
        let store = host.store();
        let vlan = network("macvlan", "vlan", &[("parent", "wire0.42")]);
        match store.create_network(&vlan) {
            Err(error) if error.class() == ErrorClass::Unsupported => {
                assert_eq!(error.to_string(), "this kernel has no 802.1Q interfaces");
                eprintln!("skipped: {error}");
                assert!(store.inspect("vlan").is_err());
            }
            other => {
                other.unwrap();
                assert!(output("ip", &["-d", "link", "show", "wire0.42"]).contains("id 42"));
                store.remove_network("vlan").unwrap();
                assert!(!exists("wire0.42"));
            }
        }
        for (parent, text) in [
            (
                "lo",
                "loopback interface is not a valid macvlan parent link",
            ),
            (
                "wire0.4095",
                "vlan id must be between 1-4094, received: 4095",
            ),
            (
                "none0",
                "invalid subinterface vlan name none0, example formatting is eth0.10",
            ),
            (
                "none0.3",
                "failed to find master interface none0 on the host: Link not found",
            ),
        ] {
            let wanted = network("macvlan", "odd", &[("parent", parent)]);
            assert_eq!(store.create_network(&wanted).unwrap_err().to_string(), text);
        }
    });
}

#[test]
fn ipvlan_in_all_modes_where_the_kernel_has_it() {
    for mode in ["l2", "l3", "l3s"] {
        on_host(move |host| {
            let store = host.store();
            let options = [("parent", "wire0"), ("ipvlan_mode", mode)];
            match store.create_network(&network("ipvlan", "lan", &options)) {
                Err(error) if error.class() == ErrorClass::Unsupported => {
                    assert_eq!(error.to_string(), "this kernel has no ipvlan interfaces");
                    eprintln!("skipped: {error}");
                    return;
                }
                other => other.unwrap(),
            };
            let one = store.open(&on("lan", 1)).unwrap();
            let two = store.open(&on("lan", 2)).unwrap();
            serve(&one.netns, "0.0.0.0", 80);
            assert_eq!(
                inside(&two.netns, || talk("192.0.2.64:80").unwrap()),
                "192.0.2.65"
            );
            inside(&one.netns, || {
                let shown = output("ip", &["-d", "link", "show", "dev", "eth0"]);
                assert!(shown.contains(&format!("ipvlan  mode {mode}")), "{shown}");
                let route = output("ip", &["route", "show", "default"]);
                assert_eq!(route.contains("via"), mode == "l2", "{route}");
            });
        });
    }
}
