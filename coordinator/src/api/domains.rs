//! `/deployments/{id}/domains`: the public names that lead to a bot, and the records that make them do so.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody, PathOf, QueryOf};
use super::view::{Items, Reason};
use crate::app::domains::DomainView;
use crate::command::{DomainRef, Page};
use crate::domain::dns_record;

/// A public name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Domain {
    /// The name.
    name: String,
    /// `own` (below the installation's domain), `claimed` (its owner has not proved it) or `verified`.
    state: &'static str,
    /// The TXT record that proves a claim. It stays: a verified domain is let go a week after it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<DnsRecord>,
    /// The records that lead it to the bot: the CNAME; or, for a name that cannot have one, all others.
    records: Vec<DnsRecord>,
    /// When it was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_at_us: Option<i64>,
    /// Since when the proof of a verified one is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_since_us: Option<i64>,
    /// When its proof was last looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at_us: Option<i64>,
    /// What was wrong then.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// A record in the domain name system.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DnsRecord {
    /// Under which name.
    name: String,
    /// `TXT`, `CNAME`, `A` or `AAAA`.
    #[serde(rename = "type")]
    kind: String,
    /// What it says.
    value: String,
}

/// A wish for a domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDomain {
    /// A host name of the caller's own: `www.example.com`.
    #[serde(default)]
    name: String,
}

/// A domain that was just claimed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClaimedDomain {
    /// The claim.
    #[serde(flatten)]
    domain: Domain,
    /// Whether the caller has to set the records; otherwise this installation has.
    by_hand: bool,
}

impl From<dns_record::DnsRecord> for DnsRecord {
    fn from(record: dns_record::DnsRecord) -> Self {
        Self { name: record.name, kind: record.kind.to_string(), value: record.value }
    }
}

impl From<DomainView> for Domain {
    fn from(view: DomainView) -> Self {
        let claim = view.claim.as_ref();
        let state = match claim {
            None => "own",
            Some(claim) if claim.is_verified() => "verified",
            Some(_) => "claimed",
        };
        let when = |moment: Option<Moment>| moment.map(Moment::micros);
        Self {
            state,
            verified_at_us: when(claim.and_then(|claim| claim.verified_at)),
            missing_since_us: when(claim.and_then(|claim| claim.missing_since)),
            checked_at_us: when(claim.and_then(|claim| claim.checked_at)),
            reason: view.claim.and_then(|claim| claim.trouble).map(Reason::from),
            name: view.name,
            proof: view.proof.map(DnsRecord::from),
            records: view.leading.into_iter().map(DnsRecord::from).collect(),
        }
    }
}

/// Lists the public names of a deployment, its own first: all of them, on one page.
#[utoipa::path(
    get, path = "/deployments/{id}/domains", tag = "domains",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery),
    responses(
        (status = 200, body = Items<Domain>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Items<Domain>>, Problem> {
    let items = api.app.domains(&actor, &target(&id, &account)?).await?;
    Ok(Json(Items::of(Page { items, next: None }, Domain::from)))
}

/// Claims a domain. It leads to the bot once the records that the answer lists are set and its proof was seen.
#[utoipa::path(
    post, path = "/deployments/{id}/domains", tag = "domains",
    params(("id" = String, Path, description = "The deployment's id, or its name"), AccountQuery, IdempotencyKey),
    request_body = NewDomain,
    responses(
        (status = 201, body = ClaimedDomain),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn claim(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
    body: JsonBody<NewDomain>,
) -> Result<(StatusCode, Json<ClaimedDomain>), Problem> {
    let once = key.once(&body.bytes)?;
    let wanted = DomainRef::new(target(&id, &account)?, &body.value.name)?;
    let claimed = api.app.claim_domain(&actor, wanted, &once).await?;
    let answer = ClaimedDomain { domain: claimed.domain.into(), by_hand: claimed.by_hand };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Looks for the proof of a claimed domain now. The answer says what was found.
#[utoipa::path(
    post, path = "/deployments/{id}/domains/{name}/verify", tag = "domains",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The domain"), AccountQuery, IdempotencyKey,
    ),
    responses(
        (status = 200, body = Domain),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn verify(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(account): QueryOf<AccountQuery>,
    key: IdempotencyKey,
) -> Result<Json<Domain>, Problem> {
    // Looking twice is no more than looking: the key need not be kept, only be one.
    key.once(&[])?;
    let view = api.app.verify_domain(&actor, &DomainRef::new(target(&id, &account)?, &name)?).await?;
    Ok(Json(view.into()))
}

/// Lets go of a domain: it does not lead to the bot any more, and others may claim it. Answers the names that are left.
#[utoipa::path(
    delete, path = "/deployments/{id}/domains/{name}", tag = "domains",
    params(
        ("id" = String, Path, description = "The deployment's id, or its name"),
        ("name" = String, Path, description = "The domain"), AccountQuery,
    ),
    responses(
        (status = 200, body = Items<Domain>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf((id, name)): PathOf<(String, String)>,
    QueryOf(account): QueryOf<AccountQuery>,
) -> Result<Json<Items<Domain>>, Problem> {
    let items = api.app.remove_domain(&actor, &DomainRef::new(target(&id, &account)?, &name)?).await?;
    Ok(Json(Items::of(Page { items, next: None }, Domain::from)))
}
