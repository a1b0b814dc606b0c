//! `/deployments`: ask for a bot, look at it, restart it, remove it.
//!
//! `{id}` is a deployment's id or its name. Staff act for another account by naming it: `?account=acct_…`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::id::AccountId;
use launchpad_protocol::report::{InstanceReport, Phase};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Caller;
use super::contract::{self, Enforcement, Volume};
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody, PathOf, QueryOf};
use super::view::{Items, KernelLimits, PageQuery, Reason};
use crate::app::deployments::{DeploymentView, TimelineLine};
use crate::command::{Catalogue, CreateDeployment, DeploymentDraft, DeploymentRef, FieldProblems, Secret};
use crate::domain::deployment::State as Standing;
use crate::domain::lease::Policy;

/// A wish for a new bot.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDeployment {
    /// A DNS label, unique in the account.
    #[serde(default)]
    name: String,
    /// The runtime profile.
    #[serde(default)]
    profile: String,
    /// The plan.
    #[serde(default)]
    plan: String,
    /// `REPOSITORY@sha256:DIGEST`.
    #[serde(default)]
    image: String,
    /// What becomes of it when its host falls silent: `keep` (it waits for its host) unless given, or `failover`.
    #[serde(default)]
    policy: Option<String>,
    /// The pool of hosts; `shared` unless given.
    #[serde(default)]
    pool: Option<String>,
    /// The config file; the profile's default unless given.
    #[serde(default)]
    config: Option<String>,
    /// Secret files by name.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// What it may reach beyond its profile: `api.example.com`, `*.example.com:8443`, `203.0.113.0/24`.
    #[serde(default)]
    egress: Vec<String>,
}

/// A bot.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployment {
    /// `dep_…`.
    id: String,
    /// What its owner calls it.
    name: String,
    /// `acct_…`.
    account: String,
    /// The runtime profile.
    profile: String,
    /// The plan.
    plan: String,
    /// What runs, by digest.
    image: String,
    /// The pool of hosts.
    pool: String,
    /// What becomes of it when its host falls silent: keep or failover.
    #[schema(value_type = String)]
    policy: Policy,
    /// What it is: requested, provisioning, configuring, starting, running, failed, restarting, terminating or terminated.
    #[schema(value_type = String)]
    state: Standing,
    /// Why, where the state alone does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Counts the wishes for it.
    revision: u64,
    /// `host_…`, once it is placed.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Where it is reached on the internet; absent where the installation gives no public names.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// When it was asked for.
    created_at_us: i64,
    /// What happened to it, oldest first; empty in lists.
    timeline: Vec<TimelineEntry>,
    /// Its instance as its host last reported it; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<Instance>,
}

/// One line of a timeline.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineEntry {
    /// `evt_…`: ids are in the order of their lines.
    id: String,
    /// When.
    at_us: i64,
    /// What the deployment was then.
    #[schema(value_type = String)]
    state: Standing,
    /// What brought it about.
    cause: String,
    /// Why, where that says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// An instance as its host sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Instance {
    /// Where it stands: absent, pulling, preparing, starting, ready, unready, backoff, stopping, stopped or refused.
    #[schema(value_type = String)]
    phase: Phase,
    /// The container engine's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    /// The image's digest, as the engine has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_digest: Option<String>,
    /// When its process started.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at_us: Option<i64>,
    /// When it last became ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at_us: Option<i64>,
    /// Times that it was started again.
    restarts: u32,
    /// Its address on the tenant's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Why it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// How each promise of its spec stands in the kernel, while it runs.
    enforcement: BTreeMap<String, Enforcement>,
    /// Its volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    /// Processes that the kernel killed for its memory, in this start.
    oom_kills: u64,
    /// Its limits, as the kernel has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<KernelLimits>,
}

/// Something that will happen once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// `op_…`.
    operation: String,
}

/// For whom staff act.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AccountQuery {
    /// `acct_…`: the account to act for, where it is not the token's own.
    account: Option<String>,
}

/// How thoroughly to remove.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Whether to destroy the data at once; otherwise the plan's retention applies.
    #[serde(default)]
    purge: bool,
}

impl AccountQuery {
    /// The account, if one is named.
    fn checked(&self) -> Result<Option<AccountId>, FieldProblems> {
        let Some(text) = &self.account else { return Ok(None) };
        text.parse().map(Some).map_err(|error: launchpad_protocol::id::IdError| {
            let mut problems = FieldProblems::default();
            problems.add("account", error.to_string(), "an account's id");
            problems
        })
    }
}

/// The deployment that a path names, in the account that the query names.
pub(super) fn target(text: &str, account: &AccountQuery) -> Result<DeploymentRef, FieldProblems> {
    let account = account.checked()?;
    let target = text.parse::<DeploymentRef>().map(|target| target.within(account));
    target.map_err(|error: crate::command::NameError| {
        let mut problems = FieldProblems::default();
        problems.add("id", error.to_string(), "a deployment's id (dep_…) or its name");
        problems
    })
}

