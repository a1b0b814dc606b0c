//! `/pki`: who signs for hosts, who holds what of it, and one issuing CA taking over from another. For staff.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::auth::Caller;
use super::problem::{Problem, ProblemBody};
use super::request::{IdempotencyKey, JsonBody};
use crate::app::pki::{self, CaRotationView, HostTrust, IssuerRole, IssuerView};
use crate::command::RotateCa;

/// Who signs for hosts, and who holds what of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pki {
    /// The roots that hosts are told to trust.
    roots: Vec<Root>,
    /// Every issuing CA that is remembered, the first one first.
    issuers: Vec<Issuer>,
    /// The latest rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<CaRotation>,
    /// Every host that was not revoked.
    hosts: Vec<HostCertificate>,
}

/// A root.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Root {
    /// SHA-256 of its certificate, `sha256:…`.
    id: String,
    /// In force until here.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after_us: Option<i64>,
}

/// An issuing CA.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Issuer {
    /// SHA-256 of its certificate, `sha256:…`.
    id: String,
    /// Its root.
    root: String,
    /// What it is for: signs, accepted (its hosts are let in) or ended.
    #[schema(value_type = String)]
    role: IssuerRole,
    /// In force until here.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after_us: Option<i64>,
    /// When it came.
    added_at_us: i64,
    /// When its hosts were shut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at_us: Option<i64>,
}

/// One issuing CA taking over from another.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CaRotation {
    /// `rot_…`.
    id: String,
    /// distribute, issue, retired or abandoned.
    phase: String,
    /// The CA before.
    old: String,
    /// The CA after.
    new: String,
    /// When it began.
    begun_at_us: i64,
    /// Since when it is in this phase.
    phase_at_us: i64,
}

/// What a host holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostCertificate {
    /// `host_…`.
    id: String,
    /// What people call it.
    name: String,
    /// Whether its session is open, at this coordinator.
    connected: bool,
    /// Who signed its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// Until when its newest certificate is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after_us: Option<i64>,
    /// Whether its certificate is of the CA that signs.
    has_certificate: bool,
    /// Whether it has told that it trusts the roots that it should.
    has_roots: bool,
}

/// One step of a rotation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The phase in which the rotation was seen: a step that was taken already is refused, and not taken twice.
    from: String,
    /// Back instead of on.
    #[serde(default)]
    back: bool,
}

impl From<pki::Pki> for Pki {
    fn from(pki: pki::Pki) -> Self {
        let root = |(id, not_after): (Digest, Option<Moment>)| Root {
            id: id.to_string(),
            not_after_us: not_after.map(Moment::micros),
        };
        Self {
            roots: pki.roots.into_iter().map(root).collect(),
            issuers: pki.issuers.into_iter().map(Issuer::from).collect(),
            rotation: pki.rotation.map(CaRotation::from),
            hosts: pki.hosts.into_iter().map(HostCertificate::from).collect(),
        }
    }
}

impl From<IssuerView> for Issuer {
    fn from(view: IssuerView) -> Self {
        Self {
            id: view.id.to_string(),
            root: view.root.to_string(),
            role: view.role,
            not_after_us: view.not_after.map(Moment::micros),
            added_at_us: view.added_at.micros(),
            ended_at_us: view.ended_at.map(Moment::micros),
        }
    }
}

impl From<CaRotationView> for CaRotation {
    fn from(view: CaRotationView) -> Self {
        Self {
            id: view.id.to_string(),
            phase: view.phase,
            old: view.old.to_string(),
            new: view.new.to_string(),
            begun_at_us: view.begun_at.micros(),
            phase_at_us: view.phase_at.micros(),
        }
    }
}

impl From<HostTrust> for HostCertificate {
    fn from(view: HostTrust) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            connected: view.connected,
            issuer: view.issuer.map(|issuer| issuer.to_string()),
            not_after_us: view.not_after.map(Moment::micros),
            has_certificate: view.has_certificate,
            has_roots: view.has_roots,
        }
    }
}

/// Who signs for hosts, how far a rotation of the issuing CA is, and which host holds what of it.
#[utoipa::path(
    get, path = "/pki", tag = "pki",
    responses(
        (status = 200, body = Pki),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn status(State(api): State<Api>, Caller(actor): Caller) -> Result<Json<Pki>, Problem> {
    Ok(Json(api.app.pki(&actor).await?.into()))
}

/// Moves a rotation of the issuing CA one phase on, or back. It begins on the machine that holds the root's key
/// (`launchpad-coordinator pki rotate`). Hosts follow within minutes, and no bot notices.
#[utoipa::path(
    post, path = "/pki/rotate", tag = "pki", params(IdempotencyKey), request_body = Step,
    responses(
        (status = 202, body = Pki),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    Caller(actor): Caller,
    key: IdempotencyKey,
    body: JsonBody<Step>,
) -> Result<(StatusCode, Json<Pki>), Problem> {
    let once = key.once(&body.bytes)?;
    let command = RotateCa::new(&body.value.from, body.value.back)?;
    let pki = api.app.rotate_ca(&actor, command, &once).await?;
    Ok((StatusCode::ACCEPTED, Json(pki.into())))
}
