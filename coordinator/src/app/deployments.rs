//! Deployments: look, restart, delete. Making one is in `deployment_create`.

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId, OperationId, TimelineId};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Outcome, is_strain};
use launchpad_protocol::spec::{Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

use super::idempotency::Once;
use super::operations::is_retired;
use super::{App, AppError};
use crate::command::{DeploymentRef, Page, PageRequest, Which};
use crate::domain::actor::{Action, Actor, Scope, authorise};
use crate::domain::compile::is_wished;
use crate::domain::deployment::{Event, State, step};
use crate::domain::host::{LEFT_ON_A_REVOKED_HOST, silence};
use crate::domain::lease::Policy;
use crate::domain::placement::lacking;
use crate::domain::pool_table::PoolTable;
use crate::domain::recovery::may_forget;
use crate::domain::refusal::Refusal;
use crate::store::audit::Deed;
use crate::store::deployments::Deployment;
use crate::store::hosts::Host;
use crate::store::timeline::TimelineEntry;
use crate::store::{
    Commit, StoreError, Tx, audit, deployments, domains, hosts, meta, operations, outbox, reports, revisions,
    timeline, tombstones,
};

/// Lines of a timeline that are shown of one deployment: a deployment has a dozen, a crash loop many more.
const TIMELINE_LINES: u32 = 200;

/// What a host says of one instance, as it is shown.
pub use launchpad_protocol::report::InstanceReport as InstanceView;

/// A deployment as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// Its id.
    pub id: DeploymentId,
    /// What its owner calls it.
    pub name: String,
    /// The tenant.
    pub account: AccountId,
    /// The workload.
    pub profile: String,
    /// The plan's name.
    pub plan: String,
    /// What runs.
    pub image: ImageRef,
    /// Where it may be placed.
    pub pool: String,
    /// What it is.
    pub state: State,
    /// Why, where the state alone does not say.
    pub reason: Option<Reason>,
    /// What becomes of it when its host falls silent.
    #[serde(default)]
    pub policy: Policy,
    /// The revision that is wished.
    pub revision: Revision,
    /// Where it is placed.
    pub host: Option<HostId>,
    /// Where it is reached on the internet; none: this installation gives no public names.
    pub url: Option<String>,
    /// When it was asked for.
    pub created_at: Moment,
    /// What happened to it, oldest first; empty in lists.
    pub timeline: Vec<TimelineLine>,
    /// What its host last said of it; absent in lists.
    pub instance: Option<InstanceView>,
}

/// One line of a timeline as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineLine {
    /// Its id.
    pub id: TimelineId,
    /// When.
    pub at: Moment,
    /// What it was then.
    pub state: State,
    /// What brought it about.
    pub cause: String,
    /// Why, where that says more.
    pub reason: Option<Reason>,
}

impl DeploymentView {
    /// The view of a deployment, its timeline and what its host says.
    #[must_use]
    pub fn of(of: &Deployment, timeline: Vec<TimelineEntry>, instance: Option<InstanceView>) -> Self {
        let line = |entry: TimelineEntry| TimelineLine {
            id: entry.id,
            at: entry.at,
            state: entry.state,
            cause: entry.cause,
            reason: entry.reason,
        };
        Self {
            id: of.id,
            name: of.name.clone(),
            account: of.account,
            profile: of.profile.clone(),
            plan: of.plan.clone(),
            image: of.image.clone(),
            pool: of.pool.clone(),
            policy: of.policy,
            state: of.state,
            reason: of.reason.clone(),
            revision: of.revision,
            host: of.host,
            url: None,
            created_at: of.created_at,
            timeline: timeline.into_iter().map(line).collect(),
            instance,
        }
    }

    /// The same on that host, whose silence, or else whose lacks, are told where nothing else is. Neither is stored:
    /// they end when the host speaks, or is mended.
    fn on(mut self, host: Option<&Host>, pools: &PoolTable) -> Self {
        let silence = || host.and_then(|host| silence(host.state, host.last_seen_at, self.policy));
        let lacking = || host.and_then(|host| lacking(&pools.get(&host.pool), &host.name, &host.capabilities));
        let runs = is_wished(self.state);
        // A silent host may have said long ago what strains it.
        let strained = self.reason.as_ref().is_some_and(is_strain);
        let spoken = if strained { silence().or(self.reason) } else { self.reason };
        self.reason = spoken.or_else(silence).or_else(|| lacking().filter(|_| runs).map(runs_on));
        self
    }
}

impl App {
    /// One deployment.
    ///
    /// # Errors
    /// A refusal when there is none that the actor may see; or the store failed.
    pub async fn deployment(&self, actor: &Actor, target: &DeploymentRef) -> Result<DeploymentView, AppError> {
        let found = self.find_to_read(actor, target).await?;
        self.note_view(actor, "deployment.view", Some(found.account), found.id.to_string()).await?;
        Ok(found)
    }

