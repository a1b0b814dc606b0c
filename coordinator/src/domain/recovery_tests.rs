//! What a store that may be older than its fleet learns from hosts.

use std::collections::BTreeSet;

use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{HostId, JournalId};
use launchpad_protocol::report::{Capacity, EventBatch, Orphan, Phase};
use launchpad_protocol::time::Moment;
use uuid::Uuid;

use super::*;
use crate::domain::host::HostState;

fn id<I: From<Uuid>>(number: u128) -> I {
    I::from(Uuid::from_u128(number))
}

fn instance(revision: u64, epoch: u64) -> InstanceReport {
    InstanceReport {
        phase: Phase::Ready,
        reason: None,
        revision: Revision(revision),
        epoch: Epoch(epoch),
        container: None,
        restarts: 0,
        ready_at: None,
        degraded: Vec::new(),
    }
}

fn report() -> HostReport {
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
    }
}

#[test]
fn nothing_is_placed_while_publishing_is_frozen() {
    let host = Candidate {
        id: id::<HostId>(1),
        name: "one".to_owned(),
        pool: "shared".to_owned(),
        state: HostState::Active,
        capacity: Capacity { cpu_millis: 4_000, memory_bytes: 1 << 32, storage_bytes: 1 << 40 },
        allocated: Capacity::default(),
        instances: 0,
        features: BTreeSet::new(),
    };
    let wanted = Wanted { pool: "shared".to_owned(), size: Capacity::default(), requires: BTreeSet::new() };
    let frozen = Reason::new("restored", "the store was restored");
    assert_eq!(place_unless(None, &wanted, std::slice::from_ref(&host)), Placement::Chosen(host.id));
    match place_unless(Some(&frozen), &wanted, &[host]) {
        Placement::Nowhere { reason, .. } => assert_eq!(reason.code, "recovering"),
        Placement::Chosen(host) => panic!("placed on {host}"),
    }
}

#[test]
fn what_a_host_holds_already_is_adopted_and_a_stranger_of_another_tenant_is_not() {
    let (deployment, account, other) = (id(7), id(8), id(9));
    assert_eq!(adopt(deployment, account, Epoch(0), &report()), None);
    let held = HostReport { instances: BTreeMap::from([(deployment, instance(1, 3))]), ..report() };
    assert_eq!(adopt(deployment, account, Epoch(0), &held), Some(Epoch(3)));
    let orphan = |account| Orphan {
        container: "c".to_owned(),
        deployment: Some(deployment),
        account: Some(account),
        running: true,
    };
    let left = HostReport { orphans: vec![orphan(account)], ..report() };
    assert_eq!(adopt(deployment, account, Epoch(0), &left), Some(Epoch(1)));
    let foreign = HostReport { orphans: vec![orphan(other)], ..report() };
    assert_eq!(adopt(deployment, account, Epoch(0), &foreign), None);
}

#[test]
fn a_wish_that_is_behind_is_raised_above_its_host_and_any_other_stays() {
    let overtaken = |revision, epoch| Some(Overtaken { revision: Revision(revision), epoch: Epoch(epoch) });
    assert_eq!(overtake(Revision(2), Epoch(1), &instance(5, 4)), overtaken(6, 4));
    assert_eq!(overtake(Revision(5), Epoch(1), &instance(5, 4)), overtaken(5, 4));
    assert_eq!(overtake(Revision(5), Epoch(4), &instance(5, 4)), None);
}
