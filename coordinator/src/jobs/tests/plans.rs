//! Another plan changes what a bot may use where it is, and counts at once.

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::spec::InstanceSpec;

use crate::app::AppError;
use crate::app::lab::{GIB, Lab, LabHost, named};
use crate::app::plan::PlanView;
use crate::command::{SetEgress, SetPlan};
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::domain::refusal::{Refusal, RefusalKind};
use crate::store::{audit, deployments, timeline};

async fn set(lab: &Lab, id: DeploymentId, plan: &str) -> Result<PlanView, AppError> {
    let member = lab.actor(Role::Member).await;
    let command = SetPlan::new(named(id), plan, &lab.app.plans).unwrap();
    let view = lab.app.set_plan(&member, command).await;
    lab.settle().await;
    view
}

async fn running(memory_bytes: u64) -> (Lab, LabHost, DeploymentId) {
    let lab = Lab::new().await;
    let host = lab.host(memory_bytes).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Ready).await;
    (lab, host, id)
}

fn refused(answer: Result<PlanView, AppError>) -> Refusal {
    match answer {
        Err(AppError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_larger_plan_reaches_a_running_bot_whose_container_and_files_stay() {
    let (lab, host, id) = running(4 * GIB).await;
    let before = lab.spec(&host).await.instances[&id].clone();
    let view = set(&lab, id, "pro").await.unwrap();
    assert_eq!((view.revision, view.plan.name.as_str()), (Revision(2), "pro"));
    let after = lab.spec(&host).await.instances[&id].clone();
    let (resources, volume) = (after.resources, after.volume.clone());
    assert_eq!((resources.memory_bytes, volume.as_ref().unwrap().bytes), (2 * GIB, 25_000_000_000));
    assert_eq!(after, InstanceSpec { resources, volume, revision: Revision(2), ..before }, "nothing else changes");
    let row = lab.row(id).await;
    assert_eq!((row.state, row.plan.as_str(), row.size), (State::Updating, "pro", view.plan.size()));
    let told = lab.read(async |tx| timeline::latest(tx, id, 1).await).await.remove(0);
    assert_eq!(told.cause, "another plan was chosen");
    let deed = lab.read(async |tx| audit::all(tx).await).await.pop().unwrap().0;
    assert_eq!((deed.action.as_str(), deed.detail.as_str()), ("plan.set", "from starter to pro"));
    let member = lab.actor(Role::Member).await;
    assert_eq!(lab.app.egress(&member, &named(id)).await.unwrap().granted, view.plan.egress_rules);
}

#[tokio::test]
async fn the_same_plan_again_is_no_new_revision() {
    let (lab, host, id) = running(4 * GIB).await;
    let (generation, deeds) = (lab.generation(&host).await, lab.read(async |tx| audit::all(tx).await).await.len());
    assert_eq!(set(&lab, id, "starter").await.unwrap().revision, Revision(1));
    assert_eq!((lab.row(id).await.state, lab.generation(&host).await), (State::Running, generation));
    assert_eq!(lab.read(async |tx| audit::all(tx).await).await.len(), deeds);
}

#[tokio::test]
async fn a_host_without_room_for_what_a_plan_adds_says_what_lacks_and_nothing_changes() {
    let (lab, host, id) = running(2 * GIB).await;
    let neighbour = lab.create("neighbour").await;
    lab.settle().await;
    assert!(lab.spec(&host).await.instances.contains_key(&neighbour));
    let refusal = refused(set(&lab, id, "pro").await);
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Unavailable, "memory-full"));
    assert!(refusal.reason.sentence.contains("0 MiB of memory free, the plan needs 1024 MiB more"), "{refusal}");
    let row = lab.row(id).await;
    assert_eq!((row.plan.as_str(), row.revision, row.state), ("starter", Revision(1), State::Running));
    // What the neighbour gives up, the next to ask may have.
    let gone = async |tx: &mut crate::store::Tx| {
        let mut row = deployments::get(tx, crate::domain::actor::Scope::Every, neighbour).await?.unwrap();
        row.host = None;
        deployments::update(tx, &mut row).await
    };
    lab.write(gone).await;
    assert_eq!(set(&lab, id, "pro").await.unwrap().plan.name, "pro");
}

#[tokio::test]
async fn what_a_plan_takes_is_promised_to_nobody_else_from_then_on() {
    let (lab, _host, id) = running(2 * GIB).await;
    set(&lab, id, "pro").await.unwrap();
    let next = lab.create("next").await;
    lab.settle().await;
    let row = lab.row(next).await;
    assert_eq!((row.state, row.host), (State::Requested, None));
    assert_eq!(row.reason.map(|reason| reason.code).as_deref(), Some("pool-full"));
}

#[tokio::test]
async fn a_plan_with_less_storage_or_fewer_rules_than_a_bot_has_is_refused() {
    let (lab, _host, id) = running(8 * GIB).await;
    set(&lab, id, "pro").await.unwrap();
    let refusal = refused(set(&lab, id, "starter").await);
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Impossible, "plan-shrinks-volume"));
    assert!(refusal.to_string().contains("never made smaller"), "{refusal}");
    assert_eq!(lab.row(id).await.plan, "pro");

    let narrow = "[pro]\ncpu_millis = 1000\nmemory_gb = 2\nstorage_gb = 25\nretention_days = 1\negress_rules = 0\n";
    let profiles = (*lab.app.profiles).clone();
    let member = lab.actor(Role::Member).await;
    let rule = SetEgress::new(named(id), &["api.example.com".to_owned()]).unwrap();
    lab.app.set_egress(&member, rule).await.unwrap();
    let lab = lab.with_catalogue(profiles, crate::domain::plan_table::PlanTable::parse(narrow).unwrap());
    assert_eq!(refused(set(&lab, id, "pro").await).reason.code, "egress-over-plan");
}

#[tokio::test]
async fn a_bot_that_waits_for_a_host_gets_one_with_room_for_its_plan_and_what_no_host_has_is_refused() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    set(&lab, id, "pro").await.unwrap();
    let small = lab.host(GIB).await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, None, "{} is too small for it", small.id);
    assert_eq!(refused(set(&lab, id, "team").await).reason.code, "plan-larger-than-any-host");
    assert_eq!(lab.row(id).await.size.memory_bytes, 2 * GIB, "as it was");
    lab.happen(id, Event::Delete).await;
    let refusal = refused(set(&lab, id, "team").await);
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Conflict, "wrong-state"));
}
