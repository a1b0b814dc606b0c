//! A store that is older than its fleet: frozen, then above everything that hosts hold.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::{Accepted, Epoch, Generation, Revision};
use launchpad_protocol::id::IncarnationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;

use crate::app::AppError;
use crate::app::lab::{GIB, Lab, START, instance};
use crate::domain::actor::Role;
use crate::domain::refusal::RefusalKind;
use crate::store::{Tx, meta};

async fn restore(lab: &Lab) -> IncarnationId {
    let incarnation = lab.app.entropy.id(START);
    let why = Reason::new("restored", "the store was restored");
    lab.write(async |tx: &mut Tx| meta::restamp(tx, incarnation, &why).await).await;
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
    let confirmed = lab.app.confirm_recovery(&operator).await.unwrap();
    assert_eq!((confirmed.frozen, confirmed.incarnation), (None, incarnation));
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
    lab.app.confirm_recovery(&operator).await.unwrap();
    lab.settle().await;
    let row = lab.row(id).await;
    assert_eq!((row.host, row.epoch), (Some(holder.id), Epoch(3)));
    assert!(lab.spec(&holder).await.instances.contains_key(&id));
    assert_eq!(lab.spec(&larger).await.instances.len(), 0);
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
    lab.app.confirm_recovery(&operator).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(2));
}

#[tokio::test]
async fn confirming_when_nothing_is_frozen_changes_nothing() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.create("web").await;
    lab.settle().await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.confirm_recovery(&operator).await.unwrap();
    lab.settle().await;
    assert_eq!(lab.generation(&host).await, Some(1));
}

#[tokio::test]
async fn only_an_operator_may_confirm() {
    let lab = Lab::new().await;
    restore(&lab).await;
    for role in [Role::Owner, Role::Member, Role::Viewer, Role::OnCall] {
        let actor = lab.actor(role).await;
        let Err(AppError::Refused(refusal)) = lab.app.confirm_recovery(&actor).await else { panic!("{role} may") };
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
    }
}
