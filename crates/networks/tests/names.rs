//! Names in networks that users made: who knows whom, and what is asked outside.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cais_networks::{
    DnsWish, EndpointRequest, Live, NetworkRequest, Sandbox, SandboxRequest, Store,
};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::dns::{RESOLVER, addresses, exchange, query};
use crate::host::{Host, NEIGHBOUR, container, inside, on_host, output, request};

fn network(store: &Store, name: &str, internal: bool) {
    store
        .create_network(&NetworkRequest {
            name: name.to_owned(),
            internal,
            ..NetworkRequest::default()
        })
        .unwrap();
}

fn named(names: &[&str]) -> EndpointRequest {
    EndpointRequest {
        dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..EndpointRequest::default()
    }
}

fn on(number: u8, endpoints: &[(&str, &[&str])]) -> SandboxRequest {
    let endpoints = endpoints
        .iter()
        .map(|(network, names)| ((*network).to_owned(), named(names)));
    SandboxRequest {
        endpoints: endpoints.collect(),
        ..request(number, &[])
    }
}

fn address(sandbox: &Sandbox, network: &str) -> String {
    sandbox.endpoints[network]
        .address
        .unwrap()
        .addr()
        .to_string()
}

fn find(sandbox: &Sandbox, name: &str) -> Vec<String> {
    inside(&sandbox.netns, || addresses(name))
}

/// A resolver in a namespace at an address, port 53: it knows one address for every name, and counts.
fn resolver(
    space: &OwnedFd,
    address: &str,
    answer: [u8; 4],
) -> (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) {
    let socket = inside(space, || UdpSocket::bind((address, 53)).unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let from = Arc::new(Mutex::new(Vec::new()));
    let (count, sources) = (Arc::clone(&asked), Arc::clone(&from));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            sources.lock().unwrap().push(client.ip().to_string());
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let name = message.queries[0].name().clone();
            if message.queries[0].query_type() == RecordType::A {
                let [a, b, c, d] = answer;
                message.add_answer(Record::from_rdata(name, 1, RData::A(A::new(a, b, c, d))));
            }
            socket.send_to(&message.to_vec().unwrap(), client).unwrap();
        }
    });
    (asked, from)
}

fn host_file(host: &Host, text: &str) {
    std::fs::write(host.directory.path().join("resolv.conf"), text).unwrap();
}

#[test]
fn containers_find_each_other_on_shared_networks_only() {
    on_host(|host| {
        let store = host.store();
        network(&store, "front", false);
        network(&store, "back", true);
        let web = store.open(&on(1, &[("front", &["web", "www"])])).unwrap();
        let app = store
            .open(&on(2, &[("front", &["app", "api"]), ("back", &["app"])]))
            .unwrap();
        let db = store
            .open(&on(3, &[("back", &["db", "DB-alias"])]))
            .unwrap();
        assert_eq!(find(&web, "api."), [address(&app, "front")]);
        assert_eq!(find(&app, "db-alias."), [address(&db, "back")]);
        assert_eq!(find(&app, "db.back."), [address(&db, "back")]);
        assert_eq!(find(&db, "app."), [address(&app, "back")]);
        assert!(find(&web, "db.").is_empty());
        assert!(find(&db, "web.").is_empty());
        store.close(&container(3)).unwrap();
        assert!(find(&app, "db.").is_empty());
        let gateway = store.host_gateway().unwrap().to_string();
        assert_eq!(find(&web, "host.docker.internal."), [gateway]);
    });
}

#[test]
fn the_default_bridge_has_no_resolver() {
    on_host(|host| {
        let store = host.store();
        let one = store.open(&on(1, &[("bridge", &["one"])])).unwrap();
        let tables = inside(&one.netns, || output("nft", &["list", "tables"]));
        assert_eq!(tables, "");
    });
}

#[test]
fn names_follow_connect_and_disconnect() {
    on_host(|host| {
        let store = host.store();
        network(&store, "net", false);
        let other = store.open(&on(1, &[("net", &["other"])])).unwrap();
        let late = store.open(&on(2, &[("bridge", &["late"])])).unwrap();
        let id = container(2);
        let live = Live {
            container: &id,
            name: "late",
            netns: late.netns.as_fd(),
        };
        let endpoint = store.connect(&live, "net", &named(&["late"])).unwrap();
        let joined = endpoint.address.unwrap().addr().to_string();
        assert_eq!(find(&other, "late."), [joined]);
        assert_eq!(find(&late, "other."), [address(&other, "net")]);
        store.disconnect(&live, "net").unwrap();
        assert!(find(&other, "late.").is_empty());
    });
}

