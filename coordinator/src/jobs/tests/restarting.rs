//! A restart is an operation in the spec until its host has answered it.

use std::time::Duration;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::OperationAction;

use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, START, named};
use crate::command::LogsWanted;
use crate::domain::actor::{Actor, Role};
use crate::domain::audit::first_break;
use crate::domain::deployment::{Event, State};
use crate::domain::lease::SILENT_AFTER;
use crate::domain::refusal::RefusalKind;
use crate::store::{audit, operations, outbox};

#[tokio::test]
async fn a_restart_stays_in_the_spec_until_it_is_answered_and_changes_no_container() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Ready).await;
    let before = lab.spec(&host).await.instances[&id].clone();
    let member = lab.actor(Role::Member).await;
    let operation = lab.app.restart_deployment(&member, &named(id), &Once::unclaimed()).await.unwrap();
    lab.settle().await;
    let mut told = lab.spec(&host).await.instances[&id].clone();
    assert_eq!(told.operations.len(), 1);
    assert_eq!((told.operations[0].id, &told.operations[0].action), (operation, &OperationAction::Restart));
    told.operations.clear();
    assert_eq!(told, before);
    assert_eq!(lab.row(id).await.state, State::Restarting);
    let answer = async |tx: &mut _| {
        operations::answer(tx, operation, &Outcome::Done { at: START }, START).await?;
        outbox::mark(tx, host.id).await
    };
    lab.write(answer).await;
    lab.settle().await;
    assert_eq!(lab.spec(&host).await.instances[&id], before);
}

#[tokio::test]
async fn what_a_host_gave_up_on_is_tried_again_as_a_new_revision_of_the_same_container() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Refused(Reason::new("exit-terminal", "exit 78"))).await;
    let before = lab.spec(&host).await.instances[&id].clone();
    let member = lab.actor(Role::Member).await;
    lab.app.restart_deployment(&member, &named(id), &Once::unclaimed()).await.unwrap();
    lab.settle().await;
    let told = lab.spec(&host).await.instances[&id].clone();
    assert_eq!((told.revision.0, told.epoch), (2, before.epoch));
    assert_eq!(told.recreate_hash, before.recreate_hash);
    assert_eq!(host.opened(&told), host.opened(&before));
}

#[tokio::test]
async fn a_host_that_another_coordinator_hears_is_not_called_offline() {
    let lab = Lab::new().await;
    lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    let viewer = lab.actor(Role::Viewer).await;
    let code = async || match lab.app.logs(&viewer, &named(id), LogsWanted::new(None, false).unwrap()).await {
        Err(AppError::Refused(refusal)) => refusal.reason.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code().await, "host-elsewhere");
    lab.advance(SILENT_AFTER + Duration::from_secs(1));
    assert_eq!(code().await, "host-offline");
}

#[tokio::test]
async fn what_has_not_run_yet_cannot_be_restarted() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let member = lab.actor(Role::Member).await;
    let refused = lab.app.restart_deployment(&member, &named(id), &Once::unclaimed()).await;
    let Err(AppError::Refused(refusal)) = refused else { panic!("it was restarted") };
    assert_eq!((refusal.kind, refusal.reason.code.as_str()), (RefusalKind::Conflict, "wrong-state"));
}

#[tokio::test]
async fn another_account_can_neither_see_nor_touch_it_and_a_viewer_only_sees() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let other: AccountId = lab.app.entropy.id(START);
    lab.add_account(other).await;
    let stranger = Actor { account: Some(other), ..lab.actor(Role::Owner).await };
    let kind = |error: Result<_, AppError>| match error {
        Err(AppError::Refused(refusal)) => Some(refusal.kind),
        Err(AppError::Store(_) | AppError::Files(_) | AppError::NoEntropy(_)) | Ok(()) => None,
    };
    for target in [named(id), "web".parse().unwrap(), named(id).within(Some(lab.account))] {
        let app = &lab.app;
        let tries = [
            kind(app.deployment(&stranger, &target).await.map(drop)),
            kind(app.restart_deployment(&stranger, &target, &Once::unclaimed()).await.map(drop)),
            kind(app.delete_deployment(&stranger, &target, true).await.map(drop)),
        ];
        assert_eq!(tries, [Some(RefusalKind::NotFound); 3], "{target}");
    }
    let viewer = lab.actor(Role::Viewer).await;
    assert_eq!(lab.app.deployment(&viewer, &named(id)).await.unwrap().id, id);
    let deleted = lab.app.delete_deployment(&viewer, &named(id), false).await.map(drop);
    assert_eq!(kind(deleted), Some(RefusalKind::Forbidden));
}

#[tokio::test]
async fn every_success_is_audited_and_staff_beyond_their_account_by_name() {
    let lab = Lab::new().await;
    lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    let operator = lab.actor(Role::Operator).await;
    let target = named(id).within(Some(lab.account));
    assert!(lab.app.restart_deployment(&operator, &target, &Once::unclaimed()).await.is_err());
    lab.app.delete_deployment(&operator, &target, false).await.unwrap();
    let log = lab.read(async |tx| audit::all(tx).await).await;
    let told: Vec<_> = log.iter().map(|(entry, _)| (entry.action.as_str(), entry.cross_account)).collect();
    assert_eq!(told, [("deployment.create", false), ("deployment.delete", true)]);
    assert_eq!(first_break(log.iter().map(|(entry, hash)| (entry, *hash))), None);
}
