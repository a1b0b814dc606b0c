//! Hosts that are not heard: who moves, when, and what keeps everybody where they are.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::profile::Profile;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::TombstoneScope;

use super::super::watcher::{self, Watched};
use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost};
use crate::domain::actor::Role;
use crate::domain::deployment::State;
use crate::domain::host::{HostState, step};
use crate::domain::lease::{Patience, Policy};
use crate::domain::plan_table::PlanTable;
use crate::domain::silence::Heard;
use crate::store::hosts::Seen;
use crate::store::{StoreError, Tx, audit, hosts, meta, timeline};

/// Some hosts, and a bot of each policy, on whichever.
struct Fleet {
    lab: Lab,
    hosts: Vec<LabHost>,
    heard: Heard,
}

impl Fleet {
    async fn of(count: usize) -> Self {
        let mut lab = Lab::new().await;
        let mut profiles: BTreeMap<String, Profile> = (*lab.app.profiles).clone();
        let stateless = Profile { name: "stateless".to_owned(), state_path: None, ..profiles["echo"].clone() };
        profiles.insert(stateless.name.clone(), stateless);
        lab = lab.with_catalogue(profiles, PlanTable::default());
        let mut hosts = Vec::new();
        for _ in 0..count {
            hosts.push(lab.host(16 * GIB).await);
        }
        let mut fleet = Self { lab, hosts, heard: Heard::default() };
        fleet.watch().await;
        fleet
    }

    async fn deploy(&self, name: &str, profile: &str, policy: Policy) -> Result<DeploymentId, AppError> {
        let member = self.lab.actor(Role::Member).await;
        let profile = profile.to_owned();
        let wish = crate::command::CreateDeployment { profile, policy, ..self.lab.wish(name, "starter") };
        let made = self.lab.app.create_deployment(&member, wish, &Once::unclaimed()).await?.id;
        self.lab.settle().await;
        Ok(made)
    }

    async fn movable(&self) -> DeploymentId {
        self.deploy("mover", "stateless", Policy::Failover).await.unwrap()
    }

    async fn watch(&mut self) -> Watched {
        watcher::round(&self.lab.app, &mut self.heard).await.unwrap()
    }

    /// Time passes, in which these hosts report as ever, and the watcher looks.
    async fn pass(&mut self, span: Duration, speaking: &[HostId]) {
        let step = Duration::from_secs(5);
        for _ in 0..span.as_secs().div_ceil(step.as_secs()) {
            self.lab.advance(step);
            for host in speaking {
                self.speak(*host).await;
            }
            self.watch().await;
        }
    }

    async fn speak(&self, host: HostId) {
        let now = self.lab.app.clock.wall();
        let speak = async |tx: &mut Tx| {
            let row = hosts::get(tx, host).await?.ok_or(StoreError::Missing { what: "host" })?;
            let state = step(row.state, row.cordoned, crate::domain::host::HostEvent::Reported);
            hosts::seen(tx, host, Seen { state, capacity: row.capacity, capabilities: &row.capabilities }, now).await
        };
        self.lab.write(speak).await;
    }

    async fn state(&self, host: HostId) -> HostState {
        self.lab.read(async |tx| hosts::get(tx, host).await).await.unwrap().state
    }

    async fn host_of(&self, id: DeploymentId) -> HostId {
        self.lab.row(id).await.host.unwrap()
    }

    fn others(&self, host: HostId) -> Vec<HostId> {
        self.hosts.iter().map(|one| one.id).filter(|id| *id != host).collect()
    }

    /// How long after its last word a bot leaves a host.
    fn wait(&self) -> Duration {
        let Patience { term, margin, .. } = self.lab.app.patience;
        term + margin + Duration::from_secs(3)
    }
}

