//! Answers about a bot's contract: what holds of it, what it may use and reach, where it is reached, and its snapshots.

use std::collections::BTreeMap;

use launchpad_protocol::reason::Reason;
use serde::Deserialize;

/// Whether the kernel holds one promise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Enforcement {
    pub(crate) verdict: String,
    pub(crate) seen: String,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
}

/// A bot's volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Volume {
    pub(crate) backend: String,
    pub(crate) bytes: u64,
    pub(crate) used_bytes: u64,
}

/// Promises, counted where they hold and named where not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct EnforcementSummary {
    pub(crate) enforced: usize,
    #[serde(default)]
    pub(crate) degraded: BTreeMap<String, Reason>,
    #[serde(default)]
    pub(crate) failed: BTreeMap<String, Reason>,
}

/// The walls between a host's bots and the world.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Gate {
    pub(crate) flushes: u64,
    pub(crate) longest_exposure_us: u64,
    #[serde(default)]
    pub(crate) ingress_addresses: Vec<String>,
}

/// What a bot may reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Egress {
    pub(crate) profile: Vec<String>,
    pub(crate) allow: Vec<String>,
    pub(crate) granted: u32,
}

/// What a bot may use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Plan {
    pub(crate) plan: String,
    pub(crate) cpu_millis: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) storage_bytes: u64,
    pub(crate) egress_rules: u32,
    pub(crate) retention_days: u32,
}

/// What the bots of an account were kept from on one host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Denials {
    pub(crate) count: u64,
    pub(crate) items: Vec<Denial>,
}

/// Something that a bot tried to reach and may not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Denial {
    pub(crate) at_us: i64,
    pub(crate) target: String,
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) certain: bool,
}

/// A public name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) proof: Option<DnsRecord>,
    #[serde(default)]
    pub(crate) records: Vec<DnsRecord>,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
}

/// A record in the domain name system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct DnsRecord {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: String,
}

/// The snapshots of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Snapshots {
    pub(crate) items: Vec<Snapshot>,
    #[serde(default)]
    pub(crate) operations: Vec<SnapshotOperation>,
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) taken_at_us: i64,
}

/// One that was asked for, or to be put back or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SnapshotOperation {
    pub(crate) operation: String,
    pub(crate) action: String,
    pub(crate) name: String,
    pub(crate) asked_at_us: i64,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
}

/// An operation that was just asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SnapshotAsked {
    pub(crate) operation: String,
    pub(crate) name: String,
}

/// Whether bots that may move do.
#[derive(Debug, Deserialize)]
pub(crate) struct Failover {
    /// Why they do not.
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
    /// Silent hosts that were called lost.
    #[serde(default)]
    pub(crate) excused: Vec<String>,
}
