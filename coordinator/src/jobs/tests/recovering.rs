//! A store that is older than its fleet: frozen, then above everything that hosts hold.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Epoch, Generation, Revision};
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;

use crate::app::AppError;
use crate::app::lab::{GIB, Lab, LabHost, START, instance, named};
use crate::command::ConfirmRecovery;
use crate::domain::actor::Role;
use crate::domain::refusal::RefusalKind;
use crate::store::{Tx, audit, meta, specs, strangers};

async fn restore(lab: &Lab) -> IncarnationId {
    let incarnation = lab.app.entropy.id(START);
    let why = Reason::new("restored", "the store was restored");
    lab.write(async |tx: &mut Tx| meta::restamp(tx, incarnation, &why, START).await).await;
    incarnation
}

#[tokio::test]
async fn a_confirmed_recovery_publishes_above_what_every_host_holds() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    let before = lab.spec(&host).await;
    let incarnation = restore(&lab).await;
    // The host has seen more than the restored store remembers.
    let held = Accepted { generation: Generation(40), digest: Digest::of(b"forgotten") };
    lab.report(&host, Some(held), Some((id, instance(Phase::Ready, 9, 6)))).await;
    lab.settle().await;
    assert_eq!(lab.spec(&host).await, before);

    let operator = lab.actor(Role::Operator).await;
    let status = lab.app.recovery(&operator).await.unwrap();
    assert!(status.frozen.is_some());
    assert_eq!((status.hosts[0].published, status.hosts[0].floor), (Some(Generation(1)), Some(held)));
    let confirmed = lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    assert_eq!((confirmed.frozen, confirmed.incarnation), (None, incarnation));
    assert!(lab.read(async |tx| specs::is_confirmed(tx, host.id, held.generation, incarnation).await).await);
    lab.settle().await;

    let spec = lab.spec(&host).await;
    assert_eq!((spec.generation, spec.incarnation), (Generation(41), incarnation));
    let told = &spec.instances[&id];
    assert_eq!((told.revision, told.epoch), (Revision(10), Epoch(6)));
    assert_eq!(told.recreate_hash, before.instances[&id].recreate_hash);
    assert_eq!(host.opened(told), host.opened(&before.instances[&id]));
}

#[tokio::test]
async fn what_runs_somewhere_already_is_placed_there_and_nowhere_else() {
    let lab = Lab::new().await;
    // The copy was made before the placer came to it.
    let id = lab.create("web").await;
    let (holder, larger) = (lab.host(2 * GIB).await, lab.host(64 * GIB).await);
    restore(&lab).await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.reason.map(|reason| reason.code).as_deref(), Some("recovering"));
    lab.report(&holder, None, Some((id, instance(Phase::Ready, 1, 3)))).await;
    lab.report(&larger, None, None).await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    lab.settle().await;
    let row = lab.row(id).await;
    assert_eq!((row.host, row.epoch), (Some(holder.id), Epoch(3)));
    assert!(lab.spec(&holder).await.instances.contains_key(&id));
    assert_eq!(lab.spec(&larger).await.instances.len(), 0);
}

#[tokio::test]
async fn what_is_not_where_the_copy_remembers_it_keeps_the_host_that_has_it() {
    let lab = Lab::new().await;
    let (holder, larger) = (lab.host(2 * GIB).await, lab.host(64 * GIB).await);
    let id = lab.create("web").await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, Some(larger.id));
    restore(&lab).await;
    lab.report(&larger, None, None).await;
    lab.report(&holder, None, Some((id, instance(Phase::Ready, 1, 3)))).await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    lab.settle().await;
    let row = lab.row(id).await;
    assert_eq!((row.host, row.epoch), (Some(holder.id), Epoch(3)));
    assert!(lab.spec(&holder).await.instances.contains_key(&id));
    assert_eq!(lab.spec(&larger).await.instances.len(), 0, "it would be started there a second time");
}

#[tokio::test]
async fn a_host_at_our_number_with_another_spec_is_overtaken_too() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    restore(&lab).await;
    let held = Accepted { generation: Generation(1), digest: Digest::of(b"another") };
    lab.report(&host, Some(held), None).await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(2));
}

