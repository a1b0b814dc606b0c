//! A coordinator that answers by a script, and the command run against it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

/// What the coordinator does with a request.
pub(crate) enum Reply {
    Json(u16, Value),
    /// A content type and a body.
    Text(&'static str, &'static str),
    /// Takes the request and hangs up.
    HangUp,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) key: Option<String>,
    pub(crate) body: String,
}

/// A coordinator that answers each request with the next reply of its script, and with the last one for ever.
pub(crate) struct Script {
    pub(crate) url: String,
    pub(crate) dir: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    pub(crate) fn of(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let mut replies: VecDeque<_> = replies.into_iter().collect();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                seen.lock().unwrap().push(request);
                answer(&mut stream, &replies[0]);
                if replies.len() > 1 {
                    replies.pop_front();
                }
            }
        });
        Self { url, dir: tempfile::tempdir().unwrap(), asked }
    }

    /// Runs the command, logged in here by its environment.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_launchpad"));
        command.args(words).env("LAUNCHPAD_URL", &self.url).env("LAUNCHPAD_TOKEN", "lp_1_2");
        command.env("LAUNCHPAD_CONFIG", self.dir.path().join("login.toml")).env("RUST_BACKTRACE", "1");
        command
    }

    /// The same with something on stdin.
    pub(crate) fn run_with(&self, words: &[&str], stdin: &str) -> Output {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A verb that reads nothing may be gone already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let (mut key, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "idempotency-key" => key = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { line: line.trim().to_owned(), key, body: String::from_utf8(body).unwrap() })
}

fn answer(stream: &mut TcpStream, reply: &Reply) {
    let (status, kind, body) = match reply {
        Reply::Json(status, value) => (*status, "application/json", value.to_string()),
        Reply::Text(kind, text) => (200, *kind, (*text).to_owned()),
        Reply::HangUp => return,
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n", body.len());
    // The command may have had enough already.
    let _ = write!(stream, "{head}connection: close\r\n\r\n{body}");
}
