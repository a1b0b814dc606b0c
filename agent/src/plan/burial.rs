//! Carrying out a tombstone: the only way in which anything is removed for good.
//!
//! What is removed must be named by the tombstone and carry its tenant's label. A tombstone that names what the same
//! spec wants to run is refused: between two contradicting orders, the one that destroys loses.

use std::collections::BTreeSet;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{HostSpec, Tombstone, TombstoneScope};

use super::action::{Action, StopCause};
use super::marks::Marks;
use crate::observe::{Container, Observed};

/// What is left to do for a tombstone, in order; empty when it is carried out.
///
/// # Errors
/// A [`Reason`] when it must not be carried out.
pub fn bury(
    tombstone: &Tombstone,
    desired: &HostSpec,
    observed: &Observed,
    marks: &Marks,
) -> Result<Vec<Action>, Reason> {
    if marks.buried.contains(&tombstone.id) {
        return Ok(Vec::new());
    }
    if desired.instances.contains_key(&tombstone.deployment) {
        return Err(Reason::new(
            "tombstone-contradicts",
            format!("{} would remove {}, which the same spec wants to run", tombstone.id, tombstone.deployment),
        )
        .mend("report this: a coordinator never writes both"));
    }
    let remains: Vec<&Container> =
        observed.containers.values().filter(|container| container.deployment == tombstone.deployment).collect();
    if let Some(foreign) = remains.iter().find(|container| container.account != tombstone.account) {
        return Err(Reason::new(
            "tombstone-foreign",
            format!("{} names container {} of another account", tombstone.id, foreign.id),
        )
        .mend("report this: nothing was removed"));
    }
    let mut actions = Vec::new();
    for container in &remains {
        if container.running_since().is_some() {
            actions.push(Action::StopContainer {
                container: container.id.clone(),
                grace: tombstone.stop_grace,
                why: StopCause::Tombstone(tombstone.id),
            });
        }
        actions.push(Action::RemoveContainer { container: container.id.clone() });
    }
    // Before its address goes to somebody else.
    actions.push(Action::CloseGate { deployment: tombstone.deployment });
    actions.push(Action::RemoveFiles { deployment: tombstone.deployment });
    if tombstone.scope == TombstoneScope::Data {
        actions.push(Action::RemoveVolume { deployment: tombstone.deployment });
    }
    // A network that is only half there is not observed, and has to go all the same.
    if is_last_of_its_tenant(tombstone, desired, observed) {
        actions.push(Action::RemoveNetwork { account: tombstone.account });
    }
    actions.push(Action::Bury { tombstone: tombstone.id });
    Ok(actions)
}

/// Whether nothing of the tenant stays. What another tombstone of the same spec names does not stay either: of two that
/// are carried out side by side, each would leave the network to the other.
fn is_last_of_its_tenant(tombstone: &Tombstone, desired: &HostSpec, observed: &Observed) -> bool {
    let named: BTreeSet<DeploymentId> = desired.tombstones.values().map(|other| other.deployment).collect();
    let runs_on = desired.instances.values().any(|instance| instance.account == tombstone.account);
    let stays =
        |container: &Container| container.account == tombstone.account && !named.contains(&container.deployment);
    !runs_on && !observed.containers.values().any(stays)
}
