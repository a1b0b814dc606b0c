//! Address translation for tenants, in an nftables table of our own that holds nothing else.
//!
//! Docker's masquerade is off on our networks: `nft flush ruleset` takes it away and Docker does not put it
//! back until it restarts. `network.rs` calls [`apply`] with every tenant's subnet; the whole table is
//! replaced in one atomic batch, so that there is never a moment without it. Docker's tables are never
//! touched.
//!
//! ```text
//! table inet launchpad_nat {
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     ip saddr 172.29.0.0/26 oifname != "lp0123456789ab" masquerade comment "acct_…"
//!   }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use nftables::batch::Batch;
use nftables::expr::{Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix};
use nftables::schema::{Chain, NfListObject, NfObject, Nftables, Rule, Table};
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::address::Subnet;
use super::places::bridge_name;

/// The table that is ours.
pub const TABLE: &str = "launchpad_nat";
const CHAIN: &str = "postrouting";

/// nftables' `srcnat` priority (linux/netfilter_ipv4.h, NF_IP_PRI_NAT_SRC).
const PRIORITY_SRCNAT: i32 = 100;

/// How long `nft` may take. It takes 10 ms; a machine that swaps may take long.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// The program, found on the agent's PATH.
const NFT: &str = "nft";

/// The batch that makes the table what it should be, whatever it is now.
#[must_use]
pub fn ruleset(tenants: &BTreeMap<AccountId, Subnet>) -> Nftables<'static> {
    let table = || Table { family: NfFamily::INet, name: TABLE.into(), handle: None };
    let mut batch = Batch::new();
    // Adding what exists is no error, deleting what does not is one: so add, delete, add.
    batch.add(NfListObject::Table(table()));
    batch.delete(NfListObject::Table(table()));
    batch.add(NfListObject::Table(table()));
    batch.add(NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: CHAIN.into(),
        newname: None,
        handle: None,
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(PRIORITY_SRCNAT),
        dev: None,
        policy: Some(NfChainPolicy::Accept),
    }));
    for (account, subnet) in tenants {
        batch.add(NfListObject::Rule(masquerade(*account, *subnet)));
    }
    batch.to_nftables()
}

fn masquerade(account: AccountId, subnet: Subnet) -> Rule<'static> {
    let text = |text: String| Expression::String(text.into());
    let source = Payload::PayloadField(PayloadField { protocol: "ip".into(), field: "saddr".into() });
    let range = Prefix { addr: Box::new(text(subnet.base().to_string())), len: u32::from(subnet.bits()) };
    let from_tenant = Match {
        left: Expression::Named(NamedExpression::Payload(source)),
        right: Expression::Named(NamedExpression::Prefix(range)),
        op: Operator::EQ,
    };
    let leaves_its_bridge = Match {
        left: Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Oifname })),
        right: text(bridge_name(account)),
        op: Operator::NEQ,
    };
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: CHAIN.into(),
        expr: vec![Statement::Match(from_tenant), Statement::Match(leaves_its_bridge), Statement::Masquerade(None)]
            .into(),
        handle: None,
        index: None,
        comment: Some(account.to_string().into()),
    }
}

/// Replaces the table.
///
/// # Errors
/// When `nft` is missing or refuses: the reason repeats what it said.
pub async fn apply(tenants: &BTreeMap<AccountId, Subnet>) -> Result<(), Reason> {
    let batch =
        serde_json::to_vec(&ruleset(tenants)).map_err(|error| failed("write the rules", &error.to_string()))?;
    run(&["-j", "-f", "-"], &batch).await.map(drop)
}

/// The tenants whose rule is in the table, with the subnet that it translates; empty where there is no table.
///
/// # Errors
/// When `nft` is missing or its answer cannot be read.
pub async fn present() -> Result<BTreeMap<AccountId, Subnet>, Reason> {
    let listing = match run(&["-j", "list", "table", "inet", TABLE], &[]).await {
        Ok(listing) => listing,
        Err(reason) if reason.cause.as_deref().is_some_and(|cause| cause.contains("No such file")) => {
            return Ok(BTreeMap::new());
        }
        Err(reason) => return Err(reason),
    };
    let listing: Nftables<'static> =
        serde_json::from_slice(&listing).map_err(|error| failed("list the rules", &error.to_string()))?;
    Ok(listed(&listing))
}

