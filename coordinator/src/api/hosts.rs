//! `/hosts`: the fleet, for staff.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::report::{self, HostReport, InstanceReport};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::contract::{EnforcementSummary, Gate, Volume};
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody, PathOf, QueryOf};
use super::view::{Capacity, Items, PageQuery, Reason};
use crate::app::hosts::HostView;
use crate::command::{CreateJoinToken, FieldProblems, JoinTokenDraft};
use crate::domain::host::HostState;

/// A host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Host {
    /// `host_…`.
    id: String,
    /// What people call it.
    name: String,
    /// Its pool.
    pool: String,
    /// What it is: pending, active, cordoned, silent, lost or retired.
    #[schema(value_type = String)]
    state: HostState,
    /// Whether an operator wants nothing new on it, also while it is silent.
    cordoned: bool,
    /// Whether its session is open, at this coordinator.
    connected: bool,
    /// What carries the session: quic or tcp.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    /// Its agent's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_version: Option<String>,
    /// How far it is with what it was told.
    generation: Generations,
    /// What it has for tenants.
    capacity: Capacity,
    /// What of it is given away.
    allocated: Capacity,
    /// What it can enforce, each with its reason where it cannot.
    capabilities: BTreeMap<String, Capability>,
    /// What it runs, as it reports it.
    instances: Vec<HostedInstance>,
    /// Containers of ours that nothing names: left running, and told.
    orphans: Vec<Orphan>,
    /// The walls between bots and the world; absent in lists, and where the host's gate does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    /// What is wrong with it.
    reasons: Vec<Reason>,
    /// When it last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_us: Option<i64>,
}

/// Counters of one host's desired state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generations {
    /// The newest that was made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
    /// The one in its ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    /// The one that it has carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<u64>,
}

/// Whether a host can do something.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(super) enum Capability {
    /// It can.
    Present,
    /// It cannot.
    Absent {
        /// Why not, and what would mend it.
        reason: Reason,
    },
}

/// An instance on a host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostedInstance {
    /// `dep_…`.
    deployment: String,
    /// Where it stands.
    #[schema(value_type = String)]
    phase: report::Phase,
    /// The revision that it is at.
    revision: u64,
    /// Times that it was started again.
    restarts: u32,
    /// Why it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// How the promises of its spec stand in the kernel; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcement: Option<EnforcementSummary>,
    /// Its volume; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
}

/// A container of ours that nothing names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Orphan {
    /// The container engine's id.
    container_id: String,
    /// From its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
    /// Whether it runs.
    running: bool,
}

/// A wish for a join token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJoinToken {
    /// What the host will be called; it names itself otherwise.
    #[serde(default)]
    name: Option<String>,
    /// The pool that it joins; `shared` unless given.
    #[serde(default)]
    pool: Option<String>,
}

/// A join token. It is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JoinToken {
    /// The token: it lets one host in.
    token: String,
    /// When it stops working.
    expires_at_us: i64,
    /// Where the host enrols: `HOST:PORT`.
    enroll_endpoint: String,
}

impl From<HostView> for Host {
    fn from(view: HostView) -> Self {
        let report = view.report;
        let said = |of: &dyn Fn(&HostReport) -> Option<u64>| report.as_ref().and_then(of);
        let generation = Generations {
            published: view.published.map(|generation| generation.0),
            accepted: said(&|report| report.accepted.map(|accepted| accepted.generation.0)),
            applied: said(&|report| Some(report.applied.0)),
        };
        let (capabilities, instances, orphans, troubles, gate) = report
            .map(|told| (told.capabilities, told.instances, told.orphans, told.troubles, told.gate))
            .unwrap_or_default();
        Self {
            id: view.id.to_string(),
            name: view.name,
            pool: view.pool,
            state: view.state,
            cordoned: view.cordoned,
            connected: view.transport.is_some(),
            transport: view.transport.map(|transport| transport.to_string()),
            agent_version: view.agent_version,
            generation,
            capacity: view.capacity.into(),
            allocated: view.allocated.into(),
            capabilities: capabilities.into_iter().map(|(name, capability)| (name, capability.into())).collect(),
            instances: instances.into_iter().map(HostedInstance::from).collect(),
            orphans: orphans.into_iter().map(Orphan::from).collect(),
            gate: gate.map(Gate::from),
            reasons: {
                let reasons = view.trouble.into_iter().chain(view.twins).chain(view.lacking);
                reasons.chain(troubles).map(Reason::from).collect()
            },
            last_seen_us: view.last_seen_at.map(Moment::micros),
        }
    }
}

impl From<report::Capability> for Capability {
    fn from(capability: report::Capability) -> Self {
        match capability {
            report::Capability::Present => Self::Present,
            report::Capability::Absent { reason } => Self::Absent { reason: reason.into() },
        }
    }
}

