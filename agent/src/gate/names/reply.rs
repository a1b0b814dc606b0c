//! What a bot is told, as bytes. Pure.
//!
//! Addresses stand under the name that was asked, in the letter case in which it was asked; aliases are not
//! shown. No reply carries a record of any other type.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};

use super::question::{Question, Unfit};

/// Bytes of a UDP reply that every client takes (RFC 1035 §4.2.1).
const UDP_MIN_BYTES: u16 = 512;

/// Bytes of a UDP message that crosses every path in one piece (DNS Flag Day 2020).
pub(super) const UDP_MAX_BYTES: u16 = 1232;

/// How a question came, and so how large its reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// What a bot is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// These addresses, for that long.
    Addresses(Vec<Ipv4Addr>, Duration),
    /// The name has nothing of that type.
    Empty,
    /// There is no such name, or none for this bot.
    NoSuchName,
    /// It is not answered at all.
    Refused,
    /// It could not be learnt, or not be let through.
    Failed,
}

impl Told {
    fn code(&self) -> ResponseCode {
        match self {
            Self::Addresses(..) | Self::Empty => ResponseCode::NoError,
            Self::NoSuchName => ResponseCode::NXDomain,
            Self::Refused => ResponseCode::Refused,
            Self::Failed => ResponseCode::ServFail,
        }
    }
}

/// The reply's bytes. Where a datagram does not hold the addresses it has none, and the client asks again on a
/// connection.
pub(super) fn encode(question: &Question, told: &Told, way: Way) -> Vec<u8> {
    let mut message = Message::response(question.id, OpCode::Query);
    message.metadata.recursion_desired = question.recursion;
    message.metadata.recursion_available = true;
    message.metadata.response_code = told.code();
    message.add_query(question.query.clone());
    if question.payload.is_some() {
        message.set_edns(options());
    }
    if let Told::Addresses(addresses, ttl) = told {
        let seconds = u32::try_from(ttl.as_secs()).unwrap_or(0);
        let record =
            |address: &Ipv4Addr| Record::from_rdata(question.query.name().clone(), seconds, RData::A(A(*address)));
        message.add_answers(addresses.iter().map(record));
    }
    let bytes = bytes(&message);
    if bytes.len() <= limit(question, way) { bytes } else { self::bytes(&message.truncate()) }
}

/// The reply to what is no question, if it gets one.
pub(super) fn unfit(unfit: Unfit) -> Option<Vec<u8>> {
    let Unfit::Code { id, code } = unfit else { return None };
    let mut message = Message::error_msg(id, OpCode::Query, code);
    if code == ResponseCode::BADVERS {
        message.set_edns(options());
    }
    Some(bytes(&message))
}

fn limit(question: &Question, way: Way) -> usize {
    match way {
        Way::Udp => usize::from(question.payload.unwrap_or(UDP_MIN_BYTES).clamp(UDP_MIN_BYTES, UDP_MAX_BYTES)),
        Way::Tcp => usize::from(u16::MAX),
    }
}

fn options() -> Edns {
    let mut options = Edns::new();
    options.set_max_payload(UDP_MAX_BYTES);
    options
}

/// What was read can be written again; were it not so, nothing is said.
fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    fn question(name: &str, payload: Option<u16>) -> Question {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        if let Some(payload) = payload {
            message.set_edns(Edns::new().set_max_payload(payload).clone());
        }
        Question::read(&message.to_vec().expect("bytes")).expect("a question")
    }

    fn addresses(count: u8) -> Told {
        Told::Addresses((1..=count).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect(), Duration::from_secs(60))
    }

    fn read(bytes: &[u8]) -> Message {
        Message::from_vec(bytes).expect("a message")
    }

    #[test]
    fn addresses_stand_under_the_name_as_it_was_asked() {
        let question = question("aPi.Example.com.", None);
        let reply = read(&encode(&question, &addresses(3), Way::Udp));
        assert_eq!((reply.metadata.id, reply.answers.len()), (question.id, 3));
        assert!(reply.answers.iter().all(|record| record.name.eq_case(question.query.name()) && record.ttl == 60));
        assert!(reply.metadata.recursion_available && reply.edns.is_none());
    }

    #[test]
    fn what_a_datagram_does_not_hold_is_asked_for_again_on_a_connection() {
        let label = "x".repeat(60);
        let question = question(&format!("{label}.{label}.{label}.{label}.example."), None);
        let cut = encode(&question, &addresses(16), Way::Udp);
        assert!(cut.len() <= usize::from(UDP_MIN_BYTES) && read(&cut).metadata.truncation);
        assert_eq!(read(&encode(&question, &addresses(16), Way::Tcp)).answers.len(), 16);
    }

    #[test]
    fn options_are_answered_with_options_and_only_then() {
        let reply = read(&encode(&question("a.example.", Some(4096)), &Told::NoSuchName, Way::Udp));
        assert_eq!(reply.max_payload(), UDP_MAX_BYTES);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(reply.authorities.is_empty(), "nothing by which a client would remember it");
        let newer = read(&unfit(Unfit::Code { id: 9, code: ResponseCode::BADVERS }).expect("a reply"));
        // The codec reads this number under its other name, that of a bad signature.
        assert_eq!(
            (newer.metadata.id, u16::from(newer.metadata.response_code)),
            (9, u16::from(ResponseCode::BADVERS))
        );
    }
}
