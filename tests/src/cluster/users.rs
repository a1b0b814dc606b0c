//! What people want of the coordinator: a bot, another start of it, its end.
//!
//! A part of [`World`]. What `app::deployments` does in one transaction is one step here; whether a wish can be granted is
//! for `domain::deployment::step` to say. A wish while the coordinator is down is nobody's to grant.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use launchpad_coordinator::domain::deployment::{Event as Happening, State, step};
use launchpad_coordinator::domain::lease::Policy;
use launchpad_coordinator::domain::plan_table::{Plan, PlanTable};
use launchpad_coordinator::domain::recovery::may_forget;
use launchpad_coordinator::domain::revision::{Ingredients, blueprint};
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::limits::OPERATIONS_PER_INSTANCE_MAX;
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::{InstanceSpec, Operation, OperationAction, Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;
use uuid::Uuid;

use super::failover::PATIENCE;
use super::host::POOL;
use super::jobs::Job;
use super::store::{Grave, Ordered, Row};
use super::trace::Short;
use super::world::{Event, MILLI, Micros, STORM, World};

/// Wishes in a run, at least and at most.
const WISHES: (usize, usize) = (6, 24);

/// How often a wish comes right after another, in percent, and how soon: what is changed twice at once is what
/// crosses on its way.
const HURRIED: u32 = 35;
const HURRY: Micros = 150 * MILLI;

/// Of a hundred bots, how many may fail over.
const FAILOVER: u32 = 50;

/// Tenants: two, so that one's network goes while the other's stays.
const ACCOUNTS: u128 = 2;

/// What everybody deploys.
static WORKLOAD: LazyLock<Workload> = LazyLock::new(Workload::read);

struct Workload {
    profile: Profile,
    /// The same, without a volume.
    stateless: Profile,
    plan: Plan,
    image: ImageRef,
    secrets: BTreeSet<String>,
}

/// What somebody wants; of which deployment is drawn when the time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Deploy,
    Restart,
    Delete { purge: bool },
}

impl World {
    /// Draws what will be wanted, and when: mostly bots at first.
    pub(super) fn schedule_wishes(&mut self) {
        let count = WISHES.0 + self.pick(WISHES.1 - WISHES.0 + 1);
        let mut at = 0;
        for number in 0..count {
            let wish = match self.pick(10) {
                _ if number < 3 => Wish::Deploy,
                0..=2 => Wish::Deploy,
                3..=6 => Wish::Restart,
                7..=8 => Wish::Delete { purge: false },
                _ => Wish::Delete { purge: true },
            };
            let latest = if number < 3 { STORM / 4 } else { STORM };
            at = if self.percent(HURRIED) { at + self.within(HURRY) } else { self.within(latest) }.min(STORM - 1);
            self.at(at, Event::Wish(wish));
        }
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        if !self.coordinator.up {
            return;
        }
        match wish {
            Wish::Deploy => self.deploy(),
            Wish::Restart => drop(self.any_deployment().and_then(|id| self.restart(id))),
            Wish::Delete { purge } => drop(self.any_deployment().and_then(|id| self.delete(id, purge))),
        }
        self.perhaps_copy();
    }

    fn any_deployment(&mut self) -> Option<DeploymentId> {
        let alive = self.coordinator.store.deployments.values().filter(|one| one.row.state != State::Terminated);
        let ids: Vec<_> = alive.map(|one| one.row.id).collect();
        (!ids.is_empty()).then(|| ids[self.pick(ids.len())])
    }

    fn deploy(&mut self) {
        let now = self.coordinator_wall();
        let id: DeploymentId = self.id(now);
        let account = AccountId::from(Uuid::from_u128(self.pick(ACCOUNTS as usize) as u128 + 1));
        let policy = if self.percent(FAILOVER) { Policy::Failover } else { Policy::Keep };
        let row = WORKLOAD.requested((id, account), policy, now);
        self.note(format_args!("user: deploys {} ({policy})", Short(id.uuid())));
        self.oracle.wished(id, policy == Policy::Failover);
        self.coordinator.store.deployments.insert(id, row);
        self.signal(Job::Place);
    }

    fn restart(&mut self, id: DeploymentId) -> Option<()> {
        let now = self.coordinator_wall();
        let operation = Operation { id: self.id(now), action: OperationAction::Restart };
        let store = &mut self.coordinator.store;
        let one = store.deployments.get_mut(&id)?;
        let transition = step(one.row.state, Happening::Restart).ok()?;
        let waiting = store.operations.values().filter(|o| o.deployment == id && o.outcome.is_none()).count();
        if waiting >= OPERATIONS_PER_INSTANCE_MAX {
            return None;
        }
        if one.row.state == State::Failed {
            one.renumber(one.row.revision.next());
        }
        one.row.advance(&transition, now);
        store.outbox.extend(one.row.host);
        self.note(format_args!("user: restarts {} by {}", Short(id.uuid()), Short(operation.id.uuid())));
        self.oracle.ordered(operation.id, id);
        let ordered = Ordered { deployment: id, operation: operation.clone(), outcome: None };
        self.coordinator.store.operations.insert(operation.id, ordered);
        self.signal(Job::Compile);
        Some(())
    }

