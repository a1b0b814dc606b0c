//! `/upgrades`: versions of agents, for staff.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::id::{HostId, UpgradeId};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody, PathOf};
use super::view::Reason;
use crate::app::upgrades::UpgradeView;
use crate::command::{FieldProblems, StartUpgrade, UpgradeDraft, ring_name};
use crate::domain::upgrade::{self, Steer, Turn};

/// An upgrade of agents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Upgrade {
    /// `upg_…`.
    id: String,
    /// The version that agents are to have.
    to: String,
    /// running, paused, halted, done or aborted.
    state: &'static str,
    /// Why it is halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// When it began.
    begun_at_us: i64,
    /// Hosts at once.
    at_once: u32,
    /// How long each ring is watched before the next begins.
    soak_s: u64,
    /// In their order.
    rings: Vec<UpgradeRing>,
}

/// One ring of an upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeRing {
    /// What it is called.
    name: String,
    /// When its last host had the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    through_at_us: Option<i64>,
    /// Its hosts.
    hosts: Vec<UpgradeHost>,
}

/// One host of an upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpgradeHost {
    /// `host_…`.
    id: String,
    /// What people call it.
    name: String,
    /// The version that it last said to have.
    version: String,
    /// waiting, asked, done, failed or skipped.
    turn: &'static str,
    /// When it was asked, or done.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_us: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// The latest upgrade, if there ever was one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LatestUpgrade {
    /// It.
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<Upgrade>,
}

/// A wish for another version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUpgrade {
    /// The version of the package, as the hosts' repositories call it.
    to: String,
    /// Rings, in their order.
    #[serde(default)]
    rings: Vec<String>,
    /// Or hosts, by name or id.
    #[serde(default)]
    hosts: Vec<String>,
    /// Hosts at once; one unless given.
    #[serde(default)]
    at_once: Option<u32>,
    /// How long each ring is watched before the next begins; 600 unless given.
    #[serde(default)]
    soak_s: Option<u64>,
}

/// A host's ring.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HostRing {
    /// What it is called.
    ring: String,
}

impl From<UpgradeView> for Upgrade {
    fn from(view: UpgradeView) -> Self {
        let UpgradeView { upgrade, hosts } = view;
        let (state, reason) = match upgrade.state {
            upgrade::State::Running => ("running", None),
            upgrade::State::Paused => ("paused", None),
            upgrade::State::Halted { reason } => ("halted", Some(reason.into())),
            upgrade::State::Done => ("done", None),
            upgrade::State::Aborted => ("aborted", None),
        };
        Self {
            id: upgrade.id.to_string(),
            to: upgrade.to.to_string(),
            state,
            reason,
            begun_at_us: upgrade.begun_at.micros(),
            at_once: upgrade.at_once,
            soak_s: upgrade.soak.as_secs(),
            rings: upgrade.rings.into_iter().map(|ring| UpgradeRing::of(ring, &hosts)).collect(),
        }
    }
}

