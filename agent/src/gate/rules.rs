//! What nftables is told, as text in its own language: pure, one atomic batch per change.
//!
//! `keeper.rs` picks the batch and hands it to `nft.rs`. One table holds everything; a packet of a bot meets the rules of
//! its own tenant only, however many there are. Only this table is ever written; nothing rests on Docker's. To accept in
//! here ends this table's part only: whatever else the host's owner filters still does.
//!
//! ```text
//! table inet launchpad {
//!   chain outbound { hook prerouting, mangle    iifname vmap @tenants }       a bot's packet → its tenant's chain
//!   chain inbound  { hook forward                                             into a bridge: answers, and neighbours
//!   chain leaving  { hook postrouting, nat                                    under the host's address
//!   chain from_lp0123456789ab {                                               in this order:
//!     not IPv4, not one of the tenant's bots                                  drop
//!     a coordinator                                                           refused
//!     a connection that bears the number of a rule that stands                mark, accept
//!     no connection at all                                                    drop
//!     its own bridge, port 53                                                 accept: the gate's name server
//!     an answer to whoever connected to the bot                               mark, accept
//!     any address of the host                                                 refused
//!     a neighbour on the same bridge                                          mark, accept
//!     other tenants, denied ranges, all but TCP, denied ports                 refused
//!     @names_… (timed: the gate's name server fills it), @nets_…              number the connection, mark, accept
//!     everything else                                                         refused
//!   }
//!   chain refused_lp0123456789ab { count it, sample it, reject it }
//! }
//! ```
//! A packet without the mark finds no route ([`super::routes`]). The connection's mark is ours, whole, on connections that
//! bots begin: it is what lets one that lives longer than a name's addresses go on, and what ends it with its rule. Such
//! packets are most of all, so they pass early: their first one has met every wall, and none of those can grow towards
//! it but the coordinators' addresses. All walls for every packet were measured to cost 4 % of throughput, this 2 %.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use launchpad_protocol::egress::{Cidr, Destination, PORTS_DENIED, RANGES_DENIED};
use launchpad_protocol::id::{AccountId, DeploymentId};
use tokio::time::Instant;

use super::admitted::{Admitted, Element, Renewal};
use super::policy::TenantGate;
use super::routes::{MARK, MARK_MASK};
use super::state::State;

/// The table that is ours.
pub const TABLE: &str = "launchpad";

/// For how long a denial is remembered after it was last tried, in minutes: long enough for a person to see it.
pub const DENIAL_MINUTES: u64 = 10;
/// Denials of one tenant that are told apart at once: eight times what a report shows.
const DENIALS_MAX: usize = 256;
/// Elements of one tenant's timed set: what all the bots of its network may hold.
const NAMES_MAX: usize = 61 * super::admitted::ELEMENTS_PER_BOT_MAX;

/// A tenant's sets that follow from the policy and from what names have opened.
const SETS: [(&str, &str); 4] = [("set", "bots"), ("set", "open"), ("map", "nets"), ("map", "names")];

/// What the kernel should hold.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What the gate was told.
    pub state: &'a State,
    /// What names have opened.
    pub admitted: &'a Admitted,
    /// When.
    pub now: Instant,
}