/// Reads a listing back. A rule that is not word for word ours counts as absent, and is replaced.
fn listed(listing: &Nftables<'static>) -> BTreeMap<AccountId, Subnet> {
    let rules = listing.objects.iter().filter_map(|object| {
        if let NfObject::ListObject(NfListObject::Rule(rule)) = object { Some(rule) } else { None }
    });
    let ours = rules.filter_map(|rule| {
        let account: AccountId = rule.comment.as_deref()?.parse().ok()?;
        let subnet = rule.expr.iter().find_map(translated)?;
        (rule.expr == masquerade(account, subnet).expr).then_some((account, subnet))
    });
    ours.collect()
}

/// The subnet that a statement compares a packet's source with.
fn translated(statement: &Statement<'static>) -> Option<Subnet> {
    let Statement::Match(Match { right: Expression::Named(NamedExpression::Prefix(range)), .. }) = statement else {
        return None;
    };
    prefix(range)
}

fn prefix(range: &Prefix<'_>) -> Option<Subnet> {
    let Expression::String(base) = range.addr.as_ref() else { return None };
    Subnet::new(base.parse().ok()?, u8::try_from(range.len).ok()?)
}

/// Whether `nft` is there and may list rules.
///
/// # Errors
/// What is missing.
pub async fn usable() -> Result<(), Reason> {
    run(&["-j", "list", "tables"], &[]).await.map(drop)
}

/// Tenants among `wanted` whose rule is missing or differs.
#[must_use]
pub fn missing(wanted: &BTreeMap<AccountId, Subnet>, present: &BTreeMap<AccountId, Subnet>) -> BTreeSet<AccountId> {
    wanted
        .iter()
        .filter(|(account, subnet)| present.get(account) != Some(subnet))
        .map(|(account, _)| *account)
        .collect()
}

async fn run(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Reason> {
    let step = if input.is_empty() { "list the rules" } else { "replace the rules" };
    let io = |error: std::io::Error| failed(step, &error.to_string());
    let mut command = Command::new(NFT);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| failed(step, &format!("{NFT}: {error}")).mend("install the nftables package on the host"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).await.map_err(io)?;
    }
    let ended = tokio::time::timeout(NFT_TIMEOUT, child.wait_with_output()).await;
    let output = ended.map_err(|_| failed(step, "nft did not end in time"))?.map_err(io)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(step, String::from_utf8_lossy(&output.stderr).trim()))
}

fn failed(step: &str, cause: &str) -> Reason {
    Reason::new("nat-failed", format!("nftables could not {step} of table inet {TABLE}")).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants() -> BTreeMap<AccountId, Subnet> {
        BTreeMap::from([
            ("acct_00000000000000000000000000000001".parse().unwrap(), "172.29.0.0/26".parse().unwrap()),
            ("acct_00000000000000000000000000000002".parse().unwrap(), "172.29.0.64/26".parse().unwrap()),
        ])
    }

    #[test]
    fn the_batch_replaces_our_table_and_names_no_other() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&ruleset(&tenants())).unwrap());
    }

    #[test]
    fn a_rule_of_ours_reads_back_and_an_altered_one_does_not() {
        let mut objects: Vec<_> = Vec::new();
        for (account, subnet) in tenants() {
            let object = NfListObject::Rule(masquerade(account, subnet));
            objects.push(NfObject::ListObject(object));
        }
        assert_eq!(listed(&Nftables { objects: objects.clone().into() }), tenants());
        if let NfObject::ListObject(NfListObject::Rule(rule)) = &mut objects[0] {
            rule.expr.to_mut().pop();
        }
        let left = listed(&Nftables { objects: objects.into() });
        assert_eq!(missing(&tenants(), &left).len(), 1);
    }
}
