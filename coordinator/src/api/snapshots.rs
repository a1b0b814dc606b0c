//! `/deployments/{id}/snapshots`: copies of a bot's volume on its host.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::report::{Outcome, SnapshotReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody, PathOf, QueryOf};
use super::view::Reason;
use crate::app::snapshots::{SnapshotAsked, SnapshotOperation, SnapshotVerb, SnapshotsView};
use crate::command::{SnapshotRef, snapshot_name};

/// The snapshots of a volume.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Snapshots {
    /// Those that its host keeps, by name.
    items: Vec<KeptSnapshot>,
    /// What was asked for, newest first.
    operations: Vec<AskedSnapshot>,
}

/// A snapshot that is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeptSnapshot {
    /// Its name.
    name: String,
    /// Bytes that it takes on the host.
    bytes: u64,
    /// When it was taken.
    taken_at_us: i64,
    /// SHA-256 of its content.
    digest: String,
}

/// Something that was asked of a host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AskedSnapshot {
    /// `op_…`.
    operation: String,
    /// `create`, `restore` or `delete`.
    #[schema(value_type = String)]
    action: SnapshotVerb,
    /// Of which snapshot.
    name: String,
    /// When it was asked for.
    asked_at_us: i64,
    /// `waiting`, `done` or `refused`.
    outcome: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// A wish for a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSnapshot {
    /// What to call it; named after the time unless given.
    #[serde(default)]
    name: Option<String>,
}

/// Something that will happen once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedSnapshot {
    /// `op_…`: what became of it shows in the list.
    operation: String,
    /// Of which snapshot.
    name: String,
}

impl From<SnapshotsView> for Snapshots {
    fn from(view: SnapshotsView) -> Self {
        Self {
            items: view.kept.into_iter().map(KeptSnapshot::from).collect(),
            operations: view.asked.into_iter().map(AskedSnapshot::from).collect(),
        }
    }
}

impl From<(String, SnapshotReport)> for KeptSnapshot {
    fn from((name, found): (String, SnapshotReport)) -> Self {
        let (bytes, taken_at_us) = (found.bytes, found.taken_at.micros());
        Self { name, bytes, taken_at_us, digest: found.digest.to_string() }
    }
}

impl From<SnapshotOperation> for AskedSnapshot {
    fn from(asked: SnapshotOperation) -> Self {
        let (outcome, reason) = match asked.outcome {
            None => ("waiting", None),
            Some(Outcome::Done { .. }) => ("done", None),
            Some(Outcome::Refused { reason }) => ("refused", Some(reason.into())),
        };
        Self {
            operation: asked.id.to_string(),
            action: asked.kind,
            name: asked.name,
            asked_at_us: asked.asked_at.micros(),
            outcome,
            reason,
        }
    }
}

impl From<SnapshotAsked> for AcceptedSnapshot {
    fn from(asked: SnapshotAsked) -> Self {
        Self { operation: asked.operation.to_string(), name: asked.name }
    }
}

/// The snapshots of a deployment's volume, and what became of those that were asked for.
#[utoipa::path(
    get, path = "/deployments/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Snapshots),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Snapshots>, Problem> {
    let view = api.app.snapshots(&actor, &target(&id, &account)?).await?;
    Ok(Json(view.into()))
}

/// Takes a snapshot: the bot is stopped, its volume copied, and the bot started again.
#[utoipa::path(
    post, path = "/deployments/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery, IdempotencyKey),
    request_body = NewSnapshot,
    responses(
        (status = 202, body = AcceptedSnapshot),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn take(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
    body: JsonBody<NewSnapshot>,
) -> Result<(StatusCode, Json<AcceptedSnapshot>), Problem> {
    let once = key.once(&body.bytes)?;
    let name = body.value.name.as_deref().map(snapshot_name).transpose()?;
    let asked = api.app.take_snapshot(&actor, &target(&id, &account)?, name, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}

/// Puts a snapshot in its volume's place, while the bot is stopped. What the volume holds now is lost.
#[utoipa::path(
    post, path = "/deployments/{id}/snapshots/{name}/restore", tag = "snapshots",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The snapshot"), AccountQuery, IdempotencyKey,
    ),
    responses(
        (status = 202, body = AcceptedSnapshot),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn restore(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
) -> Result<(StatusCode, Json<AcceptedSnapshot>), Problem> {
    let once = key.once(&[])?;
    let snapshot = SnapshotRef::new(target(&id, &account)?, &name)?;
    let asked = api.app.restore_snapshot(&actor, &snapshot, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}

/// Deletes a snapshot. The bot runs on meanwhile.
#[utoipa::path(
    delete, path = "/deployments/{id}/snapshots/{name}", tag = "snapshots",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The snapshot"), AccountQuery,
    ),
    responses(
        (status = 202, body = AcceptedSnapshot),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<(StatusCode, Json<AcceptedSnapshot>), Problem> {
    let asked = api.app.delete_snapshot(&actor, &SnapshotRef::new(target(&id, &account)?, &name)?).await?;
    Ok((StatusCode::ACCEPTED, Json(asked.into())))
}
