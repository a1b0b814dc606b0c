//! Just enough HTTP/1.1 for probes and control: one request a connection, no bodies in, JSON or text out.
//!
//! `main` hands the listener over and never gets it back. A client that is slow, wrong or gone costs one thread
//! for at most `IO_TIMEOUT`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::control::Bot;

/// A probe answers in milliseconds; whoever needs longer than this to send a request is not one.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a request's head; ours are below 200.
const HEAD_LIMIT_BYTES: u64 = 8 * 1024;
/// Handlers use little stack, and thirty bots share one machine in the benchmark.
const STACK_BYTES: usize = 128 * 1024;

/// The part of a request that decides anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    query: String,
}

impl Request {
    /// The value of `name` in the query string, undecoded: values are numbers and plain words.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    /// A request as a client would send it.
    #[cfg(test)]
    pub(crate) fn new(method: &str, path: &str, query: &str) -> Self {
        Self { method: method.into(), path: path.into(), query: query.into() }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self { method: method.into(), path: path.into(), query: query.into() })
    }
}

/// What goes back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Answer for ever.
pub(crate) fn serve(listener: &TcpListener, bot: &Arc<Bot>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let bot = Arc::clone(bot);
        let answering = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // The client went away mid-request: its loss, and not worth a log line a probe.
            let _ = answer(stream, &bot);
        });
        if let Err(error) = answering {
            eprintln!("echo: no thread for a request: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, bot: &Bot) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut lines = BufReader::new((&stream).take(HEAD_LIMIT_BYTES)).lines();
    let request = lines.next().transpose()?.as_deref().and_then(Request::parse);
    // The rest of the head must be read: closing with unread bytes resets the connection under our answer.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let response = match request {
        Some(request) => bot.respond(&request),
        None => Response { status: 400, body: "{\"error\":\"not HTTP\"}".into() },
    };
    write!(
        stream,
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        response.status,
        reason(response.status),
        response.body.len(),
        response.body
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_yields_path_and_query() {
        let request = Request::parse("POST /log?lines=3&bytes=20 HTTP/1.1").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/log"));
        assert_eq!(
            (request.query("lines"), request.query("bytes"), request.query("b")),
            (Some("3"), Some("20"), None)
        );
    }

    #[test]
    fn a_line_without_a_target_is_no_request() {
        assert_eq!(Request::parse("GET"), None);
    }
}
