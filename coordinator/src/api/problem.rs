//! How the API says no: `application/problem+json` (RFC 9457), made from a [`Reason`].
//!
//! ```text
//! {"type": "urn:launchpad:name-taken", "title": "name taken", "status": 409,
//!  "detail": "the name `web` is taken", "cause": …, "mend": …, "errors": [{"field", "problem", "mend"}]}
//! ```
//! The type's last part is the reason's stable code; `detail` is its sentence. Every answer that is not 2xx has this
//! shape, those of the router included. What went wrong inside is logged here, once, and never told to the caller.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use launchpad_protocol::reason::Reason;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::AppError;
use crate::command::{FieldProblem, FieldProblems};
use crate::domain::refusal::{Refusal, RefusalKind};

/// The start of every problem's type.
const TYPE_PREFIX: &str = "urn:launchpad:";

/// An answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    reason: Box<Reason>,
    errors: Vec<FieldProblem>,
}

/// A problem as it travels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// `urn:launchpad:` and the reason's code.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status again.
    status: u16,
    /// What is so, in one sentence.
    detail: String,
    /// What brought it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What the caller can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// Every bad field of the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
}

impl Problem {
    /// A problem of that status.
    pub(super) fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reason: Box::new(reason), errors: Vec::new() }
    }

    /// The request cannot be read.
    pub(super) fn bad_request(reason: Reason) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Nobody is signed in.
    pub(super) fn unauthorized(reason: Reason) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, reason)
    }

    fn body(self) -> ProblemBody {
        let Reason { code, sentence, cause, mend } = *self.reason;
        ProblemBody {
            kind: format!("{TYPE_PREFIX}{code}"),
            title: code.replace('-', " "),
            status: self.status.as_u16(),
            detail: sentence,
            cause,
            mend,
            errors: self.errors,
        }
    }
}

impl From<FieldProblems> for Problem {
    fn from(problems: FieldProblems) -> Self {
        let sentence = match problems.0.len() {
            1 => "one field is not right".to_owned(),
            many => format!("{many} fields are not right"),
        };
        let reason = Reason::new("invalid-fields", sentence).mend("correct what `errors` lists and send it again");
        Self { errors: problems.0, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Impossible => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.reason)
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        if error.is_race() {
            let reason = Reason::new("raced", "somebody else changed it at the same moment").mend("send it again");
            return Self::new(StatusCode::CONFLICT, reason);
        }
        match error {
            AppError::Refused(refusal) => refusal.into(),
            error @ (AppError::Store(_) | AppError::Files(_) | AppError::NoEntropy(_)) => {
                tracing::error!(error = crate::sentence(&error), "a request failed inside");
                let reason = Reason::new("internal", "the coordinator could not carry the request out")
                    .mend("send it again with the same Idempotency-Key; its log says what is wrong");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.body())).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1: whoever is not let in is told how to knock.
            let challenge = HeaderValue::from_static("Bearer realm=\"launchpad\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
