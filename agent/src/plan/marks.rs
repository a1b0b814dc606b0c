//! What must not be forgotten: floors, local stops, and which things that happen once have happened.
//!
//! The ledger keeps these on disk ([`crate::ledger`]), the plan reads them. Losing one would start a bot under an old
//! lease, undo a stop made by hand, or restart a bot twice; so each change is durable before it is acted upon.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::generation::{Accepted, Epoch, Revision};
use launchpad_protocol::id::{AccountId, DeploymentId, HostId, IncarnationId, OperationId, TombstoneId};
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

/// Everything that the agent must not forget, besides the spec itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Whose marks these are: a host that joins anew begins new ones.
    pub host: Option<HostId>,
    /// The highest spec ever accepted.
    pub floor: Option<Accepted>,
    /// The store's life that made it.
    pub incarnation: Option<IncarnationId>,
    /// The highest epoch ever accepted, per deployment.
    pub epochs: BTreeMap<DeploymentId, Epoch>,
    /// Instances that somebody on this host stopped, and under which revision: a newer one undoes the stop.
    pub local_stops: BTreeMap<DeploymentId, Revision>,
    /// What somebody on this host had removed from it.
    #[serde(default)]
    pub evicted: BTreeMap<DeploymentId, Eviction>,
    /// Restarts that somebody on this host asked for, until they are done: operations that no spec lists.
    #[serde(default)]
    pub local_restarts: BTreeMap<DeploymentId, OperationId>,
    /// Operations begun or ended, until nothing lists them any longer.
    pub operations: BTreeMap<OperationId, OperationMark>,
    /// Tombstones carried out, until the spec no longer lists them.
    pub buried: BTreeSet<TombstoneId>,
}

/// Something that is to be gone from this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// The revision that was wished for: a newer one undoes it. None: no spec listed it, and any that does undoes it.
    pub revision: Option<Revision>,
    /// Whose it was, as far as that was known.
    pub account: Option<AccountId>,
    /// Whether its data goes, too.
    pub data: bool,
}

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationMark {
    /// These starts of the instance were there when it was begun. If there is another one now, it has happened.
    Begun {
        /// The starts; none: nothing of it had ever run here.
        ends: BTreeSet<Moment>,
    },
    /// It ended so.
    Ended(Outcome),
}

impl Marks {
    /// Raises the floors to what an accepted spec holds, and forgets what it no longer asks about.
    pub fn raise(&mut self, accepted: Accepted, spec: &HostSpec) {
        self.floor = Some(accepted);
        self.incarnation = Some(spec.incarnation);
        for instance in spec.instances.values() {
            let floor = self.epochs.entry(instance.deployment).or_default();
            *floor = instance.epoch.max(*floor);
        }
        let listed: BTreeSet<OperationId> =
            spec.instances.values().flat_map(|instance| &instance.operations).map(|operation| operation.id).collect();
        self.local_restarts.retain(|deployment, _| spec.instances.contains_key(deployment));
        let here: BTreeSet<OperationId> = self.local_restarts.values().copied().collect();
        self.operations.retain(|id, _| listed.contains(id) || here.contains(id));
        self.buried.retain(|id| spec.tombstones.contains_key(id));
        self.local_stops.retain(|deployment, stopped_at| {
            spec.instances.get(deployment).is_some_and(|instance| instance.revision <= *stopped_at)
        });
        self.evicted.retain(|deployment, eviction| {
            match (spec.instances.get(deployment).map(|instance| instance.revision), eviction.revision) {
                (Some(wished), Some(evicted)) => wished <= evicted,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
        });
    }

    /// Whether somebody on the host stopped the instance, and no newer wish has come since.
    #[must_use]
    pub fn is_stopped_here(&self, deployment: DeploymentId, revision: Revision) -> bool {
        self.local_stops.get(&deployment).is_some_and(|stopped_at| revision <= *stopped_at)
    }
}
