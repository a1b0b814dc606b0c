//! `/keys`: which key wraps what the store holds in confidence, and changing it. For staff.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::time::Moment;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::IdempotencyKey;
use super::view::Reason;
use crate::app::keys::{self, RotationView};

/// The keys by name. They themselves are shown to nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    /// The key that wraps.
    current: String,
    /// How many configs and secrets, of all kept revisions, each key wraps.
    wraps: BTreeMap<String, u64>,
    /// The latest change of the key that wraps.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<Rotation>,
}

/// A change of the key that wraps.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rotation {
    /// `rot_…`.
    id: String,
    /// When it was asked for.
    asked_at_us: i64,
    /// When everything was wrapped with the new key and the old one was gone; absent while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    done_at_us: Option<i64>,
    /// Why it does not come on.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<Reason>,
}

impl From<keys::Keys> for Keys {
    fn from(keys: keys::Keys) -> Self {
        let keys::Keys { current, wraps, rotation } = keys;
        Self { current, wraps, rotation: rotation.map(Rotation::from) }
    }
}

impl From<RotationView> for Rotation {
    fn from(view: RotationView) -> Self {
        Self {
            id: view.id.to_string(),
            asked_at_us: view.asked_at.micros(),
            done_at_us: view.done_at.map(Moment::micros),
            trouble: view.trouble.map(Reason::from),
        }
    }
}

/// Which key wraps what, and how far the latest change is.
#[utoipa::path(
    get, path = "/keys", tag = "keys",
    responses(
        (status = 200, body = Keys),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(api): State<Api>, Caller(actor): Caller) -> Result<Json<Keys>, Problem> {
    Ok(Json(api.app.keys(&actor).await?.into()))
}

/// Makes another key that wraps, rewraps everything with it, and forgets the old one. Answers at once.
#[utoipa::path(
    post, path = "/keys/rotate", tag = "keys", params(IdempotencyKey),
    responses(
        (status = 202, body = Keys),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<Keys>), Problem> {
    let once = key.once(&[])?;
    let keys = api.app.rotate_keys(&actor, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(keys.into())))
}