impl From<(DeploymentId, InstanceReport)> for HostedInstance {
    fn from((deployment, report): (DeploymentId, InstanceReport)) -> Self {
        Self {
            deployment: deployment.to_string(),
            phase: report.phase,
            revision: report.revision.0,
            restarts: report.restarts,
            reason: report.reason.map(Reason::from),
            enforcement: Some(EnforcementSummary::of(report.enforcement)),
            volume: report.volume.map(Volume::from),
        }
    }
}

impl Host {
    /// The same without what takes a screen a bot: for lists.
    fn brief(mut self) -> Self {
        self.gate = None;
        for instance in &mut self.instances {
            (instance.enforcement, instance.volume) = (None, None);
        }
        self
    }
}

impl From<report::Orphan> for Orphan {
    fn from(orphan: report::Orphan) -> Self {
        Self {
            container_id: orphan.container,
            deployment: orphan.deployment.map(|deployment| deployment.to_string()),
            running: orphan.running,
        }
    }
}

fn host_id(text: &str) -> Result<HostId, FieldProblems> {
    text.parse().map_err(|error: launchpad_protocol::id::IdError| {
        let mut problems = FieldProblems::default();
        problems.add("id", error.to_string(), "a host's id, as GET /hosts lists it");
        problems
    })
}

/// Lists the hosts.
#[utoipa::path(
    get, path = "/hosts", tag = "hosts", params(PageQuery),
    responses(
        (status = 200, body = Items<Host>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Items<Host>>, Problem> {
    let page = api.app.hosts(&actor, &page.checked()?).await?;
    Ok(Json(Items::of(page, |view| Host::from(view).brief())))
}

/// One host.
#[utoipa::path(
    get, path = "/hosts/{id}", tag = "hosts",
    params(("id" = String, Path, description = "The host's id")),
    responses(
        (status = 200, body = Host),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
) -> Result<Json<Host>, Problem> {
    let host = api.app.host(&actor, host_id(&id)?).await?;
    Ok(Json(host.into()))
}

/// Makes a single-use token with which one host joins.
#[utoipa::path(
    post, path = "/hosts/tokens", tag = "hosts", params(IdempotencyKey), request_body = NewJoinToken,
    responses(
        (status = 201, body = JoinToken),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create_token(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
    body: JsonBody<NewJoinToken>,
) -> Result<(StatusCode, Json<JoinToken>), Problem> {
    let once = key.once(&body.bytes)?;
    let command = CreateJoinToken::new(JoinTokenDraft { name: body.value.name, pool: body.value.pool })?;
    let made = api.app.create_join_token(&actor, command, &once).await?;
    let token = JoinToken {
        token: made.token,
        expires_at_us: made.expires_at.micros(),
        enroll_endpoint: made.enroll_endpoint,
    };
    Ok((StatusCode::CREATED, Json(token)))
}

/// Cuts a host off for good: its certificates are revoked and its connections closed. What runs there runs on.
#[utoipa::path(
    post, path = "/hosts/{id}/revoke", tag = "hosts",
    params(("id" = String, Path, description = "The host's id"), IdempotencyKey),
    responses(
        (status = 202, body = Host),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<Host>), Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&[])?;
    let host = api.app.revoke_host(&actor, host_id(&id)?).await?;
    Ok((StatusCode::ACCEPTED, Json(host.into())))
}

/// Has nothing new go to a host. What is on it stays.
#[utoipa::path(
    post, path = "/hosts/{id}/cordon", tag = "hosts",
    params(("id" = String, Path, description = "The host's id"), IdempotencyKey),
    responses(
        (status = 200, body = Host),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cordon(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    key: IdempotencyKey,
) -> Result<Json<Host>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&[])?;
    Ok(Json(api.app.cordon_host(&actor, host_id(&id)?, true).await?.into()))
}

/// Lets deployments go to a host again.
#[utoipa::path(
    post, path = "/hosts/{id}/uncordon", tag = "hosts",
    params(("id" = String, Path, description = "The host's id"), IdempotencyKey),
    responses(
        (status = 200, body = Host),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn uncordon(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    key: IdempotencyKey,
) -> Result<Json<Host>, Problem> {
    // As above.
    key.once(&[])?;
    Ok(Json(api.app.cordon_host(&actor, host_id(&id)?, false).await?.into()))
}

/// Taking a host out of the fleet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retirement {
    /// Also with deployments on it, if it is lost: what may fail over leaves it, everything else stays marked.
    #[serde(default)]
    force: bool,
}

/// Takes a host out of the fleet for good, once nothing is on it: its certificates are revoked.
#[utoipa::path(
    post, path = "/hosts/{id}/retire", tag = "hosts",
    params(("id" = String, Path, description = "The host's id"), IdempotencyKey), request_body = Retirement,
    responses(
        (status = 200, body = Host),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retire(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    key: IdempotencyKey,
    body: JsonBody<Retirement>,
) -> Result<Json<Host>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&body.bytes)?;
    Ok(Json(api.app.retire_host(&actor, host_id(&id)?, body.value.force).await?.into()))
}
