//! What must hold within a bound once the faults have stopped: desired is observed, every story has arrived, and nothing is
//! left over. The answer is the first thing that is not as it should be.

use std::collections::BTreeMap;

use launchpad_agent::observe::Observed;
use launchpad_coordinator::domain::deployment::State;
use launchpad_coordinator::store::deployments::Deployment;
use launchpad_protocol::id::{DeploymentId, JournalId};
use launchpad_protocol::report::Phase;

use crate::machine::Machine;
use crate::store_view::{HostView, StoreView};

/// What is not as it should be; none: all is.
pub(crate) fn unsettled(
    store: &StoreView,
    machines: &[Machine],
    journals: &[BTreeMap<JournalId, u64>],
) -> Option<String> {
    let observed: Vec<_> = machines.iter().map(|machine| machine.world().truth()).collect();
    let hosts = machines.iter().zip(&store.hosts).zip(journals);
    store
        .undone
        .clone()
        .or_else(|| hosts.into_iter().find_map(|((machine, host), journals)| host_unsettled(machine, host, journals)))
        .or_else(|| store.deployments.iter().find_map(|one| deployment_unsettled(one, store, machines, &observed)))
        .or_else(|| machines.iter().zip(&observed).find_map(|(machine, observed)| leftover(machine, observed, store)))
        .or_else(|| told_twice(store))
}

fn host_unsettled(machine: &Machine, host: &HostView, journals: &BTreeMap<JournalId, u64>) -> Option<String> {
    let name = machine.name();
    if host.latest != host.told {
        return Some(format!("{name} holds {:?}, the store has {:?}", host.told, host.latest));
    }
    if machine.unconfirmed() > 0 {
        return Some(format!("{} events of {name} are not confirmed", machine.unconfirmed()));
    }
    if let Some((journal, last)) = journals.iter().find(|(journal, last)| host.folded.get(journal) != Some(last)) {
        return Some(format!(
            "{name} wrote {last} events in {journal}, the store has {:?}",
            host.folded.get(journal)
        ));
    }
    let applied = host.report.as_ref().map(|stored| stored.report.applied);
    let latest = host.latest.map(|latest| latest.generation);
    (latest.is_some() && applied != latest).then(|| format!("{name} has applied {applied:?} of {latest:?}"))
}

fn deployment_unsettled(
    one: &Deployment,
    store: &StoreView,
    machines: &[Machine],
    observed: &[Observed],
) -> Option<String> {
    let home = machines.iter().position(|machine| Some(machine.id()) == one.host);
    let containers = |observed: &Observed| observed.containers.values().filter(|c| c.deployment == one.id).count();
    let everywhere: usize = observed.iter().map(containers).sum();
    let runs = home.is_some_and(|home| {
        let mut here = observed[home].containers.values().filter(|container| container.deployment == one.id);
        here.any(|container| container.running_since().is_some() && container.epoch == one.epoch)
    });
    let has_data = observed.iter().any(|observed| observed.volumes.contains_key(&one.id));
    let told = home.and_then(|home| store.hosts[home].report.as_ref()?.report.instances.get(&one.id));
    let is_told_ready = told.is_some_and(|told| told.phase == Phase::Ready && told.revision == one.revision);
    let holds = match one.state {
        State::Running => everywhere == 1 && runs && has_data && is_told_ready && one.reason.is_none(),
        // Its data stays until the plan's retention has passed, which is days.
        State::Terminating => everywhere == 0,
        State::Terminated => everywhere == 0 && !has_data,
        State::Requested
        | State::Provisioning
        | State::Configuring
        | State::Starting
        | State::Updating
        | State::Restarting
        | State::Failed
        | State::Suspended => false,
    };
    (!holds).then(|| {
        let (id, state, reason) = (one.id, one.state, &one.reason);
        format!("{id} is {state} ({reason:?}) with {everywhere} containers, runs: {runs}, told: {told:?}")
    })
}

/// What is on a machine though nobody wishes it there.
fn leftover(machine: &Machine, observed: &Observed, store: &StoreView) -> Option<String> {
    let here: Vec<_> = store.deployments.iter().filter(|one| one.host == Some(machine.id())).collect();
    let runs = |id: &DeploymentId| here.iter().any(|one| one.id == *id && one.state == State::Running);
    let keeps = |id: &DeploymentId| here.iter().any(|one| one.id == *id && one.state != State::Terminated);
    let tenant = |account| here.iter().any(|one| one.account == account && one.state == State::Running);
    let files = observed.files.keys().find(|id| !runs(id)).map(|id| format!("files of {id}"));
    let gates = || observed.gates.keys().find(|id| !runs(id)).map(|id| format!("rules of {id}"));
    let data = || observed.volumes.keys().find(|id| !keeps(id)).map(|id| format!("data of {id}"));
    let network = || observed.networks.iter().find(|id| !tenant(**id)).map(|id| format!("the network of {id}"));
    let left = files.or_else(gates).or_else(data).or_else(network)?;
    Some(format!("{} has {left} left", machine.name()))
}

/// An event that was folded twice shows in a timeline as the same line at the same moment.
fn told_twice(store: &StoreView) -> Option<String> {
    store.timelines.iter().find_map(|(id, lines)| {
        let twice = lines.windows(2).find(|pair| {
            let same = |one: usize| (&pair[one].at, pair[one].state, &pair[one].cause, &pair[one].reason);
            same(0) == same(1)
        })?;
        Some(format!("the timeline of {id} tells twice that it is {}: {}", twice[0].state, twice[0].cause))
    })
}
