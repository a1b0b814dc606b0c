//! `/recovery`: after a restore, whether publishing stands still, and letting it go on.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::IdempotencyKey;
use super::view::Reason;
use crate::app::recovery::RecoveryView;

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
}

impl From<RecoveryView> for Recovery {
    fn from(view: RecoveryView) -> Self {
        Self {
            frozen: view.frozen.is_some(),
            reason: view.frozen.map(Reason::from),
            incarnation: view.incarnation.to_string(),
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
    let once = key.once(&[])?;
    Ok(Json(api.app.confirm_recovery(&actor, &once).await?.into()))
}
