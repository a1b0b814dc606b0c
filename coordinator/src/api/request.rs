//! Reading a request: axum's extractors, with every rejection turned into a [`Problem`].

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use launchpad_protocol::reason::Reason;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Bytes of a request's body. A deployment with all its sealed files at their limit is 2 MiB, and JSON escapes
/// lengthen them.
pub const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The body, read as JSON whatever its content type says: there is no other kind here.
#[derive(Debug)]
pub struct JsonBody<T> {
    /// What it says.
    pub value: T,
    /// Its bytes, for the digest of an idempotent request.
    pub bytes: Bytes,
}

/// A path parameter or several.
#[derive(Debug)]
pub struct PathOf<T>(pub T);

/// The query string.
#[derive(Debug)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| unreadable(&error))?;
        // An empty body is an empty object: `POST /hosts/tokens` needs no field at all.
        let text = if bytes.is_empty() { b"{}" } else { &bytes[..] };
        let value = serde_json::from_slice(text).map_err(|error| {
            let mend = "send one JSON object with the fields that GET /openapi.json names";
            Problem::bad_request(Reason::new("malformed-body", format!("the body does not fit: {error}")).mend(mend))
        })?;
        Ok(Self { value, bytes })
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
            Problem::bad_request(Reason::new("malformed-path", format!("the path does not fit: {}", error.body_text())))
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
