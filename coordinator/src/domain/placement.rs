//! Which host takes a deployment, or why none does.
//!
//! `jobs::placer` calls [`place`] with what the store knows; `app` calls [`fits_somewhere`] before it takes an order
//! that no host could ever carry out, and [`has_room_to_grow`] before a deployment gets a larger plan where it is. The same inputs always give the same answer: among the hosts that can take it,
//! the one with most memory free, and of equals the one with the lowest id.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::feature::Feature;
use launchpad_protocol::id::{AccountId, HostId};
use launchpad_protocol::limits::{INSTANCES_PER_HOST_MAX, SEALED_BYTES_PER_HOST_MAX};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, Capacity};

use super::host::HostState;
use super::pool_table::{Pool, PoolKind};

/// How often a core is promised. Bots idle at 0.013 of a core (measured for openclaw) under limits of half a core and
/// more, and the kernel shares fairly when all are busy; memory and storage are never promised twice.
pub const CPU_PROMISES_PER_CORE: u32 = 4;

/// Refused hosts of which a full pool tells the reason: a screenful. Of a larger pool it tells how many more there are.
const REFUSALS_TOLD: usize = 10;

/// The code of the reason for which a host serves nobody of its pool.
const CAPABILITY_MISSING: &str = "capability-missing";

/// Bytes of a mebibyte, for people.
const MIB_BYTES: u64 = 1 << 20;
/// Bytes of a decimal gigabyte, for people.
const GB_BYTES: u64 = 1_000_000_000;

/// A host that might take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// The pool it is in.
    pub pool: String,
    /// What it is.
    pub state: HostState,
    /// Its size, as it reported.
    pub capacity: Capacity,
    /// What the deployments on it were promised.
    pub allocated: Capacity,
    /// How many deployments are on it.
    pub instances: usize,
    /// Bytes of their configs and secrets, before sealing.
    pub sealed_bytes: u64,
    /// What its agent can do.
    pub features: BTreeSet<Feature>,
    /// What the host can enforce, as it last reported.
    pub capabilities: BTreeMap<String, Capability>,
    /// Whose deployments are on it.
    pub tenants: BTreeSet<AccountId>,
}

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it may go.
    pub pool: Pool,
    /// Whose it is.
    pub account: AccountId,
    /// What it takes.
    pub size: Capacity,
    /// Bytes of its configs and secrets, before sealing.
    pub sealed_bytes: u64,
    /// What an agent must be able to do.
    pub requires: BTreeSet<Feature>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// That host.
    Chosen(HostId),
    /// None, and why; every refused host of the pool with its own reason.
    Nowhere {
        /// What to tell the customer.
        reason: Reason,
        /// What to tell the operator.
        refused: BTreeMap<HostId, Reason>,
    },
}

/// Chooses a host.
#[must_use]
pub fn place(wanted: &Wanted, hosts: &[Candidate]) -> Placement {
    let pool: Vec<_> = hosts.iter().filter(|host| host.pool == wanted.pool.name).collect();
    let judged = pool.iter().map(|host| (*host, refusal(wanted, host)));
    let (able, refused): (Vec<_>, Vec<_>) = judged.partition(|(_, reason)| reason.is_none());
    let best =
        able.into_iter().map(|(host, _)| host).min_by_key(|host| (std::cmp::Reverse(free_memory(host)), host.id));
    match best {
        Some(host) => Placement::Chosen(host.id),
        None => {
            let refused = refused.into_iter().filter_map(|(host, reason)| Some((host.id, reason?))).collect();
            Placement::Nowhere { reason: nowhere(wanted, &pool, &refused), refused }
        }
    }
}

/// Whether some host of the pool could hold it if it were empty.
///
/// # Errors
/// The reason, when there are hosts and each is too small. Without any host nothing is known, and the answer is yes.
pub fn fits_somewhere(wanted: &Wanted, hosts: &[Candidate]) -> Result<(), Reason> {
    let in_pool = hosts.iter().filter(|host| host.pool == wanted.pool.name);
    let pool: Vec<_> = in_pool.filter(|host| host.state.is_placeable()).collect();
    if pool.is_empty() || pool.iter().any(|host| covers(promised(host.capacity), wanted.size)) {
        return Ok(());
    }
    Err(larger_than_any(wanted, &pool))
}

