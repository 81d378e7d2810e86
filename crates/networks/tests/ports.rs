//! Which host port a container gets, and what is said when it cannot have it.

use std::net::{TcpListener, UdpSocket};

use cais_types::ErrorClass;

use crate::host::{container, on_host, request};

#[test]
fn a_port_of_another_container_is_already_allocated() {
    on_host(|host| {
        let store = host.store();
        let _first = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        let error = store
            .open(&request(2, &[("80/tcp", "127.0.0.1", "8080")]))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "failed to set up container networking: driver failed programming external connectivity on endpoint c2 ("
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                "Bind for 127.0.0.1:8080 failed: port is already allocated by container c1"
            ),
            "{text}"
        );
        store.open(&request(2, &[("80/udp", "", "8080")])).unwrap();
        store.close(&container(1)).unwrap();
        store.open(&request(3, &[("80/tcp", "", "8080")])).unwrap();
    });
}

#[test]
fn a_port_of_another_program_is_in_use_and_ours_is_held() {
    on_host(|host| {
        let store = host.store();
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = store
            .open(&request(1, &[("80/tcp", "", "8080")]))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("failed to bind host port 0.0.0.0:8080/tcp: address already in use by ")
                && text.ends_with(&format!("(process {})", std::process::id())),
            "{text}"
        );
        drop(listener);
        let _sandbox = store
            .open(&request(1, &[("80/tcp", "", "8080"), ("53/udp", "", "53")]))
            .unwrap();
        assert!(TcpListener::bind("127.0.0.1:8080").is_err());
        assert!(UdpSocket::bind("127.0.0.1:53").is_err());
        store.close(&container(1)).unwrap();
        store.settle();
        TcpListener::bind("127.0.0.1:8080").unwrap();
        let away = store
            .open(&request(2, &[("80/tcp", "198.51.100.1", "80")]))
            .unwrap_err();
        assert!(
            away.to_string()
                .ends_with("cannot assign requested address"),
            "{away}"
        );
    });
}

#[test]
fn free_ports_come_from_the_range() {
    on_host(|host| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40100").unwrap();
        let store = host.store();
        let _held = TcpListener::bind("0.0.0.0:9000").unwrap();
        let ports = [
            ("80/tcp", "", ""),
            ("81/tcp", "", "0"),
            ("82/tcp", "", "9000-9002"),
        ];
        let sandbox = store.open(&request(1, &ports)).unwrap();
        let port = |name: &str| sandbox.ports[name][0].host_port.clone();
        assert_eq!(
            (port("80/tcp"), port("81/tcp")),
            ("40000".into(), "40001".into())
        );
        assert_eq!(port("82/tcp"), "9001");
        let more = [("80/tcp", "", "9000-9002"), ("81/tcp", "", "9000-9002")];
        let error = store.open(&request(2, &more)).unwrap_err();
        assert!(
            error.to_string().contains("all ports are allocated"),
            "{error}"
        );
        assert_eq!(sandbox.ports["80/tcp"][0].host_ip, "0.0.0.0");
    });
}

#[test]
fn wrong_wishes_are_refused() {
    on_host(|host| {
        let store = host.store();
        for (port, address, number, class) in [
            ("80/xyz", "", "1", ErrorClass::Invalid),
            ("99999/tcp", "", "1", ErrorClass::Invalid),
            ("80/tcp", "", "9-8", ErrorClass::Invalid),
            ("80/tcp", "nowhere", "9", ErrorClass::Invalid),
            ("80/tcp", "::1", "9", ErrorClass::Unsupported),
        ] {
            let error = store
                .open(&request(1, &[(port, address, number)]))
                .unwrap_err();
            assert_eq!(error.class(), class, "{error}");
        }
    });
}
