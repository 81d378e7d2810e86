//! The resolver at 127.0.0.11, asked from inside.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cais_networks::dns::{self, Dns, Member, Settings};
use cais_types::NetworkId;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::host::{Host, container, inside, on_host, output, space_with_loopback};

/// Where every container finds its resolver.
pub const RESOLVER: &str = "127.0.0.11:53";

pub fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(rand_id(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn rand_id() -> u16 {
    std::process::id() as u16 ^ 0x5a5a
}

/// Asks by UDP from the calling thread's namespace.
pub fn exchange(query: &Message, server: &str) -> Message {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    socket.send(&query.to_vec().unwrap()).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

/// Asks by TCP.
fn exchange_tcp(query: &Message, server: &str) -> Message {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    let bytes = query.to_vec().unwrap();
    stream
        .write_all(&(bytes.len() as u16).to_be_bytes())
        .unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

/// The addresses behind a name, asked by UDP.
pub fn addresses(name: &str) -> Vec<String> {
    let answer = exchange(&query(name, RecordType::A), RESOLVER);
    let mut found: Vec<String> = answer
        .answers
        .iter()
        .filter_map(|record| Some(record.data.ip_addr()?.to_string()))
        .collect();
    found.sort();
    found
}

fn network() -> NetworkId {
    NetworkId::from_bytes([9; 32])
}

fn member(number: u8, name: &str) -> Member {
    Member {
        container: container(number),
        names: vec![name.to_owned()],
        addresses: vec![IpAddr::from([10, 9, 0, number])],
    }
}

fn resolver(host: &Host) -> Dns {
    let dns = Dns::new(&host.directory.path().join("resolv.conf")).unwrap();
    dns.change(|directory| {
        directory.join(network(), "net", &member(1, "one"));
        directory.join(network(), "net", &member(2, "two"));
    });
    dns
}

#[test]
fn names_are_answered_by_udp_and_tcp_and_port_53_is_free() {
    on_host(|host| {
        let dns = resolver(&host);
        let space = space_with_loopback();
        let sockets = dns::open_in(std::os::fd::AsFd::as_fd(&space)).unwrap();
        dns.serve(container(1), sockets, Settings::default());
        inside(&space, || {
            assert_eq!(addresses("two."), ["10.9.0.2"]);
            let answer = exchange_tcp(&query("two.net.", RecordType::A), RESOLVER);
            assert_eq!(answer.answers.len(), 1);
            let other = exchange(&query("elsewhere.", RecordType::A), RESOLVER);
            assert_eq!(other.metadata.response_code, ResponseCode::ServFail);
            let _own = (
                TcpListener::bind("0.0.0.0:53").unwrap(),
                UdpSocket::bind("0.0.0.0:53").unwrap(),
            );
            assert_eq!(addresses("two."), ["10.9.0.2"]);
        });
    });
}

#[test]
fn a_next_daemon_opens_the_sockets_again() {
    on_host(|host| {
        let space = space_with_loopback();
        for _ in 0..2 {
            let dns = resolver(&host);
            let sockets = dns::open_in(std::os::fd::AsFd::as_fd(&space)).unwrap();
            dns.serve(container(1), sockets, Settings::default());
            inside(&space, || assert_eq!(addresses("two."), ["10.9.0.2"]));
        }
    });
}

#[test]
fn the_kernel_has_the_resolvers_rules_that_are_printed() {
    on_host(|_| {
        let space = space_with_loopback();
        let sockets = dns::open_in(std::os::fd::AsFd::as_fd(&space)).unwrap();
        let (udp, tcp) = sockets.ports().unwrap();
        let listed = inside(&space, || {
            output("nft", &["list", "table", "ip", "cais-dns"])
        });
        let printed = dns::rule_set(udp, tcp).to_string();
        assert_eq!(
            crate::firewall::normal(&printed),
            crate::firewall::normal(&listed),
            "{printed}\n{listed}"
        );
    });
}

#[test]
fn questions_and_answers_carry_port_53_for_a_container_that_tracks_connections() {
    on_host(|host| {
        let dns = resolver(&host);
        let space = space_with_loopback();
        let sockets = dns::open_in(std::os::fd::AsFd::as_fd(&space)).unwrap();
        dns.serve(container(1), sockets, Settings::default());
        inside(&space, || {
            output(
                "nft",
                &["add table ip own; \
                  add chain ip own output { type filter hook output priority 0; policy drop; }; \
                  add rule ip own output ct state established accept; \
                  add rule ip own output udp dport 53 ct state new accept; \
                  add rule ip own output tcp dport 53 ct state new accept"],
            );
            assert_eq!(addresses("two."), ["10.9.0.2"]);
            let answer = exchange_tcp(&query("two.", RecordType::A), RESOLVER);
            assert_eq!(answer.answers.len(), 1);
        });
    });
}

#[test]
fn ten_thousand_questions_at_once_are_answered() {
    on_host(|host| {
        let dns = resolver(&host);
        let space = space_with_loopback();
        let sockets = dns::open_in(std::os::fd::AsFd::as_fd(&space)).unwrap();
        dns.serve(container(1), sockets, Settings::default());
        let start = std::time::Instant::now();
        inside(&space, || {
            let mut message = query("two.", RecordType::A);
            message.edns = Some(Edns::new());
            let packet = message.to_vec().unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(RESOLVER).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let mut buffer = [0; 512];
            for _ in 0..10_000 / 50 {
                for _ in 0..50 {
                    socket.send(&packet).unwrap();
                }
                for _ in 0..50 {
                    assert!(socket.recv(&mut buffer).unwrap() > 30);
                }
            }
        });
        println!("10000 questions: {:?}", start.elapsed());
    });
}
