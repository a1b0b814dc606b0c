//! `/recovery`: after a restore, whether publishing stands still, and letting it go on.

use axum::Json;
use axum::extract::State;
use launchpad_protocol::time::Moment;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::IdempotencyKey;
use super::view::Reason;
use crate::app::recovery;

/// Whether hosts are told anything new.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recovery {
    /// Whether publishing stands still: hosts run on as they are.
    frozen: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// `inc_…`: which life of the store this is; a restore begins another.
    incarnation: String,
    /// What hosts hold, against what was made for them.
    hosts: Vec<HostRecovery>,
}

/// What is known of one host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostRecovery {
    /// `host_…`.
    id: String,
    /// What people call it.
    name: String,
    /// Whether it is connected here.
    connected: bool,
    /// The generation of the latest spec that this store made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<u64>,
    /// The highest generation that it says to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<u64>,
    /// When it last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_us: Option<i64>,
}

impl From<recovery::Recovery> for Recovery {
    fn from(view: recovery::Recovery) -> Self {
        Self {
            frozen: view.frozen.is_some(),
            reason: view.frozen.map(Reason::from),
            incarnation: view.incarnation.to_string(),
            hosts: view.hosts.into_iter().map(HostRecovery::from).collect(),
        }
    }
}

impl From<recovery::HostRecovery> for HostRecovery {
    fn from(host: recovery::HostRecovery) -> Self {
        Self {
            id: host.id.to_string(),
            name: host.name,
            connected: host.connected,
            published: host.published.map(|generation| generation.0),
            floor: host.floor.map(|floor| floor.generation.0),
            last_seen_us: host.last_seen_at.map(Moment::micros),
        }
    }
}

/// Whether publishing is frozen, and why.
#[utoipa::path(
    get, path = "/recovery", tag = "recovery",
    responses(
        (status = 200, body = Recovery),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn status(State(api): State<Api>, Caller(actor): Caller) -> Result<Json<Recovery>, Problem> {
    Ok(Json(api.app.recovery(&actor).await?.into()))
}

/// Lets publishing go on. Generations and epochs were raised above what hosts hold; the store is believed from now on.
#[utoipa::path(
    post, path = "/recovery/confirm", tag = "recovery", params(IdempotencyKey),
    responses(
        (status = 200, body = Recovery),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
) -> Result<Json<Recovery>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&[])?;
    Ok(Json(api.app.confirm_recovery(&actor).await?.into()))
}