    fn delete(&mut self, id: DeploymentId, purge: bool) -> Option<()> {
        let now = self.coordinator_wall();
        let one = self.coordinator.store.deployments.get_mut(&id)?;
        let transition = step(one.row.state, Happening::Delete).ok()?;
        if one.row.host.is_none() {
            may_forget(self.coordinator.store.frozen.as_ref()).ok()?;
        }
        let first = transition.from != State::Terminating;
        if first {
            one.row.deleted_at = Some(now);
            one.row.advance(&transition, now);
            let gone = Reason::new("deleted", "the deployment was deleted before this was done");
            for ordered in self.coordinator.store.operations.values_mut().filter(|ordered| ordered.deployment == id) {
                ordered.outcome.get_or_insert(Outcome::Refused { reason: gone.clone() });
            }
        }
        let one = self.coordinator.store.deployments.get_mut(&id)?;
        let placed = one.row.host.is_some();
        if !placed && let Ok(transition) = step(one.row.state, Happening::DataGone) {
            one.row.advance(&transition, now);
        }
        self.note(format_args!("user: deletes {}{}", Short(id.uuid()), if purge { " and its data" } else { "" }));
        if placed && (first || purge) {
            let scope = if purge { TombstoneScope::Data } else { TombstoneScope::Container };
            self.order_away(id, scope);
        }
        self.signal(Job::Place);
        Some(())
    }

    /// Orders a deployment away from its host, unless its data has been already.
    pub(super) fn order_away(&mut self, id: DeploymentId, scope: TombstoneScope) {
        let now = self.coordinator_wall();
        let tombstone = self.id(now);
        let store = &mut self.coordinator.store;
        let is_ordered =
            |grave: &Grave| grave.tombstone.deployment == id && grave.tombstone.scope == TombstoneScope::Data;
        let Some(one) = store.deployments.get(&id).filter(|_| !store.graves.values().any(is_ordered)) else { return };
        let Some(host) = one.row.host else { return };
        let tombstone = Tombstone {
            id: tombstone,
            deployment: id,
            account: one.row.account,
            scope,
            stop_grace: one.blueprint.stop_grace,
        };
        self.oracle.condemned(&tombstone);
        store.outbox.insert(host);
        store.graves.insert(tombstone.id, Grave { host, tombstone, buried: false });
        self.signal(Job::Compile);
    }
}

impl Workload {
    fn read() -> Self {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/echo.toml"));
        let profile =
            Profile::parse("echo.toml", text).expect("a profile of this repository, parsed by its own tests");
        let plan = PlanTable::default().get("starter").cloned().expect("a default plan");
        let image = ImageRef { repository: "registry.example/echo".to_owned(), digest: Digest::of(b"echo") };
        let secrets = profile.secrets.generated.iter().cloned().collect();
        let stateless = Profile { state_path: None, ..profile.clone() };
        Self { profile, stateless, plan, image, secrets }
    }

    fn requested(&self, (id, account): (DeploymentId, AccountId), policy: Policy, now: Moment) -> Row {
        let Self { profile, stateless, plan, image, secrets } = self;
        let profile = if policy == Policy::Failover { stateless } else { profile };
        let revision = Revision::default().next();
        let (egress, hostnames) = (&BTreeSet::new(), &BTreeSet::new());
        let ingredients = Ingredients {
            deployment: id,
            account,
            name: "bot",
            revision,
            profile,
            plan,
            image,
            secrets,
            egress,
            hostnames,
            lease: policy.lease(&PATIENCE),
        };
        let blueprint: InstanceSpec = blueprint(ingredients).expect("the starter plan holds an echo bot");
        let row = Deployment {
            id,
            account,
            name: blueprint.name.clone(),
            profile: profile.name.clone(),
            plan: plan.name.clone(),
            image: image.clone(),
            pool: POOL.to_owned(),
            policy,
            state: State::Requested,
            reason: None,
            revision,
            epoch: Epoch::default(),
            host: None,
            size: plan.size(),
            created_at: now,
            changed_at: now,
            deleted_at: None,
            version: 1,
        };
        Row { row, blueprint, retention: plan.retention() }
    }
}
