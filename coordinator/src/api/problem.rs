//! How the API says no: `application/problem+json` (RFC 9457), made from a [`Reason`].
//!
//! ```text
//! {"type": "urn:launchpad:name-taken", "title": "name taken", "status": 409,
//!  "detail": "the name `web` is taken", "cause": …, "mend": …, "errors": [{"field", "problem", "mend"}]}
//! ```
//! The type's last part is the reason's stable code; `detail` is its sentence. Every answer that is not 2xx has this
//! shape, those of the router included. What went wrong inside is logged here, once, and never told to the caller.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use launchpad_protocol::reason::Reason;
use serde::Serialize;
use utoipa::ToSchema;

use crate::command::{FieldProblem, FieldProblems};

/// The start of every problem's type.
const TYPE_PREFIX: &str = "urn:launchpad:";

/// An answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    reason: Reason,
    errors: Vec<FieldProblem>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// A problem as it travels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
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
    #[must_use]
    pub const fn new(status: StatusCode, reason: Reason) -> Self {
        Self { status, reason, errors: Vec::new(), header: None }
    }

    /// The request cannot be read.
    #[must_use]
    pub const fn bad_request(reason: Reason) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// Nobody is signed in: RFC 9110 §11.6.1 wants the challenge.
    #[must_use]
    pub fn unauthorized(reason: Reason) -> Self {
        let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"launchpad\""));
        Self { header: Some(challenge), ..Self::new(StatusCode::UNAUTHORIZED, reason) }
    }

    /// The same, with a header of its own.
    #[must_use]
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    fn body(self) -> ProblemBody {
        ProblemBody {
            kind: format!("{TYPE_PREFIX}{}", self.reason.code),
            title: self.reason.code.replace('-', " "),
            status: self.status.as_u16(),
            detail: self.reason.sentence,
            cause: self.reason.cause,
            mend: self.reason.mend,
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, header) = (self.status, self.header.clone());
        let mut response = (status, Json(self.body())).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
