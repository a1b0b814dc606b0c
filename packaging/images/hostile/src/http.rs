//! Just enough HTTP/1.1 for probes and orders: one request a connection, no bodies in, JSON out.
//!
//! `main` hands the listener over and never gets it back. A client that is slow or gone costs one thread for
//! at most `IO_TIMEOUT`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::place::Place;
use crate::{attack, runner};

/// A probe answers in milliseconds; whoever needs longer than this to send a request is not one.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a request's head; ours are below 200.
const HEAD_LIMIT_BYTES: u64 = 8 * 1024;
/// Handlers use little stack, and a bot has few megabytes.
const STACK_BYTES: usize = 128 * 1024;

/// Answers for ever.
pub(crate) fn serve(listener: &TcpListener, place: &Arc<Place>) -> ! {
    loop {
        // A client that went away before it was accepted: the next one.
        let Ok((stream, _)) = listener.accept() else { continue };
        let place = Arc::clone(place);
        let answering = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // The client went away in the middle: its loss.
            let _ = answer(stream, &place);
        });
        if let Err(error) = answering {
            eprintln!("hostile: no thread for a request: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, place: &Place) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut lines = BufReader::new((&stream).take(HEAD_LIMIT_BYTES)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the head must be read: closing with unread bytes resets the connection under our answer.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = respond(&request, place);
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Status line and body for a request line.
fn respond(request: &str, place: &Place) -> (&'static str, String) {
    let words: Vec<&str> = request.split_ascii_whitespace().collect();
    match words[..] {
        ["GET", "/healthz" | "/startupz" | "/readyz", _] => ("200 OK", r#"{"ok":true}"#.to_owned()),
        ["GET", "/attacks", _] => json(&attack::catalogue(place)),
        ["POST", path, _] => {
            let name = path.strip_prefix("/attack/").unwrap_or_default();
            match attack::catalogue(place).into_iter().find(|entry| entry.name == name) {
                Some(entry) => json(&runner::run(place, entry)),
                None => nothing_there(),
            }
        }
        _ => nothing_there(),
    }
}

fn json(value: &impl serde::Serialize) -> (&'static str, String) {
    match serde_json::to_string(value) {
        Ok(text) => ("200 OK", text),
        Err(error) => ("500 Internal Server Error", format!("{{\"error\":{:?}}}", error.to_string())),
    }
}

fn nothing_there() -> (&'static str, String) {
    ("404 Not Found", r#"{"error":"no such path"}"#.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> &'static str {
        respond(request, &Place::from_env().unwrap()).0
    }

    #[test]
    fn probes_and_the_catalogue_answer_and_other_paths_do_not() {
        assert_eq!(status("GET /readyz HTTP/1.1"), "200 OK");
        assert_eq!(status("GET /attacks HTTP/1.1"), "200 OK");
        for request in
            ["POST /attack/rain HTTP/1.1", "POST /attack/ HTTP/1.1", "GET /attack/mount HTTP/1.1", "", "GET"]
        {
            assert_eq!(status(request), "404 Not Found", "{request}");
        }
    }
}
