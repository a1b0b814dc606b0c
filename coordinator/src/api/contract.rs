//! What a host holds of a bot's spec, as answers show it: enforcement, volume, denials.
//!
//! `api/deployments.rs` and `api/hosts.rs` put these into theirs. Only shown here: the host's agent judged it.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::enforcement::{self, Item, Verdict};
use launchpad_protocol::report;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::Reason;

/// Whether the kernel holds one promise.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Enforcement {
    /// `enforced`, `degraded` (it cannot be had there) or `failed` (it should hold, and does not).
    verdict: &'static str,
    /// What was read back from the kernel.
    seen: String,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// Every promise by name.
pub(super) fn enforcement(found: BTreeMap<Item, enforcement::Enforcement>) -> BTreeMap<String, Enforcement> {
    found.into_iter().map(|(item, one)| (item.to_string(), one.into())).collect()
}

impl From<enforcement::Enforcement> for Enforcement {
    fn from(found: enforcement::Enforcement) -> Self {
        let verdict = found.verdict.as_str();
        let reason = match found.verdict {
            Verdict::Enforced => None,
            Verdict::Degraded { reason } | Verdict::Failed { reason } => Some(reason.into()),
        };
        Self { verdict, seen: found.seen, reason }
    }
}

/// Every promise of a bot's spec, counted where it holds and named where it does not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnforcementSummary {
    /// How many hold.
    enforced: usize,
    /// Those that cannot be had there, each with its reason.
    degraded: BTreeMap<String, Reason>,
    /// Those that should hold, and do not.
    failed: BTreeMap<String, Reason>,
}

impl EnforcementSummary {
    /// Of everything that was looked at.
    pub(super) fn of(found: BTreeMap<Item, enforcement::Enforcement>) -> Self {
        let mut summary = Self { enforced: 0, degraded: BTreeMap::new(), failed: BTreeMap::new() };
        for (item, one) in found {
            match one.verdict {
                Verdict::Enforced => summary.enforced += 1,
                Verdict::Degraded { reason } => drop(summary.degraded.insert(item.to_string(), reason.into())),
                Verdict::Failed { reason } => drop(summary.failed.insert(item.to_string(), reason.into())),
            }
        }
        summary
    }
}

/// How the walls between bots and the world did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Gate {
    /// How often somebody else took its rules away since it started.
    flushes: u64,
    /// Microseconds until they were back, at the longest. Nothing of a bot was routed meanwhile.
    longest_exposure_us: u64,
    /// Addresses at which the host takes traffic for public names.
    ingress_addresses: BTreeSet<String>,
}

impl From<report::GateReport> for Gate {
    fn from(found: report::GateReport) -> Self {
        let longest_exposure_us = u64::try_from(found.longest_exposure.as_micros()).unwrap_or(u64::MAX);
        Self { flushes: found.flushes, longest_exposure_us, ingress_addresses: found.ingress_addresses }
    }
}

/// A bot's volume.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Volume {
    /// What keeps its quota on that host.
    backend: String,
    /// Bytes that it may hold.
    bytes: u64,
    /// Bytes that it holds.
    used_bytes: u64,
    /// Its snapshots by name.
    snapshots: BTreeMap<String, Snapshot>,
}

/// A copy of a volume on its host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Snapshot {
    /// Bytes that it takes there.
    bytes: u64,
    /// When it was taken.
    taken_at_us: i64,
    /// SHA-256 of its content.
    digest: String,
}

impl From<report::VolumeReport> for Volume {
    fn from(found: report::VolumeReport) -> Self {
        let snapshot = |(name, found): (String, report::SnapshotReport)| {
            let (bytes, taken_at_us) = (found.bytes, found.taken_at.micros());
            (name, Snapshot { bytes, taken_at_us, digest: found.digest.to_string() })
        };
        Self {
            backend: found.backend,
            bytes: found.bytes,
            used_bytes: found.used_bytes,
            snapshots: found.snapshots.into_iter().map(snapshot).collect(),
        }
    }
}
