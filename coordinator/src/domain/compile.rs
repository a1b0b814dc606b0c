//! From what is wished on one host to the one complete spec of that host.
//!
//! `jobs::compiler` gathers the parts, calls [`next_spec`], and publishes what it answers. The same parts always make
//! the same bytes, and unchanged parts make no new spec.

use std::collections::BTreeMap;

use launchpad_protocol::generation::{Accepted, Epoch, Generation, Verdict, judge};
use launchpad_protocol::id::{DeploymentId, HostId, IncarnationId};
use launchpad_protocol::spec::{AgentUpgrade, HostSpec, InstanceSpec, Operation, Power, SpecOffer, Tombstone};
use launchpad_protocol::wire::encode_spec;

use super::deployment::State;

/// One deployment on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedDeployment {
    /// Its revision's blueprint ([`super::revision`]).
    pub blueprint: InstanceSpec,
    /// The lease under which it may be started there.
    pub epoch: Epoch,
    /// Whether it should run.
    pub power: Power,
    /// What must happen once and has not been answered, oldest first.
    pub operations: Vec<Operation>,
    /// What was sealed to the host, by file name.
    pub sealed: BTreeMap<String, Vec<u8>>,
}

/// Why there is no spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A file has not been sealed to this host.
    #[error("{deployment}: file `{file}` is not sealed to {host} yet")]
    Unsealed {
        /// Whose file.
        deployment: DeploymentId,
        /// Which file.
        file: String,
        /// For whom.
        host: HostId,
    },
}

/// What the spec is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// The host.
    pub host: HostId,
    /// The store's life.
    pub incarnation: IncarnationId,
    /// The number that the spec gets.
    pub generation: Generation,
}

/// A host, and how far its spec has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// The host.
    pub host: HostId,
    /// The store's life.
    pub incarnation: IncarnationId,
    /// The latest spec that this store made for it.
    pub latest: Option<Accepted>,
    /// The highest spec that it ever said to hold.
    pub floor: Option<Accepted>,
}

/// Makes the spec that a host needs next, numbered above all that it may hold; none: its latest still says it all.
///
/// # Errors
/// As [`compile`].
pub fn next_spec(
    basis: Basis,
    placed: Vec<PlacedDeployment>,
    tombstones: Vec<Tombstone>,
    upgrade: Option<AgentUpgrade>,
) -> Result<Option<SpecOffer>, CompileError> {
    let Basis { host, incarnation, latest, floor } = basis;
    // What the host holds is what this store made, or older: then the latest may stand.
    let standing = latest.filter(|latest| matches!(judge(floor, *latest), Verdict::Accept | Verdict::Duplicate));
    let above = latest.map(|latest| latest.generation).max(floor.map(|floor| floor.generation));
    let next = above.unwrap_or_default().next();
    let generation = standing.map_or(next, |latest| latest.generation);
    let mut spec = compile(Heading { host, incarnation, generation }, placed, tombstones, upgrade)?;
    let offer = encode_spec(&spec);
    match standing {
        None => Ok(Some(offer)),
        Some(latest) if latest.digest == offer.digest => Ok(None),
        Some(_) => {
            spec.generation = next;
            Ok(Some(encode_spec(&spec)))
        }
    }
}

/// Whether a deployment in that state belongs into its host's spec. What is being terminated does not: its tombstone
/// speaks for it.
#[must_use]
pub const fn is_wished(state: State) -> bool {
    !matches!(state, State::Terminating | State::Terminated)
}

/// Whether a bot in that state should run.
#[must_use]
pub const fn power(state: State) -> Power {
    if matches!(state, State::Suspended) { Power::Off } else { Power::On }
}

/// Makes the spec of a host.
///
/// # Errors
/// [`CompileError::Unsealed`] when a file is missing its ciphertext: a bot without its secrets must not be started.
pub fn compile(
    heading: Heading,
    placed: Vec<PlacedDeployment>,
    tombstones: Vec<Tombstone>,
    upgrade: Option<AgentUpgrade>,
) -> Result<HostSpec, CompileError> {
    let instances = placed
        .into_iter()
        .map(|one| complete(one, heading.host).map(|spec| (spec.deployment, spec)))
        .collect::<Result<_, _>>()?;
    Ok(HostSpec {
        host: heading.host,
        incarnation: heading.incarnation,
        generation: heading.generation,
        instances,
        tombstones: tombstones.into_iter().map(|tombstone| (tombstone.id, tombstone)).collect(),
        upgrade,
    })
}

fn complete(placed: PlacedDeployment, host: HostId) -> Result<InstanceSpec, CompileError> {
    let PlacedDeployment { blueprint: mut spec, epoch, power, operations, mut sealed } = placed;
    spec.epoch = epoch;
    spec.power = power;
    spec.operations = operations;
    for file in &mut spec.files {
        let unsealed = || CompileError::Unsealed { deployment: spec.deployment, file: file.name.clone(), host };
        file.ciphertext = sealed.remove(&file.name).ok_or_else(unsealed)?;
    }
    Ok(spec)
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
