//! Snapshots are operations of a deployment's host, asked for within bounds, and shown with what became of them.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::SNAPSHOTS_PER_VOLUME_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, InstanceReport, Outcome, Phase, SnapshotReport, VolumeReport};
use launchpad_protocol::spec::OperationAction;

use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost, START, instance, named};
use crate::app::snapshots::{SnapshotAsked, SnapshotVerb};
use crate::command::{SnapshotRef, snapshot_name};
use crate::domain::actor::{Actor, Role};
use crate::domain::deployment::{Event, State};
use crate::domain::refusal::RefusalKind;
use crate::store::{audit, operations, timeline};

struct Bench {
    lab: Lab,
    host: LabHost,
    id: DeploymentId,
    member: Actor,
}

impl Bench {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let host = lab.host(4 * GIB).await;
        let id = lab.create("web").await;
        lab.settle().await;
        lab.happen(id, Event::Ready).await;
        let member = lab.actor(Role::Member).await;
        Self { lab, host, id, member }
    }

    async fn take(&self, name: Option<&str>) -> Result<SnapshotAsked, AppError> {
        let name = name.map(|name| snapshot_name(name).unwrap());
        self.lab.app.take_snapshot(&self.member, &named(self.id), name, &Once::unclaimed()).await
    }

    fn snapshot(&self, name: &str) -> SnapshotRef {
        SnapshotRef::new(named(self.id), name).unwrap()
    }

    /// Its host reports that it keeps these.
    async fn keep(&self, names: &[&str]) {
        let kept = SnapshotReport { bytes: 7, taken_at: START, digest: Digest::of(b"content") };
        let snapshots = names.iter().map(|name| ((*name).to_owned(), kept.clone())).collect();
        let volume = VolumeReport { backend: "loop-ext4".to_owned(), bytes: 10, used_bytes: 5, snapshots };
        let told = InstanceReport { volume: Some(volume), ..instance(Phase::Ready, 1, 1) };
        let report = HostReport { instances: [(self.id, told)].into(), ..self.lab.nothing() };
        self.lab.keep_report(&self.host, &report).await;
    }

    async fn answer(&self, asked: &SnapshotAsked, outcome: Outcome) {
        self.lab.write(async |tx| operations::answer(tx, asked.operation, &outcome, START).await.map(drop)).await;
    }

    async fn waiting(&self) -> Vec<OperationAction> {
        self.lab.settle().await;
        let spec = self.lab.spec(&self.host).await;
        spec.instances[&self.id].operations.iter().map(|operation| operation.action.clone()).collect()
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, AppError>) -> (RefusalKind, String) {
    match answer {
        Err(AppError::Refused(refusal)) => (refusal.kind, refusal.reason.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_is_asked_of_the_host_and_shown_with_what_became_of_it() {
    let bench = Bench::new().await;
    let asked = bench.take(Some("before")).await.unwrap();
    assert_eq!(bench.waiting().await, [OperationAction::Snapshot { name: "before".to_owned() }]);
    let view = async || bench.lab.app.snapshots(&bench.member, &named(bench.id)).await.unwrap();
    let shown = view().await.asked.remove(0);
    assert_eq!((shown.id, shown.kind, shown.outcome), (asked.operation, SnapshotVerb::Create, None));
    bench.answer(&asked, Outcome::Done { at: START }).await;
    bench.keep(&["before"]).await;
    let shown = view().await;
    assert_eq!(shown.asked[0].outcome, Some(Outcome::Done { at: START }));
    assert_eq!(shown.kept["before"].bytes, 7);
    let restore = bench.lab.app.restore_snapshot(&bench.member, &bench.snapshot("before"), &Once::unclaimed()).await;
    let refusal = Outcome::Refused { reason: Reason::new("disk-full", "no room") };
    let restore = restore.unwrap();
    bench.answer(&restore, refusal.clone()).await;
    // Both were asked for in the same microsecond: which comes first is chance.
    let asked = view().await.asked;
    let shown = asked.iter().find(|one| one.id == restore.operation).expect("it is shown");
    assert_eq!(shown.outcome, Some(refusal));
    let told = bench.lab.read(async |tx| timeline::latest(tx, bench.id, 1).await).await.remove(0);
    assert_eq!(told.cause, "a restore was asked for");
    let deed = bench.lab.read(async |tx| audit::all(tx).await).await.pop().unwrap().0;
    assert_eq!(deed.action, "snapshot.restore");
}

#[tokio::test]
async fn names_and_numbers_are_bounded_by_what_is_there_and_what_waits() {
    let bench = Bench::new().await;
    bench.keep(&["one", "two"]).await;
    assert_eq!(refused(bench.take(Some("one")).await), (RefusalKind::Conflict, "snapshot-exists".to_owned()));
    for number in 2..SNAPSHOTS_PER_VOLUME_MAX {
        bench.take(Some(&format!("more-{number}"))).await.unwrap();
    }
    assert_eq!(refused(bench.take(None).await), (RefusalKind::Conflict, "too-many-snapshots".to_owned()));
    bench.lab.app.delete_snapshot(&bench.member, &bench.snapshot("one")).await.unwrap();
    let gone = bench.lab.app.restore_snapshot(&bench.member, &bench.snapshot("one"), &Once::unclaimed()).await;
    assert_eq!(refused(gone), (RefusalKind::NotFound, "no-such-snapshot".to_owned()));
    let named = bench.take(None).await.unwrap();
    assert!(named.name.starts_with("s-2027"), "{}", named.name);
    let dropped = OperationAction::DropSnapshot { name: "one".to_owned() };
    assert!(bench.waiting().await.contains(&dropped));
}

#[tokio::test]
async fn a_bot_that_its_host_gave_up_on_gets_its_restore_and_another_try() {
    let bench = Bench::new().await;
    bench.keep(&["good"]).await;
    bench.lab.happen(bench.id, Event::Refused(Reason::new("exit-terminal", "exit 78"))).await;
    let restore = bench.lab.app.restore_snapshot(&bench.member, &bench.snapshot("good"), &Once::unclaimed()).await;
    restore.unwrap();
    let row = bench.lab.row(bench.id).await;
    assert_eq!((row.state, row.revision.0), (State::Failed, 2));
    assert_eq!(bench.waiting().await, [OperationAction::Restore { name: "good".to_owned() }]);
}

#[tokio::test]
async fn without_a_host_or_on_its_way_out_a_bot_has_no_snapshot() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let member = lab.actor(Role::Member).await;
    let take = async || lab.app.take_snapshot(&member, &named(id), None, &Once::unclaimed()).await;
    assert_eq!(refused(take().await), (RefusalKind::Conflict, "wrong-state".to_owned()));
    lab.happen(id, Event::Delete).await;
    assert_eq!(refused(take().await), (RefusalKind::Conflict, "wrong-state".to_owned()));
}
