//! `/deployments/{id}/secrets`: what a bot is given in confidence. Names and versions come out, never a value.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{JsonBody, PathOf, QueryOf};
use super::view::Items;
use crate::app::secrets::{SecretChanged, SecretView};
use crate::command::{Page, RemoveSecret, Secret as Value, SecretRef, SetSecret};
use crate::domain::secrets::Effect;

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Secret {
    /// Its name: that of its file in the bot.
    name: String,
    /// The revision of the deployment that brought its value.
    version: u64,
    /// When it got that value.
    set_at_us: i64,
    /// Whether the workload cannot do without it.
    needed: bool,
    /// The variables that hand it over where the workload takes it no other way: whoever may inspect its
    /// process sees it.
    variables: Vec<String>,
}

/// A new value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    /// The value, a text of at most 64 KiB.
    #[serde(default)]
    value: String,
}

/// What became of a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SecretChange {
    /// Which secret.
    name: String,
    /// The version of its value; absent when it was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The deployment's revision now.
    revision: u64,
    /// When the bot goes by it: `unchanged`, `at-start` (it does not run yet), `at-once`, `after-restart`
    /// (the running bot must be restarted to read it) or `new-container` (its host replaces the container).
    #[schema(value_type = String)]
    effect: Effect,
    /// `op_…`: the restart that was asked for, where there is anything for it to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

/// What else is to happen.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangeQuery {
    /// Whether to restart a running bot that would not read it otherwise.
    #[serde(default)]
    restart: bool,
}

impl From<SecretView> for Secret {
    fn from(view: SecretView) -> Self {
        let SecretView { name, version, set_at, needed, variables } = view;
        Self { name, version: version.0, set_at_us: set_at.micros(), needed, variables }
    }
}

impl From<SecretChanged> for SecretChange {
    fn from(changed: SecretChanged) -> Self {
        Self {
            name: changed.name,
            version: changed.version.map(|version| version.0),
            revision: changed.revision.0,
            effect: changed.effect,
            operation: changed.restart.map(|operation| operation.to_string()),
        }
    }
}

/// Lists a deployment's secrets by name: all of them, on one page.
#[utoipa::path(
    get, path = "/deployments/{id}/secrets", tag = "secrets",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Items<Secret>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Items<Secret>>, Problem> {
    let items = api.app.secrets(&actor, &target(&id, &account)?).await?;
    Ok(Json(Items::of(Page { items, next: None }, Secret::from)))
}

/// Gives a secret a value. Its host replaces the file under the running bot; sent again, it changes nothing.
#[utoipa::path(
    put, path = "/deployments/{id}/secrets/{name}", tag = "secrets",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The secret's name"), ChangeQuery, AccountQuery,
    ),
    request_body = NewValue,
    responses(
        (status = 202, body = SecretChange),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(query): QueryOf<ChangeQuery>,
    QueryOf(account): QueryOf<AccountQuery>,
    body: JsonBody<NewValue>,
) -> Result<(StatusCode, Json<SecretChange>), Problem> {
    let secret = SecretRef::new(target(&id, &account)?, &name)?;
    let command = SetSecret::new(secret, Value::new(body.value.value), query.restart)?;
    let changed = api.app.set_secret(&actor, command).await?;
    Ok((StatusCode::ACCEPTED, Json(changed.into())))
}

/// Takes a secret away, and destroys every value that it had. One that the workload needs can only be set.
#[utoipa::path(
    delete, path = "/deployments/{id}/secrets/{name}", tag = "secrets",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The secret's name"), ChangeQuery, AccountQuery,
    ),
    responses(
        (status = 202, body = SecretChange),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(query): QueryOf<ChangeQuery>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<(StatusCode, Json<SecretChange>), Problem> {
    let secret = SecretRef::new(target(&id, &account)?, &name)?;
    let changed = api.app.remove_secret(&actor, RemoveSecret { secret, restart: query.restart }).await?;
    Ok((StatusCode::ACCEPTED, Json(changed.into())))
}