/// Whether a host has room for what a deployment on it takes beyond what it was promised already. Nothing else is asked
/// again: it is there.
///
/// # Errors
/// What is short, in numbers.
pub fn has_room_to_grow(host: &Candidate, before: Capacity, after: Capacity) -> Result<(), Reason> {
    let more = Capacity {
        cpu_millis: after.cpu_millis.saturating_sub(before.cpu_millis),
        memory_bytes: after.memory_bytes.saturating_sub(before.memory_bytes),
        storage_bytes: after.storage_bytes.saturating_sub(before.storage_bytes),
    };
    let Some(short) = shortage(free(promised(host.capacity), host.allocated), more) else { return Ok(()) };
    let (name, Shortage { code, what, free, needed }) = (&host.name, short);
    let sentence = format!("host {name} has {free} of {what} free, the plan needs {needed} more");
    let mend = "choose a plan that fits, or deploy it anew with that plan: nothing moves to another host by itself";
    Err(Reason::new(code, sentence)
        .because(format!("{} deployments on it were promised the rest", host.instances))
        .mend(mend))
}

/// Why this host does not take it; none: it does.
fn refusal(wanted: &Wanted, host: &Candidate) -> Option<Reason> {
    let name = &host.name;
    if !host.state.is_placeable() {
        let sentence = format!("host {name} is {}", host.state);
        return Some(Reason::new("host-not-active", sentence).mend("bring it back, or add a host to its pool"));
    }
    let unknown: Vec<_> = wanted.requires.difference(&host.features).map(ToString::to_string).collect();
    if !unknown.is_empty() {
        let sentence = format!("the agent of host {name} lacks {}", unknown.join(", "));
        return Some(Reason::new("feature-missing", sentence).mend("upgrade its agent"));
    }
    if let Some(reason) = lacking(&wanted.pool, name, &host.capabilities) {
        return Some(reason);
    }
    if wanted.pool.kind == PoolKind::Dedicated && host.tenants.iter().any(|tenant| *tenant != wanted.account) {
        let sentence = format!("host {name} serves another tenant alone");
        return Some(Reason::new("host-dedicated", sentence).mend("add a host to its pool"));
    }
    if host.instances >= INSTANCES_PER_HOST_MAX {
        let sentence = format!("host {name} holds {INSTANCES_PER_HOST_MAX} deployments, as many as a host may");
        return Some(Reason::new("host-full", sentence).mend("add a host to its pool"));
    }
    if host.sealed_bytes.saturating_add(wanted.sealed_bytes) > SEALED_BYTES_PER_HOST_MAX as u64 {
        let sentence = format!(
            "host {name} carries {} bytes of configs and secrets, of {SEALED_BYTES_PER_HOST_MAX} that its spec has room for",
            host.sealed_bytes
        );
        return Some(
            Reason::new("spec-full", sentence).mend("add a host to its pool, or shorten configs and secrets"),
        );
    }
    let promised = promised(host.capacity);
    let free = free(promised, host.allocated);
    let short = shortage(free, wanted.size)?;
    let code = if covers(promised, wanted.size) { short.code } else { "host-too-small" };
    let sentence = format!("host {name} has {} of {} free, the plan needs {}", short.free, short.what, short.needed);
    let held = format!("{} deployments on it were promised the rest", host.instances);
    let mend = format!("add a host to pool `{}`, or remove a deployment", host.pool);
    Some(Reason::new(code, sentence).because(held).mend(mend))
}

/// Why a host cannot serve tenants of a pool together, by what it cannot enforce; none: it can. What runs there runs on:
/// only placement asks, and whoever shows a deployment or a host.
#[must_use]
pub fn lacking(pool: &Pool, host: &str, capabilities: &BTreeMap<String, Capability>) -> Option<Reason> {
    let absent = pool.needs().filter_map(|name| match capabilities.get(name) {
        Some(Capability::Present) => None,
        Some(Capability::Absent { reason }) => Some((name, reason.clone())),
        None => Some((name, Reason::new("not-reported", "its agent says nothing of it").mend("upgrade its agent"))),
    });
    let absent: Vec<_> = absent.collect();
    if absent.is_empty() {
        return None;
    }
    let named: Vec<_> = absent.iter().map(|(name, reason)| format!("{name} ({})", reason.sentence)).collect();
    let mut mends: Vec<_> = absent.iter().filter_map(|(_, reason)| reason.mend.clone()).collect();
    mends.dedup();
    let accepts: Vec<_> = absent.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let (accepts, pool) = (accepts.join(", "), &pool.name);
    mends.push(format!("or let the pool do without: accepts = [{accepts}] under [{pool}] in the --pools file"));
    let sentence = format!("host {host} lacks {}, which tenants of pool `{pool}` are promised", named.join(", "));
    Some(Reason::new(CAPABILITY_MISSING, sentence).mend(mends.join("; ")))
}

