//! Wishes find hosts, or say what they wait for.

use std::time::Duration;

use launchpad_protocol::generation::Epoch;

use super::STARTED;
use crate::app::AppError;
use crate::app::lab::{GIB, Lab, named};
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::domain::host::HostState;
use crate::domain::lease::SILENT_AFTER;
use crate::domain::silence::Heard;
use crate::jobs::{Started, placer, watcher};
use crate::store::hosts::Seen;
use crate::store::{StoreError, Tx, hosts};

#[tokio::test]
async fn a_wish_without_a_host_waits_with_its_reason_and_gets_the_first_that_comes() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    lab.settle().await;
    let waiting = lab.row(id).await;
    assert_eq!((waiting.state, waiting.host), (State::Requested, None));
    assert_eq!(waiting.reason.map(|reason| reason.code).as_deref(), Some("no-hosts"));
    let host = lab.host(4 * GIB).await;
    lab.settle().await;
    let placed = lab.row(id).await;
    assert_eq!((placed.state, placed.host, placed.epoch), (State::Provisioning, Some(host.id), Epoch(1)));
    assert_eq!(placed.reason, None);
}

#[tokio::test]
async fn a_round_that_finds_nothing_new_writes_nothing() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    lab.settle().await;
    let before = lab.row(id).await;
    assert_eq!(placer::round(&lab.app, STARTED).await.unwrap(), placer::Placed::default());
    assert_eq!(lab.row(id).await, before);
}

#[tokio::test]
async fn a_host_is_never_promised_twice_in_one_round_and_what_ends_makes_room() {
    let lab = Lab::new().await;
    lab.host(2 * GIB).await;
    let ids = [lab.create("one").await, lab.create("two").await, lab.create("three").await];
    lab.settle().await;
    let states = async || [lab.row(ids[0]).await.state, lab.row(ids[1]).await.state, lab.row(ids[2]).await.state];
    assert_eq!(states().await, [State::Provisioning, State::Provisioning, State::Requested]);
    assert_eq!(lab.row(ids[2]).await.reason.map(|reason| reason.code).as_deref(), Some("pool-full"));
    let member = lab.actor(Role::Member).await;
    lab.app.delete_deployment(&member, &named(ids[0]), true).await.unwrap();
    lab.settle().await;
    // On its way out it still takes its room.
    assert_eq!(states().await[2], State::Requested);
    lab.happen(ids[0], Event::DataGone).await;
    lab.settle().await;
    assert_eq!(states().await, [State::Terminated, State::Provisioning, State::Provisioning]);
}

#[tokio::test]
async fn a_plan_larger_than_any_host_is_refused_at_once_and_keeps_no_name() {
    let lab = Lab::new().await;
    lab.host(2 * GIB).await;
    let Err(AppError::Refused(refusal)) = lab.try_create("web", "team").await else { panic!("it was taken") };
    assert_eq!(refusal.reason.code, "plan-larger-than-any-host");
    lab.create("web").await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_with_what_to_do() {
    let lab = Lab::new().await;
    lab.create("web").await;
    let Err(AppError::Refused(refusal)) = lab.try_create("web", "starter").await else {
        panic!("it was taken twice")
    };
    assert_eq!(refusal.reason.code, "name-taken");
    assert!(refusal.reason.mend.is_some());
}

#[tokio::test]
async fn nothing_is_placed_until_every_active_host_has_spoken_to_this_process_or_had_the_time_to() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    lab.advance(Duration::from_secs(1));
    let started = Started::now(&lab.app.clock);
    let id = lab.create("web").await;
    let is_placed = async || {
        placer::round(&lab.app, started).await.unwrap();
        lab.row(id).await.host.is_some()
    };
    assert!(!is_placed().await);
    lab.advance(Duration::from_secs(20));
    assert!(!is_placed().await);
    let speak = async |tx: &mut Tx| {
        let row = hosts::get(tx, host.id).await?.ok_or(StoreError::Missing { what: "host" })?;
        let seen = Seen { state: row.state, capacity: row.capacity, capabilities: &row.capabilities };
        hosts::seen(tx, host.id, seen, lab.app.clock.wall()).await
    };
    lab.write(speak).await;
    assert!(is_placed().await);
}

#[tokio::test]
async fn a_host_that_never_speaks_again_holds_nobody_up_for_long_and_a_new_one_not_at_all() {
    let lab = Lab::new().await;
    let id = lab.create("web").await;
    let mute = lab.host(GIB / 2).await;
    lab.advance(Duration::from_secs(1));
    let started = Started::now(&lab.app.clock);
    lab.advance(Duration::from_secs(1));
    let newcomer = lab.host(4 * GIB).await;
    placer::round(&lab.app, started).await.unwrap();
    assert_eq!(lab.row(id).await.host, None, "the other may run it");
    lab.advance(SILENT_AFTER);
    placer::round(&lab.app, started).await.unwrap();
    assert_eq!(lab.row(id).await.host, Some(newcomer.id));
    assert_ne!(mute.id, newcomer.id);

    let fresh = Lab::new().await;
    let (id, newcomer) = (fresh.create("web").await, fresh.host(4 * GIB).await);
    placer::round(&fresh.app, STARTED).await.unwrap();
    assert_eq!(fresh.row(id).await.host, Some(newcomer.id));
}

#[tokio::test]
async fn a_host_falls_silent_only_if_it_had_time_to_speak_and_then_gets_nothing_new() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let state = async || lab.read(async |tx| hosts::get(tx, host.id).await).await.unwrap().state;
    let mut heard = Heard::default();
    lab.advance(Duration::from_secs(31));
    // The coordinator has just started: it was the silent one.
    assert_eq!(watcher::round(&lab.app, &mut heard).await.unwrap().hosts, 0);
    lab.advance(Duration::from_secs(31));
    assert_eq!(watcher::round(&lab.app, &mut heard).await.unwrap().hosts, 1);
    assert_eq!(state().await, HostState::Silent);
    let id = lab.create("web").await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.state, State::Requested);
}
