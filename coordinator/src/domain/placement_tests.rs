//! Which host, and why not the others.

use launchpad_protocol::capability;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::pool_table::PoolTable;

const GIB: u64 = 1 << 30;

fn id(number: u128) -> HostId {
    HostId::from(Uuid::from_u128(number))
}

fn host(number: u128, memory_gib: u64) -> Candidate {
    Candidate {
        id: id(number),
        name: format!("web-{number}"),
        pool: "shared".to_owned(),
        state: HostState::Active,
        capacity: Capacity { cpu_millis: 2_000, memory_bytes: memory_gib * GIB, storage_bytes: 100_000_000_000 },
        allocated: Capacity::default(),
        instances: 0,
        sealed_bytes: 0,
        features: Feature::all(),
        capabilities: capability::complete(),
        tenants: BTreeSet::new(),
    }
}

fn starter() -> Wanted {
    Wanted {
        pool: PoolTable::default().get("shared"),
        account: AccountId::from(Uuid::from_u128(100)),
        size: Capacity { cpu_millis: 500, memory_bytes: GIB, storage_bytes: 10_000_000_000 },
        sealed_bytes: 1_000,
        requires: Feature::all(),
    }
}

/// Why the only host refuses.
fn only_refusal(wanted: &Wanted, host: Candidate) -> Reason {
    match place(wanted, std::slice::from_ref(&host)) {
        Placement::Nowhere { refused, .. } => refused[&host.id].clone(),
        Placement::Chosen(id) => panic!("{id} took it"),
    }
}

fn why(wanted: &Wanted, hosts: &[Candidate]) -> Reason {
    match place(wanted, hosts) {
        Placement::Nowhere { reason, .. } => reason,
        Placement::Chosen(id) => panic!("{id} took it"),
    }
}

#[test]
fn a_host_whose_spec_is_full_of_secrets_takes_no_more_and_one_with_room_does() {
    let most = SEALED_BYTES_PER_HOST_MAX as u64;
    let reason = only_refusal(&starter(), Candidate { sealed_bytes: most - 999, ..host(1, 8) });
    assert_eq!(reason.code, "spec-full");
    assert!(reason.sentence.contains("web-1") && reason.mend.is_some(), "{reason}");
    let full = Candidate { sealed_bytes: most, ..host(1, 64) };
    let room = Candidate { sealed_bytes: most - 1_000, ..host(2, 8) };
    assert_eq!(place(&starter(), &[full, room]), Placement::Chosen(id(2)));
}

#[test]
fn the_host_with_most_free_memory_is_chosen_and_of_equals_the_lowest_id() {
    let mut busy = host(1, 8);
    busy.allocated.memory_bytes = 5 * GIB;
    assert_eq!(place(&starter(), &[busy, host(3, 4), host(2, 4)]), Placement::Chosen(id(2)));
}

#[test]
fn each_shortage_has_its_own_reason_in_numbers() {
    let mut full = host(1, 8);
    full.allocated.memory_bytes = 8 * GIB - 400 * (1 << 20);
    full.instances = 7;
    let reason = only_refusal(&starter(), full);
    assert_eq!(reason.code, "memory-full");
    assert_eq!(
        reason.to_string(),
        "host web-1 has 400 MiB of memory free, the plan needs 1024 MiB (7 deployments on it were promised the rest); \
         add a host to pool `shared`, or remove a deployment"
    );
    let mut full = host(1, 8);
    full.allocated.storage_bytes = 95_000_000_000;
    assert_eq!(only_refusal(&starter(), full).code, "storage-full");
    let mut full = host(1, 64);
    full.allocated.cpu_millis = 2_000 * CPU_PROMISES_PER_CORE - 499;
    assert_eq!(only_refusal(&starter(), full).code, "cpu-full");
    let mut full = host(1, 64);
    full.instances = INSTANCES_PER_HOST_MAX;
    assert_eq!(only_refusal(&starter(), full).code, "host-full");
}

