//! What hosts report ends in the store: once, under the right session, and never beyond the host's own deployments.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_coordinator::domain::deployment::State;
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_coordinator::store::{
    Commit, StoreError, Tx, hosts, operations, outbox, reports, timeline, tombstones,
};
use launchpad_pki::dial::Route;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::JournalId;
use launchpad_protocol::report::{Event, HostReport, InstanceReport, Outcome, Phase};
use launchpad_protocol::spec::{Operation, OperationAction, Tombstone, TombstoneScope};

use super::agent::{Agent, Session, hello, report};
use super::coordinator::Coordinator;

/// A host with one deployment, in a session.
struct Scene {
    coordinator: Coordinator,
    agent: Agent,
    session: Session,
    deployment: Deployment,
    journal: JournalId,
}

impl Scene {
    async fn new() -> Self {
        let coordinator = Coordinator::start().await;
        let agent = coordinator.host("web-1").await;
        let deployment = coordinator.deployment(agent.host, "bot").await;
        let mut session = agent.connect(Route::Quic, hello(None, None)).await.unwrap();
        session.welcome().await;
        let journal = coordinator.id();
        Self { coordinator, agent, session, deployment, journal }
    }

    fn report(&self, phase: Phase) -> HostReport {
        let instances = BTreeMap::from([(self.deployment.id, instance(phase))]);
        HostReport { instances, ..report(None, self.journal) }
    }

    fn event(&self, seq: u64, phase: Phase) -> Event {
        Event { seq, at: self.coordinator.now(), deployment: self.deployment.id, phase, reason: None }
    }

    async fn state(&self) -> State {
        self.coordinator.seen(self.deployment.id).await.state
    }

    async fn states(&self) -> Vec<State> {
        let lines = async |tx: &mut Tx| timeline::latest(tx, self.deployment.id, 100).await;
        self.coordinator.read(lines).await.into_iter().map(|entry| entry.state).collect()
    }

    async fn is_marked(&self) -> bool {
        let marks = self.coordinator.read(outbox::marked).await;
        marks.iter().any(|mark| mark.host == self.agent.host)
    }
}

fn instance(phase: Phase) -> InstanceReport {
    InstanceReport {
        phase,
        reason: None,
        revision: Revision(1),
        epoch: Epoch(1),
        container: None,
        restarts: 0,
        ready_at: None,
        enforcement: BTreeMap::new(),
        volume: None,
        oom_kills: 0,
    }
}

#[tokio::test]
async fn a_first_report_makes_the_host_active_and_is_kept_whole() {
    let mut scene = Scene::new().await;
    let report = scene.report(Phase::Pulling);
    scene.session.stored(report.clone()).await;
    let host = scene.agent.host;
    let row = scene.coordinator.read(async |tx| hosts::get(tx, host).await).await.unwrap();
    assert_eq!((row.state.as_str(), row.capacity), ("active", report.capacity));
    let kept = scene.coordinator.read(async |tx| reports::latest(tx, host).await).await.unwrap();
    assert_eq!(kept.report, report);
}

#[tokio::test]
async fn a_reports_events_become_the_timeline_in_their_order() {
    let mut scene = Scene::new().await;
    let phases = [Phase::Pulling, Phase::Preparing, Phase::Starting, Phase::Ready];
    let mut report = scene.report(Phase::Ready);
    report.events.events = (1..).zip(phases).map(|(seq, phase)| scene.event(seq, phase)).collect();
    scene.session.stored(report).await;
    assert_eq!(scene.state().await, State::Running);
    assert_eq!(scene.states().await, [State::Configuring, State::Starting, State::Running]);
}

#[tokio::test]
async fn an_event_that_is_reported_twice_is_folded_once() {
    let mut scene = Scene::new().await;
    let mut report = scene.report(Phase::Ready);
    report.events.events = vec![scene.event(1, Phase::Starting), scene.event(2, Phase::Ready)];
    scene.session.stored(report.clone()).await;
    let once = scene.states().await;
    scene.session.stored(report).await;
    assert_eq!(scene.states().await, once);
}

#[tokio::test]
async fn events_that_were_lost_leave_one_line_that_says_so() {
    let mut scene = Scene::new().await;
    let mut report = scene.report(Phase::Ready);
    report.events.events = vec![scene.event(6, Phase::Ready)];
    for _ in 0..2 {
        scene.session.stored(report.clone()).await;
    }
    let id = scene.deployment.id;
    let lines = scene.coordinator.read(async |tx| timeline::latest(tx, id, 100).await).await;
    let told: Vec<_> =
        lines.iter().filter_map(|line| line.reason.as_ref()).map(|reason| reason.code.as_str()).collect();
    assert_eq!(told, ["events-lost"]);
    assert!(lines[0].reason.as_ref().unwrap().sentence.starts_with("5 events"), "{lines:?}");
}

