//! Telling what is: events for the timeline, the report for the coordinator, and the book for the next life.
//!
//! A part of [`Reconciler`]. A report is sent when anything but its clock has changed, and once in every
//! [`REPORT_INTERVAL`].

use std::collections::BTreeMap;
use std::sync::Arc;

use launchpad_protocol::id::{DeploymentId, OperationId};
use launchpad_protocol::limits::REPORT_INTERVAL;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, Outcome};
use launchpad_protocol::spec::HostSpec;

use super::{Reconciler, standing};
use crate::book::Changes;
use crate::plan::record::Past;
use crate::plan::{Standing, Subject};

impl Reconciler {
    /// Notes what has changed for the timeline, and reports.
    pub(super) fn tell(&mut self, spec: Option<&HostSpec>) {
        let wall = self.parts.clock.wall();
        let mut standings: BTreeMap<DeploymentId, Standing> = BTreeMap::new();
        for (deployment, planned) in &self.plan.standings {
            let now = standing::during(self.work.current(Subject::Instance(*deployment)), planned);
            if let Some(record) = self.records.get_mut(deployment) {
                let told = (now.phase, now.reason.as_ref().map(|reason| reason.code.clone()));
                if record.told.as_ref() != Some(&told) {
                    record.has_told(Past { at: wall, phase: now.phase, reason: now.reason.clone() });
                    self.journal.note(*deployment, &now, wall, &mut self.changes);
                    self.changes.records.insert(*deployment, Some(record.clone()));
                }
            }
            standings.insert(*deployment, now);
        }
        let upgraded = self.parts.facts.upgrade(spec.and_then(|spec| spec.upgrade.as_ref()));
        let outcomes = self.answered.clone().into_iter().chain(upgraded).collect();
        let report = self.build_report(spec, standings, outcomes);
        let unchanged = self.report.as_ref().is_some_and(|last| {
            // Either way: a clock that was set back is told, too.
            report.wall.apart(last.wall) < REPORT_INTERVAL
                && HostReport { wall: last.wall, ..report.clone() } == **last
        });
        if !unchanged {
            let report = Arc::new(report);
            self.report = Some(Arc::clone(&report));
            self.parts.ports.reports.send_replace(Some(report));
        }
    }

    fn build_report(
        &self,
        spec: Option<&HostSpec>,
        standings: BTreeMap<DeploymentId, Standing>,
        outcomes: BTreeMap<OperationId, Outcome>,
    ) -> HostReport {
        let mut troubles = self.parts.troubles.clone();
        troubles.extend(self.engine_away.clone());
        troubles.extend(self.disk_trouble.clone());
        troubles.extend(self.plan.troubles.iter().cloned());
        troubles.extend(self.work.pauses().cloned());
        let marks = self.parts.ledger.marks();
        HostReport {
            boot_id: self.parts.facts.boot_id().to_owned(),
            agent_version: crate::VERSION.to_owned(),
            wall: self.parts.clock.wall(),
            accepted: self.parts.ledger.floor().accepted,
            applied: self.applied,
            capacity: self.parts.facts.capacity(),
            capabilities: self.parts.facts.capabilities(),
            instances: standing::instances(spec, self.observed.as_ref(), &self.records, &self.findings, standings),
            orphans: self.plan.orphans.clone(),
            buried: marks.buried.clone(),
            outcomes,
            troubles,
            events: self.journal.batch(),
            denials: self.observed.as_ref().map(|observed| observed.denials.clone()).unwrap_or_default(),
            gate: self.observed.as_ref().and_then(|observed| observed.gate.clone()),
        }
    }

    /// Writes to the book what has changed. A book that cannot be written is told; nothing waits for it.
    pub(super) fn save(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        match self.parts.book.write(&self.changes) {
            Ok(()) => {
                self.changes = Changes::default();
                self.disk_trouble = None;
            }
            Err(error) => {
                if self.disk_trouble.is_none() {
                    tracing::error!(%error, "the book cannot be written; its changes are kept in memory");
                }
                // Nothing but what is still unconfirmed is worth giving it again: the journal has a bound.
                self.changes.events = self.journal.unconfirmed();
                self.disk_trouble = Some(
                    Reason::new("book-unwritable", error.to_string())
                        .mend("free some space under the agent's data directory"),
                );
            }
        }
    }
}