#[test]
fn a_host_that_is_not_active_or_lacks_a_feature_is_refused_by_name() {
    for state in HostState::ALL.into_iter().filter(|state| *state != HostState::Active) {
        let reason = only_refusal(&starter(), Candidate { state, ..host(1, 8) });
        assert_eq!((reason.code.as_str(), reason.sentence), ("host-not-active", format!("host web-1 is {state}")));
    }
    let features = Feature::all().into_iter().filter(|feature| *feature != Feature::volume()).collect();
    let reason = only_refusal(&starter(), Candidate { features, ..host(1, 8) });
    assert_eq!(reason.sentence, format!("the agent of host web-1 lacks {}", Feature::volume()));
}

/// A host that reports why it lacks something.
fn without(names: &[&str]) -> Candidate {
    let mut host = host(1, 8);
    for name in names {
        let reason = Reason::new("absent", format!("no {name} here")).mend(format!("install {name}"));
        host.capabilities.insert((*name).to_owned(), Capability::Absent { reason });
    }
    host
}

#[test]
fn a_host_that_cannot_keep_tenants_apart_is_refused_with_its_own_reason_and_both_ways_to_mend_it() {
    let reason = only_refusal(&starter(), without(&["userns-remap", "apparmor"]));
    assert_eq!(
        reason.sentence,
        "host web-1 lacks apparmor (no apparmor here), userns-remap (no userns-remap here), which tenants of pool \
         `shared` are promised"
    );
    assert_eq!(
        reason.mend.as_deref(),
        Some(
            "install apparmor; install userns-remap; or let the pool do without: accepts = [\"apparmor\", \
             \"userns-remap\"] under [shared] in the --pools file"
        )
    );
    let told = why(&starter(), &[without(&["userns-remap"])]);
    assert_eq!(told.code, "no-capable-host");
    assert!(told.to_string().contains("install userns-remap"), "{told}");
}

#[test]
fn what_an_agent_says_nothing_of_is_not_taken_for_granted() {
    let mut silent = host(1, 8);
    silent.capabilities.remove("live-restore");
    let reason = only_refusal(&starter(), silent);
    assert!(reason.sentence.contains("live-restore (its agent says nothing of it)"), "{reason}");
}

#[test]
fn a_pool_that_accepts_a_lack_by_name_takes_that_host_and_no_other() {
    let mut wanted = starter();
    wanted.pool.accepts.insert("userns-remap".to_owned());
    assert_eq!(place(&wanted, &[without(&["userns-remap"])]), Placement::Chosen(id(1)));
    assert_eq!(only_refusal(&wanted, without(&["userns-remap", "seccomp"])).code, "capability-missing");
}

#[test]
fn a_host_of_a_dedicated_pool_serves_one_tenant_whatever_it_can_enforce() {
    let mut wanted = starter();
    wanted.pool.kind = PoolKind::Dedicated;
    let mut bare = host(1, 8);
    bare.capabilities.clear();
    assert_eq!(place(&wanted, std::slice::from_ref(&bare)), Placement::Chosen(id(1)));
    bare.tenants.insert(wanted.account);
    assert_eq!(place(&wanted, std::slice::from_ref(&bare)), Placement::Chosen(id(1)));
    bare.tenants.insert(AccountId::from(Uuid::from_u128(101)));
    assert_eq!(only_refusal(&wanted, bare).code, "host-dedicated");
}

#[test]
fn larger_than_any_host_is_not_the_same_as_full_now() {
    let mut full = host(1, 2);
    full.allocated.memory_bytes = 2 * GIB;
    assert_eq!(why(&starter(), &[full]).code, "pool-full");
    let mut team = starter();
    team.size.memory_bytes = 4 * GIB;
    assert_eq!(why(&team, &[host(1, 2), host(2, 3)]).code, "plan-larger-than-any-host");
    assert_eq!(only_refusal(&team, host(1, 2)).code, "host-too-small");
}

#[test]
fn a_full_pool_tells_why_each_host_refuses_up_to_a_screenful() {
    let full = |number| {
        let mut full = host(number, 2);
        full.allocated.memory_bytes = 2 * GIB;
        full
    };
    let cause = |hosts: u128| why(&starter(), &(1..=hosts).map(full).collect::<Vec<_>>()).cause.unwrap();
    assert_eq!(cause(2).matches("has 0 MiB of memory free").count(), 2, "{}", cause(2));
    assert_eq!(cause(12).matches("has 0 MiB of memory free").count(), REFUSALS_TOLD);
    assert!(cause(12).ends_with("; and 2 more"), "{}", cause(12));
}

