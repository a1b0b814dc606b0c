//! The part of a report that is about walls: how each promise of a spec stands, volumes, and what was denied.
//!
//! `wire/report.rs` calls this for each instance, and once for the host's gate.

use std::time::Duration;

use super::field::{
    WireError, at_most, digest, distinct, file_name, filled, list, map, micros, parse, parse_optional, required, set,
};
use super::v1;
use crate::enforcement::{Enforcement, Item, Verdict};
use crate::id::AccountId;
use crate::limits::DENIALS_SAMPLED_MAX;
use crate::report::{Denial, Denials, GateReport, SnapshotReport, VolumeReport};
use crate::time::Moment;

pub(super) fn enforcement_out((item, enforcement): (Item, Enforcement)) -> v1::Enforcement {
    use v1::enforcement::{Enforced, Verdict as Sent};
    let verdict = match enforcement.verdict {
        Verdict::Enforced => Sent::Enforced(Enforced {}),
        Verdict::Degraded { reason } => Sent::Degraded(reason.into()),
        Verdict::Failed { reason } => Sent::Failed(reason.into()),
    };
    v1::Enforcement { item: item.to_string(), seen: enforcement.seen, verdict: Some(verdict) }
}

pub(super) fn enforcement_in(message: v1::Enforcement) -> Result<(Item, Enforcement), WireError> {
    use v1::enforcement::{Enforced, Verdict as Sent};
    let verdict = match set("verdict", message.verdict)? {
        Sent::Enforced(Enforced {}) => Verdict::Enforced,
        Sent::Degraded(reason) => Verdict::Degraded { reason: required("degraded", Some(reason))? },
        Sent::Failed(reason) => Verdict::Failed { reason: required("failed", Some(reason))? },
    };
    Ok((parse("item", &message.item)?, Enforcement { verdict, seen: message.seen }))
}

impl From<VolumeReport> for v1::VolumeReport {
    fn from(volume: VolumeReport) -> Self {
        let snapshot = |(name, snapshot): (String, SnapshotReport)| v1::SnapshotReport {
            name,
            size_bytes: snapshot.bytes,
            taken_at_us: snapshot.taken_at.micros(),
            digest: snapshot.digest.as_bytes().to_vec(),
        };
        Self {
            backend: volume.backend,
            size_bytes: volume.bytes,
            used_bytes: volume.used_bytes,
            snapshots: volume.snapshots.into_iter().map(snapshot).collect(),
        }
    }
}

impl TryFrom<v1::VolumeReport> for VolumeReport {
    type Error = WireError;

    fn try_from(message: v1::VolumeReport) -> Result<Self, WireError> {
        let snapshot = |message: v1::SnapshotReport| {
            let report = SnapshotReport {
                bytes: message.size_bytes,
                taken_at: Moment::from_micros(message.taken_at_us),
                digest: digest("digest", &message.digest)?,
            };
            Ok((file_name("name", message.name)?, report))
        };
        Ok(Self {
            backend: filled("backend", message.backend)?,
            bytes: message.size_bytes,
            used_bytes: message.used_bytes,
            snapshots: map("snapshots", message.snapshots, snapshot)?,
        })
    }
}

pub(super) fn denials_out((account, denials): (AccountId, Denials)) -> v1::Denials {
    let sample = |denial: Denial| v1::Denial {
        at_us: denial.at.micros(),
        deployment_id: denial.deployment.map(|id| id.to_string()),
        target: denial.target,
        count: denial.count,
    };
    v1::Denials {
        account_id: account.to_string(),
        count: denials.count,
        samples: denials.samples.into_iter().map(sample).collect(),
    }
}

pub(super) fn denials_in(message: v1::Denials) -> Result<(AccountId, Denials), WireError> {
    at_most("samples", &message.samples, DENIALS_SAMPLED_MAX)?;
    let denials = Denials { count: message.count, samples: list("samples", message.samples)? };
    Ok((parse("account_id", &message.account_id)?, denials))
}

impl TryFrom<v1::Denial> for Denial {
    type Error = WireError;

    fn try_from(message: v1::Denial) -> Result<Self, WireError> {
        Ok(Self {
            at: Moment::from_micros(message.at_us),
            deployment: parse_optional("deployment_id", message.deployment_id)?,
            target: filled("target", message.target)?,
            count: message.count,
        })
    }
}

impl From<GateReport> for v1::GateReport {
    fn from(gate: GateReport) -> Self {
        Self {
            flushes: gate.flushes,
            longest_exposure_us: micros(gate.longest_exposure),
            ingress_addresses: gate.ingress_addresses.into_iter().collect(),
        }
    }
}

impl TryFrom<v1::GateReport> for GateReport {
    type Error = WireError;

    fn try_from(message: v1::GateReport) -> Result<Self, WireError> {
        Ok(Self {
            flushes: message.flushes,
            longest_exposure: Duration::from_micros(message.longest_exposure_us),
            ingress_addresses: distinct("ingress_addresses", message.ingress_addresses, |text| filled("", text))?,
        })
    }
}
