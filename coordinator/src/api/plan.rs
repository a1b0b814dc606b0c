//! `/deployments/{id}/plan`: what a bot may use.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{JsonBody, PathOf, QueryOf};
use crate::app::plan::PlanView;
use crate::command::SetPlan;

/// What a bot may use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plan {
    /// The plan's name.
    plan: String,
    /// Thousandths of a core.
    cpu_millis: u32,
    /// Bytes of memory.
    memory_bytes: u64,
    /// Bytes of storage.
    storage_bytes: u64,
    /// Days for which data outlives its deployment.
    retention_days: u32,
    /// Egress rules that its owner may add to those of the profile.
    egress_rules: u32,
    /// The revision of the deployment that says so.
    revision: u64,
}

/// The plan from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPlan {
    /// The plan's name.
    plan: String,
}

impl From<PlanView> for Plan {
    fn from(view: PlanView) -> Self {
        let plan = view.plan;
        Self {
            plan: plan.name,
            cpu_millis: plan.cpu_millis,
            memory_bytes: plan.memory_bytes,
            storage_bytes: plan.storage_bytes,
            retention_days: plan.retention_days,
            egress_rules: plan.egress_rules,
            revision: view.revision.0,
        }
    }
}

/// Lets a bot use what another plan grants, on the host where it is. It runs on meanwhile; where its host cannot enlarge a
/// volume in use, the volume is enlarged when the bot is next started. No volume is made smaller.
#[utoipa::path(
    put, path = "/deployments/{id}/plan", tag = "deployments",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    request_body = NewPlan,
    responses(
        (status = 200, body = Plan),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    body: JsonBody<NewPlan>,
) -> Result<Json<Plan>, Problem> {
    let command = SetPlan::new(target(&id, &account)?, &body.value.plan, &api.app.plans)?;
    let view = api.app.set_plan(&actor, command).await?;
    Ok(Json(view.into()))
}