    pub(super) async fn find_to_read(
        &self,
        actor: &Actor,
        target: &DeploymentRef,
    ) -> Result<DeploymentView, AppError> {
        self.store
            .read(async |tx| {
                let deployment = find(tx, actor, target).await?;
                authorise(actor, Action::ReadDeployments(deployment.account))?;
                Ok(self.view(tx, &deployment).await?)
            })
            .await
    }

    /// A page of deployments by id, without those that are terminated. `account` is the one meant, where it is not the
    /// actor's own; staff without an account see those of all.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn deployments(
        &self,
        actor: &Actor,
        account: Option<AccountId>,
        page: &PageRequest,
    ) -> Result<Page<DeploymentView>, AppError> {
        let scope = actor.scope_in(account);
        match scope {
            Scope::Account(one) => self.note_view(actor, "deployment.list", Some(one), one.to_string()).await?,
            Scope::Every => self.note_view(actor, "deployment.list", None, "every account".to_owned()).await?,
            Scope::Nothing => {}
        }
        let after = page.after.as_deref().unwrap_or_default();
        let listed = self.store.read(async |tx| {
            let rows = deployments::list(tx, scope, after, page.limit + 1).await?;
            Ok::<_, StoreError>((rows, hosts::all(tx).await?))
        });
        let (rows, hosts) = listed.await?;
        let host = |row: &Deployment| hosts.iter().find(|host| Some(host.id) == row.host);
        let view = |row| self.reached(DeploymentView::of(row, Vec::new(), None).on(host(row), &self.pools));
        let views = rows.iter().map(view).collect();
        Ok(Page::of(views, page, |view| view.id.to_string()))
    }

    /// Starts a bot anew. Answers the operation, whose outcome shows in the timeline.
    ///
    /// # Errors
    /// A refusal when there is none that the actor may change, it is in a state from which it cannot be restarted, or
    /// too many restarts wait already; or the store failed.
    pub async fn restart_deployment(
        &self,
        actor: &Actor,
        target: &DeploymentRef,
        once: &Once,
    ) -> Result<OperationId, AppError> {
        let now = self.clock.wall();
        let restart = async |tx: &mut Tx| {
            if let Some(operation) = once.earlier(tx, actor.user, now).await? {
                return Ok(operation);
            }
            let mut deployment = find_to_change(tx, actor, target).await?;
            let operation = self.order_restart(tx, &mut deployment, now).await?;
            record(tx, actor, "deployment.restart", &deployment, operation.to_string(), now).await?;
            once.remember(tx, actor.user, now, &operation).await?;
            Ok::<_, AppError>(operation)
        };
        let operation = self.store.write(Commit::RestartDeployment, restart).await?;
        self.wake_after_change();
        Ok(operation)
    }

    /// Removes a bot: its container now, its data after the plan's retention, or at once if `purge`. Once more with
    /// `purge` removes the data of one that is deleted already.
    ///
    /// # Errors
    /// A refusal when there is none that the actor may change, or it is gone already; or the store failed.
    pub async fn delete_deployment(
        &self,
        actor: &Actor,
        target: &DeploymentRef,
        purge: bool,
    ) -> Result<DeploymentView, AppError> {
        let now = self.clock.wall();
        let delete = async |tx: &mut Tx| {
            let mut deployment = find_to_change(tx, actor, target).await?;
            self.order_removal(tx, &mut deployment, purge, now).await?;
            let detail = if purge { "data at once" } else { "data after retention" };
            record(tx, actor, "deployment.delete", &deployment, detail.to_owned(), now).await?;
            Ok::<_, AppError>(self.view(tx, &deployment).await?)
        };
        let view = self.store.write(Commit::DeleteDeployment, delete).await?;
        self.wake_after_change();
        Ok(view)
    }

    async fn order_removal(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        purge: bool,
        now: Moment,
    ) -> Result<(), AppError> {
        let transition = step(deployment.state, Event::Delete)?;
        if deployment.host.is_none() {
            may_forget(meta::frozen(tx).await?.as_ref())?;
        }
        let first = transition.from != State::Terminating;
        if first {
            deployment.deleted_at = Some(now);
            operations::answer_of(tx, deployment.id, &Outcome::Refused { reason: deleted() }, now).await?;
            domains::release(tx, deployment.id).await?;
            deployments::advance(tx, deployment, &transition, self.entropy.id(now), now).await?;
        }
        let Some(host) = deployment.host else { return self.end(tx, deployment, None, now).await };
        if is_retired(tx, host).await? {
            return self.end(tx, deployment, Some(left_behind()), now).await;
        }
        let scope = if purge { TombstoneScope::Data } else { TombstoneScope::Container };
        if (first || purge) && !tombstones::data_is_ordered_away(tx, deployment.id).await? {
            let revision = revisions::get(tx, deployment.id, deployment.revision).await?;
            let tombstone = Tombstone {
                id: self.entropy.id(now),
                deployment: deployment.id,
                account: deployment.account,
                scope,
                stop_grace: revision.blueprint.stop_grace,
            };
            tombstones::create(tx, host, &tombstone, now).await?;
            outbox::mark(tx, host).await?;
        }
        Ok(())
    }

    /// Ends a deployment of which no host has, or can be asked to give up, anything.
    async fn end(
        &self,
        tx: &mut Tx,
        deployment: &mut Deployment,
        reason: Option<Reason>,
        now: Moment,
    ) -> Result<(), AppError> {
        let mut transition = step(deployment.state, Event::DataGone)?;
        transition.reason = reason;
        deployments::advance(tx, deployment, &transition, self.entropy.id(now), now).await?;
        Ok(())
    }

    /// What is shown of one deployment.
    async fn view(&self, tx: &mut Tx, deployment: &Deployment) -> Result<DeploymentView, StoreError> {
        let timeline = timeline::latest(tx, deployment.id, TIMELINE_LINES).await?;
        let (host, report, stuck) = match deployment.host {
            Some(host) => {
                let stuck = outbox::trouble(tx, host).await?.is_some() && deployment.state != State::Running;
                (hosts::get(tx, host).await?, reports::latest(tx, host).await?, stuck)
            }
            None => (None, None, false),
        };
        let instance = report.and_then(|mut stored| stored.report.instances.remove(&deployment.id));
        let mut view = DeploymentView::of(deployment, timeline, instance);
        view.reason = view.reason.or_else(|| stuck.then(host_cannot_be_told));
        Ok(self.reached(view.on(host.as_ref(), &self.pools)))
    }

    /// The same with its place on the internet.
    pub(super) fn reached(&self, mut view: DeploymentView) -> DeploymentView {
        view.url = self.own_name(&view.name, view.id).map(|name| format!("https://{name}"));
        view
    }

    pub(super) fn wake_after_change(&self) {
        self.signals.compiler.notify();
        // Whatever ended made room.
        self.signals.placer.notify();
        self.signals.timeline.ring();
    }
}

