//! `/failover`: whether bots that may move do, for staff.

use axum::Json;
use axum::extract::State;
use launchpad_protocol::id::HostId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::IdempotencyKey;
use super::view::Reason;
use crate::domain::silence::Suspicion;

/// Whether bots leave hosts that are silent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failover {
    /// Whether nothing moves: too many hosts fell silent together.
    frozen: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_us: Option<i64>,
    /// The hosts that fell silent together, by id.
    suspects: Vec<String>,
    /// Silent hosts that an operator has called lost, by id.
    excused: Vec<String>,
}

impl From<Suspicion> for Failover {
    fn from(suspicion: Suspicion) -> Self {
        let ids = |hosts: &mut dyn Iterator<Item = &HostId>| hosts.map(ToString::to_string).collect();
        let frozen = suspicion.frozen.as_ref();
        Self {
            frozen: frozen.is_some(),
            reason: frozen.map(|frozen| frozen.reason().into()),
            since_us: frozen.map(|frozen| frozen.since.micros()),
            suspects: ids(&mut frozen.iter().flat_map(|frozen| &frozen.suspects)),
            excused: ids(&mut suspicion.excused.iter()),
        }
    }
}

/// Whether failover is frozen, and why.
#[utoipa::path(
    get, path = "/failover", tag = "hosts",
    responses(
        (status = 200, body = Failover),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn status(State(api): State<Api>, Caller(actor): Caller) -> Result<Json<Failover>, Problem> {
    Ok(Json(api.app.suspicion(&actor).await?.into()))
}

/// Says that the hosts which fell silent together are lost: what may leave them does.
#[utoipa::path(
    post, path = "/failover/thaw", tag = "hosts", params(IdempotencyKey),
    responses(
        (status = 200, body = Failover),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn thaw(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
) -> Result<Json<Failover>, Problem> {
    // Doing it twice changes nothing: the key need not be kept, only be one.
    key.once(&[])?;
    Ok(Json(api.app.thaw_failover(&actor).await?.into()))
}