#[test]
fn a_next_daemon_answers_running_containers() {
    on_host(|host| {
        let store = host.store();
        network(&store, "net", false);
        let one = store.open(&on(1, &[("net", &["one"])])).unwrap();
        let two = store.open(&on(2, &[("net", &["two"])])).unwrap();
        drop(store);
        let store = host.store();
        store.retain(&[container(1), container(2)]).unwrap();
        for (number, sandbox) in [(1, &one), (2, &two)] {
            let id = container(number);
            let live = Live {
                container: &id,
                name: "x",
                netns: sandbox.netns.as_fd(),
            };
            store.adopt(&live).unwrap();
        }
        assert_eq!(find(&one, "two."), [address(&two, "net")]);
        assert_eq!(find(&two, "one."), [address(&one, "net")]);
    });
}

#[test]
fn other_names_are_asked_outside_from_the_container_and_stubs_from_the_host() {
    on_host(|host| {
        host_file(&host, &format!("nameserver {NEIGHBOUR}\n"));
        let (asked, _) = resolver(&host.neighbour, NEIGHBOUR, [203, 0, 113, 1]);
        let own = cais_sys::netns::current().unwrap();
        let (stub, from) = resolver(&own, "127.0.0.53", [203, 0, 113, 2]);
        let store = host.store();
        network(&store, "net", false);
        let one = store.open(&on(1, &[("net", &["one"])])).unwrap();
        assert_eq!(find(&one, "example.org."), ["203.0.113.1"]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        host_file(&host, "nameserver 127.0.0.53\noptions edns0\n");
        thread::sleep(Duration::from_millis(250));
        assert_eq!(
            find(&one, "example.org."),
            ["203.0.113.2"],
            "the file was read again"
        );
        assert_eq!(stub.load(Ordering::SeqCst), 1);
        assert_eq!(*from.lock().unwrap(), ["127.0.0.1"]);
        let mut given = on(2, &[("net", &["two"])]);
        given.dns = DnsWish {
            servers: vec![NEIGHBOUR.to_owned()],
            options: vec!["ndots:2".to_owned()],
            ..DnsWish::default()
        };
        let two = store.open(&given).unwrap();
        assert_eq!(find(&two, "example.org."), ["203.0.113.1"]);
        assert!(find(&two, "intranet.").is_empty(), "ndots keeps it here");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    });
}

/// CVE-2024-29018: a container on internal networks only must not send anything out through the resolver.
#[test]
fn cve_2024_29018_internal_networks_ask_nobody_outside() {
    on_host(|host| {
        host_file(
            &host,
            &format!("nameserver 127.0.0.53\nnameserver {NEIGHBOUR}\n"),
        );
        let (asked, _) = resolver(&host.neighbour, NEIGHBOUR, [203, 0, 113, 1]);
        let own = cais_sys::netns::current().unwrap();
        let (stub, _) = resolver(&own, "127.0.0.53", [203, 0, 113, 2]);
        let store = host.store();
        network(&store, "inner", true);
        network(&store, "outer", false);
        let mut given = on(1, &[("inner", &["one"])]);
        given.dns.servers = vec![NEIGHBOUR.to_owned()];
        let given = store.open(&given).unwrap();
        let plain = store.open(&on(2, &[("inner", &["two"])])).unwrap();
        for sandbox in [&given, &plain] {
            let answer = inside(&sandbox.netns, || {
                exchange(&query("secret.example.org.", RecordType::TXT), RESOLVER)
            });
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            assert!(find(sandbox, "leak.example.org.").is_empty());
        }
        assert_eq!(find(&given, "two."), [address(&plain, "inner")]);
        let id = container(2);
        let live = Live {
            container: &id,
            name: "two",
            netns: plain.netns.as_fd(),
        };
        assert_eq!(
            (asked.load(Ordering::SeqCst), stub.load(Ordering::SeqCst)),
            (0, 0)
        );
        store.connect(&live, "outer", &named(&["two"])).unwrap();
        assert_eq!(find(&plain, "example.org."), ["203.0.113.2"], "now it may");
        store.disconnect(&live, "outer").unwrap();
        assert!(find(&plain, "example.org.").is_empty());
        assert_eq!(stub.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn moby_22185_silent_resolvers_do_not_hold_others_up() {
    on_host(|host| {
        host_file(
            &host,
            &format!("nameserver 192.0.2.99\nnameserver {NEIGHBOUR}\n"),
        );
        let _asked = resolver(&host.neighbour, NEIGHBOUR, [203, 0, 113, 1]);
        let store = host.store();
        network(&store, "net", false);
        let one = store.open(&on(1, &[("net", &["one"])])).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(find(&one, "example.org."), ["203.0.113.1"]);
        let waited = start.elapsed();
        assert!(waited < Duration::from_millis(700), "{waited:?}");
    });
}
