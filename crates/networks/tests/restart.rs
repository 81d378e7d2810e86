//! A daemon dies and another one takes over.

use std::net::TcpListener;

use crate::host::{container, on_host, output, request, serve, talk};

#[test]
fn running_containers_keep_their_ports_and_others_lose_them() {
    on_host(|host| {
        let store = host.store();
        let kept = store.open(&request(1, &[("80/tcp", "", "8080")])).unwrap();
        let gone = store.open(&request(2, &[("80/tcp", "", "8081")])).unwrap();
        serve(&kept.netns, "0.0.0.0", 80);
        let (id, _) = store.find("bridge").unwrap();
        drop(store);

        let store = host.store();
        assert_eq!(talk("127.0.0.1:8080").unwrap(), "10.88.0.1");
        store.retain(&[container(1)]).unwrap();
        assert_eq!(talk("127.0.0.1:8080").unwrap(), "10.88.0.1");
        assert_eq!(store.find("bridge").unwrap().0, id);
        assert!(TcpListener::bind("0.0.0.0:8080").is_err());
        assert!(TcpListener::bind("0.0.0.0:8081").is_ok());
        let rules = output("nft", &["list", "table", "ip", "cais-test"]);
        assert!(rules.contains("8080") && !rules.contains("8081"), "{rules}");
        let ports = output("ip", &["-o", "link", "show", "master", "test0"]);
        assert_eq!(ports.lines().count(), 1, "the stray port is gone: {ports}");
        let next = store.open(&request(3, &[])).unwrap();
        assert_eq!(
            next.endpoints["bridge"].address.unwrap().addr().to_string(),
            "10.88.0.3"
        );
        drop((kept, gone));
    });
}
