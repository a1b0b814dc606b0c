//! What broken promises ask of the plan. Pure.
//!
//! ```text
//! Finding: failed ─► mended by limits        set again      ┐
//!                  ─► mended by a new start  restart, later ┴─ only what was seen to hold in this very start
//! ```
//! A kernel that never shows what was asked for is reported, and not set again and again; no bot is restarted for what
//! one look shows, or over and over because somebody else on the host keeps breaking the same thing.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::BootMoment;

use super::record::Record;
use crate::enforce::{Finding, Mend};

/// How long a promise must be seen broken before a bot is restarted for it: two looks and a little.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(6);

/// Between two such restarts of one bot: somebody who breaks its walls every minute does not keep it from serving.
pub const RESTART_PAUSE: Duration = Duration::from_secs(600);

/// What is set with a container's limits.
const SET_AS_LIMITS: [Item; 5] = [Item::Memory, Item::MemoryHigh, Item::Swap, Item::Cpu, Item::Pids];

/// Whether a bot is to be started anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    /// Nothing asks for it.
    No,
    /// Then, if it is still so.
    At(BootMoment),
    /// Now, for that.
    Now(Reason),
}

/// The promises that held in this start, do not now, and are mended so.
fn drifted<'a>(
    findings: &'a BTreeMap<Item, Finding>,
    record: &'a Record,
    mend: Mend,
) -> impl Iterator<Item = &'a Finding> {
    findings
        .iter()
        .filter(move |(item, finding)| finding.mend == mend && record.held.contains(item))
        .map(|(_, finding)| finding)
}

/// Whether limits are to be set again although the engine believes that they are set.
#[must_use]
pub fn has_other_limits(findings: &BTreeMap<Item, Finding>, record: &Record) -> bool {
    drifted(findings, record, Mend::Limits).next().is_some()
}

/// Whether, and when, the bot is to be started anew.
#[must_use]
pub fn restart(findings: &BTreeMap<Item, Finding>, record: &Record, now: BootMoment) -> Restart {
    let reason = drifted(findings, record, Mend::Start).find_map(|finding| finding.enforcement.reason());
    let (Some(reason), Some(since)) = (reason, record.drifting_since) else { return Restart::No };
    let paused_until = record.drift_restart_at.map_or(since, |last| last + RESTART_PAUSE);
    let due = paused_until.max(since + CONFIRMED_AFTER);
    if now < due { Restart::At(due) } else { Restart::Now(reason.clone()) }
}

impl Record {
    /// Takes in how the promises stand: what holds in this start, and since when something does not that only a new
    /// start mends.
    pub fn absorb_findings(&mut self, findings: &BTreeMap<Item, Finding>, now: BootMoment) {
        let holds = findings.iter().filter(|(_, finding)| finding.enforcement.reason().is_none());
        self.held.extend(holds.map(|(item, _)| *item));
        let drifts = drifted(findings, self, Mend::Start).next().is_some();
        self.drifting_since = drifts.then(|| self.drifting_since.unwrap_or(now));
    }

    /// Notes that limits were set: one that does not hold now, either, is told, and not set again and again.
    pub fn limits_were_set(&mut self) {
        self.held.retain(|item| !SET_AS_LIMITS.contains(item));
    }
}