/// The deployment that a person means, if it is in their scope.
pub(super) async fn find(tx: &mut Tx, actor: &Actor, target: &DeploymentRef) -> Result<Deployment, AppError> {
    let scope = actor.scope_in(target.account);
    let found = match &target.which {
        Which::Id(id) => deployments::get(tx, scope, *id).await?,
        Which::Name(name) => by_name(tx, scope, name.as_str()).await?,
    };
    found.ok_or_else(|| Refusal::not_found("deployment", target).into())
}

/// A name means the deployment that is not terminated, or else the last that was. Across accounts it must mean one.
async fn by_name(tx: &mut Tx, scope: Scope, name: &str) -> Result<Option<Deployment>, AppError> {
    let mut found = deployments::named(tx, scope, name).await?;
    if found.iter().filter(|one| one.state != State::Terminated).count() > 1 {
        let reason = Reason::new("name-ambiguous", format!("several accounts have a deployment `{name}`"));
        return Err(Refusal::conflict(reason.mend("use its id, or name the account")).into());
    }
    Ok(if found.is_empty() { None } else { Some(found.swap_remove(0)) })
}

pub(super) async fn find_to_change(
    tx: &mut Tx,
    actor: &Actor,
    target: &DeploymentRef,
) -> Result<Deployment, AppError> {
    let deployment = find(tx, actor, target).await?;
    authorise(actor, Action::ChangeDeployments(deployment.account))?;
    Ok(deployment)
}

/// What a host lacks stops nothing that runs there.
fn runs_on(lacking: Reason) -> Reason {
    let mend =
        "it runs on, and nothing new is placed there; an operator sees how to mend it in `launchpad hosts inspect`";
    Reason { code: "host-lacks-capability".to_owned(), mend: Some(mend.to_owned()), ..lacking }
}

/// What exactly is wrong may name another tenant's deployment, and is for staff only.
fn host_cannot_be_told() -> Reason {
    Reason::new("spec-not-made", "its host cannot be told of it yet: the host's spec cannot be made")
        .mend("an operator sees why in `launchpad hosts inspect`; it goes on by itself once that is mended")
}

pub(super) async fn record(
    tx: &mut Tx,
    actor: &Actor,
    action: &'static str,
    deployment: &Deployment,
    detail: String,
    now: Moment,
) -> Result<(), StoreError> {
    let deed = Deed { action, target: deployment.id.to_string(), account: Some(deployment.account), detail };
    audit::record(tx, actor, deed, now).await
}

fn deleted() -> Reason {
    Reason::new("deleted", "the deployment was deleted before this was done")
}

fn left_behind() -> Reason {
    Reason::new("left-behind", "it is deleted here, and its host was revoked: nothing was removed there")
        .because(LEFT_ON_A_REVOKED_HOST)
}
