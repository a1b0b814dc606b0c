//! Every tenant's border, in an nftables table of our own that holds nothing else: what crosses it, and under which
//! address.
//!
//! `network.rs` calls [`apply`] with every tenant's subnet; the whole table is replaced in one atomic batch, so that
//! there is never a moment without it. A table that is not word for word ours counts as absent, and is replaced.
//! Docker's tables are never touched, and nothing rests on them: its masquerade is off on our networks and its chains
//! between networks are a second wall at best, for `nft flush ruleset` takes both away and Docker does not put them
//! back until it restarts.
//!
//! ```text
//! table inet launchpad {
//!   chain forward {                                    # through the host
//!     type filter hook forward priority filter;
//!     ip daddr 192.0.2.53 udp dport 53 accept          # the bots' name servers, wherever they are; tcp as well
//!     iifname "lp0123456789ab" ip daddr 169.254.0.0/16 drop               # a cloud's metadata: the host's own keys
//!     ct state established,related accept
//!     iifname != "lp0123456789ab" oifname "lp0123456789ab" drop           # other tenants, and the host's neighbours
//!   }
//!   chain input {                                      # to the host itself, under any of its addresses
//!     type filter hook input priority filter;
//!     ip daddr 192.0.2.53 udp dport 53 accept
//!     ct state established,related accept              # answers to the agent's probes
//!     iifname "lp0123456789ab" drop
//!   }
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     ip saddr 172.29.0.0/26 oifname != "lp0123456789ab" masquerade
//!   }
//! }
//! ```
//!
//! To accept in here ends this table's part only: whatever else the host's owner filters still does. Which domains of
//! the outside a bot may reach is not decided here, nor anywhere yet: `doctor.rs` reports `egress-policy` as absent.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use nftables::batch::Batch;
use nftables::expr::{CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix};
use nftables::schema::{Chain, NfListObject, NfObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::address::Subnet;
use super::nft;
use super::places::bridge_name;

/// The table that is ours.
pub const TABLE: &str = "launchpad";
const FORWARD: &str = "forward";
const INPUT: &str = "input";
const POSTROUTING: &str = "postrouting";

/// nftables' `filter` and `srcnat` priorities (linux/netfilter_ipv4.h, NF_IP_PRI_FILTER and NF_IP_PRI_NAT_SRC).
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SRCNAT: i32 = 100;

/// Where clouds answer a host about itself, credentials included (RFC 3927).
const LINK_LOCAL: (Ipv4Addr, u32) = (Ipv4Addr::new(169, 254, 0, 0), 16);

/// The port of name servers.
const DNS_PORT: u32 = 53;

/// What the table is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Border {
    /// Whose borders.
    pub tenants: BTreeMap<AccountId, Subnet>,
    /// Name servers that bots may ask although they may be the host, or link-local as in some clouds.
    pub servers: Vec<Ipv4Addr>,
}

