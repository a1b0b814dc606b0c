//! `GET /deployments/{id}/logs`: what a bot writes, live from its host.
//!
//! Server-sent events by default, an event per line, closed by an event `end`; NDJSON for who asks for it. A reason in
//! the end says why there is less than was asked for. Nothing is stored: who hangs up cancels the question.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use launchpad_protocol::frame::{Answer, OutputStream};
use launchpad_protocol::reason;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Caller;
use super::deployments::{AccountQuery, target};
use super::problem::{Problem, ProblemBody};
use super::request::{PathOf, QueryOf};
use super::view::Reason;
use crate::app::logs::Answers;
use crate::command::LogsWanted;

/// How often a silent stream shows that it is alive: proxies cut a connection after a minute of silence.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The content type of JSON lines.
const NDJSON: &str = "application/x-ndjson";
/// The content type of server-sent events.
const EVENTS: &str = "text/event-stream";

/// What is wanted of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// Lines from the past, at most 10 000; 100 unless given.
    tail: Option<u32>,
    /// Whether to go on with new lines.
    #[serde(default)]
    follow: bool,
}

/// A line of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogLine {
    /// When the container engine took it.
    at_us: i64,
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// The text.
    line: String,
}

/// How the lines are written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Events,
    Lines,
}

/// What a bot writes. Lines come as they are written; the last event (or JSON line) is the end, with a reason if there
/// is less than was asked for.
#[utoipa::path(
    get, path = "/deployments/{id}/logs", tag = "deployments",
    params(("id" = String, Path, description = "The deployment's id, or its name"), LogsQuery, AccountQuery),
    responses(
        (status = 200, content((LogLine = "text/event-stream"), (LogLine = "application/x-ndjson"))),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn logs(
    State(api): State<Api>,
    Caller(actor): Caller,
    PathOf(id): PathOf<String>,
    QueryOf(account): QueryOf<AccountQuery>,
    QueryOf(query): QueryOf<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = LogsWanted::new(query.tail, query.follow)?;
    let answers = api.app.logs(&actor, &target(&id, &account)?, wanted).await?;
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = if accept.contains(NDJSON) { Form::Lines } else { Form::Events };
    let body = Body::from_stream(pieces(answers, form, api.stop));
    let kind = match form {
        Form::Events => EVENTS,
        Form::Lines => NDJSON,
    };
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, body).into_response())
}

/// The answer as bytes. Dropping the stream, as hyper does when the caller hangs up, drops the answers and so cancels
/// the question.
fn pieces(
    answers: Answers,
    form: Form,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    futures::stream::unfold(Some((answers, stop)), move |state| async move {
        let (mut answers, stop) = state?;
        // Cancel safe: `next` loses no line, and a heartbeat has nothing to lose.
        let piece = tokio::select! {
            piece = answers.next() => piece?,
            () = tokio::time::sleep(HEARTBEAT) => return Some((Ok(form.heartbeat()), Some((answers, stop)))),
            () = stop.cancelled() => Answer::End(Some(stopping())),
        };
        match piece {
            Answer::Line(line) => {
                let line = LogLine { at_us: line.at.micros(), stream: name(line.stream), line: line.text };
                Some((Ok(form.line(&line)), Some((answers, stop))))
            }
            Answer::End(reason) => Some((Ok(form.end(reason.map(Reason::from))), None)),
        }
    })
}

impl Form {
    fn line(self, line: &LogLine) -> Bytes {
        match self {
            Self::Events => format!("data: {}\n\n", text(line)).into(),
            Self::Lines => format!("{}\n", text(line)).into(),
        }
    }

    fn end(self, reason: Option<Reason>) -> Bytes {
        let end = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
        match self {
            Self::Events => format!("event: end\ndata: {end}\n\n").into(),
            Self::Lines => format!("{}\n", json!({ "end": end })).into(),
        }
    }

    /// A comment to one, an empty line to the other.
    fn heartbeat(self) -> Bytes {
        match self {
            Self::Events => Bytes::from_static(b":\n\n"),
            Self::Lines => Bytes::from_static(b"\n"),
        }
    }
}

fn text(line: &LogLine) -> String {
    // Two strings and a number are always JSON.
    serde_json::to_string(line).unwrap_or_default()
}

const fn name(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    }
}

fn stopping() -> reason::Reason {
    reason::Reason::new("coordinator-stops", "the coordinator stops").mend("ask again in a moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_event_whatever_it_holds() {
        let line = LogLine { at_us: 1, stream: "stdout", line: "a\nb: \u{1b}[0m".to_owned() };
        let event = Form::Events.line(&line);
        assert_eq!(&event[..], b"data: {\"at_us\":1,\"stream\":\"stdout\",\"line\":\"a\\nb: \\u001b[0m\"}\n\n");
        assert_eq!(Form::Lines.line(&line).iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn the_end_says_why_there_is_less() {
        assert_eq!(Form::Events.end(None), "event: end\ndata: {}\n\n");
        let end = Form::Lines.end(Some(stopping().into()));
        assert!(end.starts_with(b"{\"end\":{\"reason\":{\"code\":\"coordinator-stops\""), "{end:?}");
    }
}
