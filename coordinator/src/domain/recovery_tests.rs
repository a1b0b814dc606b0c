//! What a store that may be older than its fleet learns from hosts.

use std::collections::BTreeSet;

use launchpad_protocol::capability;
use launchpad_protocol::id::HostId;
use launchpad_protocol::report::{Capacity, Phase};
use uuid::Uuid;

use super::*;
use crate::domain::host::HostState;
use crate::domain::pool_table::PoolTable;

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
        enforcement: BTreeMap::new(),
        volume: None,
        oom_kills: 0,
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
        sealed_bytes: 0,
        features: BTreeSet::new(),
        capabilities: capability::complete(),
        tenants: BTreeSet::new(),
    };
    let wanted = Wanted {
        pool: PoolTable::default().get("shared"),
        account: id(9),
        size: Capacity::default(),
        sealed_bytes: 0,
        requires: BTreeSet::new(),
    };
    let frozen = Reason::new("restored", "the store was restored");
    assert_eq!(place_unless(None, &wanted, std::slice::from_ref(&host)), Placement::Chosen(host.id));
    match place_unless(Some(&frozen), &wanted, &[host]) {
        Placement::Nowhere { reason, .. } => assert_eq!(reason.code, "recovering"),
        Placement::Chosen(host) => panic!("placed on {host}"),
    }
}

#[test]
fn a_wish_that_is_behind_is_raised_above_its_host_and_any_other_stays() {
    let overtaken = |revision, epoch| Some(Overtaken { revision: Revision(revision), epoch: Epoch(epoch) });
    assert_eq!(overtake(Revision(2), Epoch(1), &instance(5, 4)), overtaken(6, 4));
    assert_eq!(overtake(Revision(5), Epoch(1), &instance(5, 4)), overtaken(5, 4));
    assert_eq!(overtake(Revision(5), Epoch(4), &instance(5, 4)), None);
}