impl Border {
    /// The batch that makes the table what it should be, whatever it is now.
    #[must_use]
    pub fn ruleset(&self) -> Nftables<'static> {
        let table = || Table { family: NfFamily::INet, name: TABLE.into(), handle: None };
        let mut batch = Batch::new();
        // Adding what exists is no error, deleting what does not is one: so add, delete, add.
        batch.add(NfListObject::Table(table()));
        batch.delete(NfListObject::Table(table()));
        batch.add(NfListObject::Table(table()));
        for (name, kind, hook, priority) in [
            (FORWARD, NfChainType::Filter, NfHook::Forward, PRIORITY_FILTER),
            (INPUT, NfChainType::Filter, NfHook::Input, PRIORITY_FILTER),
            (POSTROUTING, NfChainType::NAT, NfHook::Postrouting, PRIORITY_SRCNAT),
        ] {
            batch.add(NfListObject::Chain(Chain {
                family: NfFamily::INet,
                table: TABLE.into(),
                name: name.into(),
                newname: None,
                handle: None,
                _type: Some(kind),
                hook: Some(hook),
                prio: Some(priority),
                dev: None,
                policy: Some(NfChainPolicy::Accept),
            }));
        }
        for rule in self.rules() {
            batch.add(NfListObject::Rule(rule));
        }
        batch.to_nftables()
    }

    /// The rules, chain after chain, each chain in the order in which it is walked.
    fn rules(&self) -> Vec<Rule<'static>> {
        let tenants = || self.tenants.iter().map(|(account, subnet)| (*account, bridge_name(*account), *subnet));
        let of_all = |chain, expr| rule(chain, None, expr);
        let servers = |chain| {
            let asked = self.servers.iter().flat_map(|server| ["udp", "tcp"].map(|protocol| (*server, protocol)));
            asked.map(move |(server, protocol)| {
                of_all(chain, vec![to(server), dns(protocol), Statement::Accept(None)])
            })
        };
        let answers = |chain| of_all(chain, vec![established(), Statement::Accept(None)]);

        let mut rules: Vec<Rule<'static>> = servers(FORWARD).collect();
        rules.extend(tenants().map(|(account, bridge, _)| {
            rule(FORWARD, Some(account), vec![from(bridge, Operator::EQ), to_link_local(), Statement::Drop(None)])
        }));
        rules.push(answers(FORWARD));
        rules.extend(tenants().map(|(account, bridge, _)| {
            let into_it =
                vec![from(bridge.clone(), Operator::NEQ), out_of(bridge, Operator::EQ), Statement::Drop(None)];
            rule(FORWARD, Some(account), into_it)
        }));
        rules.extend(servers(INPUT));
        rules.push(answers(INPUT));
        rules.extend(tenants().map(|(account, bridge, _)| {
            rule(INPUT, Some(account), vec![from(bridge, Operator::EQ), Statement::Drop(None)])
        }));
        rules.extend(tenants().map(|(account, bridge, subnet)| {
            let leaving = vec![out_of_subnet(subnet), out_of(bridge, Operator::NEQ), Statement::Masquerade(None)];
            rule(POSTROUTING, Some(account), leaving)
        }));
        rules
    }
}

fn rule(chain: &'static str, account: Option<AccountId>, expr: Vec<Statement<'static>>) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expr.into(),
        handle: None,
        index: None,
        comment: account.map(|account| account.to_string().into()),
    }
}

fn matches(left: NamedExpression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left: Expression::Named(left), right, op })
}

fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

fn field(protocol: &'static str, field: &'static str) -> NamedExpression<'static> {
    NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol: protocol.into(), field: field.into() }))
}

fn prefix(base: Ipv4Addr, bits: u32) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix { addr: Box::new(text(base.to_string())), len: bits }))
}

fn from(bridge: String, op: Operator) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key: MetaKey::Iifname }), op, text(bridge))
}

fn out_of(bridge: String, op: Operator) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key: MetaKey::Oifname }), op, text(bridge))
}

fn out_of_subnet(subnet: Subnet) -> Statement<'static> {
    matches(field("ip", "saddr"), Operator::EQ, prefix(subnet.base(), u32::from(subnet.bits())))
}

fn to(server: Ipv4Addr) -> Statement<'static> {
    matches(field("ip", "daddr"), Operator::EQ, text(server.to_string()))
}

fn to_link_local() -> Statement<'static> {
    let (base, bits) = LINK_LOCAL;
    matches(field("ip", "daddr"), Operator::EQ, prefix(base, bits))
}

fn dns(protocol: &'static str) -> Statement<'static> {
    matches(field(protocol, "dport"), Operator::EQ, Expression::Number(DNS_PORT))
}

fn established() -> Statement<'static> {
    let state = NamedExpression::CT(CT { key: "state".into(), family: None, dir: None });
    matches(state, Operator::IN, Expression::List(vec![text("established"), text("related")]))
}

/// Replaces the table.
///
/// # Errors
/// When `nft` is missing or refuses: the reason repeats what it said.
pub async fn apply(border: &Border) -> Result<(), Reason> {
    let batch = serde_json::to_vec(&border.ruleset());
    nft::apply(&batch.map_err(|error| nft::failed("write the rules", &error.to_string()))?).await
}

