//! Hosts: look, let one join, cut one off.

use launchpad_pki::pipe::Transport;
use launchpad_pki::token::{JoinToken, TOKEN_LIFE};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capacity, HostReport};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::idempotency::Once;
use super::{App, AppError, candidates};
use crate::command::{CreateJoinToken, Page, PageRequest};
use crate::domain::actor::{Action, Actor, authorise};
use crate::domain::compile::is_wished;
use crate::domain::deployment::{Event, State, step};
use crate::domain::host::{self, HostEvent, HostState, LEFT_ON_A_REVOKED_HOST};
use crate::domain::lease::Policy;
use crate::domain::placement::lacking;
use crate::domain::refusal::Refusal;
use crate::store::audit::Deed;
use crate::store::hosts::Host;
use crate::store::issuers::Standing;
use crate::store::join_tokens::JoinTokenRow;
use crate::store::{
    Commit, StoreError, Tx, audit, certificates, deployments, hosts, join_tokens, outbox, reports, specs,
};

/// A host as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// The pool it is in.
    pub pool: String,
    /// What it is.
    pub state: HostState,
    /// Whether an operator wants nothing new on it.
    pub cordoned: bool,
    /// What carries its session with this coordinator; none: it is not connected here.
    pub transport: Option<Transport>,
    /// Its agent's version; none: it has never greeted.
    pub agent_version: Option<String>,
    /// The generation of its latest spec.
    pub published: Option<Generation>,
    /// Its size.
    pub capacity: Capacity,
    /// What the deployments on it were promised.
    pub allocated: Capacity,
    /// Why its next spec is not made, if it should be and is not.
    pub trouble: Option<Reason>,
    /// Why nothing new is placed on it, by what it cannot enforce.
    pub lacking: Option<Reason>,
    /// What is wrong with its identity, if two machines have it.
    pub twins: Option<Reason>,
    /// What it last reported.
    pub report: Option<HostReport>,
    /// When it last reported.
    pub last_seen_at: Option<Moment>,
}

/// A join token as it is shown, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenView {
    /// The token, its secret included: print it, never log it.
    pub token: String,
    /// When it stops working.
    pub expires_at: Moment,
    /// Where the host enrols, `HOST:PORT`.
    pub enroll_endpoint: String,
}

/// Without the token.
impl std::fmt::Debug for JoinTokenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinTokenView(…, until {})", self.expires_at)
    }
}

impl App {
    /// A page of the hosts, by id.
    ///
    /// # Errors
    /// A refusal when the actor may not see hosts; or the store failed.
    pub async fn hosts(&self, actor: &Actor, page: &PageRequest) -> Result<Page<HostView>, AppError> {
        authorise(actor, Action::ReadHosts)?;
        let after = page.after.as_deref().unwrap_or_default();
        let wanted = page.limit as usize + 1;
        let views = self.store.read(async |tx| {
            let hosts = hosts::all(tx).await?.into_iter().filter(|host| host.id.to_string().as_str() > after);
            let hosts: Vec<_> = hosts.take(wanted).collect();
            self.views(tx, hosts).await
        });
        Ok(Page::of(views.await?, page, |view| view.id.to_string()))
    }

    /// One host.
    ///
    /// # Errors
    /// A refusal when the actor may not see hosts or there is no such one; or the store failed.
    pub async fn host(&self, actor: &Actor, id: HostId) -> Result<HostView, AppError> {
        authorise(actor, Action::ReadHosts)?;
        let views = self.store.read(async |tx| {
            let host = hosts::get(tx, id).await?;
            self.views(tx, host.into_iter().collect()).await
        });
        views.await?.pop().ok_or_else(|| Refusal::not_found("host", id).into())
    }