impl Wanted<'_> {
    /// Every tenant's bridge.
    pub fn bridges(&self) -> impl Iterator<Item = &str> {
        self.state.policy.tenants.values().map(|tenant| tenant.bridge.as_str())
    }

    /// The whole table, in the place of whatever is there; without tenants there is none.
    #[must_use]
    pub fn whole(&self) -> String {
        // Adding what exists is no error, deleting what does not is one: so add, delete, add.
        let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
        if self.state.policy.tenants.is_empty() {
            return text;
        }
        let coordinators = elements(self.state.policy.never.iter().map(ToString::to_string));
        let _ = writeln!(text, "table inet {TABLE} {{\n{}", frame(&coordinators));
        for (account, tenant) in &self.state.policy.tenants {
            text.push_str(&self.sets(*account, tenant, true));
            text.push_str(&chains(tenant));
        }
        text.push_str("}\n");
        for tenant in self.state.policy.tenants.values() {
            text.push_str(&entrance(tenant));
        }
        text
    }

    /// One tenant's rules and sets, made or made anew; those of others, and what was counted, stay untouched.
    #[must_use]
    pub fn tenant(&self, account: AccountId) -> String {
        let Some(tenant) = self.state.policy.tenants.get(&account) else { return String::new() };
        let bridge = &tenant.bridge;
        let mut text = format!("table inet {TABLE} {{\n{}{}}}\n", self.sets(account, tenant, false), empty(bridge));
        for chain in ["from", "refused"] {
            let _ = writeln!(text, "flush chain inet {TABLE} {chain}_{bridge}");
        }
        for (kind, name) in SETS {
            let _ = writeln!(text, "flush {kind} inet {TABLE} {name}_{bridge}");
        }
        let _ = writeln!(text, "table inet {TABLE} {{\n{}{}}}", self.sets(account, tenant, true), chains(tenant));
        text.push_str(&entrance(tenant));
        text
    }

    /// A tenant's sets, with what is in them or without.
    fn sets(&self, account: AccountId, tenant: &TenantGate, filled: bool) -> String {
        let bridge = &tenant.bridge;
        let of = |deployment: &DeploymentId| {
            filled && self.state.policy.instances.get(deployment).is_some_and(|gate| gate.account == account)
        };
        let instances = self.state.policy.instances.iter().filter(|(deployment, _)| of(deployment));
        let bots = elements(instances.clone().map(|(_, gate)| gate.address.to_string()));
        let numbers = instances.clone().flat_map(|(deployment, _)| self.state.numbers.of(*deployment));
        let open = elements(numbers.map(|(_, _, number)| marked(number)));
        let nets = elements(instances.flat_map(|(deployment, gate)| nets(self.state, *deployment, gate.address)));
        let admitted = self.admitted.elements(&self.state.policy, |deployment| of(&deployment), self.now);
        let names = elements(admitted.map(|element| self.timed(&element)));
        let key = "ipv4_addr . ipv4_addr . inet_service : mark";
        format!(
            "  set bots_{bridge} {{ type ipv4_addr;{bots} }}\n\
             \x20 map names_{bridge} {{ type {key}; flags timeout; size {NAMES_MAX};{names} }}\n\
             \x20 map nets_{bridge} {{ type {key}; flags interval;{nets} }}\n\
             \x20 set open_{bridge} {{ type mark;{open} }}\n\
             \x20 set denied_{bridge} {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; \
             flags dynamic,timeout; timeout {DENIAL_MINUTES}m; size {DENIALS_MAX}; }}\n\
             \x20 counter denied_{bridge} {{ }}\n"
        )
    }

    /// An element with what is left of its time, in whole seconds: one that ends within a second stays that long.
    fn timed(&self, element: &Element) -> String {
        let left = element.until.saturating_duration_since(self.now).as_secs().max(1);
        format!("{} timeout {left}s : {}", key(element), marked(element.number))
    }

    /// The batch that has the kernel hold these elements for as long as each says.
    #[must_use]
    pub fn renew(&self, renewals: &[Renewal]) -> String {
        let mut text = String::new();
        for Renewal { element, before } in renewals {
            let Some(tenant) = self.state.policy.tenants.values().find(|tenant| tenant.has_room_for(element.bot))
            else {
                continue;
            };
            let set = format!("element inet {TABLE} names_{}", tenant.bridge);
            let key = key(element);
            // Whether it is still there nobody knows; added under the number that it would have, it is, and can go.
            let _ = writeln!(text, "add {set} {{ {key} : {} }}", marked(*before));
            let _ = writeln!(text, "delete {set} {{ {key} }}");
            let _ = writeln!(text, "add {set} {{ {} }}", self.timed(element));
        }
        text
    }
}

/// The batch that takes a tenant's rules and sets away.
#[must_use]
pub fn without(tenant: &TenantGate) -> String {
    let TenantGate { bridge, subnet } = tenant;
    let mut text = String::new();
    for (set, element) in [
        ("tenants", quoted(bridge)),
        ("bridges", quoted(bridge)),
        ("neighbours", format!("{0} . {0}", quoted(bridge))),
        ("subnets", subnet.to_string()),
    ] {
        let _ = writeln!(text, "delete element inet {TABLE} {set} {{ {element} }}");
    }
    for verb in ["flush", "delete"] {
        for chain in ["from", "refused"] {
            let _ = writeln!(text, "{verb} chain inet {TABLE} {chain}_{bridge}");
        }
    }
    for (kind, name) in SETS.into_iter().chain([("set", "denied"), ("counter", "denied")]) {
        let _ = writeln!(text, "delete {kind} inet {TABLE} {name}_{bridge}");
    }
    text
}

/// What is there once, for all tenants.
fn frame(coordinators: &str) -> String {
    let never: Vec<String> =
        outermost(RANGES_DENIED.map(|(range, _)| range).into()).iter().map(Cidr::to_string).collect();
    let never = never.join(", ");
    let ports: Vec<String> = PORTS_DENIED.iter().map(|(port, _)| port.to_string()).collect();
    let ports = ports.join(", ");
    format!(
        "  map tenants {{ type ifname : verdict; }}
  set bridges {{ type ifname; }}
  set neighbours {{ type ifname . ifname; }}
  set subnets {{ type ipv4_addr; flags interval; }}
  set coordinators {{ type ipv4_addr;{coordinators} }}
  set never {{ type ipv4_addr; flags interval; elements = {{ {never} }}; }}
  set never_ports {{ type inet_service; elements = {{ {ports} }}; }}
  set with_ports {{ type inet_proto; elements = {{ tcp, udp }}; }}
  chain outbound {{
    type filter hook prerouting priority mangle; policy accept;
    iifname vmap @tenants
  }}
  chain inbound {{
    type filter hook forward priority filter; policy accept;
    oifname != @bridges accept
    ct state established,related accept
    iifname . oifname @neighbours accept
    drop
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @subnets oifname != @bridges masquerade
  }}
"
    )
}

