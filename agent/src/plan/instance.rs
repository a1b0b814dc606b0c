//! One instance: where it stands, and the next steps towards its spec.
//!
//! ```text
//!  has its lease ended? ──yes──► stop what runs ──► wait for the coordinator
//!  may it run here at all? ──no──► refused
//!  should it run? ──no──► stop what runs ──► stopped
//!  is its container the right one? ──no──► fetch, prepare, take the old one away, create, start
//!  does it run? ──no──► wait out the backoff, then start
//!  is all around it right? ──no──► network, volume, files, gate, limits, a restart that somebody, its probes or drift ask for
//! ```
//! The order within a plan keeps the time without a bot short: whatever can fail slowly comes before the old container
//! is touched.

mod operations;
mod volume;

use std::collections::BTreeMap;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::feature::Feature;
use launchpad_protocol::generation::Epoch;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Phase, stopped_on_host};
use launchpad_protocol::spec::{HostSpec, InstanceSpec, OperationAction, Power};
use launchpad_protocol::time::{BootMoment, Moment};

use super::action::{Action, StopCause, files_digest, gate_digest};
use super::drift::{self, Restart};
use super::lease::{self, Hold};
use super::marks::Marks;
use super::record::{Record, Trouble};
use super::{Context, Health, Knowledge, Standing, strain};
use crate::enforce::Finding;
use crate::enforce::shape::TenantShape;
use crate::observe::{Container, ContainerState, GateSight, Observed};
use operations::{finish, is_restart, needs_a_stop};

/// What is to be done about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where it stands until that is done.
    pub standing: Standing,
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// When to look again, even if nothing happens.
    pub wake_at: Option<BootMoment>,
}

impl Decision {
    const fn rest(standing: Standing) -> Self {
        Self { standing, actions: Vec::new(), wake_at: None }
    }

    const fn act(standing: Standing, actions: Vec<Action>) -> Self {
        Self { standing, actions, wake_at: None }
    }
}

/// One instance's part of the world.
struct Scene<'a> {
    spec: &'a InstanceSpec,
    desired: &'a HostSpec,
    observed: &'a Observed,
    marks: &'a Marks,
    record: &'a Record,
    /// The container that fits the spec best, if any.
    current: Option<&'a Container>,
    /// Other containers of the same deployment: a singleton has none.
    others: Vec<&'a Container>,
    health: Option<&'a Health>,
    /// How its promises stand; none: nothing of it could be judged.
    findings: &'a BTreeMap<Item, Finding>,
    now: BootMoment,
    wall: Moment,
}

/// The container of a deployment that counts: one made for this spec before others, a running one before others.
#[must_use]
pub fn current_container<'a>(spec: &InstanceSpec, observed: &'a Observed) -> Option<&'a Container> {
    let rank = |container: &&Container| {
        (container.recreate_hash == spec.recreate_hash, container.running_since().is_some(), container.epoch)
    };
    observed.containers.values().filter(|container| container.deployment == spec.deployment).max_by_key(rank)
}

/// Decides about one instance.
#[must_use]
pub fn decide(
    spec: &InstanceSpec,
    desired: &HostSpec,
    observed: &Observed,
    known: Knowledge<'_>,
    context: &Context,
) -> Decision {
    let (blank, unjudged) = (Record::default(), BTreeMap::new());
    let current = current_container(spec, observed);
    let is_other = |container: &&Container| {
        container.deployment == spec.deployment && current.is_none_or(|current| current.id != container.id)
    };
    let scene = Scene {
        spec,
        desired,
        observed,
        marks: known.marks,
        record: known.records.get(&spec.deployment).unwrap_or(&blank),
        current,
        others: observed.containers.values().filter(is_other).collect(),
        health: current.and_then(|container| known.health.get(&container.id)),
        findings: known.findings.get(&spec.deployment).unwrap_or(&unjudged),
        now: context.now,
        wall: context.wall,
    };
    let hold = lease::hold(spec.lease, known.renewed_at, context.now);
    if hold == Hold::Ended
        && let Some(decision) = scene.without_a_lease()
    {
        return decision;
    }
    let mut decision = scene.decide();
    if let Hold::Until(end) = hold {
        decision.wake_at = Some(decision.wake_at.map_or(end, |at| at.min(end)));
    }
    decision
}

