//! The wire between the hosts and the world: which addresses, protocols and ports packets came for, counted
//! by the kernel of the fabric as they arrive, before anybody could accept or refuse them.
//!
//! Called by [`super::World`]. It sees what no server waits for (ICMP, UDP-Lite, closed ports) and loses
//! nothing. The laboratory's own network, 198.18.0.0/16, is left out: agents speak to their coordinator
//! there. So are the neighbour and group messages by which IPv6 links keep themselves.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::run;

/// Sets that the kernel fills by itself: one for each family, with and without a port.
const RULES: &str = r#"
table inet witness {
    set ports4 { type ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; }
    set ports6 { type ipv6_addr . inet_proto . inet_service; flags dynamic; size 65535; }
    set others4 { type ipv4_addr . inet_proto; flags dynamic; size 65535; }
    set others6 { type ipv6_addr . inet_proto; flags dynamic; size 65535; }
    chain arriving {
        type filter hook prerouting priority -310; policy accept;
        iifname "lo" return
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } return
        meta l4proto { tcp, udp, udplite, sctp, dccp } goto with_port
        ip daddr != 198.18.0.0/16 add @others4 { ip daddr . meta l4proto }
        add @others6 { ip6 daddr . meta l4proto }
    }
    chain with_port {
        ip daddr != 198.18.0.0/16 add @ports4 { ip daddr . meta l4proto . th dport }
        add @ports6 { ip6 daddr . meta l4proto . th dport }
    }
}
"#;
/// The sets' names.
const SETS: [&str; 4] = ["ports4", "ports6", "others4", "others6"];

/// What packets came for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The address.
    pub to: IpAddr,
    /// The protocol, as nft calls it: `tcp`, `icmp`.
    pub protocol: String,
    /// The port, if the protocol has ports.
    pub port: Option<u16>,
}

/// The watch on the fabric's links.
#[derive(Debug)]
pub struct Wire(());

impl Wire {
    /// Watches all links of the calling thread's namespace but its loopback, until the namespace ends.
    pub(super) fn watch() -> Result<Self> {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("start nft")?;
        let mut input = nft.stdin.take().context("nft takes no rules")?;
        input.write_all(RULES.as_bytes()).context("hand nft the rules")?;
        drop(input);
        let status = nft.wait().context("wait for nft")?;
        ensure!(status.success(), "nft refuses the watch on the fabric: {status}");
        Ok(Self(()))
    }

    /// What came so far. To be called in the fabric.
    ///
    /// # Errors
    /// When nft does not tell.
    pub fn flows(&self) -> Result<BTreeSet<Flow>> {
        let mut flows = BTreeSet::new();
        for set in SETS {
            let told = run(Command::new("nft").args(["-j", "list", "set", "inet", "witness", set]))?;
            flows.extend(parse(&told).with_context(|| format!("read nft's set {set}"))?);
        }
        Ok(flows)
    }

    pub(super) fn forget(&self) -> Result<()> {
        SETS.iter()
            .try_for_each(|set| run(Command::new("nft").args(["flush", "set", "inet", "witness", set])).map(drop))
    }
}

/// The flows of one set, as nft lists it.
fn parse(told: &str) -> Result<Vec<Flow>> {
    let told: Value = serde_json::from_str(told)?;
    let parts = told["nftables"].as_array().context("no list")?;
    let set = parts.iter().find_map(|part| part.get("set")).context("no set")?;
    let elements = set["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
    elements.iter().map(flow).collect()
}

fn flow(element: &Value) -> Result<Flow> {
    // An element with a counter or a timeout has its value one level deeper.
    let value = element.get("elem").map_or(element, |inner| &inner["val"]);
    let parts = value["concat"].as_array().with_context(|| format!("not a flow: {element}"))?;
    let to = parts.first().and_then(Value::as_str).and_then(|address| address.parse().ok());
    let protocol = parts.get(1).context("a flow without a protocol")?;
    // One without a name is told by its number.
    let protocol = protocol.as_str().map_or_else(|| protocol.to_string(), str::to_owned);
    let port = parts.get(2).map(|port| port.as_u64().and_then(|port| u16::try_from(port).ok()));
    ensure!(port != Some(None), "not a port: {element}");
    Ok(Flow { to: to.with_context(|| format!("not an address: {element}"))?, protocol, port: port.flatten() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_with_and_without_ports_and_counters() {
        let told = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "ports4", "elem": [
            {"concat": ["8.8.8.8", "udp", 53]},
            {"elem": {"val": {"concat": ["10.1.2.3", 136, 7]}, "counter": {"packets": 1}}}]}}]}"#;
        let flow =
            |to: &str, protocol: &str, port| Flow { to: to.parse().unwrap(), protocol: protocol.to_owned(), port };
        assert_eq!(parse(told).unwrap(), [flow("8.8.8.8", "udp", Some(53)), flow("10.1.2.3", "136", Some(7))]);
        let told = r#"{"nftables": [{"set": {"elem": [{"concat": ["fe80::1", "icmpv6"]}]}}]}"#;
        assert_eq!(parse(told).unwrap(), [flow("fe80::1", "icmpv6", None)]);
        assert_eq!(parse(r#"{"nftables": [{"set": {"name": "ports6"}}]}"#).unwrap(), []);
    }
}
