//! Versions of agents: who is in which ring, an upgrade of some rings, and how far it is.
//!
//! Beginning one is a commit; asking hosts in their order is the work of `jobs::upgrader`.

use std::collections::{BTreeMap, BTreeSet};

use launchpad_protocol::id::{HostId, UpgradeId};
use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use super::idempotency::Once;
use super::{App, AppError};
use crate::command::{Name, StartUpgrade, Whom};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::host::HostState;
use crate::domain::refusal::Refusal;
use crate::domain::upgrade::{MAIN_RING, Ring, State, Steer, Turn, Upgrade};
use crate::store::audit::Deed;
use crate::store::hosts::Host;
use crate::store::{Commit, StoreError, Tx, audit, hosts, outbox, upgrades};

/// What the one ring is called that consists of hosts named one by one.
const NAMED_RING: &str = "named";

/// An upgrade, and what its hosts are called and have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// The upgrade.
    pub upgrade: Upgrade,
    /// Name and version of each host in it.
    pub hosts: BTreeMap<HostId, (String, String)>,
}

impl App {
    /// The latest upgrade; none: there never was one.
    ///
    /// # Errors
    /// A refusal when the actor may not see hosts; or the store failed.
    pub async fn upgrade(&self, actor: &Actor) -> Result<Option<UpgradeView>, AppError> {
        authorise(actor, Action::ReadHosts)?;
        let view = self.store.read(async |tx| match upgrades::latest(tx).await? {
            Some(upgrade) => Ok::<_, StoreError>(Some(view(tx, upgrade).await?)),
            None => Ok(None),
        });
        Ok(view.await?)
    }

    /// Begins an upgrade. Answers at once: [`App::upgrade`] tells how far it is.
    ///
    /// # Errors
    /// A refusal when the actor may not, another one is under way, or there is nobody to upgrade; or the store failed.
    pub async fn start_upgrade(
        &self,
        actor: &Actor,
        command: &StartUpgrade,
        once: &Once,
    ) -> Result<UpgradeView, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let start = async |tx: &mut Tx| {
            if let Some(earlier) = once.earlier(tx, actor.user, now).await? {
                return Ok(earlier);
            }
            if let Some(other) = upgrades::latest(tx).await?.filter(|other| !other.is_over()) {
                return Err(under_way(&other).into());
            }
            let upgrade = Upgrade {
                id: self.entropy.id(now),
                to: command.to.clone(),
                begun_at: now,
                state: State::Running,
                rings: rings(tx, &command.whom).await?,
                at_once: command.at_once,
                soak: command.soak,
            };
            upgrades::keep(tx, &upgrade).await?;
            let names: Vec<_> = upgrade.rings.iter().map(|ring| ring.name.as_str()).collect();
            let detail = format!("to {}, rings {}", upgrade.to, names.join(", "));
            let deed = Deed { action: "upgrade.start", target: upgrade.id.to_string(), account: None, detail };
            audit::record(tx, actor, deed, now).await?;
            let view = view(tx, upgrade).await?;
            once.remember(tx, actor.user, now, &view).await?;
            Ok::<_, AppError>(view)
        };
        let view = self.store.write(Commit::Upgrade, start).await?;
        self.signals.upgrader.notify();
        Ok(view)
    }

    /// Holds an upgrade, lets it go on, or ends it. Doing it twice changes nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not, there is no such upgrade, or it is over; or the store failed.
    pub async fn steer_upgrade(&self, actor: &Actor, id: UpgradeId, steer: Steer) -> Result<UpgradeView, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let change = async |tx: &mut Tx| {
            let upgrade = upgrades::latest(tx).await?.filter(|latest| latest.id == id);
            let mut upgrade = upgrade.ok_or_else(|| Refusal::not_found("upgrade", id))?;
            let before = upgrade.state.clone();
            if !(steer == Steer::Abort && before == State::Aborted) {
                for (host, wish) in upgrade.steer(steer).map_err(Refusal::conflict)? {
                    upgrades::set_wish(tx, host, wish.as_ref()).await?;
                    outbox::mark(tx, host).await?;
                }
            }
            if upgrade.state != before {
                upgrades::keep(tx, &upgrade).await?;
                let action = match steer {
                    Steer::Pause => "upgrade.pause",
                    Steer::Resume => "upgrade.resume",
                    Steer::Abort => "upgrade.abort",
                };
                let detail = format!("to {}", upgrade.to);
                audit::record(tx, actor, Deed { action, target: id.to_string(), account: None, detail }, now).await?;
            }
            Ok::<_, AppError>(view(tx, upgrade).await?)
        };
        let view = self.store.write(Commit::Upgrade, change).await?;
        self.signals.upgrader.notify();
        self.signals.compiler.notify();
        Ok(view)
    }

    /// Puts a host into a ring. An upgrade that has begun keeps its hosts.
    ///
    /// # Errors
    /// A refusal when the actor may not, or there is no such host; or the store failed.
    pub async fn put_into_ring(&self, actor: &Actor, host: HostId, ring: &Name) -> Result<(), AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let put = async |tx: &mut Tx| {
            hosts::get(tx, host).await?.ok_or_else(|| Refusal::not_found("host", host))?;
            upgrades::put_into_ring(tx, host, ring.as_str()).await?;
            let detail = format!("ring {ring}");
            let deed = Deed { action: "host.ring", target: host.to_string(), account: None, detail };
            audit::record(tx, actor, deed, now).await?;
            Ok::<_, AppError>(())
        };
        self.store.write(Commit::Upgrade, put).await
    }
}

