//! After a restore: what is frozen and why, and how it goes on.
//!
//! ```text
//!   restore, or a host that holds more than the store ever made ──► frozen: nothing is published
//!       operator: `launchpad recover status` ──► hosts, their floors, who has spoken since
//!       operator: `launchpad recover confirm` ─► refused while a host has not spoken (`domain::recovery_gate`);
//!                                                what runs keeps its host (`domain::whereabouts`), revisions and epochs
//!                                                are raised above what hosts report (`domain::recovery`), and every
//!                                                host's spec is compiled anew above its floor
//! ```
//! While it is frozen hosts report as ever. What they reported before is part of the copy, and is not believed.

use std::collections::BTreeMap;

use launchpad_protocol::generation::{Accepted, Generation};
use launchpad_protocol::id::{HostId, IncarnationId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, InstanceReport};
use launchpad_protocol::time::Moment;

use super::{App, AppError};
use crate::command::ConfirmRecovery;
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::compile::is_wished;
use crate::domain::deployment::{Event, State, step};
use crate::domain::host::HostState;
use crate::domain::recovery;
use crate::domain::recovery_gate::{Witness, may_confirm};
use crate::domain::whereabouts::{self, Found, Remembered};
use crate::store::audit::Deed;
use crate::store::deployments::Deployment;
use crate::store::{
    Commit, StoreError, Tx, audit, deployments, hosts, meta, outbox, reports, revisions, specs, strangers,
};

/// Whether publishing stands still, and what is known of the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Which life of the store this is.
    pub incarnation: IncarnationId,
    /// Why publishing stands still; none: it does not.
    pub frozen: Option<Reason>,
    /// The hosts, by id; those that are retired are not in it.
    pub hosts: Vec<HostRecovery>,
    /// Hosts that came since publishing was frozen and are not in this store, by id, and when they last came.
    pub strangers: Vec<(HostId, Moment)>,
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecovery {
    /// Which.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// Whether it is connected here.
    pub connected: bool,
    /// Whether it has reported since publishing was last frozen.
    pub spoken: bool,
    /// The latest spec that this store made for it.
    pub published: Option<Generation>,
    /// The highest spec that it says to hold.
    pub floor: Option<Accepted>,
    /// When it last reported.
    pub last_seen_at: Option<Moment>,
}

impl App {
    /// Whether publishing stands still, and what is known of the hosts.
    ///
    /// # Errors
    /// A refusal when the actor may not see it; or the store failed.
    pub async fn recovery(&self, actor: &Actor) -> Result<Recovery, AppError> {
        authorise(actor, Action::ReadRecovery)?;
        self.store.read(async |tx| Ok(self.status(tx).await?)).await
    }

    /// Lets publishing go on, above everything that hosts have been seen to hold. When nothing is frozen this changes
    /// nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not, or a host has neither spoken nor is left out; or the store failed.
    pub async fn confirm_recovery(&self, actor: &Actor, command: &ConfirmRecovery) -> Result<Recovery, AppError> {
        authorise(actor, Action::ConfirmRecovery)?;
        let now = self.clock.wall();
        let confirm = async |tx: &mut Tx| {
            if let Some(reason) = meta::frozen(tx).await? {
                let known = self.status(tx).await?;
                may_confirm(&known.witnesses(), &command.without)?;
                self.catch_up(tx, known.incarnation, now).await?;
                meta::thaw(tx).await?;
                outbox::mark_all(tx).await?;
                let detail = detail(&reason, command);
                let target = known.incarnation.to_string();
                let deed = Deed { action: "recovery.confirm", target, account: None, detail };
                audit::record(tx, actor, deed, now).await?;
            }
            Ok::<_, AppError>(self.status(tx).await?)
        };
        let recovery = self.store.write(Commit::ConfirmRecovery, confirm).await?;
        self.signals.placer.notify();
        self.signals.compiler.notify();
        Ok(recovery)
    }

