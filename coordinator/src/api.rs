//! The HTTP API: one file per resource; each handler decodes, makes a command, calls `app`, and shows a view.
//!
//! ```text
//!   request ─► auth (who) ─► request (what) ─► command (is it right) ─► app ─► view ─► JSON
//!                 └───────────────┴──────────────────┴───────────────────┴──► problem+json
//! ```
//! The routes and the OpenAPI document are one list ([`openapi`]): a path cannot be served and not described. Nothing
//! here decides who may do what, and nothing here sees the store.

pub mod openapi;

mod auth;
mod contract;
mod crowd;
mod problem;
mod request;
mod serve;
mod view;

#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod deployments;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod domains;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod egress;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod failover;
mod health;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod hosts;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod keys;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod logs;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod pki;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod plan;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod recovery;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod secrets;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod snapshots;
#[allow(unused_qualifications, reason = "utoipa's macros write them")]
mod upgrades;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use launchpad_protocol::reason::Reason;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;

use crowd::Crowd;
use problem::Problem;

/// How long a request may take until its answer begins: the store answers within milliseconds, and gives up waiting
/// for a lock or a connection after 5 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What every handler gets.
#[derive(Debug, Clone)]
struct Api {
    app: App,
    /// Ends streams that would go on for ever.
    stop: CancellationToken,
}

/// Serves the API until `stop`.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: CancellationToken) {
    serve::serve(listener, router(Api { app, stop: stop.clone() }), stop).await;
}

/// The API as a service.
fn router(api: Api) -> Router {
    let (routes, _) = openapi::routes().split_for_parts();
    let crowd = Crowd::default();
    routes
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(in_time))
        .layer(from_fn(move |request, next| crowd.clone().admit(request, next)))
        .layer(from_fn(close_over_unread_bodies))
        .layer(DefaultBodyLimit::max(request::BODY_MAX_BYTES))
        .with_state(api)
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let sentence = format!("the request was not answered within {} s", REQUEST_TIMEOUT.as_secs());
            let mend = "send it again with the same Idempotency-Key: it takes effect once";
            Problem::new(StatusCode::GATEWAY_TIMEOUT, Reason::new("too-slow", sentence).mend(mend)).into_response()
        }
    }
}

/// Says `Connection: close` where the answer came before the whole request was read, as a refusal's may: hyper closes
/// such a connection, and a caller that was not told would send its next request into it.
async fn close_over_unread_bodies(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let unread = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&unread);
    let end = futures::stream::poll_fn(move |_| {
        seen.store(false, Ordering::Relaxed);
        Poll::Ready(None)
    });
    let mut response = next.run(request.map(|body| Body::from_stream(body.into_data_stream().chain(end)))).await;
    if unread.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn no_such_path(State(_): State<Api>, uri: Uri) -> Problem {
    let reason = Reason::new("no-such-path", format!("there is nothing at {}", uri.path()));
    Problem::new(StatusCode::NOT_FOUND, reason.mend("GET /openapi.json lists every path"))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let reason = Reason::new("no-such-method", format!("{} does not take {method}", uri.path()));
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, reason.mend("GET /openapi.json lists every path and its methods"))
}