/// The hosts that are meant, in their rings.
async fn rings(tx: &mut Tx, whom: &Whom) -> Result<Vec<Ring>, AppError> {
    let all: Vec<Host> = hosts::all(tx).await?.into_iter().filter(|host| host.state != HostState::Retired).collect();
    match whom {
        Whom::Hosts(wanted) => {
            let mut ids = BTreeSet::new();
            for named in wanted {
                let mut found = all.iter().filter(|host| host.name == *named || host.id.to_string() == *named);
                match (found.next(), found.next()) {
                    (Some(host), None) => drop(ids.insert(host.id)),
                    (Some(_), Some(_)) => return Err(Refusal::conflict(not_one(named)).into()),
                    (None, _) => return Err(Refusal::not_found("host", named).into()),
                }
            }
            Ok(vec![ring(NAMED_RING, ids)])
        }
        Whom::Rings(names) => {
            let put = upgrades::rings(tx).await?;
            let ring_of = |host: &Host| put.get(&host.id).map_or(MAIN_RING, String::as_str).to_owned();
            let rings = names.iter().map(|name| {
                let ids: BTreeSet<_> =
                    all.iter().filter(|host| ring_of(host) == name.as_str()).map(|host| host.id).collect();
                if ids.is_empty() {
                    Err(Refusal::conflict(nobody_in(name)).into())
                } else {
                    Ok(ring(name.as_str(), ids))
                }
            });
            rings.collect()
        }
    }
}

fn ring(name: &str, hosts: BTreeSet<HostId>) -> Ring {
    let hosts = hosts.into_iter().map(|host| (host, Turn::Waiting)).collect();
    Ring { name: name.to_owned(), hosts, through_at: None }
}

async fn view(tx: &mut Tx, upgrade: Upgrade) -> Result<UpgradeView, StoreError> {
    let named = hosts::all(tx).await?.into_iter().map(|host| (host.id, (host.name, host.agent_version)));
    let hosts = named.filter(|(id, _)| upgrade.rings.iter().any(|ring| ring.hosts.contains_key(id))).collect();
    Ok(UpgradeView { upgrade, hosts })
}

fn under_way(other: &Upgrade) -> Refusal {
    let reason = Reason::new("upgrade-under-way", format!("the upgrade to {} is not over yet", other.to));
    Refusal::conflict(reason.mend("wait for it, or end it with `launchpad hosts upgrade --abort`"))
}

fn nobody_in(ring: &Name) -> Reason {
    Reason::new("ring-empty", format!("no host is in the ring `{ring}`"))
        .because(format!("a host is in the ring `{MAIN_RING}` until it is put into another"))
        .mend("put one there with `launchpad hosts ring NAME RING`")
}

fn not_one(name: &str) -> Reason {
    Reason::new("name-is-not-unique", format!("several hosts are called `{name}`"))
        .mend("use the id that `launchpad hosts` shows")
}
