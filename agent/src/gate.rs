//! The gate: what bots may reach, and what may reach them. A process of its own (`launchpad-agent gate`), because bots
//! outlive the agent: its rules, its name server and its directory stay while the agent is stopped, upgraded or gone.
//!
//! ```text
//! agent ── gate.sock ──► socket ─► policy (on disk) ─┬─► rules, routes ─► nftables, ip rule
//!                                                    ├─► names: DNS for bots ─► a timed set, then the answer
//!                                                    └─► ingress: Caddy asks which bot a public name leads to
//! kernel ── netlink ───► watch ─► whatever somebody took away is put back
//! ```
//! **No mark, no route.** nftables marks what a bot may send; a routing rule per bridge drops everything of it that
//! carries no mark. So a ruleset that somebody flushed, or a gate that is dead, lets nothing out.
//!
//! Only the gate writes `inet launchpad` and our routing rules; Docker's tables are never touched.

pub mod policy;
pub mod ports;
