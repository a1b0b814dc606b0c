//! Carrying out an eviction: what somebody on the host wants gone from it, whatever its spec says.
//!
//! ```text
//! runs ─► stopped ─► container, gate, files ─► volume, where its data was named too ─► the tenant's network with the last
//! ```
//! The mark that orders it stays, so that nothing of it is made again; what is left to do is read off the host each
//! time. An operator takes it back, or a newer revision does, as with a stop made on the host.

use std::time::Duration;

use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, OperationAction};

use super::action::{Action, StopCause};
use super::instance::Decision;
use super::marks::{Eviction, Marks, OperationMark};
use super::record::Record;
use super::{Context, Standing};
use crate::observe::{Container, Observed};

/// How long a bot may take to stop that no spec says it of.
const GRACE_UNTOLD: Duration = Duration::from_secs(30);

/// Why a bot that its spec wants is not here.
#[must_use]
pub fn evicted_from_host() -> Reason {
    Reason::new("evicted-from-host", "it was removed from its host, although it should run")
        .because("somebody with access to the host removed it: `launchpad-agent evict`")
        .mend("`launchpad restart`, or `launchpad-agent start` on its host, puts it back")
}

/// The eviction that holds for an instance of the spec; none: nobody asked for one, or it is taken back.
#[must_use]
pub fn holds<'a>(spec: &InstanceSpec, marks: &'a Marks) -> Option<&'a Eviction> {
    let eviction = marks.evicted.get(&spec.deployment).filter(|eviction| Some(spec.revision) <= eviction.revision)?;
    let ended = |id| matches!(marks.operations.get(id), Some(OperationMark::Ended(_)));
    let is_cleared = spec
        .operations
        .iter()
        .any(|operation| operation.action == OperationAction::ClearLocalStop && !ended(&operation.id));
    (!is_cleared).then_some(eviction)
}

/// Decides about an instance of the spec that is evicted.
#[must_use]
pub fn decide(
    spec: &InstanceSpec,
    eviction: &Eviction,
    desired: &HostSpec,
    observed: &Observed,
    marks: &Marks,
    record: Option<&Record>,
    context: &Context,
) -> Decision {
    let mut actions = remains(spec.deployment, eviction, spec.stop_grace, desired, observed, marks);
    let phase = if actions.is_empty() { Phase::Stopped } else { Phase::Stopping };
    if let Some(trouble) = record.and_then(|record| record.trouble.as_ref()).filter(|it| context.now < it.retry_at) {
        let standing = Standing::because(phase, trouble.reason.clone());
        return Decision { standing, actions: Vec::new(), wake_at: Some(trouble.retry_at) };
    }
    let ended = |id| matches!(marks.operations.get(id), Some(OperationMark::Ended(_)));
    let unanswered = spec.operations.iter().filter(|operation| !ended(&operation.id));
    actions.extend(
        unanswered
            .map(|operation| Action::FinishOperation { operation: operation.id, refusal: Some(evicted_from_host()) }),
    );
    Decision { standing: Standing::because(phase, evicted_from_host()), actions, wake_at: None }
}

/// What is left to do for the eviction of something that the spec does not list.
#[must_use]
pub fn unlisted(
    deployment: DeploymentId,
    eviction: &Eviction,
    desired: &HostSpec,
    observed: &Observed,
    marks: &Marks,
) -> Vec<Action> {
    remains(deployment, eviction, GRACE_UNTOLD, desired, observed, marks)
}

/// What of a deployment is on the host that its eviction takes away, in the order in which it goes.
fn remains(
    deployment: DeploymentId,
    eviction: &Eviction,
    grace: Duration,
    desired: &HostSpec,
    observed: &Observed,
    marks: &Marks,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for container in observed.containers.values().filter(|container| container.deployment == deployment) {
        if container.running_since().is_some() {
            let why = StopCause::LocalStop;
            actions.push(Action::StopContainer { container: container.id.clone(), grace, why });
        }
        actions.push(Action::RemoveContainer { container: container.id.clone() });
    }
    let had_container = !actions.is_empty();
    // Before its address goes to somebody else.
    if observed.gates.contains_key(&deployment) {
        actions.push(Action::CloseGate { deployment });
    }
    if observed.files.contains_key(&deployment) {
        actions.push(Action::RemoveFiles { deployment });
    }
    if eviction.data && observed.volumes.contains_key(&deployment) {
        actions.push(Action::RemoveVolume { deployment });
    }
    if let Some(account) = eviction.account.filter(|account| is_last(deployment, *account, desired, observed, marks))
        // A network that is only half there is not observed, and has to go all the same.
        && (had_container || observed.networks.contains(&account))
    {
        actions.push(Action::RemoveNetwork { account });
    }
    actions
}

/// Whether nobody else of the tenant is here or about to be.
fn is_last(
    deployment: DeploymentId,
    account: AccountId,
    desired: &HostSpec,
    observed: &Observed,
    marks: &Marks,
) -> bool {
    let stays = |container: &Container| container.account == account && container.deployment != deployment;
    let comes = |instance: &InstanceSpec| instance.account == account && holds(instance, marks).is_none();
    !desired.instances.values().any(comes) && !observed.containers.values().any(stays)
}