impl Scene<'_> {
    /// What is to be done about an instance that may run here, if it should.
    fn decide(&self) -> Decision {
        let (scene, spec) = (self, self.spec);
        if let Some(trouble) = &scene.record.trouble
            && self.now < trouble.retry_at
        {
            return Decision {
                wake_at: Some(trouble.retry_at),
                ..Decision::rest(scene.troubled(trouble.reason.clone()))
            };
        }
        if let Some(cause) = scene.should_be_off() {
            return scene.turn_off(cause);
        }
        if let Some(refusal) = scene.refusal() {
            return Decision::act(Standing::because(Phase::Refused, refusal), scene.finish_all_refused());
        }
        match scene.current {
            Some(container) if container.recreate_hash == spec.recreate_hash => match &container.state {
                ContainerState::Running { .. } => scene.tend(container),
                ContainerState::Created => scene.start(container),
                ContainerState::Exited(_) => match scene.record.retry_at {
                    Some(retry_at) if self.now < retry_at => scene.wait(retry_at),
                    Some(_) | None => scene.start(container),
                },
            },
            Some(_) | None => scene.create(),
        }
    }

    /// It must not run while it has no lease; none: it does not, and should not.
    fn without_a_lease(&self) -> Option<Decision> {
        let all = self.current.into_iter().chain(self.others.iter().copied());
        let running = all.filter(|container| container.running_since().is_some());
        let stops: Vec<_> = running.map(|container| self.stop(container, StopCause::LeaseEnded)).collect();
        if stops.is_empty() {
            let waits = Decision::rest(Standing::because(Phase::Backoff, lease::ended()));
            return self.should_be_off().is_none().then_some(waits);
        }
        let standing = Standing::because(Phase::Stopping, lease::ended());
        // Whatever else has failed, this is tried again within a second.
        let urgent_at = self.record.trouble.as_ref().map(Trouble::urgent_at).filter(|at| self.now < *at);
        Some(match urgent_at {
            Some(at) => Decision { wake_at: Some(at), ..Decision::rest(standing) },
            None => Decision::act(standing, stops),
        })
    }

    /// Why this host may not run the instance at all, or not again.
    fn refusal(&self) -> Option<Reason> {
        let known = Feature::all();
        if let Some(missing) = self.spec.requires.iter().find(|feature| !known.contains(*feature)) {
            return Some(
                Reason::new(
                    "feature-missing",
                    format!("this agent cannot do `{missing}`, which the instance requires"),
                )
                .because("the agent is older than the coordinator")
                .mend("upgrade the agent on this host"),
            );
        }
        let floor = self.marks.epochs.get(&self.spec.deployment).copied().unwrap_or(Epoch(0));
        if self.spec.epoch < floor {
            return Some(
                Reason::new(
                    "epoch-stale",
                    format!("the lease {} is older than {floor}, which this host has seen", self.spec.epoch),
                )
                .because("the coordinator's store is older than the fleet")
                .mend("confirm the recovery: launchpad recover confirm"),
            );
        }
        // What runs as it should runs on, however little else could be done for it: `tend` tells of that.
        let fits = |container: &&Container| container.recreate_hash == self.spec.recreate_hash;
        let runs = self.current.filter(fits).is_some_and(|container| container.running_since().is_some());
        self.record.refusal.clone().filter(|_| !runs)
    }

    /// A refused instance still answers what it was asked to do once.
    fn finish_all_refused(&self) -> Vec<Action> {
        let reason =
            || Reason::new("instance-refused", "the instance is refused on this host, so there is nothing to act on");
        self.unanswered().map(|operation| finish(operation, Some(reason()))).collect()
    }

    fn should_be_off(&self) -> Option<StopCause> {
        if self.spec.power == Power::Off {
            return Some(StopCause::PowerOff);
        }
        let stays = self.marks.is_stopped_here(self.spec.deployment, self.spec.revision);
        let cleared = self.unanswered().any(|operation| operation.action == OperationAction::ClearLocalStop);
        (stays && !cleared).then_some(StopCause::LocalStop)
    }

    fn turn_off(&self, cause: StopCause) -> Decision {
        let running =
            self.current.into_iter().chain(self.others.iter().copied()).filter(|c| c.running_since().is_some());
        let mut actions: Vec<Action> = running.map(|container| self.stop(container, cause.clone())).collect();
        let phase = if actions.is_empty() { Phase::Stopped } else { Phase::Stopping };
        let refusal = || Reason::new("instance-off", format!("the instance is off: {cause}"));
        actions.extend(self.volume_work());
        actions.extend(self.unanswered().map(|operation| finish(operation, is_restart(operation).then(refusal))));
        let standing = match cause {
            StopCause::LocalStop => Standing::because(phase, stopped_on_host()),
            StopCause::PowerOff
            | StopCause::Replaced
            | StopCause::Operation(_)
            | StopCause::Tombstone(_)
            | StopCause::Unhealthy(_)
            | StopCause::LeaseEnded
            | StopCause::Drift(_) => Standing::plain(phase),
        };
        Decision::act(standing, actions)
    }

    /// Everything from nothing, or from a container that is not the right one.
    fn create(&self) -> Decision {
        let missing_image = !self.observed.images.contains(&self.spec.image);
        let mut actions = Vec::new();
        if missing_image {
            actions.push(Action::PullImage { image: self.spec.image.clone() });
        }
        actions.extend(self.surroundings());
        actions.extend(self.begin_stopping());
        for old in self.current.into_iter().chain(self.others.iter().copied()) {
            actions.extend(self.take_away(old));
        }
        actions.extend(self.growth());
        actions.extend(self.volume_work());
        actions.push(Action::CreateContainer { spec: Box::new(self.spec.clone()) });
        actions.push(Action::StartContainer { deployment: self.spec.deployment, container: None });
        // A new container is a restart, and clears nothing less than a restart would.
        actions.extend(self.unanswered().map(|operation| finish(operation, None)));
        let phase = if missing_image { Phase::Pulling } else { Phase::Preparing };
        Decision::act(self.waiting_or(phase), actions)
    }

    /// A container that is right and does not run.
    fn start(&self, container: &Container) -> Decision {
        let mut actions: Vec<Action> = self.others.iter().flat_map(|other| self.take_away(other)).collect();
        actions.extend(self.surroundings());
        actions.extend(self.limits(container));
        actions.extend(self.begin_stopping());
        actions.extend(self.growth());
        actions.extend(self.volume_work());
        actions
            .push(Action::StartContainer { deployment: self.spec.deployment, container: Some(container.id.clone()) });
        actions.extend(self.unanswered().map(|operation| finish(operation, None)));
        Decision::act(self.waiting_or(Phase::Starting), actions)
    }

    /// A container that is right and runs.
    fn tend(&self, container: &Container) -> Decision {
        let mut actions: Vec<Action> = self.others.iter().flat_map(|other| self.take_away(other)).collect();
        let mut standing = self.health_standing();
        // Before any strain: a larger plan is what mends that, and it has been chosen.
        if standing.phase == Phase::Ready
            && let Some(waiting) = self.waits_for_a_stop()
        {
            standing.reason = Some(waiting);
        }
        match &self.record.refusal {
            None => {
                actions.extend(self.surroundings());
                actions.extend(self.limits(container));
            }
            // Something about this revision cannot be done while it runs; it is told, and not tried again and again.
            Some(refusal) => standing.reason = Some(refusal.clone()),
        }
        if let Some(verdict) = self.health.and_then(|health| health.verdict.clone()) {
            actions.push(self.stop(container, StopCause::Unhealthy(verdict)));
            return Decision::act(standing, actions);
        }
        let (stopping, rest): (Vec<_>, Vec<_>) =
            self.unanswered().partition(|operation| needs_a_stop(operation) && !self.has_happened(operation));
        for operation in rest {
            // What needed a stop is here because it has had one, and is done.
            let left = (!needs_a_stop(operation)).then(|| self.volume_action(operation)).flatten();
            actions.extend(left);
            actions.push(finish(operation, None));
        }
        if let Some(first) = stopping.first() {
            actions.extend(self.begin_stopping());
            actions.push(self.stop(container, StopCause::Operation(first.id)));
            actions.extend(self.growth());
            actions.extend(stopping.iter().filter_map(|operation| self.volume_action(operation)));
            actions.push(Action::StartContainer {
                deployment: self.spec.deployment,
                container: Some(container.id.clone()),
            });
            actions.extend(stopping.iter().map(|operation| finish(operation, None)));
            return Decision::act(standing, actions);
        }
        let drift = drift::restart(self.findings, self.record, self.now);
        let wake_at = if let Restart::At(at) = drift { Some(at) } else { None };
        if let Restart::Now(reason) = drift {
            actions.push(self.stop(container, StopCause::Drift(reason)));
            actions.extend(self.growth());
            actions.push(Action::StartContainer {
                deployment: self.spec.deployment,
                container: Some(container.id.clone()),
            });
        } else if self.record.refusal.is_none() {
            // Last, so that a disk without room for it keeps nothing else waiting.
            actions.extend(self.growth_in_use());
        }
        Decision { wake_at, ..Decision::act(standing, actions) }
    }

    fn wait(&self, retry_at: BootMoment) -> Decision {
        let mut waiting = Decision::rest(self.waiting_or(Phase::Backoff));
        waiting.wake_at = Some(retry_at);
        // Whoever asks for a restart does not want to wait for the backoff.
        if self.unanswered().any(needs_a_stop)
            && let Some(container) = self.current
            && let ContainerState::Exited(_) = &container.state
        {
            return self.start(container);
        }
        waiting
    }

    /// Network, volume, files and gate: what a container stands on, and what stands around it. All of it is there before
    /// it starts, or it does not start.
    fn surroundings(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.observed.networks.contains(&self.spec.account) {
            actions.push(Action::EnsureNetwork { account: self.spec.account });
        }
        let shape = TenantShape::of(self.desired, self.spec.account);
        if !self.observed.tenants.get(&self.spec.account).is_some_and(|group| shape.fits(group)) {
            actions.push(Action::ShapeTenant { account: self.spec.account, shape });
        }
        actions.extend(self.volume());
        if self.observed.files.get(&self.spec.deployment) != Some(&files_digest(&self.spec.files)) {
            actions.push(Action::WriteFiles { spec: Box::new(self.spec.clone()) });
        }
        let told = gate_digest(&self.spec.egress, &self.spec.ingress);
        let is_open =
            |gate: &GateSight| gate.told == told && gate.egress_fault.is_none() && gate.ingress_fault.is_none();
        if !self.observed.gates.get(&self.spec.deployment).is_some_and(is_open) {
            actions.push(Action::OpenGate { spec: Box::new(self.spec.clone()) });
        }
        actions
    }

    /// The engine may believe what the kernel does not show.
    fn limits(&self, container: &Container) -> Option<Action> {
        let is_due =
            container.resources != self.spec.resources || drift::has_other_limits(self.findings, self.record);
        is_due.then(|| Action::UpdateResources { container: container.id.clone(), resources: self.spec.resources })
    }

    fn take_away(&self, container: &Container) -> Vec<Action> {
        let stop = container.running_since().map(|_| self.stop(container, StopCause::Replaced));
        stop.into_iter().chain([Action::RemoveContainer { container: container.id.clone() }]).collect()
    }

    fn stop(&self, container: &Container, why: StopCause) -> Action {
        Action::StopContainer { container: container.id.clone(), grace: self.spec.stop_grace, why }
    }

    /// How a running instance stands, by its probes.
    fn health_standing(&self) -> Standing {
        let said = |health: &Health| {
            health.last_failure.clone().unwrap_or_else(|| "its probes have not answered yet".to_owned())
        };
        match self.health {
            Some(health) if health.ready => self.ready(),
            Some(health) if self.record.ready_at.is_some() => Standing::because(
                Phase::Unready,
                Reason::new("not-ready", "the bot runs and does not call itself ready").because(said(health)),
            ),
            // Adopted after a restart of the agent: what was known holds until the probes say otherwise.
            None if self.record.ready_at.is_some() => self.ready(),
            // Never ready in this start: what a probe says is the best answer to "what is it waiting for".
            Some(Health { started: true, last_failure: Some(said), .. }) => Standing::because(
                Phase::Starting,
                Reason::new("not-ready-yet", "the bot has started and is not ready yet").because(said.clone()),
            ),
            Some(_) | None => self.waiting_or(Phase::Starting),
        }
    }

    /// It answers, perhaps under strain.
    fn ready(&self) -> Standing {
        let kernel = self.current.and_then(|container| container.kernel.as_deref());
        let volume = self.observed.volumes.get(&self.spec.deployment);
        let told = self.record.told.as_ref().and_then(|(_, code)| code.as_deref());
        Standing { phase: Phase::Ready, reason: strain::strain(kernel, volume, told) }
    }

    fn troubled(&self, reason: Reason) -> Standing {
        let phase = match self.current.map(|container| &container.state) {
            Some(ContainerState::Running { .. }) => self.health_standing().phase,
            Some(ContainerState::Created | ContainerState::Exited(_)) => Phase::Preparing,
            None if self.observed.images.contains(&self.spec.image) => Phase::Preparing,
            None => Phase::Pulling,
        };
        Standing::because(phase, reason)
    }

    /// The phase, with what the instance last ran into, if anything.
    fn waiting_or(&self, phase: Phase) -> Standing {
        Standing { phase, reason: self.record.waiting_for.clone() }
    }
}
