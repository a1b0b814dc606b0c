//! What the coordinator answers, as this command reads it.
//!
//! Fields that a newer coordinator adds are ignored, and with `--output json` they are still printed: the command
//! prints the answer itself, not what it understood of it.

use std::collections::BTreeMap;

use launchpad_protocol::generation::Generation;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, Capacity};
use serde::Deserialize;

mod contract;

pub(crate) use contract::{
    Denials, DnsRecord, Domain, Egress, Enforcement, EnforcementSummary, Failover, Gate, Plan, SnapshotAsked,
    SnapshotOperation, Snapshots, Volume,
};

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    /// The items, as they came.
    pub(crate) items: Vec<serde_json::Value>,
    /// The cursor of the next page.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// A deployment.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) profile: String,
    pub(crate) plan: String,
    pub(crate) image: String,
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
    pub(crate) revision: u64,
    #[serde(default)]
    pub(crate) host: Option<String>,
    #[serde(default)]
    pub(crate) url: Option<String>,
    pub(crate) created_at_us: i64,
    #[serde(default)]
    pub(crate) timeline: Vec<TimelineEntry>,
    #[serde(default)]
    pub(crate) instance: Option<Instance>,
}

/// One line of a deployment's history.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct TimelineEntry {
    pub(crate) id: String,
    pub(crate) at_us: i64,
    pub(crate) state: String,
    pub(crate) cause: String,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
}

/// A deployment's instance as its host last reported it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) container_id: Option<String>,
    #[serde(default)]
    pub(crate) started_at_us: Option<i64>,
    #[serde(default)]
    pub(crate) ready_at_us: Option<i64>,
    pub(crate) restarts: u32,
    #[serde(default)]
    pub(crate) address: Option<String>,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
    #[serde(default)]
    pub(crate) enforcement: BTreeMap<String, Enforcement>,
    #[serde(default)]
    pub(crate) volume: Option<Volume>,
    #[serde(default)]
    pub(crate) oom_kills: u64,
}

/// A secret, without its value.
#[derive(Debug, Deserialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) set_at_us: i64,
    #[serde(default)]
    pub(crate) needed: bool,
    #[serde(default)]
    pub(crate) variables: Vec<String>,
}

/// What became of a change of a secret.
#[derive(Debug, Deserialize)]
pub(crate) struct SecretChange {
    pub(crate) name: String,
    pub(crate) revision: u64,
    pub(crate) effect: String,
    #[serde(default)]
    pub(crate) operation: Option<String>,
}

/// The keys that wrap, by name.
#[derive(Debug, Deserialize)]
pub(crate) struct Keys {
    pub(crate) current: String,
    pub(crate) wraps: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) rotation: Option<Rotation>,
}

/// A change of the key that wraps.
#[derive(Debug, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) id: String,
    pub(crate) asked_at_us: i64,
    #[serde(default)]
    pub(crate) done_at_us: Option<i64>,
    #[serde(default)]
    pub(crate) trouble: Option<Reason>,
}

/// Who signs for hosts.
#[derive(Debug, Deserialize)]
pub(crate) struct Pki {
    pub(crate) roots: Vec<Root>,
    pub(crate) issuers: Vec<Issuer>,
    #[serde(default)]
    pub(crate) rotation: Option<CaRotation>,
    pub(crate) hosts: Vec<HostCertificate>,
}

/// A root.
#[derive(Debug, Deserialize)]
pub(crate) struct Root {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) not_after_us: Option<i64>,
}

/// An issuing CA.
#[derive(Debug, Deserialize)]
pub(crate) struct Issuer {
    pub(crate) id: String,
    pub(crate) root: String,
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) not_after_us: Option<i64>,
}

/// One issuing CA taking over from another.
#[derive(Debug, Deserialize)]
pub(crate) struct CaRotation {
    pub(crate) id: String,
    pub(crate) phase: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// What a host holds.
#[derive(Debug, Deserialize)]
pub(crate) struct HostCertificate {
    pub(crate) name: String,
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    #[serde(default)]
    pub(crate) not_after_us: Option<i64>,
    pub(crate) has_certificate: bool,
    pub(crate) has_roots: bool,
}

/// A host.
#[derive(Debug, Deserialize)]
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) state: String,
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) transport: Option<String>,
    #[serde(default)]
    pub(crate) agent_version: Option<String>,
    pub(crate) generation: Generations,
    #[serde(default)]
    pub(crate) capacity: Option<Capacity>,
    #[serde(default)]
    pub(crate) allocated: Option<Capacity>,
    #[serde(default)]
    pub(crate) capabilities: BTreeMap<String, Capability>,
    #[serde(default)]
    pub(crate) instances: Vec<HostedInstance>,
    #[serde(default)]
    pub(crate) gate: Option<Gate>,
    #[serde(default)]
    pub(crate) reasons: Vec<Reason>,
    #[serde(default)]
    pub(crate) last_seen_us: Option<i64>,
}

/// A bot on a host.
#[derive(Debug, Deserialize)]
pub(crate) struct HostedInstance {
    pub(crate) deployment: String,
    pub(crate) phase: String,
    #[serde(default)]
    pub(crate) enforcement: Option<EnforcementSummary>,
    #[serde(default)]
    pub(crate) volume: Option<Volume>,
}

/// How far a host is with what it was told.
#[derive(Debug, Deserialize)]
pub(crate) struct Generations {
    #[serde(default)]
    pub(crate) published: Option<Generation>,
    #[serde(default)]
    pub(crate) accepted: Option<Generation>,
    #[serde(default)]
    pub(crate) applied: Option<Generation>,
}

/// A new join token.
#[derive(Debug, Deserialize)]
pub(crate) struct JoinToken {
    pub(crate) token: String,
    pub(crate) expires_at_us: i64,
    pub(crate) enroll_endpoint: String,
}

/// Whether publishing is frozen.
#[derive(Debug, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) frozen: bool,
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
    #[serde(default)]
    pub(crate) hosts: Vec<HostRecovery>,
    #[serde(default)]
    pub(crate) strangers: Vec<Stranger>,
}

/// What a host holds, against what the store made for it.
#[derive(Debug, Deserialize)]
pub(crate) struct HostRecovery {
    pub(crate) name: String,
    pub(crate) connected: bool,
    #[serde(default)]
    pub(crate) spoken: bool,
    #[serde(default)]
    pub(crate) published: Option<Generation>,
    #[serde(default)]
    pub(crate) floor: Option<Generation>,
}

/// A host that the store does not know.
#[derive(Debug, Deserialize)]
pub(crate) struct Stranger {
    pub(crate) id: String,
}

/// A piece of a log: a line, or the end.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum LogPiece {
    /// A line.
    Line { at_us: i64, stream: String, line: String },
    /// The end; a reason if there is less than was asked for.
    End { end: LogEnd },
}

/// How a log ended.
#[derive(Debug, Deserialize)]
pub(crate) struct LogEnd {
    #[serde(default)]
    pub(crate) reason: Option<Reason>,
}
