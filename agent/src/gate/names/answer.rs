//! What another server said, reduced to addresses that a bot may be given. Pure.
//!
//! The chain of aliases is followed inside the answer alone: names on the way are not judged, because the
//! rule means the name that was asked, and are never asked for, because the bot did not. An address inside
//! our own networks is dropped; a name that leads nowhere else was turned against us ("rebinding").

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use launchpad_protocol::reason::Reason;

use super::lifetime;

/// Addresses of one name: a large network answers with eight at once. Each takes an element of a kernel's set
/// per port.
pub(super) const ADDRESSES_PER_NAME_MAX: usize = 16;

/// Aliases in a row: content networks use three or four.
const ALIASES_MAX: usize = 16;

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There; each once, none inside, never empty.
    Addresses(Vec<Ipv4Addr>),
    /// To nothing but addresses that no bot may reach.
    Inside,
    /// To no IPv4 address.
    Nothing {
        /// Whether there is such a name at all.
        exists: bool,
    },
    /// That could not be learnt.
    Failed(Reason),
}

/// Where a name leads, and for how long that is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Where.
    pub(super) found: Found,
    /// For how long it is remembered.
    pub(super) kept: Duration,
}

impl Answer {
    /// One that could not be had.
    pub(super) const fn failed(reason: Reason) -> Self {
        Self { found: Found::Failed(reason), kept: lifetime::FAILURE_KEPT }
    }

    /// Reads a server's answer to a question for that name's addresses; `is_inside` says which no bot may be
    /// given.
    pub(super) fn read(asked: &Name, message: &Message, is_inside: impl Fn(Ipv4Addr) -> bool) -> Self {
        let code = message.metadata.response_code;
        if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&code) {
            return Self::failed(Reason::new("name-unresolved", format!("the name server answered: {code}")));
        }
        let (owner, mut ttl) = match followed(asked, &message.answers) {
            Ok(end) => end,
            Err(reason) => return Self::failed(reason),
        };
        let mut addresses = Vec::new();
        let mut leads_inside = false;
        for record in of(owner, &message.answers) {
            let RData::A(address) = &record.data else { continue };
            ttl = ttl.min(record.ttl);
            if is_inside(address.0) {
                leads_inside = true;
            } else if addresses.len() < ADDRESSES_PER_NAME_MAX && !addresses.contains(&address.0) {
                addresses.push(address.0);
            }
        }
        if !addresses.is_empty() {
            return Self { found: Found::Addresses(addresses), kept: lifetime::of_addresses(ttl) };
        }
        if leads_inside {
            return Self { found: Found::Inside, kept: lifetime::of_addresses(ttl) };
        }
        let exists = code == ResponseCode::NoError;
        Self { found: Found::Nothing { exists }, kept: lifetime::of_nothing(negative_ttl(message)) }
    }
}

/// The name at the chain's end, and the shortest TTL on the way.
fn followed<'a>(asked: &'a Name, answers: &'a [Record]) -> Result<(&'a Name, u32), Reason> {
    let (mut owner, mut ttl) = (asked, u32::MAX >> 1);
    for _ in 0..=ALIASES_MAX {
        let alias = of(owner, answers).find_map(|record| {
            let RData::CNAME(target) = &record.data else { return None };
            Some((&target.0, record.ttl))
        });
        let Some((target, alias_ttl)) = alias else { return Ok((owner, ttl)) };
        (owner, ttl) = (target, ttl.min(alias_ttl));
    }
    let sentence =
        format!("the name server answered with more than {ALIASES_MAX} aliases in a row, or a ring of them");
    Err(Reason::new("name-alias-ring", sentence).mend("correct the name's CNAME records, if they are yours"))
}

fn of<'a>(owner: &'a Name, answers: &'a [Record]) -> impl Iterator<Item = &'a Record> {
    answers.iter().filter(move |record| record.dns_class == DNSClass::IN && record.name == *owner)
}

