//! Nothing goes away but by a tombstone that names it.

use std::time::Duration;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::spec::TombstoneScope;

use crate::app::AppError;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost, named};
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::jobs::{compiler, reaper};
use crate::store::{audit, operations, outbox, revisions, tombstones};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn running(lab: &Lab) -> (LabHost, DeploymentId) {
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Ready).await;
    (host, id)
}

async fn delete(lab: &Lab, id: DeploymentId, purge: bool) {
    let member = lab.actor(Role::Member).await;
    lab.app.delete_deployment(&member, &named(id), purge).await.unwrap();
    lab.settle().await;
}

async fn scopes(lab: &Lab, host: &LabHost) -> Vec<TombstoneScope> {
    lab.spec(host).await.tombstones.into_values().map(|tombstone| tombstone.scope).collect()
}

/// The host carries out all that its spec orders removed.
async fn bury(lab: &Lab, host: &LabHost, id: DeploymentId, event: Event) {
    let bury = async |tx: &mut _| {
        for tombstone in tombstones::unburied(tx, host.id).await? {
            assert!(tombstones::bury(tx, tombstone.id, lab.app.clock.wall()).await?);
        }
        outbox::mark(tx, host.id).await
    };
    lab.write(bury).await;
    lab.happen(id, event).await;
    compiler::round(&lab.app).await.unwrap();
}

#[tokio::test]
async fn a_deleted_bots_container_goes_now_and_its_data_after_retention() {
    let lab = Lab::new().await;
    let (host, id) = running(&lab).await;
    delete(&lab, id, false).await;
    let spec = lab.spec(&host).await;
    assert!(!spec.instances.contains_key(&id));
    let tombstone = spec.tombstones.values().next().unwrap();
    assert_eq!((tombstone.deployment, tombstone.account), (id, lab.account));
    assert_eq!((tombstone.scope, tombstone.stop_grace), (TombstoneScope::Container, Duration::from_secs(3)));
    bury(&lab, &host, id, Event::ContainerGone).await;
    assert_eq!(scopes(&lab, &host).await, []);

    lab.advance(7 * DAY - Duration::from_secs(1));
    assert_eq!(reaper::round(&lab.app).await.unwrap(), 0);
    lab.advance(Duration::from_secs(2));
    assert_eq!(reaper::round(&lab.app).await.unwrap(), 1);
    assert_eq!(reaper::round(&lab.app).await.unwrap(), 0);
    let log = lab.read(async |tx| audit::all(tx).await).await;
    let last = &log.last().unwrap().0;
    assert_eq!((last.role.as_str(), last.action.as_str()), ("coordinator", "deployment.data-away"));
    assert_eq!((last.user, last.account, &last.target), (None, Some(lab.account), &id.to_string()));
    lab.settle().await;
    assert_eq!(scopes(&lab, &host).await, [TombstoneScope::Data]);
    bury(&lab, &host, id, Event::DataGone).await;
    let row = lab.row(id).await;
    assert_eq!(row.state, State::Terminated);
    let files = lab.read(async |tx| revisions::files(tx, id, row.revision).await).await;
    assert!(files.is_empty(), "its secrets outlive it");
}

#[tokio::test]
async fn a_purge_orders_the_data_away_at_once_even_of_what_was_deleted_before() {
    let lab = Lab::new().await;
    let (host, id) = running(&lab).await;
    delete(&lab, id, false).await;
    delete(&lab, id, false).await;
    assert_eq!(scopes(&lab, &host).await, [TombstoneScope::Container]);
    delete(&lab, id, true).await;
    delete(&lab, id, true).await;
    let mut both = scopes(&lab, &host).await;
    both.sort_by_key(|scope| *scope == TombstoneScope::Data);
    assert_eq!(both, [TombstoneScope::Container, TombstoneScope::Data]);
    lab.advance(30 * DAY);
    assert_eq!(reaper::round(&lab.app).await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_asked_of_a_deleted_bot_is_answered() {
    let lab = Lab::new().await;
    let (_, id) = running(&lab).await;
    let member = lab.actor(Role::Member).await;
    lab.app.restart_deployment(&member, &named(id), &Once::unclaimed()).await.unwrap();
    let waiting = async || lab.read(async |tx| operations::unanswered(tx, id).await).await.len();
    assert_eq!(waiting().await, 1);
    delete(&lab, id, false).await;
    assert_eq!(waiting().await, 0);
}

#[tokio::test]
async fn what_never_had_a_host_is_gone_at_once_and_its_name_is_free() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    delete(&lab, id, false).await;
    assert_eq!(lab.row(id).await.state, State::Terminated);
    let again = lab.create("web").await;
    assert_ne!(again, id);
}

#[tokio::test]
async fn a_deleted_bot_cannot_be_deleted_back_and_forth() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    delete(&lab, id, false).await;
    let member = lab.actor(Role::Member).await;
    let Err(AppError::Refused(refusal)) = lab.app.delete_deployment(&member, &named(id), true).await else {
        panic!("it was deleted twice")
    };
    assert_eq!(refusal.reason.code, "wrong-state");
}

#[tokio::test]
async fn a_revoked_hosts_bots_say_so_and_can_be_given_up() {
    let lab = Lab::new().await;
    let (host, id) = running(&lab).await;
    let operator = lab.actor(Role::Operator).await;
    lab.app.revoke_host(&operator, host.id).await.unwrap();
    let row = lab.row(id).await;
    assert_eq!(row.state, State::Running);
    assert_eq!(row.reason.map(|reason| reason.code).as_deref(), Some("host-revoked"));
    delete(&lab, id, false).await;
    let row = lab.row(id).await;
    assert_eq!(row.state, State::Terminated);
    assert_eq!(row.reason.map(|reason| reason.code).as_deref(), Some("left-behind"));
}
