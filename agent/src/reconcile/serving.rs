//! What people on the host ask for and are shown: orders that the ledger holds before they are answered, and a window.
//!
//! A part of [`Reconciler`]. An order needs no coordinator, and is told to it by the next report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Power};
use launchpad_protocol::time::BootMoment;

use super::evicting::{evictions, is_here, nobody, present};
use super::request::{Evict, Inside, LocalRequest, Shown, Windows};
use super::{Reconciler, disk_reason};
use crate::plan::marks::Eviction;
use crate::plan::{Subject, eviction};

impl Reconciler {
    pub(super) fn serve(&mut self, request: LocalRequest) {
        // Whoever asked may have gone: an answer that nobody takes is no failure.
        match request {
            LocalRequest::Watch(reply) => {
                drop(reply.send(Windows { link: self.parts.ports.status.clone(), shown: self.shown.subscribe() }));
            }
            LocalRequest::Plan(reply) => drop(reply.send(self.plan_text())),
            LocalRequest::Stop(deployment, reply) => drop(reply.send(self.local_stop(deployment, true))),
            LocalRequest::Start(deployment, reply) => drop(reply.send(self.local_stop(deployment, false))),
            LocalRequest::Restart(deployment, reply) => drop(reply.send(self.local_restart(deployment))),
            LocalRequest::Evict(evict, reply) => drop(reply.send(self.evict(&evict))),
        }
    }

    fn local_stop(&mut self, deployment: DeploymentId, stop: bool) -> Result<(), Reason> {
        let revision = stop.then_some(self.wished(deployment)?.revision);
        self.parts.ledger.local_stop(deployment, revision).map_err(|error| disk_reason(&error))?;
        self.follow_order(deployment);
        Ok(())
    }

    fn local_restart(&mut self, deployment: DeploymentId) -> Result<(), Reason> {
        let instance = self.wished(deployment)?;
        if let Some(refusal) = self.never_restarted(instance) {
            return Err(refusal);
        }
        let operation = self.parts.entropy.id(self.parts.clock.wall());
        self.parts.ledger.local_restart(deployment, operation).map_err(|error| disk_reason(&error))?;
        self.follow_order(deployment);
        Ok(())
    }

    fn evict(&mut self, evict: &Evict) -> Result<BTreeSet<DeploymentId>, Reason> {
        let marks = self.parts.ledger.marks();
        let (spec, observed) = (self.parts.ledger.accepted_spec().map(Arc::as_ref), self.observed.as_ref());
        let evictions = evictions(evict, spec, observed, marks);
        let is_new = evictions.iter().any(|(deployment, eviction)| marks.evicted.get(deployment) != Some(eviction));
        if is_new {
            self.parts.ledger.evict(&evictions).map_err(|error| disk_reason(&error))?;
            evictions.keys().for_each(|deployment| self.follow_order(*deployment));
        }
        if let Some(away) = &self.engine_away {
            let sentence = "it is written down, and done as soon as the container engine answers";
            return Err(Reason::new("engine-away", sentence).because(away.to_string()));
        }
        let observed = self.observed.as_ref();
        let is_unfinished = |deployment: &DeploymentId| {
            let (subject, record) = (Subject::Instance(*deployment), self.records.get(deployment));
            let is_planned = self.plan.work.contains_key(&subject) || self.work.is_busy(subject);
            is_new || is_planned || record.is_some_and(|record| record.trouble.is_some())
        };
        let stays = |(deployment, eviction): &(&DeploymentId, &Eviction)| {
            is_unfinished(deployment)
                || observed.is_none_or(|observed| is_here(**deployment, eviction.data, observed))
        };
        Ok(evictions.iter().filter(stays).map(|(deployment, _)| *deployment).collect())
    }

    /// Without a spec nothing is done, except what somebody on the host wants gone.
    pub(super) fn nothing_but_evictions(&self) -> Option<Arc<HostSpec>> {
        let (marks, entropy) = (self.parts.ledger.marks(), &self.parts.entropy);
        let host = marks.host.unwrap_or_else(|| entropy.id(self.parts.clock.wall()));
        (!marks.evicted.is_empty()).then(|| Arc::new(nobody(host, entropy)))
    }

    fn wished(&self, deployment: DeploymentId) -> Result<&InstanceSpec, Reason> {
        let wished = self.parts.ledger.spec().and_then(|spec| spec.instances.get(&deployment));
        wished.ok_or_else(|| {
            Reason::new("instance-unknown", format!("no instance of {deployment} is wished for on this host"))
                .mend("launchpad-agent ps lists those that are")
        })
    }

    /// Why a restart would not make it run.
    fn never_restarted(&self, instance: &InstanceSpec) -> Option<Reason> {
        let marks = self.parts.ledger.marks();
        let off = |sentence: &str, mend: &str| Some(Reason::new("instance-off", sentence).mend(mend));
        if eviction::holds(instance, marks).is_some() || marks.is_stopped_here(instance.deployment, instance.revision)
        {
            return off("it was stopped on this host", "launchpad-agent start lets it run again");
        }
        if instance.power == Power::Off {
            return off("its owner has stopped it", "launchpad start lets it run again");
        }
        let standing = self.plan.standings.get(&instance.deployment)?;
        (standing.phase == Phase::Refused).then(|| standing.reason.clone()).flatten()
    }

    /// Whoever is on the host does not want to wait for the end of a pause.
    fn follow_order(&mut self, deployment: DeploymentId) {
        if let Some(record) = self.records.get_mut(&deployment) {
            record.trouble = None;
        }
        self.work.replan(self.parts.ledger.spec().map(AsRef::as_ref));
        self.look_within(Duration::ZERO);
    }

    /// What runs, what waits, and what is planned: for people on the host.
    fn plan_text(&self) -> String {
        let mut text = self.plan.to_string();
        text.push_str(&self.work.to_string());
        if let Some(reason) = &self.engine_away {
            text.push_str(&reason.paragraph());
            text.push('\n');
        }
        text
    }

    /// Puts into the window what is known now.
    pub(super) fn show(&mut self) {
        let insides = self.records.keys().map(|deployment| (*deployment, self.inside(*deployment))).collect();
        self.shown.send_replace(Shown {
            report: self.report.clone(),
            spec: self.parts.ledger.accepted_spec().cloned(),
            insides,
            present: self.observed.as_ref().map(present).unwrap_or_default(),
        });
    }

    fn inside(&self, deployment: DeploymentId) -> Inside {
        let Some(record) = self.records.get(&deployment) else { return Inside::default() };
        let (now, wall) = (self.parts.clock.boot(), self.parts.clock.wall());
        let trouble = record.trouble.as_ref().map(|trouble| trouble.retry_at);
        let is_due = |at: &BootMoment| *at > now;
        let retry_at = trouble.or(record.retry_at).filter(is_due).map(|at| wall + at.since(now));
        let doing = self.work.of(Subject::Instance(deployment)).map(ToString::to_string).collect();
        Inside { past: record.past.iter().cloned().collect(), retry_at, doing }
    }
}