/// For how long there is nothing (RFC 2308 §5).
fn negative_ttl(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else { return None };
        Some(record.ttl.min(soa.minimum))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
    use launchpad_protocol::egress::denied_address;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn address(owner: &str, ttl: u32, to: [u8; 4]) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A(to.into())))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    fn message(answers: Vec<Record>) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.add_answers(answers);
        message
    }

    fn read(answers: Vec<Record>) -> Answer {
        Answer::read(&name("a.example."), &message(answers), |to| denied_address(to).is_some())
    }

    fn leads_to(last: &[u8]) -> Found {
        Found::Addresses(last.iter().map(|last| Ipv4Addr::new(203, 0, 113, *last)).collect())
    }

    #[test]
    fn aliases_are_followed_and_the_shortest_time_on_the_way_counts() {
        let answer = read(vec![
            address("c.other.", 300, [203, 0, 113, 1]),
            alias("B.example.", 90, "c.other."),
            alias("A.Example.", 200, "b.example."),
        ]);
        assert_eq!(answer, Answer { found: leads_to(&[1]), kept: Duration::from_secs(90) });
    }

    #[test]
    fn a_ring_of_aliases_or_a_chain_without_end_is_a_failure() {
        let ring = read(vec![alias("a.example.", 60, "b.example."), alias("b.example.", 60, "a.example.")]);
        assert!(matches!(&ring.found, Found::Failed(reason) if reason.code == "name-alias-ring"), "{ring:?}");
        let mut chain: Vec<_> =
            (0..40).map(|n| alias(&format!("{n}.example."), 60, &format!("{}.example.", n + 1))).collect();
        chain.push(alias("a.example.", 60, "0.example."));
        assert!(matches!(read(chain).found, Found::Failed(_)));
    }

    #[test]
    fn an_address_that_nobody_asked_for_is_not_taken() {
        let answer = read(vec![address("b.example.", 60, [203, 0, 113, 1])]);
        assert_eq!(answer.found, Found::Nothing { exists: true });
        let stray = Record::from_rdata(name("a.example."), 60, RData::TXT(TXT::new(vec!["203.0.113.1".to_owned()])));
        assert_eq!(read(vec![stray]).found, Found::Nothing { exists: true });
    }

    #[test]
    fn what_leads_inside_is_dropped_and_a_name_that_leads_nowhere_else_is_told_apart() {
        let (inside, outside) =
            (address("a.example.", 60, [169, 254, 169, 254]), address("a.example.", 60, [203, 0, 113, 1]));
        assert_eq!(read(vec![inside.clone(), outside]).found, leads_to(&[1]));
        assert_eq!(read(vec![inside, address("a.example.", 60, [10, 0, 0, 1])]).found, Found::Inside);
    }

    #[test]
    fn so_many_addresses_are_taken_each_once() {
        let many: Vec<_> = (0..200).map(|n| address("a.example.", 60, [203, 0, 113, n / 2])).collect();
        assert_eq!(read(many).found, leads_to(&(0..16).collect::<Vec<_>>()));
    }

    #[test]
    fn that_there_is_nothing_is_kept_as_the_zone_says_within_bounds() {
        let mut nothing = message(Vec::new());
        nothing.metadata.response_code = ResponseCode::NXDomain;
        let read = |message: &Message| Answer::read(&name("a.example."), message, |_| false);
        let kept = |seconds| Answer { found: Found::Nothing { exists: false }, kept: Duration::from_secs(seconds) };
        assert_eq!(read(&nothing), kept(1), "nothing is said about it");
        let soa = |minimum| RData::SOA(SOA::new(name("ns.example."), name("me.example."), 1, 1, 1, 1, minimum));
        nothing.add_authority(Record::from_rdata(name("example."), 30, soa(900)));
        assert_eq!(read(&nothing), kept(30));
        nothing.authorities = vec![Record::from_rdata(name("example."), 86_400, soa(86_400))];
        assert_eq!(read(&nothing), kept(60));
    }

    proptest! {
        #[test]
        fn no_answer_leads_inside(to in proptest::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..40)) {
            let answers = to.iter().map(|to| address("a.example.", 60, to.octets())).collect();
            match read(answers).found {
                Found::Addresses(found) => {
                    prop_assert!((1..=ADDRESSES_PER_NAME_MAX).contains(&found.len()));
                    prop_assert!(found.iter().all(|found| denied_address(*found).is_none() && to.contains(found)));
                }
                Found::Inside => prop_assert!(to.iter().all(|to| denied_address(*to).is_some())),
                Found::Nothing { exists } => prop_assert!(exists && to.is_empty()),
                Found::Failed(reason) => prop_assert!(false, "{reason}"),
            }
        }
    }
}
