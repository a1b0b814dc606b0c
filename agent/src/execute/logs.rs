//! What a bot wrote: asked of Docker, cut into bounded lines.
//!
//! `docker.rs` calls [`answer`] for a question of the coordinator's, and `sight.rs` [`tail`] for the last
//! words of a container that failed. Memory stays bounded whatever a bot writes: a line is cut at
//! [`LOG_LINE_MAX_BYTES`], and nothing is read ahead of whoever listens.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt as _;
use launchpad_protocol::frame::{Answer, LogLine, OutputStream};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::limits::{LOG_LINE_MAX_BYTES, LOG_TAIL_MAX_LINES};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::OUTPUT_TAIL_BYTES;
use launchpad_protocol::time::Moment;
use tokio::sync::mpsc;

use super::docker::DockerHost;
use super::engine::{CALL_TIMEOUT, Engine};
use super::inspect::{self, moment};

/// Lines among which the last words of a container are looked for. A pattern's line is rarely the very last,
/// and rarely further up than this.
const LAST_LINES: u32 = 64;

/// What ends a line that was cut.
const CUT: &str = " … (cut)";

/// Sends an instance's output, then the end.
pub async fn answer(
    host: &DockerHost,
    deployment: DeploymentId,
    tail: u32,
    follow: bool,
    pieces: &mpsc::Sender<Answer>,
) {
    let end = send(host, deployment, tail, follow, pieces).await.err();
    // Nobody listens any more: there is nobody to tell.
    let _ = pieces.send(Answer::End(end)).await;
}

async fn send(
    host: &DockerHost,
    deployment: DeploymentId,
    tail: u32,
    follow: bool,
    pieces: &mpsc::Sender<Answer>,
) -> Result<(), Reason> {
    let present = inspect::list(&host.engine, host.id, Some(deployment)).await.map_err(|e| e.reason().clone())?;
    let newest = present.into_iter().max_by_key(|found| found.created).and_then(|found| found.id);
    let id = newest.ok_or_else(|| Reason::new("no-output", format!("{deployment} has no container on this host")))?;
    let client = host.engine.client().await.map_err(|error| error.reason().clone())?;
    let options = LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        tail: tail.min(LOG_TAIL_MAX_LINES).to_string(),
        ..LogsOptions::default()
    };
    let mut output = client.logs(&id, Some(options));
    let mut lines = Lines::default();
    loop {
        let next = tokio::select! {
            next = output.next() => next,
            () = pieces.closed() => return Ok(()),
        };
        let Some(piece) = next else { break };
        let piece = piece.map_err(|error| host.engine.failed("read the output", &error).reason().clone())?;
        for line in lines.feed(&piece) {
            if pieces.send(Answer::Line(line)).await.is_err() {
                return Ok(());
            }
        }
    }
    for line in lines.rest() {
        if pieces.send(Answer::Line(line)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The last words of a container, at most [`OUTPUT_TAIL_BYTES`]; what could be read of them when Docker
/// stumbles, as over a log file that somebody has truncated.
pub async fn tail(engine: &Engine, id: &str) -> String {
    let Ok(client) = engine.client().await else { return String::new() };
    let options = LogsOptions { stdout: true, stderr: true, tail: LAST_LINES.to_string(), ..LogsOptions::default() };
    let mut output = client.logs(id, Some(options));
    let mut last: Vec<u8> = Vec::with_capacity(2 * OUTPUT_TAIL_BYTES);
    while let Ok(Some(Ok(piece))) = tokio::time::timeout(CALL_TIMEOUT, output.next()).await {
        last.extend_from_slice(piece.as_ref());
        let excess = last.len().saturating_sub(OUTPUT_TAIL_BYTES);
        last.drain(..excess);
    }
    String::from_utf8_lossy(&last).into_owned()
}

/// Puts the pieces of a line together again: Docker's pieces end where its buffer did.
#[derive(Debug, Default)]
struct Lines {
    stdout: Line,
    stderr: Line,
}

#[derive(Debug, Default)]
struct Line {
    at: Option<Moment>,
    text: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn feed(&mut self, piece: &LogOutput) -> Vec<LogLine> {
        let stream = match piece {
            LogOutput::StdErr { .. } => OutputStream::Stderr,
            LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => OutputStream::Stdout,
        };
        let line = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let mut done = Vec::new();
        for part in piece.as_ref().split_inclusive(|byte| *byte == b'\n') {
            let text = line.without_time(part.strip_suffix(b"\n").unwrap_or(part));
            line.add(text);
            if part.ends_with(b"\n") {
                done.push(line.take(stream));
            }
        }
        done
    }

    /// What a process wrote last without ending the line.
    fn rest(&mut self) -> Vec<LogLine> {
        let stdout = (!self.stdout.text.is_empty()).then(|| self.stdout.take(OutputStream::Stdout));
        let stderr = (!self.stderr.text.is_empty()).then(|| self.stderr.take(OutputStream::Stderr));
        stdout.into_iter().chain(stderr).collect()
    }
}

impl Line {
    /// Docker writes the time before every piece, also before one that goes on with a line.
    fn without_time<'a>(&mut self, part: &'a [u8]) -> &'a [u8] {
        let space = part.iter().position(|byte| *byte == b' ');
        let (front, rest) = space.map_or((part, &part[..0]), |at| (&part[..at], &part[at + 1..]));
        match std::str::from_utf8(front).ok().and_then(moment) {
            Some(at) => {
                self.at.get_or_insert(at);
                rest
            }
            None => part,
        }
    }

    fn add(&mut self, text: &[u8]) {
        let room = LOG_LINE_MAX_BYTES.saturating_sub(self.text.len());
        self.cut |= text.len() > room;
        self.text.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn take(&mut self, stream: OutputStream) -> LogLine {
        let Self { at, text, cut } = std::mem::take(self);
        let text = text.strip_suffix(b"\r").unwrap_or(&text);
        let mut text = String::from_utf8_lossy(text).into_owned();
        if cut {
            text.push_str(CUT);
        }
        LogLine { at: at.unwrap_or_default(), stream, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    #[test]
    fn a_line_in_pieces_is_one_line_with_the_time_of_its_first() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(&out("2026-11-22T14:00:00.5Z hel")), []);
        let whole = lines.feed(&out("2026-11-22T14:00:01Z lo\n2026-11-22T14:00:02Z \n"));
        let texts: Vec<&str> = whole.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["hello", ""]);
        assert_eq!(Some(whole[0].at), moment("2026-11-22T14:00:00.5Z"));
    }

    #[test]
    fn two_streams_do_not_mix_and_the_last_line_needs_no_end() {
        let mut lines = Lines::default();
        lines.feed(&out("2026-11-22T14:00:00Z one"));
        lines.feed(&LogOutput::StdErr { message: "2026-11-22T14:00:00Z two".into() });
        let rest: Vec<(OutputStream, String)> =
            lines.rest().into_iter().map(|line| (line.stream, line.text)).collect();
        assert_eq!(rest, [(OutputStream::Stdout, "one".to_owned()), (OutputStream::Stderr, "two".to_owned())]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let mut lines = Lines::default();
        for _ in 0..10 {
            lines.feed(&out(&format!("2026-11-22T14:00:00Z {}", "x".repeat(LOG_LINE_MAX_BYTES / 4))));
        }
        let line = lines.feed(&out("2026-11-22T14:00:00Z end\n")).remove(0);
        assert!(line.text.len() == LOG_LINE_MAX_BYTES + CUT.len() && line.text.ends_with(CUT));
    }
}