#[test]
fn a_larger_plan_needs_room_only_for_what_it_adds_and_is_refused_by_what_lacks_first() {
    let before = starter().size;
    let double = Capacity {
        cpu_millis: 2 * before.cpu_millis,
        memory_bytes: 2 * before.memory_bytes,
        storage_bytes: 2 * before.storage_bytes,
    };
    let mut host = Candidate { allocated: before, instances: 1, ..host(1, 2) };
    assert_eq!(has_room_to_grow(&host, before, double), Ok(()), "to the last byte");
    host.allocated.memory_bytes += 1;
    let reason = has_room_to_grow(&host, before, double).expect_err("full");
    assert_eq!(reason.code, "memory-full");
    assert_eq!(reason.sentence, "host web-1 has 1023 MiB of memory free, the plan needs 1024 MiB more");
    host.allocated = Capacity { storage_bytes: 90_000_000_001, ..before };
    assert_eq!(has_room_to_grow(&host, before, double).expect_err("full").code, "storage-full");
    host.allocated = Capacity { cpu_millis: 2_000 * CPU_PROMISES_PER_CORE - 499, ..before };
    assert_eq!(has_room_to_grow(&host, before, double).expect_err("full").code, "cpu-full");
    // What shrank under its bots keeps none of them from taking less.
    host.capacity = Capacity::default();
    assert_eq!(has_room_to_grow(&host, double, before), Ok(()));
}

#[test]
fn an_empty_pool_says_so_and_other_pools_do_not_count() {
    let mut other = host(1, 8);
    other.pool = "gpu".to_owned();
    assert_eq!(why(&starter(), &[other]).code, "no-hosts");
}

#[test]
fn an_order_is_impossible_only_if_hosts_are_known_and_each_is_too_small() {
    let mut team = starter();
    team.size.memory_bytes = 4 * GIB;
    assert_eq!(fits_somewhere(&team, &[]), Ok(()));
    assert_eq!(fits_somewhere(&team, &[Candidate { state: HostState::Pending, ..host(1, 0) }]), Ok(()));
    let mut full = host(1, 4);
    full.allocated.memory_bytes = 4 * GIB;
    assert_eq!(fits_somewhere(&team, &[full]), Ok(()));
    let reason = fits_somewhere(&team, &[host(1, 2)]).expect_err("too large");
    assert_eq!(reason.code, "plan-larger-than-any-host");
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (1..9_u128, 0..16_u64, 0..16_u64, prop_oneof![Just("shared"), Just("gpu")], 0..4_usize);
    prop::collection::vec(one, 0..6).prop_map(|rows| {
        let mut hosts: BTreeMap<HostId, Candidate> = BTreeMap::new();
        for (number, memory, allocated, pool, state) in rows {
            let mut one = host(number, memory);
            one.allocated.memory_bytes = allocated.min(memory) * GIB;
            one.pool = pool.to_owned();
            one.state = HostState::ALL[state];
            hosts.insert(one.id, one);
        }
        hosts.into_values().collect()
    })
}

proptest! {
    #[test]
    fn the_order_in_which_hosts_are_listed_does_not_matter(hosts in candidates()) {
        let mut reversed = hosts.clone();
        reversed.reverse();
        prop_assert_eq!(place(&starter(), &hosts), place(&starter(), &reversed));
    }

    #[test]
    fn nothing_is_promised_twice_and_every_host_of_the_pool_that_is_not_chosen_says_why(hosts in candidates()) {
        match place(&starter(), &hosts) {
            Placement::Chosen(chosen) => {
                let host = hosts.iter().find(|host| host.id == chosen).expect("one of them");
                prop_assert!(host.pool == "shared" && host.state == HostState::Active);
                prop_assert!(host.allocated.memory_bytes + GIB <= host.capacity.memory_bytes);
            }
            Placement::Nowhere { refused, .. } => {
                let pool: Vec<_> = hosts.iter().filter(|host| host.pool == "shared").map(|host| host.id).collect();
                prop_assert_eq!(refused.into_keys().collect::<Vec<_>>(), pool);
            }
        }
    }
}
