//! Reading a request: axum's extractors, with every rejection turned into a [`Problem`].

use std::convert::Infallible;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::reason::Reason;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, Required};

use super::problem::Problem;
use crate::app::idempotency::{KEY_MAX_CHARS, Once};

/// The header of a caller's own name for a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Bytes of a request's body. A deployment's config and secrets are 256 KiB together, and JSON escapes lengthen them
/// sixfold at the worst; whoever sends a little too much should still be read to the end, and told by field.
pub(super) const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The body, read as JSON whatever its content type says: there is no other kind here.
#[derive(Debug)]
pub(super) struct JsonBody<T> {
    /// What it says.
    pub(super) value: T,
    /// Its bytes, for the digest of an idempotent request.
    pub(super) bytes: Bytes,
}

/// A path parameter or several.
#[derive(Debug)]
pub(super) struct PathOf<T>(pub(super) T);

/// The query string.
#[derive(Debug)]
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| unreadable(&error))?;
        // An empty body is an empty object: `POST /hosts/tokens` needs no field at all.
        let text = if bytes.is_empty() { b"{}" } else { &bytes[..] };
        let value = serde_json::from_slice(text).map_err(|error| {
            let mend = "send one JSON object with the fields that GET /openapi.json names";
            let problem = without_the_text(&error.to_string());
            Problem::bad_request(
                Reason::new("malformed-body", format!("the body does not fit: {problem}")).mend(mend),
            )
        })?;
        Ok(Self { value, bytes })
    }
}

/// A parser's complaint without the text that it found in the wrong place: it may be a secret.
fn without_the_text(problem: &str) -> String {
    const FOUND: &str = "string \"";
    match (problem.find(FOUND), problem.rfind("\", expected ")) {
        (Some(from), Some(to)) if from < to => format!("{}a text{}", &problem[..from], &problem[to + 1..]),
        _ => problem.to_owned(),
    }
}

fn unreadable(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let reason = Reason::new("body-too-large", format!("the body is longer than {BODY_MAX_BYTES} bytes"));
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, reason.mend("send a shorter config or fewer secrets"));
    }
    Problem::bad_request(Reason::new("unreadable-body", "the body ended early").mend("send it again"))
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::from_request_parts(parts, state).await.map_err(|error: PathRejection| {
            Problem::bad_request(Reason::new(
                "malformed-path",
                format!("the path does not fit: {}", error.body_text()),
            ))
        })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|error: QueryRejection| {
            let reason = Reason::new("malformed-query", format!("the query does not fit: {}", error.body_text()));
            Problem::bad_request(reason.mend("GET /openapi.json names the parameters of each path"))
        })?;
        Ok(Self(value))
    }
}

/// The `Idempotency-Key` of a request that changes something, and what makes the request the one that it is.
#[derive(Debug)]
pub(super) struct IdempotencyKey {
    key: Option<HeaderValue>,
    /// Method, path and query: whatever follows is the body.
    head: String,
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let key = parts.headers.get(IDEMPOTENCY_KEY).cloned();
        Ok(Self { key, head: format!("{} {}\n", parts.method, parts.uri) })
    }
}

impl IdempotencyKey {
    /// The request's claim to take effect once.
    pub(super) fn once(&self, body: &[u8]) -> Result<Once, Problem> {
        let Some(key) = &self.key else { return Ok(Once::unclaimed()) };
        let request = Digest::of(&[self.head.as_bytes(), body].concat());
        Once::claimed(key.to_str().unwrap_or_default(), request).map_err(Problem::bad_request)
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(KEY_MAX_CHARS)).build();
        let parameter = ParameterBuilder::new()
            .name(IDEMPOTENCY_KEY)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("A key of the caller's choice: sent again with it, the request takes effect once."))
            .schema(Some(text))
            .build();
        vec![parameter]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        for body in [r#""hunter2""#, r#"{"secrets": "hunter2\", expected hunter2"}"#] {
            let error = serde_json::from_str::<BTreeMap<String, BTreeMap<String, String>>>(body).unwrap_err();
            let told = without_the_text(&error.to_string());
            assert!(!told.contains("hunter2") && told.contains("a text, expected a map"), "{told}");
        }
        assert_eq!(
            without_the_text("unknown field `colour`, expected `name`"),
            "unknown field `colour`, expected `name`"
        );
    }
}
