//! Caddy at work: whether it answers on its admin socket, and whether its configuration is ours.
//!
//! ```text
//!            answers, ours                answers, another's ─► POST /load ─┬─ taken ──► ours
//! look ──────────────────────► ours                                         └─ not ────► refused
//!  ▲ └─ does not answer ─► away
//!  └── every second
//! ```
//! Looking changes nothing: a configuration that is ours is never pushed again, because each push closes
//! every WebSocket. Nobody starts Caddy here; its unit does, with the file that is kept in place here.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use launchpad_protocol::reason::Reason;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::options::IngressArgs;
use crate::disk;

/// Between two looks: what broke is told, and what was changed is put right, within it.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For one look: Caddy answers from memory.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// For one push: Caddy lets open requests finish for 5 s before it takes up a new configuration.
const LOAD_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of an answer: ours has a tenth of that, and whatever has more is not ours.
const ANSWER_MAX_BYTES: usize = 128 * 1024;

/// How Caddy stands, as it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It answers, and does what we told it.
    Ours,
    /// It does not answer.
    Away(String),
    /// It answers, and does not take our configuration; in its own words.
    Refused(String),
}

impl Standing {
    /// Why no public name leads anywhere, if so.
    #[must_use]
    pub fn fault(&self, args: &IngressArgs) -> Option<Reason> {
        match self {
            Self::Ours => None,
            Self::Away(cause) => {
                let file = args.caddy_config.display();
                let reason = Reason::new("caddy-away", "Caddy does not answer, so no public name leads to a bot");
                Some(reason.because(cause).mend(format!(
                    "start it, or look why it ends: caddy run --config {file}; all that waits for it goes on by itself"
                )))
            }
            Self::Refused(words) => {
                let reason = Reason::new("caddy-refused", "Caddy does not take our configuration");
                Some(reason.because(words).mend(format!(
                    "free what it names; it listens on {} and {}, unless the gate is told otherwise",
                    args.ingress_http, args.ingress_https
                )))
            }
        }
    }
}

/// Looks once, and puts right what is not ours.
pub(super) async fn look(admin: &Path, ours: &Value) -> Standing {
    match ask(admin, Method::GET, "/config/", Bytes::new(), LOOK_WITHIN).await {
        Ok((StatusCode::OK, body)) if serde_json::from_slice::<Value>(&body).is_ok_and(|seen| seen == *ours) => {
            Standing::Ours
        }
        Ok(_) => push(admin, ours).await,
        Err(cause) => Standing::Away(cause),
    }
}

async fn push(admin: &Path, ours: &Value) -> Standing {
    tracing::warn!("Caddy has another configuration; it is given ours, which closes open WebSockets");
    let body = Bytes::from(ours.to_string());
    match ask(admin, Method::POST, "/load", body, LOAD_WITHIN).await {
        Ok((StatusCode::OK, _)) => Standing::Ours,
        Ok((status, body)) => Standing::Refused(words(status, &body)),
        Err(cause) => Standing::Away(cause),
    }
}

/// What Caddy says against it: `{"error": "…"}`.
fn words(status: StatusCode, body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let said = said.as_ref().and_then(|said| said["error"].as_str());
    said.map_or_else(|| format!("status {}", status.as_u16()), str::to_owned)
}

/// One request on a connection of its own: a Caddy that was restarted meanwhile is met afresh.
async fn ask(
    admin: &Path,
    method: Method,
    path: &str,
    body: Bytes,
    within: Duration,
) -> Result<(StatusCode, Bytes), String> {
    match timeout(within, exchange(admin, method, path, body)).await {
        Ok(answered) => answered,
        Err(_) => Err(format!("{}: no answer within {within:?}", admin.display())),
    }
}

async fn exchange(admin: &Path, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
    let broken = |error: &dyn std::fmt::Display| format!("{}: {error}", admin.display());
    let stream = UnixStream::connect(admin).await.map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // This Caddy refuses any name as Host on a unix socket, `localhost` too; an empty one is right (RFC 9110,
    // 7.2).
    let request = Request::builder().method(method).uri(path).header(HOST, "").header(CONNECTION, "close");
    let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body));
    let request = request.map_err(|error| broken(&error))?;
    let conversation = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
        // Cut short, it is not ours, whatever it is.
        Ok((status, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
    };
    // The connection has to be driven beside the conversation; when that has its answer, both are dropped.
    tokio::pin!(conversation, connection);
    tokio::select! {
        answer = &mut conversation => answer,
        ended = &mut connection => match ended {
            Ok(()) => conversation.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

/// Keeps the file that Caddy's unit starts with. Its directory is made; both may be read by everybody, since
/// Caddy has a user of its own and nothing in them is secret.
///
/// # Errors
/// When the operating system refuses, in its words.
pub(super) fn keep_file(path: &Path, ours: &Value) -> Result<(), String> {
    let content = format!("{ours:#}\n");
    match std::fs::read(path) {
        Ok(seen) if seen == content.as_bytes() => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    disk::publish(path, content.as_bytes()).map_err(|error| error.to_string())
}