/// The lines of the frame's sets by which a tenant's packets are found.
fn entrance(tenant: &TenantGate) -> String {
    let (bridge, subnet) = (&tenant.bridge, tenant.subnet);
    let name = quoted(bridge);
    format!(
        "add element inet {TABLE} bridges {{ {name} }}\n\
         add element inet {TABLE} neighbours {{ {name} . {name} }}\n\
         add element inet {TABLE} subnets {{ {subnet} }}\n\
         add element inet {TABLE} tenants {{ {name} : jump from_{bridge} }}\n"
    )
}

fn empty(bridge: &str) -> String {
    format!("  chain refused_{bridge} {{ }}\n  chain from_{bridge} {{ }}\n")
}

/// A tenant's two chains.
fn chains(tenant: &TenantGate) -> String {
    let bridge = &tenant.bridge;
    let mut text = format!("  chain refused_{bridge} {{\n");
    for rule in refusal(bridge) {
        let _ = writeln!(text, "    {rule}");
    }
    let _ = writeln!(text, "  }}\n  chain from_{bridge} {{");
    for rule in walk(tenant) {
        let _ = writeln!(text, "    {rule}");
    }
    text.push_str("  }\n");
    text
}

/// What becomes of a packet that may not go: each line fast for the bot, because an attempt that hangs looks like a bug.
fn refusal(bridge: &str) -> [String; 5] {
    let sample = format!("update @denied_{bridge} {{ ip saddr . ip daddr . meta l4proto");
    [
        format!("counter name denied_{bridge}"),
        // A full set takes no more; the packet goes on to the next line all the same.
        format!("meta l4proto @with_ports {sample} . th dport counter }}"),
        format!("meta l4proto != @with_ports {sample} . 0 counter }}"),
        // The kernel sends few ICMP errors a second to one bot, and resets without a bound.
        "meta l4proto tcp reject with tcp reset".to_owned(),
        "reject with icmpx admin-prohibited".to_owned(),
    ]
}

/// The rules that a bot's packet walks, in order.
fn walk(tenant: &TenantGate) -> Vec<String> {
    let TenantGate { bridge, subnet } = tenant;
    let gateway = tenant.gateway();
    let let_pass = format!("meta mark set meta mark & {:#010x} | {MARK:#010x} accept", !MARK_MASK | MARK);
    let refuse = format!("goto refused_{bridge}");
    let way = "ip saddr . ip daddr . tcp dport";
    vec![
        "meta nfproto != ipv4 drop".to_owned(),
        format!("ip saddr != @bots_{bridge} drop"),
        format!("ip daddr @coordinators {refuse}"),
        format!("ct state established ct mark @open_{bridge} {let_pass}"),
        // Such a packet would leave untranslated, under the bot's own address.
        "ct state invalid drop".to_owned(),
        format!("ip daddr {gateway} meta l4proto @with_ports th dport 53 accept"),
        format!("ct direction reply ct state established,related {let_pass}"),
        format!("fib daddr type != unicast {refuse}"),
        format!("ip daddr {subnet} {let_pass}"),
        format!("ip daddr @subnets {refuse}"),
        format!("ip daddr @never {refuse}"),
        format!("meta l4proto != tcp {refuse}"),
        format!("tcp dport @never_ports {refuse}"),
        format!("ct mark set {way} map @names_{bridge} {let_pass}"),
        format!("ct mark set {way} map @nets_{bridge} {let_pass}"),
        refuse,
    ]
}

/// Those ranges that lie in no other: two either share nothing, or one holds the other.
fn outermost(ranges: BTreeSet<Cidr>) -> BTreeSet<Cidr> {
    let holds = |outer: &Cidr, inner: &Cidr| outer.bits() < inner.bits() && outer.contains(inner.base());
    ranges.iter().filter(|range| !ranges.iter().any(|other| holds(other, range))).copied().collect()
}

/// The elements by which an instance reaches ranges: the kernel takes none that lies in another.
fn nets(state: &State, deployment: DeploymentId, bot: Ipv4Addr) -> Vec<String> {
    let mut by_port: BTreeMap<u16, BTreeMap<Cidr, u32>> = BTreeMap::new();
    for (to, port, number) in state.numbers.of(deployment) {
        if let Destination::Network(range) = to {
            by_port.entry(port).or_default().insert(*range, number);
        }
    }
    let mut found = Vec::new();
    for (port, ranges) in by_port {
        for range in outermost(ranges.keys().copied().collect()) {
            let number = ranges.get(&range).copied().unwrap_or_default();
            found.push(format!("{bot} . {range} . {port} : {}", marked(number)));
        }
    }
    found
}

fn key(element: &Element) -> String {
    let (address, port) = element.target;
    format!("{} . {address} . {port}", element.bot)
}

/// A number as a connection bears it.
fn marked(number: u32) -> String {
    format!("{:#010x}", MARK | number)
}

fn elements(each: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = each.collect();
    if all.is_empty() { String::new() } else { format!(" elements = {{ {} }};", all.join(", ")) }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

#[cfg(test)]
mod tests;
