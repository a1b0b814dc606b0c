//! `GET /healthz`: whether this process serves. Open to all, and says nothing about tenants.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::reason::Reason;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::problem::{Problem, ProblemBody};

/// A healthy coordinator.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`: anything else is a problem.
    status: &'static str,
    /// The coordinator's version.
    version: &'static str,
}

/// Whether the coordinator serves: it reads its store.
#[utoipa::path(
    get, path = "/healthz", tag = "service", security(()),
    responses((status = 200, body = Health), (status = 503, body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn health(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    match api.app.is_well().await {
        Ok(()) => Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })),
        Err(error) => {
            tracing::error!(%error, "the store cannot be read");
            let reason = Reason::new("store-away", "the coordinator cannot read its store");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason.mend("see the coordinator's log")))
        }
    }
}
