//! The HTTP server: accepts connections, hands them to the router, and lets go of them when it is told to stop.
//!
//! Written out instead of `axum::serve` for its bounds: a caller that dawdles over its headers is cut off, and so are
//! callers beyond the number that this process can hold.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a caller may take over its request's head. Ours send it in one packet.
const HEADER_READ: Duration = Duration::from_secs(10);
/// Connections at once: each holds about 30 KiB. Followers of logs keep theirs open.
const CONNECTIONS_MAX: usize = 2048;
/// How long requests in flight may take to end once the process has been told to stop; systemd waits for 90 s.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of file descriptors, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then until the requests in flight have ended, or [`DRAIN`] has.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    // Cancel safe: a place that was taken and not used is given back when its future is dropped, and `accept` loses no
    // connection.
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places)).await {
        match accepted {
            Ok((stream, place)) => {
                let connection = serve_connection(stream, router.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "HTTP requests were cut off: they took too long to end");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // A line of a followed log is small, and somebody waits for it. On a connection that is gone already it fails, and
    // the first read will say so better.
    stream.set_nodelay(true).ok();
    Ok((stream, place))
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A caller that hangs up mid-request is its own business: not worth a line in the log.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}
