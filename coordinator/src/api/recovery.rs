//! `/recovery`: after a restore, whether publishing stands still, and letting it go on.

use axum::Json;
use axum::extract::State;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody};
use super::view::Reason;
use crate::app::recovery;
use crate::command::ConfirmRecovery;

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
    /// Hosts that came since publishing was frozen, and that this store does not know.
    strangers: Vec<Stranger>,
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
    /// Whether it has reported since publishing was last frozen.
    spoken: bool,
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

/// A host that is not in this store: it joined after the copy was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stranger {
    /// `host_…`.
    id: String,
    /// When it last came.
    last_seen_us: i64,
}

/// Letting publishing go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Confirmation {
    /// Names or ids of hosts that are not waited for. What runs there may be started a second time elsewhere.
    #[serde(default)]
    without: Vec<String>,
}

impl From<recovery::Recovery> for Recovery {
    fn from(view: recovery::Recovery) -> Self {
        Self {
            frozen: view.frozen.is_some(),
            reason: view.frozen.map(Reason::from),
            incarnation: view.incarnation.to_string(),
            hosts: view.hosts.into_iter().map(HostRecovery::from).collect(),
            strangers: view.strangers.into_iter().map(Stranger::from).collect(),
        }
    }
}

impl From<(HostId, Moment)> for Stranger {
    fn from((id, seen_at): (HostId, Moment)) -> Self {
        Self { id: id.to_string(), last_seen_us: seen_at.micros() }
    }
}

impl From<recovery::HostRecovery> for HostRecovery {
    fn from(host: recovery::HostRecovery) -> Self {
        Self {
            id: host.id.to_string(),
            name: host.name,
            connected: host.connected,
            spoken: host.spoken,
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

/// Lets publishing go on. Every host has reported since it was frozen, or is left out by name; generations and epochs are
/// raised above what hosts hold, and the store is believed from now on.
#[utoipa::path(
    post, path = "/recovery/confirm", tag = "recovery", params(IdempotencyKey), request_body = Confirmation,
    responses(
        (status = 200, body = Recovery),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
    body: JsonBody<Confirmation>,
) -> Result<Json<Recovery>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&body.bytes)?;
    let command = ConfirmRecovery::new(body.value.without)?;
    Ok(Json(api.app.confirm_recovery(&actor, &command).await?.into()))
}
