//! From a query to what is done with it: answered from the directory, asked of the resolvers outside, or refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cais_types::ContainerId;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::directory::{Directory, Found};

/// Seconds that an answer may be kept, as Docker has it.
const TTL: u32 = 600;
/// Bytes of a header.
const HEADER: usize = 12;
/// Largest answer to a datagram without EDNS (RFC 1035 4.2.1).
const PLAIN_LIMIT: usize = 512;
/// What we say we can take in a datagram (RFC 6891 6.2.5, without fragments).
const OWN_LIMIT: u16 = 1232;

/// How the answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Datagram,
    /// With a length in front.
    Stream,
}

/// Who asks, and what it may.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The container.
    pub container: ContainerId,
    /// Whether questions for other names may leave the host.
    pub forwards: bool,
    /// Whether names without a dot stay here, so that the search list is tried.
    pub keeps_single_labels: bool,
    /// How it asked.
    pub transport: Transport,
}

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is the answer.
    Answer(Vec<u8>),
    /// The resolvers outside must know; an answer may have this many bytes.
    Forward(usize),
    /// Not a query: no answer.
    Silence,
}

/// Looks at a query.
pub fn respond(directory: &Directory, asker: &Asker, packet: &[u8]) -> Outcome {
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Outcome::Silence;
    }
    let Ok(query) = Message::from_vec(packet) else {
        return Outcome::Answer(bare(packet, ResponseCode::FormErr));
    };
    if query.metadata.op_code != OpCode::Query {
        return Outcome::Answer(bare(packet, ResponseCode::NotImp));
    }
    let [question] = query.queries.as_slice() else {
        return Outcome::Answer(bare(packet, ResponseCode::FormErr));
    };
    let limit = limit(&query, asker.transport);
    let name = question.name().to_ascii();
    let known = match (question.query_class(), question.query_type()) {
        (DNSClass::IN, RecordType::A | RecordType::AAAA | RecordType::MX) => {
            let six = question.query_type() == RecordType::AAAA;
            let found = directory.look_up(&asker.container, &name, six);
            found.map(|found| records(question.name(), question.query_type(), &found))
        }
        (DNSClass::IN, RecordType::PTR) => pointer(directory, asker, question.name()),
        _ => None,
    };
    if let Some(records) = known {
        return Outcome::Answer(reply(&query, ResponseCode::NoError, records, limit));
    }
    let addresses = matches!(question.query_type(), RecordType::A | RecordType::AAAA);
    if asker.forwards && asker.keeps_single_labels && addresses && question.name().num_labels() < 2
    {
        return Outcome::Answer(reply(&query, ResponseCode::NoError, Vec::new(), limit));
    }
    if asker.forwards {
        return Outcome::Forward(limit);
    }
    Outcome::Answer(failure(packet))
}

/// The answer when nobody could be asked.
pub fn failure(query: &[u8]) -> Vec<u8> {
    match Message::from_vec(query) {
        Ok(query) => reply(&query, ResponseCode::ServFail, Vec::new(), usize::MAX),
        Err(_) => bare(query, ResponseCode::FormErr),
    }
}

fn limit(query: &Message, transport: Transport) -> usize {
    match (transport, &query.edns) {
        (Transport::Stream, _) => usize::from(u16::MAX),
        (Transport::Datagram, Some(edns)) => PLAIN_LIMIT.max(edns.max_payload().into()),
        (Transport::Datagram, None) => PLAIN_LIMIT,
    }
}

fn records(name: &Name, kind: RecordType, found: &Found) -> Vec<Record> {
    let record = |data| Record::from_rdata(name.clone(), TTL, data);
    let v4 = |address: &Ipv4Addr| record(RData::A(A(*address)));
    let v6 = |address: &Ipv6Addr| record(RData::AAAA(AAAA(*address)));
    let mut records: Vec<Record> = match kind {
        RecordType::A => found.v4.iter().map(v4).collect(),
        RecordType::AAAA => found.v6.iter().map(v6).collect(),
        _ => Vec::new(),
    };
    shuffle(&mut records);
    records
}

/// Every order is as likely, so that clients who take the first address share the load.
fn shuffle(records: &mut [Record]) {
    if records.len() < 2 {
        return;
    }
    let mut bytes = vec![0; records.len() * 2];
    let flags = rustix::rand::GetRandomFlags::empty();
    // Without random numbers the order stays, which is right as well.
    let _ = rustix::rand::getrandom(&mut bytes[..], flags);
    for (last, pair) in (1..records.len()).rev().zip(bytes.chunks(2)) {
        let number = usize::from(u16::from_ne_bytes([pair[0], pair[1]]));
        records.swap(last, number % (last + 1));
    }
}

fn pointer(directory: &Directory, asker: &Asker, name: &Name) -> Option<Vec<Record>> {
    let address = reversed(&name.to_ascii())?;
    let host = directory.reverse(&asker.container, address)?;
    let host = Name::from_ascii(format!("{host}.")).ok()?;
    let record = Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(host)));
    Some(vec![record])
}

/// The address in a name below `in-addr.arpa` or `ip6.arpa`, when it is a whole one.
fn reversed(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = digits.rsplit('.').map(|part| part.parse::<u8>().ok());
        let mut next = || bytes.next().flatten();
        let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
        return bytes.next().is_none().then_some(address.into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut value = 0_u128;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        value =
            value << 4 | u128::from(u8::from_str_radix(digit, 16).ok().filter(|one| *one < 16)?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(value).into())
}

/// The answer to a whole query. Records that do not fit are left out, and the client is told to ask by TCP.
fn reply(query: &Message, code: ResponseCode, records: Vec<Record>, limit: usize) -> Vec<u8> {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.checking_disabled = query.metadata.checking_disabled;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries.clone_from(&query.queries);
    message.answers = records;
    message.edns = query.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_LIMIT);
        edns
    });
    loop {
        let bytes = message.to_vec().unwrap_or_default();
        if bytes.len() <= limit || message.answers.pop().is_none() {
            return bytes;
        }
        message.metadata.truncation = true;
    }
}

/// A header that repeats the id, for what cannot be read further.
fn bare(packet: &[u8], code: ResponseCode) -> Vec<u8> {
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let code_point = OpCode::from_u8(packet[2] >> 3 & 0x0f);
    let mut message = Message::new(id, MessageType::Response, code_point);
    message.metadata.recursion_desired = packet[2] & 1 != 0;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests;