#[tokio::test]
async fn a_bot_leaves_a_silent_host_once_it_has_surely_stopped_and_what_is_kept_stays() {
    let mut fleet = Fleet::of(2).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let kept = fleet.deploy("keeper", "echo", Policy::Keep).await.unwrap();
    fleet
        .lab
        .write(async |tx| {
            let mut row =
                crate::store::deployments::get(tx, crate::domain::actor::Scope::Every, kept).await?.unwrap();
            row.host = Some(from);
            crate::store::deployments::update(tx, &mut row).await
        })
        .await;
    let others = fleet.others(from);
    fleet.pass(fleet.wait() - Duration::from_secs(10), &others).await;
    assert_eq!((fleet.state(from).await, fleet.host_of(mover).await), (HostState::Silent, from), "not too early");
    fleet.pass(Duration::from_secs(20), &others).await;
    let moved = fleet.lab.row(mover).await;
    assert_eq!((moved.host, moved.epoch, moved.state), (Some(others[0]), Epoch(2), State::Provisioning));
    assert_eq!(fleet.host_of(kept).await, from);

    fleet.lab.settle().await;
    let old = fleet.hosts.iter().find(|host| host.id == from).unwrap();
    let spec = fleet.lab.spec(old).await;
    let buried: Vec<_> = spec.tombstones.values().map(|one| (one.deployment, one.scope)).collect();
    assert_eq!((buried, spec.instances.contains_key(&mover)), (vec![(mover, TombstoneScope::Container)], false));
    let new = fleet.hosts.iter().find(|host| host.id == others[0]).unwrap();
    assert_eq!(fleet.lab.spec(new).await.instances[&mover].epoch, Epoch(2));

    fleet.pass(fleet.lab.app.patience.lost_after, &others).await;
    assert_eq!(fleet.state(from).await, HostState::Lost);
    let told = fleet.lab.read(async |tx| timeline::latest(tx, kept, 1).await).await.remove(0);
    assert_eq!((told.cause.as_str(), told.reason.unwrap().code.as_str()), ("its host is lost", "host-lost"));
    fleet.speak(from).await;
    assert_eq!(fleet.state(from).await, HostState::Active);
}

#[tokio::test]
async fn a_coordinator_that_has_just_started_moves_nothing_before_it_has_listened_for_a_whole_lease() {
    let mut fleet = Fleet::of(2).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let others = fleet.others(from);
    fleet.pass(fleet.wait() - Duration::from_secs(10), &others).await;
    // Another process, or one whose wall clock was set: what the store remembers is no silence that it has witnessed.
    fleet.heard = Heard::default();
    fleet.pass(fleet.wait() - Duration::from_secs(10), &others).await;
    assert_eq!(fleet.host_of(mover).await, from);
    fleet.pass(Duration::from_secs(20), &others).await;
    assert_ne!(fleet.host_of(mover).await, from);
}

#[tokio::test]
async fn nothing_moves_while_publishing_is_frozen() {
    let mut fleet = Fleet::of(2).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let reason = Reason::new("restored", "restored from a copy");
    let now = fleet.lab.app.clock.wall();
    fleet.lab.write(async |tx| meta::freeze(tx, &reason, now).await).await;
    fleet.pass(fleet.wait() * 2, &fleet.others(from)).await;
    assert_eq!(fleet.host_of(mover).await, from);
}

#[tokio::test]
async fn when_many_hosts_fall_silent_together_nothing_moves_until_some_are_back_or_an_operator_says_so() {
    let mut fleet = Fleet::of(4).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let others = fleet.others(from);
    fleet.pass(fleet.wait() * 2, &others[..2]).await;
    assert_eq!(fleet.host_of(mover).await, from, "two of four are silent");
    let operator = fleet.lab.actor(Role::Operator).await;
    let frozen = fleet.lab.app.suspicion(&operator).await.unwrap().frozen.unwrap();
    assert_eq!((frozen.suspects.len(), frozen.fleet, frozen.reason().code.as_str()), (2, 4, "failover-frozen"));

    // One of the two is back: the other is on its own, and its bot moves.
    fleet.pass(Duration::from_secs(5), &others).await;
    assert_eq!(fleet.lab.app.suspicion(&operator).await.unwrap().frozen, None);
    assert_ne!(fleet.host_of(mover).await, from);
    let deeds = fleet.lab.read(async |tx| audit::all(tx).await).await;
    let deeds: Vec<_> = deeds.iter().map(|(deed, _)| deed.action.as_str()).collect();
    assert!(deeds.ends_with(&["failover.freeze", "failover.thaw"]), "{deeds:?}");
}