impl From<DeploymentView> for Deployment {
    fn from(view: DeploymentView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            account: view.account.to_string(),
            profile: view.profile,
            plan: view.plan,
            image: view.image.to_string(),
            pool: view.pool,
            policy: view.policy,
            state: view.state,
            reason: view.reason.map(Reason::from),
            revision: view.revision.0,
            host: view.host.map(|host| host.to_string()),
            url: view.url,
            created_at_us: view.created_at.micros(),
            timeline: view.timeline.into_iter().map(TimelineEntry::from).collect(),
            instance: view.instance.map(Instance::from),
        }
    }
}

impl From<TimelineLine> for TimelineEntry {
    fn from(line: TimelineLine) -> Self {
        Self {
            id: line.id.to_string(),
            at_us: line.at.micros(),
            state: line.state,
            cause: line.cause,
            reason: line.reason.map(Reason::from),
        }
    }
}

impl From<InstanceReport> for Instance {
    fn from(report: InstanceReport) -> Self {
        let container = report.container;
        let (image, limits) = container.as_ref().map(|one| (one.image, one.limits)).unwrap_or_default();
        Self {
            phase: report.phase,
            image_digest: image.map(|digest| digest.to_string()),
            started_at_us: container.as_ref().and_then(|one| one.started_at).map(Moment::micros),
            ready_at_us: report.ready_at.map(Moment::micros),
            restarts: report.restarts,
            address: container.as_ref().and_then(|one| one.address.clone()),
            container_id: container.map(|one| one.id),
            reason: report.reason.map(Reason::from),
            enforcement: contract::enforcement(report.enforcement),
            volume: report.volume.map(Volume::from),
            oom_kills: report.oom_kills,
            limits: limits.map(KernelLimits::from),
        }
    }
}

/// Lists deployments that are not terminated, in the order in which they were made.
#[utoipa::path(
    get, path = "/deployments", tag = "deployments", params(PageQuery, AccountQuery),
    responses(
        (status = 200, body = Items<Deployment>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    QueryOf(page): QueryOf<PageQuery>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Items<Deployment>>, Problem> {
    let page = api.app.deployments(&actor, account.checked()?, &page.checked()?).await?;
    Ok(Json(Items::of(page, Deployment::from)))
}

/// Asks for a new bot. It is placed, fetched, configured and started from then on; its timeline says how far it is.
#[utoipa::path(
    post, path = "/deployments", tag = "deployments", params(AccountQuery, IdempotencyKey),
    request_body = NewDeployment,
    responses(
        (status = 201, body = Deployment),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Caller(actor): Caller,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
    body: JsonBody<NewDeployment>,
) -> Result<(StatusCode, Json<Deployment>), Problem> {
    let once = key.once(&body.bytes)?;
    let new = body.value;
    let draft = DeploymentDraft {
        account: account.checked()?,
        name: new.name,
        profile: new.profile,
        plan: new.plan,
        image: new.image,
        pool: new.pool,
        policy: new.policy,
        config: new.config,
        secrets: new.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        egress: new.egress,
    };
    let catalogue = Catalogue { profiles: &api.app.profiles, plans: &api.app.plans };
    let command = CreateDeployment::new(draft, catalogue)?;
    let made = api.app.create_deployment(&actor, command, &once).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One deployment, with its timeline and its instance.
#[utoipa::path(
    get, path = "/deployments/{id}", tag = "deployments",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Deployment),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Deployment>, Problem> {
    let found = api.app.deployment(&actor, &target(&id, &account)?).await?;
    Ok(Json(found.into()))
}

/// Removes a deployment: its container now, its data after the plan's retention, or at once when purged.
#[utoipa::path(
    delete, path = "/deployments/{id}", tag = "deployments",
    params(("id" = String, Path, description = "The deployment's id, or its name"), DeleteQuery, AccountQuery),
    responses(
        (status = 202, body = Deployment),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(query): QueryOf<DeleteQuery>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<(StatusCode, Json<Deployment>), Problem> {
    let deleted = api.app.delete_deployment(&actor, &target(&id, &account)?, query.purge).await?;
    Ok((StatusCode::ACCEPTED, Json(deleted.into())))
}

/// Stops a bot with its grace and starts it again, once.
#[utoipa::path(
    post, path = "/deployments/{id}/restart", tag = "deployments",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery, IdempotencyKey),
    responses(
        (status = 202, body = Accepted),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restart(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let once = key.once(&[])?;
    let operation = api.app.restart_deployment(&actor, &target(&id, &account)?, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { operation: operation.to_string() })))
}