    /// Makes a single-use token with which a host joins.
    ///
    /// # Errors
    /// A refusal when the actor may not; or the store failed.
    pub async fn create_join_token(
        &self,
        actor: &Actor,
        command: CreateJoinToken,
        once: &Once,
    ) -> Result<JoinTokenView, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        // Where one CA takes over from another, hosts are to pin the root that stays.
        let signer =
            self.store.read(async |tx| Standing::read(tx).await).await?.signer().map(|ca| Digest::of(&ca.root));
        let token = JoinToken::new(self.entropy.id(now), signer.unwrap_or(self.joining.root))?;
        let row = JoinTokenRow {
            id: token.id,
            secret_hash: token.secret_hash(),
            name: command.name.map(|name| name.to_string()),
            pool: command.pool.to_string(),
            created_by: actor.user,
            created_at: now,
            expires_at: now + TOKEN_LIFE,
            used: None,
        };
        let create = async |tx: &mut Tx| {
            if let Some(view) = once.earlier(tx, actor.user, now).await? {
                return Ok(view);
            }
            join_tokens::create(tx, &row).await?;
            let detail = format!("pool {}", row.pool);
            let deed = Deed { action: "join-token.create", target: row.id.to_string(), account: None, detail };
            audit::record(tx, actor, deed, now).await?;
            let enroll_endpoint = self.joining.endpoint.clone();
            let view = JoinTokenView { token: token.to_text(), expires_at: row.expires_at, enroll_endpoint };
            once.remember(tx, actor.user, now, &view).await?;
            Ok::<_, AppError>(view)
        };
        self.store.write(Commit::CreateJoinToken, create).await
    }

    /// Has nothing new go to a host, or lets it again. What is on it stays. Doing it twice changes nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not, or there is no such host, or it is retired; or the store failed.
    pub async fn cordon_host(&self, actor: &Actor, id: HostId, cordoned: bool) -> Result<HostView, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let cordon = async |tx: &mut Tx| {
            let host = hosts::get(tx, id).await?.ok_or_else(|| Refusal::not_found("host", id))?;
            if host.state == HostState::Retired {
                return Err(already_retired(&host.name).into());
            }
            if host.cordoned != cordoned {
                let (event, action) = match cordoned {
                    true => (HostEvent::Cordoned, "host.cordon"),
                    false => (HostEvent::Uncordoned, "host.uncordon"),
                };
                hosts::set_cordon(tx, id, cordoned.then_some(now), host::step(host.state, cordoned, event)).await?;
                let deed = Deed { action, target: id.to_string(), account: None, detail: host.name };
                audit::record(tx, actor, deed, now).await?;
            }
            let host = hosts::get(tx, id).await?;
            Ok::<_, AppError>(self.views(tx, host.into_iter().collect()).await?)
        };
        let mut views = self.store.write(Commit::CordonHost, cordon).await?;
        self.signals.placer.notify();
        views.pop().ok_or_else(|| Refusal::not_found("host", id).into())
    }

    /// Takes a host out of the fleet for ever, once nothing is on it. By `force` also a lost one: what may fail over
    /// leaves it, everything else stays marked until somebody deletes it. Doing it twice changes nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not, there is no such host, or something is on it; or the store failed.
    pub async fn retire_host(&self, actor: &Actor, id: HostId, force: bool) -> Result<HostView, AppError> {
        self.take_out(actor, id, if force { Departure::Lost } else { Departure::Empty }).await
    }

    /// Cuts a host off for ever: its certificates, its connections, its place in the fleet. What runs on it runs on,
    /// out of reach. Doing it twice changes nothing.
    ///
    /// # Errors
    /// A refusal when the actor may not or there is no such host; or the store failed.
    pub async fn revoke_host(&self, actor: &Actor, id: HostId) -> Result<HostView, AppError> {
        self.take_out(actor, id, Departure::Revoked).await
    }

    async fn take_out(&self, actor: &Actor, id: HostId, departure: Departure) -> Result<HostView, AppError> {
        authorise(actor, Action::ChangeHosts)?;
        let now = self.clock.wall();
        let revoke = async |tx: &mut Tx| {
            let host = hosts::get(tx, id).await?.ok_or_else(|| Refusal::not_found("host", id))?;
            if host.state != HostState::Retired {
                departure.check(&host, deployments::on_host(tx, id).await?.len())?;
                hosts::set_state(tx, id, host::step(host.state, host.cordoned, HostEvent::Revoked)).await?;
                certificates::revoke_all(tx, id, now).await?;
                self.tell_deployments_of_revoked(tx, id, now).await?;
                let deed =
                    Deed { action: departure.action(), target: id.to_string(), account: None, detail: host.name };
                audit::record(tx, actor, deed, now).await?;
            }
            let host = hosts::get(tx, id).await?;
            Ok::<_, AppError>(self.views(tx, host.into_iter().collect()).await?)
        };
        let mut views = self.store.write(Commit::RevokeHost, revoke).await?;
        self.fleet.revoked();
        self.signals.placer.notify();
        self.signals.timeline.ring();
        views.pop().ok_or_else(|| Refusal::not_found("host", id).into())
    }

    /// Each deployment of a revoked host says so; one that was on its way out has arrived.
    async fn tell_deployments_of_revoked(&self, tx: &mut Tx, host: HostId, now: Moment) -> Result<(), AppError> {
        for mut deployment in deployments::on_host(tx, host).await? {
            let event =
                if deployment.state == State::Terminating { Event::DataGone } else { Event::Unready(out_of_reach()) };
            if deployment.policy == Policy::Failover && is_wished(deployment.state) {
                // It leaves by itself, once its lease has ended there.
                continue;
            }
            let Ok(mut transition) = step(deployment.state, event) else { continue };
            transition.reason = Some(out_of_reach());
            deployments::advance(tx, &mut deployment, &transition, self.entropy.id(now), now).await?;
        }
        Ok(())
    }

    /// One that has said nothing yet lacks nothing that anybody knows of.
    fn lacking(&self, host: &Host) -> Option<Reason> {
        host.last_seen_at.and_then(|_| lacking(&self.pools.get(&host.pool), &host.name, &host.capabilities))
    }

    async fn views(&self, tx: &mut Tx, hosts: Vec<Host>) -> Result<Vec<HostView>, StoreError> {
        let held = candidates(tx).await?;
        let mut views = Vec::with_capacity(hosts.len());
        for host in hosts {
            let allocated = held.iter().find(|held| held.id == host.id).map(|held| held.allocated);
            views.push(HostView {
                transport: self.fleet.connected(host.id),
                published: specs::latest(tx, host.id).await?.map(|spec| spec.generation),
                report: reports::latest(tx, host.id).await?.map(|stored| stored.report),
                trouble: outbox::trouble(tx, host.id).await?,
                lacking: self.lacking(&host),
                twins: self.fleet.twins(host.id),
                id: host.id,
                name: host.name,
                pool: host.pool,
                state: host.state,
                cordoned: host.cordoned,
                agent_version: Some(host.agent_version).filter(|version| !version.is_empty()),
                capacity: host.capacity,
                allocated: allocated.unwrap_or_default(),
                last_seen_at: host.last_seen_at,
            });
        }
        Ok(views)
    }
}

