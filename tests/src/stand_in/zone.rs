//! What a stand-in for a DNS server says: names with addresses, aliases and texts, and the answer to a
//! question. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Aliases that an answer follows.
const ALIASES_MAX: usize = 8;
/// What a record lives for, unless said otherwise: a minute, as content networks have it.
pub const TTL_S: u32 = 60;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    Address(IpAddr),
    Alias(String),
    Text(String),
}

/// Names in lower case, without the last dot; `*.` in front stands for everything below that has no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone(BTreeMap<String, Vec<(Data, u32)>>);

impl Zone {
    /// Adds an address.
    #[must_use]
    pub fn address(self, name: &str, address: &str) -> Self {
        self.address_for(name, address, TTL_S)
    }

    /// Adds an address that lives for `ttl_s` seconds.
    ///
    /// # Panics
    /// When `address` is none: the zone is written by a test.
    #[must_use]
    pub fn address_for(mut self, name: &str, address: &str, ttl_s: u32) -> Self {
        let address = address.parse().unwrap_or_else(|_| panic!("`{address}` is no address"));
        self.add(name, Data::Address(address), ttl_s);
        self
    }

    /// Adds an alias.
    #[must_use]
    pub fn alias(mut self, name: &str, target: &str) -> Self {
        self.add(name, Data::Alias(target.to_owned()), TTL_S);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.add(name, Data::Text(text.to_owned()), TTL_S);
        self
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    fn add(&mut self, name: &str, data: Data, ttl_s: u32) {
        self.0.entry(name.to_owned()).or_default().push((data, ttl_s));
    }

    fn get(&self, name: &str) -> Option<&Vec<(Data, u32)>> {
        let above = name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..]));
        self.0.get(name).or_else(|| above.into_iter().find_map(|wild| self.0.get(&wild)))
    }

    /// The answer to a message.
    ///
    /// # Errors
    /// When the message holds no question.
    pub fn answer(&self, asked: &Message) -> Result<Message> {
        let query = asked.queries.first().context("a message without a question")?;
        let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let records = self.records(query)?;
        if records.is_empty() && self.get(&plain(query.name())).is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer.add_answers(records);
        Ok(answer)
    }

    /// The records that answer a question, aliases first.
    fn records(&self, query: &Query) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut owner = query.name().clone();
        for _ in 0..ALIASES_MAX {
            let Some(entries) = self.get(&plain(&owner)) else { break };
            let mut next = None;
            for (data, ttl_s) in entries {
                let rdata = match (data, query.query_type()) {
                    (Data::Address(IpAddr::V4(address)), RecordType::A) => RData::A(A(*address)),
                    (Data::Address(IpAddr::V6(address)), RecordType::AAAA) => RData::AAAA(AAAA(*address)),
                    (Data::Text(text), RecordType::TXT) => RData::TXT(TXT::new(vec![text.clone()])),
                    (Data::Alias(target), _) => {
                        let target = Name::from_ascii(format!("{target}."))?;
                        next = Some(target.clone());
                        RData::CNAME(CNAME(target))
                    }
                    _ => continue,
                };
                records.push(Record::from_rdata(owner.clone(), *ttl_s, rdata));
            }
            match next {
                Some(target) => owner = target,
                None => break,
            }
        }
        Ok(records)
    }
}

/// A name as the zone and the record have it.
pub(super) fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone::default()
            .address_for("api.test", "203.0.113.10", 1)
            .alias("www.test", "cdn.test")
            .alias("cdn.test", "api.test")
            .alias("circle.test", "circle.test")
            .text("*.tunnel.test", "down")
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        // By way of its bytes, as a client would see it.
        Message::from_vec(&zone().answer(&message).unwrap().to_vec().unwrap()).unwrap()
    }

    fn told(name: &str, kind: RecordType) -> Vec<String> {
        ask(name, kind)
            .answers
            .iter()
            .map(|record| format!("{} {} {}", record.name, record.ttl, record.data))
            .collect()
    }

    #[test]
    fn aliases_are_followed_in_order_and_a_circle_ends() {
        let chain = ["www.test. 60 cdn.test.", "cdn.test. 60 api.test.", "api.test. 1 203.0.113.10"];
        assert_eq!(told("WWW.test.", RecordType::A)[1..], chain[1..]);
        assert_eq!(told("www.test.", RecordType::A), chain);
        assert_eq!(told("circle.test.", RecordType::A).len(), ALIASES_MAX);
    }

    #[test]
    fn a_name_without_that_kind_has_no_records_and_an_unknown_one_does_not_exist() {
        let empty = ask("api.test.", RecordType::AAAA);
        assert_eq!((empty.answers.len(), empty.metadata.response_code), (0, ResponseCode::NoError));
        assert_eq!(ask("evil.test.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn a_wildcard_answers_for_all_below_it() {
        assert_eq!(told("a.b.tunnel.test.", RecordType::TXT).len(), 1);
        assert_eq!(told("tunnel.test.", RecordType::TXT).len(), 0);
    }
}
