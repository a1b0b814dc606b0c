//! Where a deployment is, by what hosts report.

use std::collections::BTreeSet;

use launchpad_protocol::generation::{Generation, Revision};
use launchpad_protocol::id::JournalId;
use launchpad_protocol::report::{Capacity, ContainerReport, EventBatch, InstanceReport, Phase};
use launchpad_protocol::time::Moment;
use uuid::Uuid;

use super::*;

fn id<I: From<Uuid>>(number: u128) -> I {
    I::from(Uuid::from_u128(number))
}

fn remembered(host: Option<u128>) -> Remembered {
    Remembered { deployment: id(7), account: id(8), host: host.map(id), epoch: Epoch(2) }
}

fn nothing() -> HostReport {
    HostReport {
        boot_id: "boot".to_owned(),
        agent_version: "1".to_owned(),
        wall: Moment::default(),
        accepted: None,
        applied: Generation(0),
        capacity: Capacity::default(),
        capabilities: BTreeMap::new(),
        instances: BTreeMap::new(),
        orphans: Vec::new(),
        buried: BTreeSet::new(),
        outcomes: BTreeMap::new(),
        troubles: Vec::new(),
        events: EventBatch { journal: id::<JournalId>(1), dropped: 0, events: Vec::new() },
        denials: BTreeMap::new(),
        gate: None,
    }
}

fn wanted(epoch: u64, runs: bool) -> HostReport {
    let container = ContainerReport {
        id: "c".to_owned(),
        image: None,
        started_at: runs.then(Moment::default),
        address: None,
        limits: None,
    };
    let instance = InstanceReport {
        phase: Phase::Ready,
        reason: None,
        revision: Revision(1),
        epoch: Epoch(epoch),
        container: Some(container),
        restarts: 0,
        ready_at: None,
        enforcement: BTreeMap::new(),
        volume: None,
        oom_kills: 0,
    };
    HostReport { instances: BTreeMap::from([(id(7), instance)]), ..nothing() }
}

fn orphan(account: u128) -> HostReport {
    let orphan =
        Orphan { container: "c".to_owned(), deployment: Some(id(7)), account: Some(id(account)), running: true };
    HostReport { orphans: vec![orphan], ..nothing() }
}

fn found(remembered: Remembered, one: &HostReport, two: &HostReport) -> Option<(HostId, u64)> {
    let reports = BTreeMap::from([(id(1), one), (id(2), two)]);
    find(remembered, &reports).map(|found| (found.host, found.epoch.0))
}

#[test]
fn what_was_never_placed_is_where_a_host_has_it() {
    assert_eq!(found(remembered(None), &nothing(), &nothing()), None);
    assert_eq!(found(remembered(None), &nothing(), &wanted(5, false)), Some((id(2), 5)));
    assert_eq!(found(remembered(None), &wanted(1, false), &orphan(8)), Some((id(2), 2)), "what runs goes first");
}

#[test]
fn a_bot_that_runs_elsewhere_keeps_that_host() {
    assert_eq!(found(remembered(Some(1)), &nothing(), &orphan(8)), Some((id(2), 2)));
    assert_eq!(found(remembered(Some(1)), &wanted(4, false), &wanted(1, true)), Some((id(2), 4)));
}

#[test]
fn its_own_host_stays_unless_another_has_more_of_it() {
    assert_eq!(found(remembered(Some(1)), &nothing(), &nothing()), None);
    assert_eq!(found(remembered(Some(1)), &wanted(2, true), &orphan(8)), None);
    assert_eq!(found(remembered(Some(1)), &wanted(2, false), &wanted(3, false)), None);
}

#[test]
fn what_another_tenant_runs_is_not_it() {
    assert_eq!(found(remembered(None), &nothing(), &orphan(9)), None);
}
