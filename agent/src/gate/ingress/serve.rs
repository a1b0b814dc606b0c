//! The directory's door: HTTP/1.1 on a loopback port, for Caddy alone.
//!
//! [`super::Ingress::run`] serves it. A port that somebody else holds is told and tried again; it never stops
//! the gate.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::directory::Answer;
use super::{Ingress, page};

/// [`super::config::UPSTREAM_HEADER`], as it travels.
const UPSTREAM: HeaderName = HeaderName::from_static("x-launchpad-upstream");
/// Connections at once: Caddy's look-ups have 64, and as many certificates may be asked about meanwhile.
const CONNECTIONS_MAX: usize = 256;
/// Bytes of one question's head: Caddy sends a name of 253 bytes at most, and three headers. hyper takes no
/// less.
const HEAD_MAX_BYTES: usize = 8 * 1024;
/// From one answer to the end of the next question's head: longer than Caddy keeps an idle connection.
const QUESTION_WITHIN: Duration = Duration::from_secs(90);
/// After the operating system refused a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the port.
///
/// # Errors
/// When somebody else has it, or the operating system refuses.
pub(super) async fn bind(address: SocketAddrV4) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers for ever. Cancel safe: questions that are being answered are dropped with it, and Caddy asks
/// again.
pub(super) async fn serve(listener: TcpListener, ingress: Ingress) -> Infallible {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // It is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((stream, _)) => {
                let ingress = ingress.clone();
                connections.spawn(async move {
                    converse(stream, ingress).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of Caddy's");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, question after question.
async fn converse(stream: TcpStream, ingress: Ingress) {
    // Each answer is one small segment, and Caddy waits for it.
    drop(stream.set_nodelay(true));
    let answers = service_fn(move |request: Request<Incoming>| {
        let answer = match *request.method() {
            Method::GET => {
                ingress.directory().answer(request.uri().path_and_query().map_or("", |whole| whole.as_str()))
            }
            _ => Answer::Misasked,
        };
        std::future::ready(Ok::<_, Infallible>(response(answer)))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(QUESTION_WITHIN).max_buf_size(HEAD_MAX_BYTES);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answers).await {
        tracing::debug!(%error, "a connection of Caddy's ended");
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Answer::Certify => (StatusCode::OK, String::new()),
        Answer::Forward(address) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            // An address is digits, dots and a colon.
            if let Ok(address) = HeaderValue::from_str(&address.to_string()) {
                response.headers_mut().insert(UPSTREAM, address);
            }
            return response;
        }
        Answer::Unknown(page) => (StatusCode::NOT_FOUND, page),
        Answer::Misasked => (StatusCode::BAD_REQUEST, String::new()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page::CONTENT_TYPE));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