    async fn status(&self, tx: &mut Tx) -> Result<Recovery, StoreError> {
        let mut known = Vec::new();
        for host in hosts::all(tx).await? {
            if host.state == HostState::Retired {
                continue;
            }
            known.push(HostRecovery {
                connected: self.fleet.connected(host.id).is_some(),
                spoken: reports::latest(tx, host.id).await?.is_some_and(|stored| !stored.outdated),
                published: specs::latest(tx, host.id).await?.map(|spec| spec.generation),
                floor: specs::floor(tx, host.id).await?,
                id: host.id,
                name: host.name,
                last_seen_at: host.last_seen_at,
            });
        }
        Ok(Recovery {
            incarnation: meta::incarnation(tx).await?,
            frozen: meta::frozen(tx).await?,
            hosts: known,
            strangers: strangers::current(tx).await?,
        })
    }
}

impl Recovery {
    fn witnesses(&self) -> Vec<Witness> {
        let known =
            self.hosts.iter().map(|host| Witness { id: host.id, name: Some(host.name.clone()), spoken: host.spoken });
        let strangers = self.strangers.iter().map(|(id, _)| Witness { id: *id, name: None, spoken: false });
        known.chain(strangers).collect()
    }
}

impl App {
    /// Learns from what hosts have reported since publishing was frozen what this store has forgotten: where each
    /// deployment is, and how far revisions and epochs have come.
    async fn catch_up(&self, tx: &mut Tx, life: IncarnationId, now: Moment) -> Result<(), StoreError> {
        let mut heard = BTreeMap::new();
        let mut wished = deployments::in_state(tx, State::Requested).await?;
        for host in hosts::all(tx).await? {
            wished.extend(deployments::on_host(tx, host.id).await?);
            if let Some(stored) = reports::latest(tx, host.id).await?.filter(|stored| !stored.outdated) {
                specs::confirm_floor(tx, host.id, life).await?;
                heard.insert(host.id, (host.pool, stored.report));
            }
        }
        for mut deployment in wished.into_iter().filter(|one| is_wished(one.state)) {
            let may_have_it = |(host, (pool, _)): &(&HostId, &(String, HostReport))| {
                *pool == deployment.pool || Some(**host) == deployment.host
            };
            let reports = heard.iter().filter(may_have_it).map(|(host, (_, report))| (*host, report)).collect();
            if let Some(found) = whereabouts::find(remembered(&deployment), &reports) {
                self.place(tx, &mut deployment, found, now).await?;
            }
            let report = deployment.host.and_then(|host| reports.get(&host));
            if let Some(instance) = report.and_then(|report| report.instances.get(&deployment.id)) {
                overtake(tx, &mut deployment, instance, now).await?;
            }
        }
        Ok(())
    }

    /// Places a deployment where it is.
    async fn place(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        found: Found,
        now: Moment,
    ) -> Result<(), StoreError> {
        tracing::warn!(deployment = %deployment.id, remembered = ?deployment.host, found = %found.host,
            "a deployment is not where this store remembers it, and is left where it is");
        (deployment.host, deployment.epoch) = (Some(found.host), found.epoch);
        match step(deployment.state, Event::Placed) {
            Ok(transition) => {
                deployments::advance(tx, deployment, &transition, self.entropy.id(now), now).await.map(drop)
            }
            // It was placed before: only where has changed.
            Err(_) => deployments::update(tx, deployment).await,
        }
    }
}

const fn remembered(deployment: &Deployment) -> Remembered {
    Remembered {
        deployment: deployment.id,
        account: deployment.account,
        host: deployment.host,
        epoch: deployment.epoch,
    }
}

/// Why publishing was frozen, and whom nobody waited for.
fn detail(frozen: &Reason, command: &ConfirmRecovery) -> String {
    match command.without.iter().map(String::as_str).collect::<Vec<_>>() {
        without if without.is_empty() => frozen.code.clone(),
        without => format!("{}, without {}", frozen.code, without.join(", ")),
    }
}

/// Raises a deployment above what its host holds: what this store wishes is newer than that.
async fn overtake(
    tx: &mut Tx,
    deployment: &mut Deployment,
    instance: &InstanceReport,
    now: Moment,
) -> Result<(), StoreError> {
    let Some(overtaken) = recovery::overtake(deployment.revision, deployment.epoch, instance) else { return Ok(()) };
    if overtaken.revision != deployment.revision {
        revisions::renumber(tx, deployment.id, deployment.revision, overtaken.revision, now).await?;
    }
    (deployment.revision, deployment.epoch) = (overtaken.revision, overtaken.epoch);
    deployments::update(tx, deployment).await
}
