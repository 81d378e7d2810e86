//! What is answered, and what hostile packets lead to.

use std::collections::BTreeSet;

use cais_types::NetworkId;
use hickory_proto::op::Query;
use proptest::prelude::*;

use super::*;
use crate::dns::Member;

fn me() -> ContainerId {
    ContainerId::from_bytes([1; 32])
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    let network = NetworkId::from_bytes([7; 32]);
    for number in 1..=60_u8 {
        let mut names = vec![format!("app_{number}.x"), "app".to_owned()];
        if number > 1 {
            names.push("rest".to_owned());
        }
        let member = Member {
            container: ContainerId::from_bytes([number; 32]),
            names,
            addresses: vec![[10, 1, 0, number].into()],
        };
        directory.join(network, "net.work", &member);
    }
    directory
}

fn asker(transport: Transport) -> Asker {
    Asker {
        container: me(),
        forwards: true,
        keeps_single_labels: false,
        transport,
    }
}

fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0xbeef, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.edns = edns.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message.to_vec().unwrap()
}

fn ask(name: &str, kind: RecordType) -> Outcome {
    respond(
        &directory(),
        &asker(Transport::Datagram),
        &query(name, kind, None),
    )
}

fn answer(outcome: Outcome) -> Message {
    let Outcome::Answer(bytes) = outcome else {
        panic!("no answer: {outcome:?}");
    };
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn names_have_addresses_and_addresses_have_names() {
    let message = answer(ask("app_2.x.net.work.", RecordType::A));
    assert_eq!(message.metadata.id, 0xbeef);
    assert!(message.metadata.recursion_desired && message.metadata.recursion_available);
    assert_eq!(message.answers[0].data, RData::A(A::new(10, 1, 0, 2)));
    assert_eq!(message.answers[0].ttl, 600);
    let message = answer(ask("2.0.1.10.in-addr.arpa.", RecordType::PTR));
    let RData::PTR(name) = &message.answers[0].data else {
        panic!("{message:?}");
    };
    assert_eq!(name.0.to_ascii(), "app_2.x.net.work.");
    assert_eq!(
        ask("9.9.9.9.in-addr.arpa.", RecordType::PTR),
        Outcome::Forward(512)
    );
}

#[test]
fn the_other_family_and_mail_are_empty_and_the_rest_is_passed_on() {
    for kind in [RecordType::AAAA, RecordType::MX] {
        let message = answer(ask("App_2.X.", kind));
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.answers.is_empty());
    }
    assert_eq!(ask("app_2.x.", RecordType::TXT), Outcome::Forward(512));
    assert_eq!(ask("example.org.", RecordType::A), Outcome::Forward(512));
    let mut asker = asker(Transport::Stream);
    let packet = query("example.org.", RecordType::A, None);
    assert_eq!(
        respond(&directory(), &asker, &packet),
        Outcome::Forward(65535)
    );
    asker.forwards = false;
    let refused = answer(respond(&directory(), &asker, &packet));
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(refused.queries.len(), 1);
}

#[test]
fn names_without_a_dot_stay_when_the_user_set_ndots() {
    let mut asker = asker(Transport::Datagram);
    asker.keeps_single_labels = true;
    let packet = query("intranet.", RecordType::A, None);
    let message = answer(respond(&directory(), &asker, &packet));
    assert!(message.answers.is_empty());
    let packet = query("intranet.example.", RecordType::A, None);
    assert_eq!(
        respond(&directory(), &asker, &packet),
        Outcome::Forward(512)
    );
}

#[test]
fn what_does_not_fit_is_cut_and_edns_makes_room() {
    let small = answer(ask("app.", RecordType::A));
    assert!(small.metadata.truncation);
    assert!(small.answers.len() > 20 && small.edns.is_none());
    let packet = query("app.", RecordType::A, Some(4096));
    let large = answer(respond(&directory(), &asker(Transport::Datagram), &packet));
    assert!(!large.metadata.truncation);
    assert_eq!((large.answers.len(), large.edns.is_some()), (60, true));
    let packet = query("app.", RecordType::A, None);
    let stream = answer(respond(&directory(), &asker(Transport::Stream), &packet));
    assert_eq!(stream.answers.len(), 60);
}

#[test]
fn every_address_of_a_service_comes_first_at_times() {
    let first = |_| {
        answer(ask("rest.", RecordType::A)).answers[0]
            .data
            .ip_addr()
    };
    let firsts: BTreeSet<_> = (0..400).map(first).collect();
    assert!(firsts.len() > 30, "{firsts:?}");
}

#[test]
fn what_is_no_query_gets_no_answer_or_a_refusal() {
    let directory = directory();
    let asker = asker(Transport::Datagram);
    let mut packet = query("app.", RecordType::A, None);
    assert_eq!(respond(&directory, &asker, &packet[..11]), Outcome::Silence);
    let cut = answer(respond(&directory, &asker, &packet[..14]));
    assert_eq!(cut.metadata.response_code, ResponseCode::FormErr);
    packet[2] = 0x28;
    let update = answer(respond(&directory, &asker, &packet));
    assert_eq!(update.metadata.response_code, ResponseCode::NotImp);
    packet[2] = 0x80;
    assert_eq!(respond(&directory, &asker, &packet), Outcome::Silence);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// RUSTSEC-2025-0006, 2026-0118, 2026-0119: whatever comes ends in a bounded answer, soon.
    #[test]
    fn rustsec_2026_0118_hostile_packets_are_survived(
        mut packet in prop::collection::vec(any::<u8>(), 0..700),
        counts in prop::collection::vec(0_u8..4, 4),
        shape in any::<bool>(),
    ) {
        if shape && packet.len() > 12 {
            packet[2] &= 0x07;
            for (place, count) in [5, 7, 9, 11].into_iter().zip(counts) {
                packet[place - 1] = 0;
                packet[place] = count;
            }
        }
        let started = std::time::Instant::now();
        let outcome = respond(&directory(), &asker(Transport::Datagram), &packet);
        if let Outcome::Answer(bytes) = outcome {
            prop_assert!(bytes.len() >= 12 && bytes[..2] == packet[..2] && bytes[2] & 0x80 != 0);
            prop_assert!(bytes.len() <= 512.max(packet.len()), "no amplification");
        }
        prop_assert!(started.elapsed().as_secs() < 1);
    }

    #[test]
    fn rustsec_2026_0119_changed_queries_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut packet = query("app_2.x.net.work.", RecordType::A, Some(1232));
        for (place, value) in changes {
            let place = place.index(packet.len());
            packet[place] = value;
        }
        let _ = respond(&directory(), &asker(Transport::Datagram), &packet);
        let _ = failure(&packet);
    }
}
