//! How many requests are answered at a time: more are told when to come again, before anything is done for them.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use launchpad_protocol::reason::Reason;
use tokio::sync::Semaphore;

use super::problem::Problem;

/// Requests under way at a time, streams not counted once they flow: each may hold a body of a few hundred KiB, and the
/// store answers some thousand a second.
const REQUESTS_MAX: usize = 256;

/// When whoever was turned away may come again: long after those before them are done.
const COME_AGAIN_S: HeaderValue = HeaderValue::from_static("1");

/// The turns.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Semaphore>);

impl Default for Crowd {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REQUESTS_MAX)))
    }
}

impl Crowd {
    /// Passes a request on if it has a turn, until its answer begins.
    pub(super) async fn admit(self, request: Request, next: Next) -> Response {
        match self.0.try_acquire() {
            Ok(_turn) => next.run(request).await,
            Err(_) => too_many(),
        }
    }
}

fn too_many() -> Response {
    let reason = Reason::new("too-busy", format!("{REQUESTS_MAX} requests are being answered at this moment"))
        .mend("send it again after the seconds in Retry-After, with the same Idempotency-Key");
    let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    response.headers_mut().insert(RETRY_AFTER, COME_AGAIN_S);
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn who_finds_no_turn_is_told_when_to_come_again() {
        let crowd = Crowd::default();
        let taken = Arc::clone(&crowd.0).acquire_many_owned(u32::try_from(REQUESTS_MAX).unwrap()).await.unwrap();
        let admit = move |request, next| crowd.clone().admit(request, next);
        let app = Router::new().route("/", get(async || "here")).layer(from_fn(admit));
        let ask = async || app.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        let refused = ask().await;
        assert_eq!((refused.status().as_u16(), refused.headers()[RETRY_AFTER].to_str().unwrap()), (503, "1"));
        drop(taken);
        assert_eq!(ask().await.status().as_u16(), 200);
    }
}
