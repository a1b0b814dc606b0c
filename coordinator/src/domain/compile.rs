//! From what is wished on one host to the one complete spec of that host.
//!
//! `jobs::compiler` gathers the parts, calls [`compile`], and publishes the result if it differs from the latest. The
//! same parts always make the same bytes.

use std::collections::BTreeMap;

use launchpad_protocol::generation::{Epoch, Generation};
use launchpad_protocol::id::{DeploymentId, HostId, IncarnationId};
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Operation, Power, Tombstone};

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

/// Makes the spec of a host.
///
/// # Errors
/// [`CompileError::Unsealed`] when a file is missing its ciphertext: a bot without its secrets must not be started.
pub fn compile(
    heading: Heading,
    placed: Vec<PlacedDeployment>,
    tombstones: Vec<Tombstone>,
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