/// How a host is taken out of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    /// In good order: nothing is on it.
    Empty,
    /// Nobody hears it any more.
    Lost,
    /// Now, whatever is on it: nobody is to believe it any more.
    Revoked,
}

impl Departure {
    const fn action(self) -> &'static str {
        match self {
            Self::Empty | Self::Lost => "host.retire",
            Self::Revoked => "host.revoke",
        }
    }

    /// Whether a host with so many deployments may be taken out so.
    fn check(self, host: &Host, deployments: usize) -> Result<(), Refusal> {
        let name = &host.name;
        match self {
            Self::Revoked => Ok(()),
            _ if deployments == 0 => Ok(()),
            Self::Empty => {
                let sentence = format!("{deployments} deployments are on host {name}");
                Err(Refusal::conflict(Reason::new("host-not-empty", sentence).mend(
                    "cordon it and delete or wait for what is there; if the host is lost: `launchpad hosts retire --force`",
                )))
            }
            Self::Lost if host.state == HostState::Lost => Ok(()),
            Self::Lost => {
                let sentence = format!("host {name} is {}, and {deployments} deployments are on it", host.state);
                Err(Refusal::conflict(
                    Reason::new("host-not-lost", sentence)
                        .because("what runs there would run on, out of reach")
                        .mend("wait until the host is lost, or, if nobody is to believe it: `launchpad host revoke`"),
                ))
            }
        }
    }
}

fn already_retired(name: &str) -> Refusal {
    let reason = Reason::new("host-retired", format!("host {name} is retired"));
    Refusal::conflict(reason.mend("enrol the machine anew: it joins as another host"))
}

fn out_of_reach() -> Reason {
    Reason::new("host-revoked", "its host was revoked: what runs there is out of reach")
        .because(LEFT_ON_A_REVOKED_HOST)
        .mend("delete it, and deploy it again: it gets another host")
}
