//! Where a deployment is, by what hosts report: a restored store may have placed it nowhere yet, or where it no longer
//! is.
//!
//! `app::recovery` asks here when a recovery is confirmed. A bot that runs keeps its host, whatever the copy says of it:
//! to follow the copy would start it a second time, beside the first, which nothing then stops.
//!
//! ```text
//!   runs there  >  held there, not running  >  not there       its own host stays unless another has more of it
//! ```

use std::collections::BTreeMap;

use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::report::{HostReport, Orphan};

/// A deployment as the store remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Which.
    pub deployment: DeploymentId,
    /// Whose: what is another tenant's is not it.
    pub account: AccountId,
    /// Where it was placed, if it was.
    pub host: Option<HostId>,
    /// The lease under which it was.
    pub epoch: Epoch,
}

/// Where a deployment is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The host that has it.
    pub host: HostId,
    /// The lease of that placement: the highest that is known of, so that it is old to nobody.
    pub epoch: Epoch,
}

/// How much of a deployment a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Presence {
    None,
    /// Its spec wants it, or a stopped container of it is there.
    Held,
    Runs,
}

/// Where a deployment is, if that is not where the store remembers it.
///
/// `reports` are those of the hosts on which it may be placed: one that lies gets no more than the placer might have
/// given it.
#[must_use]
pub fn find(remembered: Remembered, reports: &BTreeMap<HostId, &HostReport>) -> Option<Found> {
    let at_home = remembered.host.and_then(|host| reports.get(&host));
    let at_home = at_home.map_or(Presence::None, |report| presence(remembered, report));
    let elsewhere = reports.iter().filter(|(host, _)| Some(**host) != remembered.host);
    let most = elsewhere.map(|(host, report)| (presence(remembered, report), std::cmp::Reverse(*host))).max()?;
    let (there, std::cmp::Reverse(host)) = most;
    (there > at_home).then(|| Found { host, epoch: highest_epoch(remembered, reports) })
}

fn presence(remembered: Remembered, report: &HostReport) -> Presence {
    let is_it = |orphan: &&Orphan| {
        orphan.deployment == Some(remembered.deployment) && orphan.account == Some(remembered.account)
    };
    let orphan = report.orphans.iter().filter(is_it).map(|orphan| orphan.running).max();
    let instance = report.instances.get(&remembered.deployment);
    let runs = instance.map(|instance| instance.container.as_ref().is_some_and(|one| one.started_at.is_some()));
    match orphan.max(runs) {
        Some(true) => Presence::Runs,
        Some(false) => Presence::Held,
        None => Presence::None,
    }
}

/// An orphan does not say under which lease it was started; the first that was ever given is the least it can be.
fn highest_epoch(remembered: Remembered, reports: &BTreeMap<HostId, &HostReport>) -> Epoch {
    let seen = reports.values().filter_map(|report| report.instances.get(&remembered.deployment));
    let first = Epoch::default().next();
    seen.map(|instance| instance.epoch).fold(remembered.epoch.max(first), Epoch::max)
}

#[cfg(test)]
#[path = "whereabouts_tests.rs"]
mod tests;