#[tokio::test]
async fn whoever_follows_a_deployment_is_woken_by_a_change_and_only_by_one() {
    let mut scene = Scene::new().await;
    let report = scene.report(Phase::Ready);
    let mut bell = scene.coordinator.signals.timeline.listen();
    scene.session.stored(report.clone()).await;
    assert!(bell.has_changed().unwrap());
    bell.mark_unchanged();
    scene.session.stored(report).await;
    assert!(!bell.has_changed().unwrap());
}

#[tokio::test]
async fn a_host_cannot_speak_for_a_deployment_on_another_host() {
    let mut scene = Scene::new().await;
    let other = scene.coordinator.host("web-2").await;
    let mut liar = other.connect(Route::Quic, hello(None, None)).await.unwrap();
    liar.welcome().await;
    let mut lie = scene.report(Phase::Refused);
    lie.events.journal = scene.coordinator.id();
    lie.events.events = vec![scene.event(1, Phase::Refused)];
    liar.stored(lie).await;
    assert_eq!(scene.state().await, State::Provisioning);
    assert_eq!(scene.states().await, []);
    scene.session.stored(scene.report(Phase::Ready)).await;
    assert_eq!(scene.state().await, State::Running);
}

#[tokio::test]
async fn an_answered_operation_is_kept_and_leaves_the_next_spec() {
    let mut scene = Scene::new().await;
    let operation = Operation { id: scene.coordinator.id(), action: OperationAction::Restart };
    let (account, id, now) = (scene.deployment.account, scene.deployment.id, scene.coordinator.now());
    let create = async |tx: &mut Tx| operations::create(tx, account, id, &operation, now).await;
    scene.coordinator.write(Commit::RestartDeployment, create).await;
    let mut report = scene.report(Phase::Ready);
    report.outcomes = BTreeMap::from([(operation.id, Outcome::Done { at: now })]);
    scene.session.stored(report).await;
    assert_eq!(scene.coordinator.read(async |tx| operations::unanswered(tx, id).await).await, []);
    assert!(scene.is_marked().await);
}

#[tokio::test]
async fn a_tombstone_that_was_carried_out_ends_the_deployment_and_leaves_the_next_spec() {
    let mut scene = Scene::new().await;
    let tombstone = Tombstone {
        id: scene.coordinator.id(),
        deployment: scene.deployment.id,
        account: scene.deployment.account,
        scope: TombstoneScope::Data,
        stop_grace: Duration::from_secs(1),
    };
    let (host, now) = (scene.agent.host, scene.coordinator.now());
    let mut deleted = scene.deployment.clone();
    deleted.state = State::Terminating;
    let delete = async |tx: &mut Tx| {
        launchpad_coordinator::store::deployments::update(tx, &mut deleted).await?;
        tombstones::create(tx, host, &tombstone, now).await
    };
    scene.coordinator.write(Commit::DeleteDeployment, delete).await;
    let mut report = report(None, scene.journal);
    report.buried.insert(tombstone.id);
    scene.session.stored(report).await;
    assert_eq!(scene.state().await, State::Terminated);
    assert_eq!(scene.coordinator.read(async |tx| tombstones::unburied(tx, host).await).await, []);
    assert!(scene.is_marked().await);
}

#[tokio::test]
async fn a_report_that_races_a_customers_change_loses_nothing() {
    let mut scene = Scene::new().await;
    let mut changed = scene.deployment.clone();
    changed.revision = Revision(2);
    let update = async |tx: &mut Tx| {
        launchpad_coordinator::store::deployments::update(tx, &mut changed).await?;
        Ok::<_, StoreError>(())
    };
    let (report, ready) = (scene.report(Phase::Ready), scene.report(Phase::Ready));
    tokio::join!(scene.session.stored(report), scene.coordinator.write(Commit::CreateDeployment, update));
    let mut next = ready;
    next.instances.insert(scene.deployment.id, InstanceReport { revision: Revision(2), ..instance(Phase::Ready) });
    scene.session.stored(next).await;
    let seen = scene.coordinator.seen(scene.deployment.id).await;
    assert_eq!((seen.state, seen.revision), (State::Running, Revision(2)));
}
