//! `/deployments/{id}/egress` and `/deployments/{id}/denials`: what a bot may reach, and what it was kept from.

use axum::Json;
use axum::extract::State;
use launchpad_protocol::report;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{JsonBody, PathOf, QueryOf};
use crate::app::denials::DenialsView;
use crate::app::egress::EgressView;
use crate::command::SetEgress;

/// What a bot may reach. All else is denied, and so are private and host addresses, other tenants and mail ports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Egress {
    /// What its profile allows.
    profile: Vec<String>,
    /// What its owner adds.
    allow: Vec<String>,
    /// How many rules its plan lets an owner add.
    granted: u32,
    /// The revision of the deployment that says so.
    revision: u64,
}

/// What an owner adds from now on, in place of what was added before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEgress {
    /// Rules: `api.example.com`, `*.example.com:8443`, `203.0.113.0/24`. Without a port 443 is meant.
    allow: Vec<String>,
}

/// What the bots of an account were kept from on the host of one of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Denials {
    /// Packets and names denied to all bots of the account there, since the host last started to count.
    count: u64,
    /// The latest of this bot, oldest first, and those whose bot was not known any more.
    items: Vec<Denial>,
}

/// Something that a bot tried to reach and may not.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Denial {
    /// When it was last tried.
    at_us: i64,
    /// The name that it asked for, or the address that it sent to, with protocol and port.
    target: String,
    /// How often.
    count: u64,
    /// Whether it was this bot for certain: the address may have been another's of the same account before.
    certain: bool,
}

impl From<EgressView> for Egress {
    fn from(view: EgressView) -> Self {
        let texts = |rules: std::collections::BTreeSet<_>| rules.into_iter().map(String::from).collect();
        Self {
            profile: texts(view.profile),
            allow: texts(view.added),
            granted: view.granted,
            revision: view.revision.0,
        }
    }
}

impl From<DenialsView> for Denials {
    fn from(view: DenialsView) -> Self {
        Self { count: view.count, items: view.samples.into_iter().map(Denial::from).collect() }
    }
}

impl From<report::Denial> for Denial {
    fn from(found: report::Denial) -> Self {
        let certain = found.deployment.is_some();
        Self { at_us: found.at.micros(), target: found.target, count: found.count, certain }
    }
}

/// What a bot may reach.
#[utoipa::path(
    get, path = "/deployments/{id}/egress", tag = "egress",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Egress),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Egress>, Problem> {
    let view = api.app.egress(&actor, &target(&id, &account)?).await?;
    Ok(Json(view.into()))
}

/// Lets a bot reach that beyond its profile, in place of what was let before. It runs on meanwhile.
#[utoipa::path(
    put, path = "/deployments/{id}/egress", tag = "egress",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    request_body = NewEgress,
    responses(
        (status = 200, body = Egress),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    body: JsonBody<NewEgress>,
) -> Result<Json<Egress>, Problem> {
    let command = SetEgress::new(target(&id, &account)?, &body.value.allow)?;
    let view = api.app.set_egress(&actor, command).await?;
    Ok(Json(view.into()))
}

/// What a bot was kept from, as its host last reported it.
#[utoipa::path(
    get, path = "/deployments/{id}/denials", tag = "egress",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Denials),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn denials(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Denials>, Problem> {
    let view = api.app.denials(&actor, &target(&id, &account)?).await?;
    Ok(Json(view.into()))
}