impl UpgradeRing {
    fn of(ring: upgrade::Ring, hosts: &BTreeMap<HostId, (String, String)>) -> Self {
        let host = |(id, turn): (HostId, Turn)| {
            let (name, version) = hosts.get(&id).cloned().unwrap_or_default();
            let (turn, at, reason) = match turn {
                Turn::Waiting => ("waiting", None, None),
                Turn::Asked { at, .. } => ("asked", Some(at), None),
                Turn::Done { at } => ("done", Some(at), None),
                Turn::Failed { reason } => ("failed", None, Some(reason.into())),
                Turn::Skipped => ("skipped", None, None),
            };
            UpgradeHost { id: id.to_string(), name, version, turn, at_us: at.map(Moment::micros), reason }
        };
        Self {
            name: ring.name,
            through_at_us: ring.through_at.map(Moment::micros),
            hosts: ring.hosts.into_iter().map(host).collect(),
        }
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, mend: &str) -> Result<T, FieldProblems> {
    text.parse().map_err(|error: T::Err| {
        let mut problems = FieldProblems::default();
        problems.add("id", error.to_string(), mend);
        problems
    })
}

/// The latest upgrade of agents, and how far it is.
#[utoipa::path(
    get, path = "/upgrades", tag = "hosts",
    responses(
        (status = 200, body = LatestUpgrade),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn status(State(api): State<Api>, Caller(actor): Caller) -> Result<Json<LatestUpgrade>, Problem> {
    Ok(Json(LatestUpgrade { upgrade: api.app.upgrade(&actor).await?.map(Upgrade::from) }))
}

/// Has agents become another version, a ring of hosts at a time, by each host's own package manager. It halts at the first
/// host that does not take it.
#[utoipa::path(
    post, path = "/upgrades", tag = "hosts", params(IdempotencyKey), request_body = NewUpgrade,
    responses(
        (status = 202, body = Upgrade),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
    body: JsonBody<NewUpgrade>,
) -> Result<(StatusCode, Json<Upgrade>), Problem> {
    let once = key.once(&body.bytes)?;
    let NewUpgrade { to, rings, hosts, at_once, soak_s } = body.value;
    let command = StartUpgrade::new(UpgradeDraft { to, rings, hosts, at_once, soak_s })?;
    let view = api.app.start_upgrade(&actor, &command, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(view.into())))
}

/// Asks no further host until it is resumed.
#[utoipa::path(
    post, path = "/upgrades/{id}/pause", tag = "hosts",
    params(("id" = String, Path, description = "The upgrade's id"), IdempotencyKey),
    responses(
        (status = 200, body = Upgrade),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    state: State<Api>,
    caller: Caller,
    id: PathOf<String>,
    key: IdempotencyKey,
) -> Result<Json<Upgrade>, Problem> {
    steer(state, caller, id, key, Steer::Pause).await
}

/// Goes on, also after a halt: hosts that failed are asked again.
#[utoipa::path(
    post, path = "/upgrades/{id}/resume", tag = "hosts",
    params(("id" = String, Path, description = "The upgrade's id"), IdempotencyKey),
    responses(
        (status = 200, body = Upgrade),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    state: State<Api>,
    caller: Caller,
    id: PathOf<String>,
    key: IdempotencyKey,
) -> Result<Json<Upgrade>, Problem> {
    steer(state, caller, id, key, Steer::Resume).await
}

/// Ends it. Hosts that have the version keep it.
#[utoipa::path(
    post, path = "/upgrades/{id}/abort", tag = "hosts",
    params(("id" = String, Path, description = "The upgrade's id"), IdempotencyKey),
    responses(
        (status = 200, body = Upgrade),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn abort(
    state: State<Api>,
    caller: Caller,
    id: PathOf<String>,
    key: IdempotencyKey,
) -> Result<Json<Upgrade>, Problem> {
    steer(state, caller, id, key, Steer::Abort).await
}

async fn steer(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    key: IdempotencyKey,
    steer: Steer,
) -> Result<Json<Upgrade>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&[])?;
    let id: UpgradeId = parsed(&id, "an upgrade's id, as GET /upgrades shows it")?;
    Ok(Json(api.app.steer_upgrade(&actor, id, steer).await?.into()))
}

/// Puts a host into a ring: rings are upgraded one after the other.
#[utoipa::path(
    put, path = "/hosts/{id}/ring", tag = "hosts",
    params(("id" = String, Path, description = "The host's id")), request_body = HostRing,
    responses(
        (status = 200, body = HostRing),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_into_ring(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    body: JsonBody<HostRing>,
) -> Result<Json<HostRing>, Problem> {
    let host: HostId = parsed(&id, "a host's id, as GET /hosts lists it")?;
    let ring = ring_name(&body.value.ring)?;
    api.app.put_into_ring(&actor, host, &ring).await?;
    Ok(Json(body.value))
}