#[tokio::test]
async fn an_operators_word_lets_bots_leave_hosts_that_are_lost() {
    let mut fleet = Fleet::of(4).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let others = fleet.others(from);
    fleet.pass(fleet.wait() * 2, &others[..2]).await;
    let on_call = fleet.lab.actor(Role::OnCall).await;
    assert!(matches!(fleet.lab.app.thaw_failover(&on_call).await, Err(AppError::Refused(_))));
    let operator = fleet.lab.actor(Role::Operator).await;
    assert_eq!(fleet.lab.app.thaw_failover(&operator).await.unwrap().excused.len(), 2);
    fleet.pass(Duration::from_secs(5), &others[..2]).await;
    assert!(others[..2].contains(&fleet.host_of(mover).await));
    assert_eq!(fleet.lab.app.suspicion(&operator).await.unwrap().frozen, None, "and raises no suspicion again");
}

#[tokio::test]
async fn a_bot_with_a_volume_is_refused_failover() {
    let fleet = Fleet::of(1).await;
    let refused = fleet.deploy("web", "echo", Policy::Failover).await;
    assert!(matches!(refused, Err(AppError::Refused(refusal)) if refusal.reason.code == "failover-with-volume"));
}

#[tokio::test]
async fn a_cordoned_host_keeps_what_it_has_and_gets_nothing_new_also_after_a_silence() {
    let mut fleet = Fleet::of(1).await;
    let (host, first) = (fleet.hosts[0].id, fleet.movable().await);
    let operator = fleet.lab.actor(Role::Operator).await;
    for _ in 0..2 {
        let view = fleet.lab.app.cordon_host(&operator, host, true).await.unwrap();
        assert_eq!((view.state, view.cordoned), (HostState::Cordoned, true));
    }
    let second = fleet.deploy("late", "echo", Policy::Keep).await.unwrap();
    assert_eq!((fleet.host_of(first).await, fleet.lab.row(second).await.host), (host, None));
    fleet.pass(Duration::from_secs(60), &[]).await;
    assert_eq!(fleet.state(host).await, HostState::Silent);
    fleet.speak(host).await;
    assert_eq!(fleet.state(host).await, HostState::Cordoned);
    assert_eq!(fleet.lab.app.cordon_host(&operator, host, false).await.unwrap().state, HostState::Active);
    fleet.lab.settle().await;
    assert_eq!(fleet.lab.row(second).await.host, Some(host));
    let deeds = fleet.lab.read(async |tx| audit::all(tx).await).await;
    let cordons = deeds.iter().filter(|(deed, _)| deed.action.ends_with("cordon"));
    assert_eq!(cordons.count(), 2, "doing it twice is one deed");
}

#[tokio::test]
async fn a_host_is_retired_when_it_is_empty_or_lost_and_what_may_fail_over_leaves_it() {
    let mut fleet = Fleet::of(2).await;
    let mover = fleet.movable().await;
    let from = fleet.host_of(mover).await;
    let others = fleet.others(from);
    let operator = fleet.lab.actor(Role::Operator).await;
    let code = |result: Result<_, AppError>| match result {
        Err(AppError::Refused(refusal)) => refusal.reason.code,
        other => panic!("{other:?}"),
    };
    let app = fleet.lab.app.clone();
    assert_eq!(code(app.retire_host(&operator, from, false).await), "host-not-empty");
    assert_eq!(code(app.retire_host(&operator, from, true).await), "host-not-lost");
    // Too many are silent for anything to move; the operator's word about one of them is another matter.
    fleet.pass(app.patience.lost_after + Duration::from_secs(10), &[]).await;
    assert_eq!((fleet.state(from).await, fleet.host_of(mover).await), (HostState::Lost, from));
    for _ in 0..2 {
        assert_eq!(app.retire_host(&operator, from, true).await.unwrap().state, HostState::Retired);
    }
    fleet.pass(Duration::from_secs(10), &others).await;
    assert_eq!(fleet.host_of(mover).await, others[0]);
    assert_eq!(code(app.cordon_host(&operator, from, true).await), "host-retired");
}
