//! May this bot ask that? Pure: policy, sender and question in, a verdict out. Nothing is looked up.
//!
//! ```text
//! unknown sender ─► Stranger     a name of its rules, and   its addresses ─► a Caller, who may go on
//! another class ──► Meta                                    a zone ────────► Meta
//! any other name ─► Denied                                  PTR ───────────► Reverse
//!                                                           the rest ──────► Empty
//! ```
//! Only a [`Caller`]'s question is ever handed on to another server.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use hickory_proto::rr::DNSClass;
use launchpad_protocol::egress::Destination;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::spec::EgressPolicy;

use super::grants::Ways;
use super::question::{Question, Wish};
use crate::gate::policy::{GatePolicy, InstanceGate};

/// Who sent a question: an address, to the gateway of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    /// Whose gateway was asked.
    pub(super) tenant: AccountId,
    /// From where.
    pub(super) address: Ipv4Addr,
}

/// Why a question goes no further, and so what is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decline {
    /// No instance of that tenant has that address: REFUSED.
    Stranger,
    /// Zones and other classes are not served: REFUSED.
    Meta,
    /// Not a name of its rules: NXDOMAIN, which makes every client give up at once. (glibc asks again after
    /// REFUSED, musl waits for its time-out.) Without an SOA record beside it, so that nobody remembers it
    /// once the rules change.
    Denied(Caller),
    /// Which name an address has is told to nobody: NXDOMAIN.
    Reverse,
    /// An allowed name has nothing of that type here: no IPv6, and no record that could carry data out or
    /// addresses in.
    Empty,
}

/// A bot with a question, and where it may go if that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Whose.
    pub(super) account: AccountId,
    /// Which.
    pub(super) deployment: DeploymentId,
    /// Its address.
    pub(super) bot: Ipv4Addr,
    /// The ports of every rule that means the name; empty: none does.
    pub(super) ports: BTreeSet<u16>,
}

impl Sender {
    /// Which of the tenant's bots that is.
    pub(super) fn of(self, policy: &GatePolicy) -> Option<(DeploymentId, &InstanceGate)> {
        policy.at(self.address).filter(|(_, instance)| instance.account == self.tenant)
    }
}

impl Caller {
    /// What it needs open to reach those addresses.
    pub(super) const fn ways<'a>(&'a self, to: &'a [Ipv4Addr], losses: u64) -> Ways<'a> {
        Ways { deployment: self.deployment, losses, to, ports: &self.ports }
    }
}

/// Who may have the addresses of that name.
///
/// # Errors
/// [`Decline`] says why nobody may, or not this one.
pub(super) fn judge(policy: &GatePolicy, sender: Sender, question: &Question) -> Result<Caller, Decline> {
    let (deployment, instance) = sender.of(policy).ok_or(Decline::Stranger)?;
    if question.query.query_class() != DNSClass::IN {
        return Err(Decline::Meta);
    }
    let ports = question.host.as_deref().map(|host| ports(&instance.egress, host)).unwrap_or_default();
    let caller = Caller { account: instance.account, deployment, bot: instance.address, ports };
    if caller.ports.is_empty() {
        return Err(Decline::Denied(caller));
    }
    match question.wish {
        Wish::Addresses => Ok(caller),
        Wish::Reverse => Err(Decline::Reverse),
        Wish::Other => Err(Decline::Empty),
        Wish::Meta => Err(Decline::Meta),
    }
}

/// Of every rule that means the name.
fn ports(egress: &EgressPolicy, host: &str) -> BTreeSet<u16> {
    let meant = egress.rules.iter().filter(|rule| match &rule.to {
        Destination::Domain(pattern) => pattern.matches(host),
        Destination::Network(_) => false,
    });
    meant.flat_map(|rule| rule.ports.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    use launchpad_protocol::spec::Ingress;
    use uuid::Uuid;

    const BOT: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);

    fn account(n: u128) -> AccountId {
        Uuid::from_u128(n).into()
    }

    fn policy(rules: &[&str]) -> GatePolicy {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        let ingress = Ingress { port: 8080, hostnames: BTreeSet::new() };
        let instance = InstanceGate { account: account(1), address: BOT, egress: EgressPolicy { rules }, ingress };
        GatePolicy { instances: [(Uuid::from_u128(0xd).into(), instance)].into(), ..GatePolicy::default() }
    }

    fn question(name: &str, wanted: RecordType) -> Question {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), wanted));
        Question::read(&message.to_vec().expect("bytes")).expect("a question")
    }

    fn judged(policy: &GatePolicy, name: &str, wanted: RecordType) -> Result<Caller, Decline> {
        judge(policy, Sender { tenant: account(1), address: BOT }, &question(name, wanted))
    }

    #[test]
    fn a_name_opens_the_ports_of_every_rule_that_means_it() {
        let policy =
            policy(&["api.example.com:443", "*.example.com:8443,9443", "*.other.com:80", "203.0.113.0/24:22"]);
        let caller = judged(&policy, "API.example.com.", RecordType::A).expect("allowed");
        assert_eq!(caller.ports, BTreeSet::from([443, 8443, 9443]));
    }

    #[test]
    fn a_name_that_no_rule_means_is_denied_whatever_is_wished_of_it() {
        let policy = policy(&["*.example.com", "203.0.113.0/24"]);
        for name in ["example.com.", "example.org.", "a.example.com.evil.org.", "7.113.0.203.in-addr.arpa.", "."] {
            for wanted in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::PTR, RecordType::ANY] {
                assert!(matches!(judged(&policy, name, wanted), Err(Decline::Denied(_))), "{name} {wanted}");
            }
        }
    }

    #[test]
    fn of_an_allowed_name_nothing_but_its_addresses_is_resolved() {
        let policy = policy(&["a.example.com"]);
        let why = |wanted| judged(&policy, "a.example.com.", wanted).expect_err("declined");
        for wanted in [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::SRV, RecordType::HTTPS] {
            assert_eq!(why(wanted), Decline::Empty);
        }
        assert_eq!(why(RecordType::PTR), Decline::Reverse);
        assert_eq!([why(RecordType::ANY), why(RecordType::AXFR)], [Decline::Meta, Decline::Meta]);
    }

    #[test]
    fn a_bot_is_known_at_its_own_gateway_alone() {
        let policy = policy(&["a.example.com"]);
        let asked = question("a.example.com.", RecordType::A);
        for sender in [
            Sender { tenant: account(2), address: BOT },
            Sender { tenant: account(1), address: Ipv4Addr::new(172, 30, 0, 3) },
        ] {
            assert_eq!(judge(&policy, sender, &asked), Err(Decline::Stranger));
        }
    }
}
