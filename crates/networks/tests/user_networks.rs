//! Networks that users make.

use std::collections::BTreeMap;

use cais_networks::{EndpointRequest, NetworkRequest, PoolRequest};
use cais_types::ErrorClass;

use crate::host::{container, inside, on_host, output, request, serve, talk};

fn wanted(name: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.to_owned(),
        ..NetworkRequest::default()
    }
}

#[test]
fn user_networks_are_apart_and_can_be_removed() {
    on_host(|host| {
        let store = host.store();
        store.create_network(&wanted("front")).unwrap();
        let back = NetworkRequest {
            pools: vec![PoolRequest {
                subnet: "10.99.0.0/24".to_owned(),
                ..PoolRequest::default()
            }],
            internal: true,
            ..wanted("back")
        };
        store.create_network(&back).unwrap();
        assert_eq!(
            store.create_network(&back).unwrap_err().class(),
            ErrorClass::Conflict
        );
        let overlap = NetworkRequest {
            name: "overlap".to_owned(),
            ..back
        };
        assert_eq!(
            store.create_network(&overlap).unwrap_err().class(),
            ErrorClass::Forbidden
        );

        let mut both = request(1, &[]);
        both.endpoints = ["front", "back"]
            .map(|name| (name.to_owned(), EndpointRequest::default()))
            .into();
        let both = store.open(&both).unwrap();
        assert_eq!(
            both.endpoints["front"].address.unwrap().addr().to_string(),
            "172.17.0.2"
        );
        assert_eq!(
            both.endpoints["back"].address.unwrap().addr().to_string(),
            "10.99.0.2"
        );
        assert_eq!(both.endpoints["back"].gateway, None);
        serve(&both.netns, "0.0.0.0", 80);
        let mut inner = request(2, &[]);
        inner.endpoints = BTreeMap::from([("back".to_owned(), EndpointRequest::default())]);
        let inner = store.open(&inner).unwrap();
        assert_eq!(
            inside(&inner.netns, || talk("10.99.0.2:80").unwrap()),
            "10.99.0.3"
        );
        let other = store.open(&request(3, &[])).unwrap();
        inside(&other.netns, || {
            assert!(talk("172.17.0.2:80").is_err(), "another network")
        });

        let error = store.remove_network("front").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("error while removing network: network front id ")
                && text.contains(" has active endpoints (name:\"c1\" id:\""),
            "{text}"
        );
        let list: Vec<_> = store
            .list()
            .into_iter()
            .map(|one| one.record.name)
            .collect();
        assert_eq!(list, ["back", "bridge", "front", "host", "none"]);
        for number in 1..=3 {
            store.close(&container(number)).unwrap();
        }
        store.remove_network("front").unwrap();
        store.remove_network("back").unwrap();
        assert_eq!(
            store.inspect("front").unwrap_err().to_string(),
            "network front not found"
        );
        assert_eq!(
            store.remove_network("bridge").unwrap_err().class(),
            ErrorClass::Forbidden
        );
        let bridges = output("ip", &["-o", "link", "show", "type", "bridge"]);
        assert_eq!(bridges.lines().count(), 1, "{bridges}");
    });
}

#[test]
fn an_internal_network_reaches_nothing_outside() {
    on_host(|host| {
        let store = host.store();
        let inner = NetworkRequest {
            internal: true,
            ..wanted("inner")
        };
        store.create_network(&inner).unwrap();
        serve(&host.neighbour, "0.0.0.0", 7000);
        let mut one = request(1, &[]);
        one.endpoints = BTreeMap::from([("inner".to_owned(), EndpointRequest::default())]);
        let one = store.open(&one).unwrap();
        inside(&one.netns, || {
            output("ip", &["route", "add", "default", "via", "172.17.0.1"]);
            assert!(talk("192.0.2.2:7000").is_err());
        });
    });
}
