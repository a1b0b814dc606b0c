//! What an eviction names, and what of it is still here. Pure: the running agent and `launchpad-agent evict` without one
//! ask the same.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Moment;

use super::request::Evict;
use crate::observe::Observed;
use crate::plan::marks::{Eviction, Marks};

/// What is to be written down, for each that is asked for; for all that a spec lists or that is here, if none is named.
#[must_use]
pub fn evictions(
    evict: &Evict,
    spec: Option<&HostSpec>,
    observed: Option<&Observed>,
    marks: &Marks,
) -> BTreeMap<DeploymentId, Eviction> {
    let listed = |deployment: &DeploymentId| spec.and_then(|spec| spec.instances.get(deployment));
    let labelled = |deployment: &DeploymentId| -> Option<AccountId> {
        let mut containers = observed?.containers.values();
        containers.find(|found| found.deployment == *deployment).map(|found| found.account)
    };
    let deployments = if evict.deployments.is_empty() {
        let wished = spec.into_iter().flat_map(|spec| spec.instances.keys().copied());
        wished.chain(observed.map(present).unwrap_or_default()).collect()
    } else {
        evict.deployments.clone()
    };
    let mark = |deployment: DeploymentId| {
        let wished = listed(&deployment);
        let revision = wished.map(|instance| instance.revision);
        // Asked for again, it goes on as it was begun: a container that is gone tells no account any more.
        let begun = marks.evicted.get(&deployment).filter(|begun| begun.revision == revision);
        let account = wished.map(|instance| instance.account).or_else(|| labelled(&deployment));
        let account = account.or_else(|| begun.and_then(|begun| begun.account));
        let data = evict.data || begun.is_some_and(|begun| begun.data);
        (deployment, Eviction { revision, account, data })
    };
    deployments.into_iter().map(mark).collect()
}

/// Whether anything is left of what an eviction takes away.
#[must_use]
pub fn is_here(deployment: DeploymentId, data: bool, observed: &Observed) -> bool {
    observed.containers.values().any(|found| found.deployment == deployment)
        || observed.gates.contains_key(&deployment)
        || observed.files.contains_key(&deployment)
        || data && observed.volumes.contains_key(&deployment)
}

/// A spec that lists nobody: without one nothing is done, except what somebody on the host wants gone.
#[must_use]
pub fn nobody(host: HostId, entropy: &Entropy) -> HostSpec {
    HostSpec {
        host,
        incarnation: entropy.id(Moment::default()),
        generation: Generation(0),
        instances: BTreeMap::new(),
        tombstones: BTreeMap::new(),
        upgrade: None,
    }
}

/// All of which anything is on the host.
#[must_use]
pub fn present(observed: &Observed) -> BTreeSet<DeploymentId> {
    let containers = observed.containers.values().map(|found| found.deployment);
    let rest = observed.gates.keys().chain(observed.files.keys()).chain(observed.volumes.keys()).copied();
    containers.chain(rest).collect()
}