#[tokio::test]
async fn what_may_run_somewhere_is_not_forgotten_by_deleting_it() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let host = lab.host(2 * GIB).await;
    restore(&lab).await;
    let member = lab.actor(Role::Member).await;
    let delete = async || lab.app.delete_deployment(&member, &named(id), true).await;
    let Err(AppError::Refused(refusal)) = delete().await else { panic!("it was forgotten") };
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Conflict, "recovering"));
    lab.report(&host, None, Some((id, instance(Phase::Ready, 1, 3)))).await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    delete().await.unwrap();
    lab.settle().await;
    let buried = lab.spec(&host).await.tombstones;
    assert!(buried.values().any(|tombstone| tombstone.deployment == id), "{buried:?}");
}

#[tokio::test]
async fn what_a_host_reported_before_the_restore_is_not_believed() {
    let lab = Lab::new().await;
    let (holder, larger) = (lab.host(2 * GIB).await, lab.host(64 * GIB).await);
    let id = lab.create("web").await;
    // The copy has a report of each, from before the bot was placed.
    for host in [&holder, &larger] {
        lab.report(host, None, None).await;
    }
    restore(&lab).await;
    lab.report(&larger, None, None).await;
    let operator = lab.actor(Role::Operator).await;
    let status = lab.app.recovery(&operator).await.unwrap();
    let spoken = |host: &LabHost| status.hosts.iter().find(|one| one.id == host.id).unwrap().spoken;
    assert_eq!((spoken(&holder), spoken(&larger)), (false, true));
    let refused = lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await;
    let Err(AppError::Refused(refusal)) = refused else { panic!("it was confirmed unheard") };
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Conflict, "hosts-unheard"));
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, None, "it is frozen still");

    lab.report(&holder, None, Some((id, instance(Phase::Ready, 1, 3)))).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, Some(holder.id));
}

#[tokio::test]
async fn a_host_that_never_comes_back_is_left_out_by_name_and_that_is_written_down() {
    let lab = Lab::new().await;
    let host = lab.host(2 * GIB).await;
    let held = Accepted { generation: Generation(1), digest: Digest::of(b"spec") };
    lab.report(&host, Some(held), None).await;
    let life = restore(&lab).await;
    let operator = lab.actor(Role::Operator).await;
    let without = |name: &str| ConfirmRecovery { without: [name.to_owned()].into() };
    assert!(lab.app.confirm_recovery(&operator, &without("web-7")).await.is_err(), "there is no web-7");
    assert_eq!(lab.app.confirm_recovery(&operator, &without("web-1")).await.unwrap().frozen, None);
    let log = lab.read(async |tx| audit::all(tx).await).await;
    assert_eq!(log.last().unwrap().0.detail, "restored, without web-1");
    // What it holds stays unknown: should it come back after all, that is told.
    assert!(!lab.read(async |tx| specs::is_confirmed(tx, host.id, held.generation, life).await).await);
}

#[tokio::test]
async fn a_host_that_joined_after_the_copy_is_asked_after_too() {
    let lab = Lab::new().await;
    restore(&lab).await;
    let stranger: HostId = lab.app.entropy.id(START);
    lab.write(async |tx| strangers::note(tx, stranger, START).await).await;
    let operator = lab.actor(Role::Operator).await;
    assert_eq!(lab.app.recovery(&operator).await.unwrap().strangers, [(stranger, START)]);
    assert!(lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.is_err());
    let without = ConfirmRecovery { without: [stranger.to_string()].into() };
    assert_eq!(lab.app.confirm_recovery(&operator, &without).await.unwrap().frozen, None);
}

#[tokio::test]
async fn confirming_when_nothing_is_frozen_changes_nothing() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator, &ConfirmRecovery::default()).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(1));
}

#[tokio::test]
async fn only_an_operator_may_confirm() {
    let lab = Lab::new().await;
    restore(&lab).await;
    for role in [Role::Owner, Role::Member, Role::Viewer, Role::OnCall] {
        let actor = lab.actor(role).await;
        let Err(AppError::Refused(refusal)) = lab.app.confirm_recovery(&actor, &ConfirmRecovery::default()).await
        else {
            panic!("{role} may")
        };
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
    }
}