/// The tenants whose border stands, with the subnet that it is drawn around, if bots ask those servers; empty where the
/// table is missing or altered.
///
/// # Errors
/// When `nft` is missing or its answer cannot be read.
pub async fn present(servers: Vec<Ipv4Addr>) -> Result<BTreeMap<AccountId, Subnet>, Reason> {
    let Some(listing) = nft::list(TABLE).await? else { return Ok(BTreeMap::new()) };
    let listing: Nftables<'static> =
        serde_json::from_slice(&listing).map_err(|error| nft::failed("list the rules", &error.to_string()))?;
    Ok(listed(&listing, servers))
}

/// Reads a listing back, and believes it only if it is what we would have made.
fn listed(listing: &Nftables<'static>, servers: Vec<Ipv4Addr>) -> BTreeMap<AccountId, Subnet> {
    let rules = listing.objects.iter().filter_map(|object| {
        if let NfObject::ListObject(NfListObject::Rule(rule)) = object { Some(rule) } else { None }
    });
    let rules: Vec<&Rule<'static>> = rules.collect();
    let tenants = rules.iter().filter_map(|rule| {
        Some((rule.comment.as_deref()?.parse::<AccountId>().ok()?, rule.expr.iter().find_map(left_subnet)?))
    });
    let found = Border { tenants: tenants.collect(), servers };
    let ours = found.rules();
    let same = |(ours, theirs): (&Rule<'static>, &&Rule<'static>)| {
        (&ours.chain, &ours.expr, &ours.comment) == (&theirs.chain, &theirs.expr, &theirs.comment)
    };
    let whole = ours.len() == rules.len() && ours.iter().zip(&rules).all(same);
    if whole { found.tenants } else { BTreeMap::new() }
}

/// The subnet whose translation a statement is about.
fn left_subnet(statement: &Statement<'static>) -> Option<Subnet> {
    let Statement::Match(Match { left, right: Expression::Named(NamedExpression::Prefix(range)), .. }) = statement
    else {
        return None;
    };
    if *left != Expression::Named(field("ip", "saddr")) {
        return None;
    }
    let Expression::String(base) = range.addr.as_ref() else { return None };
    Subnet::new(base.parse().ok()?, u8::try_from(range.len).ok()?)
}

/// Tenants among `wanted` whose border is missing or drawn elsewhere.
#[must_use]
pub fn missing(wanted: &BTreeMap<AccountId, Subnet>, present: &BTreeMap<AccountId, Subnet>) -> BTreeSet<AccountId> {
    let gaps = wanted.iter().filter(|(account, subnet)| present.get(account) != Some(subnet));
    gaps.map(|(account, _)| *account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn border() -> Border {
        Border {
            tenants: BTreeMap::from([
                ("acct_00000000000000000000000000000001".parse().unwrap(), "172.29.0.0/26".parse().unwrap()),
                ("acct_00000000000000000000000000000002".parse().unwrap(), "172.29.0.64/26".parse().unwrap()),
            ]),
            servers: vec![Ipv4Addr::new(192, 0, 2, 53)],
        }
    }

    #[test]
    fn the_batch_replaces_our_table_and_names_no_other() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&border().ruleset()).unwrap());
    }

    #[test]
    fn a_table_of_ours_reads_back_and_one_that_was_altered_does_not() {
        let rules = border().rules();
        let read = |rules: Vec<Rule<'static>>, servers: &[Ipv4Addr]| {
            let objects: Vec<_> =
                rules.into_iter().map(|rule| NfObject::ListObject(NfListObject::Rule(rule))).collect();
            listed(&Nftables { objects: objects.into() }, servers.to_vec())
        };
        assert_eq!(read(rules.clone(), &border().servers), border().tenants);
        assert_eq!(missing(&border().tenants, &read(rules.clone(), &[])).len(), 2, "servers that bots do not ask");
        for (at, gone) in rules.iter().enumerate() {
            let mut fewer = rules.clone();
            fewer.remove(at);
            assert_ne!(read(fewer, &border().servers), border().tenants, "without {gone:?}");
            let mut weaker = rules.clone();
            weaker[at].expr.to_mut().pop();
            assert_ne!(read(weaker, &border().servers), border().tenants, "weaker {gone:?}");
        }
    }
}