fn nowhere(wanted: &Wanted, pool: &[&Candidate], refused: &BTreeMap<HostId, Reason>) -> Reason {
    if pool.is_empty() {
        let sentence = format!("there is no host in pool `{}`", wanted.pool.name);
        return Reason::new("no-hosts", sentence).mend("add a host to the pool; the deployment waits for it");
    }
    let active: Vec<_> = pool.iter().copied().filter(|host| host.state.is_placeable()).collect();
    if !active.is_empty() && active.iter().all(|host| !covers(promised(host.capacity), wanted.size)) {
        return larger_than_any(wanted, &active);
    }
    let why = each_refusal(refused);
    let incapable = refused.values().filter(|reason| reason.code == CAPABILITY_MISSING);
    if let Some(one) = incapable.clone().next()
        && incapable.count() == refused.len()
    {
        let sentence = format!("no host in pool `{}` can enforce all that it promises", wanted.pool.name);
        let mend = one.mend.clone().unwrap_or_default();
        return Reason::new("no-capable-host", sentence).because(why).mend(mend);
    }
    let sentence = format!("none of the {} hosts in pool `{}` can take it now", pool.len(), wanted.pool.name);
    Reason::new("pool-full", sentence).because(why).mend("the deployment waits; add a host to the pool")
}

/// Why each host refuses, as far as a person reads on.
fn each_refusal(refused: &BTreeMap<HostId, Reason>) -> String {
    let told: Vec<_> = refused.values().take(REFUSALS_TOLD).map(|reason| reason.sentence.as_str()).collect();
    match refused.len() - told.len() {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}

fn larger_than_any(wanted: &Wanted, pool: &[&Candidate]) -> Reason {
    let largest = pool.iter().map(|host| host.capacity.memory_bytes).max().unwrap_or(0) / MIB_BYTES;
    let sentence = format!(
        "the plan needs {} of cpu, {} of memory and {} of storage: more than any host in pool `{}` has",
        cores(wanted.size.cpu_millis),
        mib(wanted.size.memory_bytes),
        gb(wanted.size.storage_bytes),
        wanted.pool.name
    );
    Reason::new("plan-larger-than-any-host", sentence)
        .because(format!("the largest of its {} hosts has {largest} MiB of memory", pool.len()))
        .mend("choose a smaller plan, or add a larger host to the pool")
}

struct Shortage {
    code: &'static str,
    what: &'static str,
    free: String,
    needed: String,
}

/// What is short first: memory, then storage, then cpu.
fn shortage(free: Capacity, needed: Capacity) -> Option<Shortage> {
    let short = |code, what, free, needed| Some(Shortage { code, what, free, needed });
    if free.memory_bytes < needed.memory_bytes {
        return short("memory-full", "memory", mib(free.memory_bytes), mib(needed.memory_bytes));
    }
    if free.storage_bytes < needed.storage_bytes {
        return short("storage-full", "storage", gb(free.storage_bytes), gb(needed.storage_bytes));
    }
    if free.cpu_millis < needed.cpu_millis {
        return short("cpu-full", "cpu", cores(free.cpu_millis), cores(needed.cpu_millis));
    }
    None
}

fn covers(free: Capacity, needed: Capacity) -> bool {
    shortage(free, needed).is_none()
}

/// What a host may promise.
const fn promised(capacity: Capacity) -> Capacity {
    Capacity { cpu_millis: capacity.cpu_millis.saturating_mul(CPU_PROMISES_PER_CORE), ..capacity }
}

const fn free(promised: Capacity, allocated: Capacity) -> Capacity {
    Capacity {
        cpu_millis: promised.cpu_millis.saturating_sub(allocated.cpu_millis),
        memory_bytes: promised.memory_bytes.saturating_sub(allocated.memory_bytes),
        storage_bytes: promised.storage_bytes.saturating_sub(allocated.storage_bytes),
    }
}

const fn free_memory(host: &Candidate) -> u64 {
    host.capacity.memory_bytes.saturating_sub(host.allocated.memory_bytes)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / MIB_BYTES)
}

fn gb(bytes: u64) -> String {
    format!("{} GB", bytes / GB_BYTES)
}

fn cores(millis: u32) -> String {
    format!("{}.{:03} cores", millis / 1_000, millis % 1_000)
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
