//! The records that lead a public name to a bot, and the one that proves whose it is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::public_name::PublicName;

/// What kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A text.
    Txt,
    /// Another name.
    Cname,
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Under which name.
    pub name: String,
    /// Of which kind.
    pub kind: Kind,
    /// What it says.
    pub value: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Txt => "TXT",
            Self::Cname => "CNAME",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        })
    }
}

/// The record with which the owner of a domain proves it.
#[must_use]
pub fn proof(name: &PublicName, token: &str) -> DnsRecord {
    DnsRecord { name: name.proof_name(), kind: Kind::Txt, value: token.to_owned() }
}

/// The records that lead a name to a bot. A name that has one has it from `own`, the bot's name below the
/// installation's domain: that follows the bot from host to host. The addresses are for a name that cannot have a CNAME
/// because it has other records beside it, as `example.com` has: `addresses` are those of the bot's host now.
#[must_use]
pub fn leading(name: &str, own: Option<&str>, addresses: &BTreeSet<String>) -> Vec<DnsRecord> {
    let record = |kind, value: &str| DnsRecord { name: name.to_owned(), kind, value: value.to_owned() };
    let alias = own.filter(|own| *own != name).map(|own| record(Kind::Cname, own));
    let address = |text: &String| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => record(Kind::A, text),
        Ok(IpAddr::V6(_)) => record(Kind::Aaaa, text),
        // A host's owner may give a name instead, such as that of a load balancer.
        Err(_) => record(Kind::Cname, text),
    };
    alias.into_iter().chain(addresses.iter().map(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<&str> = Some("web-1.bots.example.com");

    fn lines(name: &str, own: Option<&str>, addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|text| (*text).to_owned()).collect();
        let line = |record: DnsRecord| format!("{} {} {}", record.name, record.kind, record.value);
        leading(name, own, &addresses).into_iter().map(line).collect()
    }

    #[test]
    fn an_owners_domain_follows_the_bots_own_name_or_points_at_its_host() {
        let expected = [
            "www.example.org CNAME web-1.bots.example.com",
            "www.example.org AAAA 2001:db8::7",
            "www.example.org A 203.0.113.7",
        ];
        assert_eq!(lines("www.example.org", OWN, &["203.0.113.7", "2001:db8::7"]), expected);
    }

    #[test]
    fn a_bots_own_name_points_at_its_host_and_never_at_itself() {
        assert_eq!(lines("web-1.bots.example.com", OWN, &["203.0.113.7"]), ["web-1.bots.example.com A 203.0.113.7"]);
        assert_eq!(
            lines("web-1.bots.example.com", OWN, &["lb.example.net"]),
            ["web-1.bots.example.com CNAME lb.example.net"]
        );
        assert!(lines("web-1.bots.example.com", OWN, &[]).is_empty(), "its host has told of no address yet");
    }
}
