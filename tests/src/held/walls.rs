//! The walls around one bot as nftables and the routing rules have them, read by `nft` and `ip` where they are run.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run;

/// What stands around the bot at one address.
pub(crate) struct Walls {
    /// The bridge behind which it is, by the host's own route to it.
    pub(crate) bridge: String,
    /// The subnet of that bridge.
    pub(crate) subnet: String,
    /// Addresses that count as the tenant's bots.
    pub(crate) bots: Vec<String>,
    /// Ranges that they reach, each with the number of its rule.
    pub(crate) nets: Vec<String>,
    /// Numbers of rules that stand.
    pub(crate) open: Vec<String>,
    /// What a packet from a bridge meets first, and where it is sent by its bridge.
    pub(crate) outbound: Vec<String>,
    pub(crate) tenants: Vec<String>,
    /// What a packet from the tenant's bridge meets.
    pub(crate) from: Vec<String>,
    /// What becomes of a packet that leaves the host, and whose do.
    pub(crate) leaving: Vec<String>,
    pub(crate) subnets: Vec<String>,
    pub(crate) bridges: Vec<String>,
    /// The routing rules for what comes from that bridge.
    pub(crate) routes: Vec<String>,
}

impl Walls {
    pub(crate) fn around(address: &str) -> Result<Self> {
        let way = said("ip", &["route", "get", address])?;
        let bridge = word_behind(&way, "dev").with_context(|| format!("no way to {address}: {way}"))?.to_owned();
        let link = said("ip", &["route", "show", "dev", &bridge, "scope", "link"])?;
        let rules = said("ip", &["rule", "show"])?;
        let from_it = |line: &&str| word_behind(line, "iif") == Some(&bridge);
        Ok(Self {
            subnet: link.split_whitespace().next().with_context(|| format!("no subnet on {bridge}"))?.to_owned(),
            bots: elements("set", &format!("bots_{bridge}"))?,
            nets: elements("map", &format!("nets_{bridge}"))?,
            open: elements("set", &format!("open_{bridge}"))?,
            outbound: chain("outbound")?,
            tenants: elements("map", "tenants")?,
            from: chain(&format!("from_{bridge}"))?,
            leaving: chain("leaving")?,
            subnets: elements("set", "subnets")?,
            bridges: elements("set", "bridges")?,
            routes: rules.lines().filter(from_it).map(plain).collect(),
            bridge,
        })
    }
}

/// The elements of a set or a map of our table.
fn elements(kind: &str, name: &str) -> Result<Vec<String>> {
    let text = said("nft", &["list", kind, "inet", "launchpad", name])?;
    let inner = text.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
    let inner = inner.map(|(inner, _)| inner).unwrap_or_default();
    Ok(inner.split(',').map(plain).filter(|element| !element.is_empty()).collect())
}

/// The rules of a chain of our table, with its hook first where it has one.
fn chain(name: &str) -> Result<Vec<String>> {
    let text = said("nft", &["list", "chain", "inet", "launchpad", name])?;
    let lines = text.lines().map(plain).skip_while(|line| !line.starts_with("chain ")).skip(1);
    Ok(lines.take_while(|line| line != "}").collect())
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    run(Command::new(program).args(arguments))
}

fn word_behind<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.split_whitespace().skip_while(|one| *one != word).nth(1)
}

/// With one blank between words, whatever it was aligned with.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
