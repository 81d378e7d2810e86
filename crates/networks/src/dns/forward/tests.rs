//! Between the answers of several resolvers, with sockets of this host for them.

use super::*;
use crate::dns::Place;

const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";

fn resolver() -> (UdpSocket, Upstream) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let upstream = Upstream {
        address: socket.local_addr().unwrap(),
        place: Place::Host,
    };
    (socket, upstream)
}

fn way(upstream: &Upstream) -> io::Result<Way> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(upstream.address)?;
    socket.set_nonblocking(true)?;
    Ok(Way::Datagram(socket))
}

fn forward(resolvers: &[(UdpSocket, Upstream)], now: Instant) -> Forward {
    let question = Question {
        client: (0, 0),
        reply_to: ReplyTo::Stream(0, 0),
        packet: QUERY.to_vec(),
        limit: 512,
    };
    let mut forward = Forward::new(question, now);
    for (_, upstream) in resolvers {
        forward.ask(*upstream, way(upstream));
    }
    forward
}

/// Lets a resolver answer with a code and a number of answers, after a change to the packet.
fn answer(
    (socket, _): &(UdpSocket, Upstream),
    (code, answers): (u8, u8),
    change: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let mut packet = buffer[..length].to_vec();
    packet[2] |= 0x80;
    packet[3] = 0x80 | code;
    packet[7] = answers;
    change(&mut packet);
    socket.send_to(&packet, from).unwrap();
    packet
}

fn answered(decision: &Decision) -> (u8, u8) {
    let Decision::Answer(packet) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(packet[..2], QUERY[..2], "the client's id");
    (packet[3] & 0x0f, packet[7])
}

#[test]
fn the_order_of_resolvers_decides_between_their_answers() {
    let now = Instant::now();
    let resolvers = [resolver(), resolver()];
    let mut forward = forward(&resolvers, now);
    answer(&resolvers[1], (3, 0), |_| ());
    forward.ready(1);
    assert!(
        matches!(forward.decide(now), Decision::Wait(_)),
        "the first may know more"
    );
    answer(&resolvers[0], (0, 1), |packet| {
        packet[13..16].copy_from_slice(b"WwW")
    });
    forward.ready(0);
    assert_eq!(answered(&forward.decide(now)), (0, 1));
}

#[test]
fn a_silent_first_resolver_is_overtaken() {
    let now = Instant::now();
    let resolvers = [resolver(), resolver(), resolver()];
    let mut one = forward(&resolvers, now);
    answer(&resolvers[2], (0, 2), |_| ());
    one.ready(2);
    assert_eq!(one.decide(now), Decision::Wait(now + HEAD_START));
    assert_eq!(answered(&one.decide(now + HEAD_START)), (0, 2));
    answer(&resolvers[1], (3, 0), |_| ());
    one.ready(1);
    let mut two = forward(&resolvers, now);
    for resolver in &resolvers[1..] {
        answer(resolver, (3, 0), |_| ());
    }
    two.ready(1);
    two.ready(2);
    assert!(matches!(two.decide(now + HEAD_START), Decision::Wait(_)));
    assert_eq!(answered(&two.decide(now + PATIENCE)), (3, 0));
}

#[test]
fn failures_are_passed_over_and_told_at_last() {
    let now = Instant::now();
    let resolvers = [resolver(), resolver()];
    let mut forward = forward(&resolvers, now);
    answer(&resolvers[0], (5, 0), |_| ());
    forward.ready(0);
    assert!(matches!(forward.decide(now), Decision::Wait(_)));
    assert_eq!(answered(&forward.decide(now + END)), (5, 0), "refused");
    answer(&resolvers[1], (0, 1), |_| ());
    forward.ready(1);
    assert_eq!(answered(&forward.decide(now)), (0, 1));
}

#[test]
fn answers_to_other_questions_are_not_believed() {
    let now = Instant::now();
    let resolvers = [resolver()];
    let changes: [fn(&mut Vec<u8>); 5] = [
        |packet| packet[0] ^= 1,
        |packet| packet[13] = b'x',
        |packet| packet[2] &= 0x7f,
        |packet| packet.truncate(20),
        |packet| *packet.last_mut().unwrap() = 3,
    ];
    for change in changes {
        let mut forward = forward(&resolvers, now);
        answer(&resolvers[0], (0, 1), change);
        assert_eq!(forward.ready(0), None);
        assert!(matches!(forward.decide(now), Decision::Wait(_)));
    }
}

#[test]
fn lost_datagrams_are_sent_again_once_and_silence_ends() {
    let now = Instant::now();
    let resolvers = [resolver()];
    let mut forward = forward(&resolvers, now);
    let mut buffer = [0; 512];
    resolvers[0].0.recv(&mut buffer).unwrap();
    forward.send_again(now + PATIENCE);
    forward.send_again(now + 2 * PATIENCE);
    resolvers[0].0.recv(&mut buffer).unwrap();
    resolvers[0].0.set_nonblocking(true).unwrap();
    assert!(resolvers[0].0.recv(&mut buffer).is_err());
    assert_eq!(forward.decide(now + PATIENCE), Decision::Wait(now + END));
    assert_eq!(forward.decide(now + END), Decision::Fail);
    assert_eq!(self::forward(&[], now).decide(now), Decision::Fail);
}

#[test]
fn cut_answers_lead_to_tcp_and_serve_where_there_is_none() {
    let now = Instant::now();
    let resolvers = [resolver()];
    let mut forward = forward(&resolvers, now);
    answer(&resolvers[0], (0, 1), |packet| packet[2] |= TRUNCATED);
    assert_eq!(forward.ready(0), Some(resolvers[0].1));
    assert!(matches!(forward.decide(now), Decision::Wait(_)));
    forward.by_stream(0, Err(io::ErrorKind::ConnectionRefused.into()));
    let decision = forward.decide(now);
    assert_eq!(answered(&decision), (0, 1));
}

#[test]
fn long_answers_are_cut_to_what_the_client_takes() {
    let now = Instant::now();
    let resolvers = [resolver()];
    let mut forward = forward(&resolvers, now);
    answer(&resolvers[0], (0, 9), |packet| packet.extend([7; 600]));
    forward.ready(0);
    let Decision::Answer(packet) = forward.decide(now) else {
        panic!("an answer");
    };
    assert_eq!(packet.len(), QUERY.len());
    assert!(packet[2] & TRUNCATED != 0 && packet[7] == 0);
}
