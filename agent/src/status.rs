//! The other end of the local socket: `launchpad-agent status`, `ps`, `why` and whatever else the running agent is asked.
//!
//! `main.rs` calls [`carry_out`], which [`ask`]s and prints what [`table`] or `text.rs` make of the answer, or its JSON.
//! Asking blocks, because it is all that the process does; drawing is pure.

mod text;

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use launchpad_protocol::enforcement::{Enforcement, Verdict};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, HostReport, InstanceReport, Phase};

use crate::config::local::{BotArgs, LocalArgs, LocalCommand, Output};
use crate::local::{Request, Response, SOCKET, Status};

/// How long the agent may take: it gives its own exchanges up sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Bytes of an answer: a report of a full host has about one MiB.
const ANSWER_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What stands in a table where there is nothing.
const NOTHING: &str = "-";

/// Asks the running agent what the command line says, and prints what comes back.
///
/// # Errors
/// What the agent refuses, or why it does not answer.
pub fn carry_out(command: &LocalCommand, out: &mut impl Write) -> Result<(), Reason> {
    let by_bot = |args: &BotArgs, request: fn(String) -> Request| (args.local.clone(), request(args.bot.clone()));
    let (at, request) = match command {
        LocalCommand::Status(at) => (at.clone(), Request::Status),
        LocalCommand::Ps(at) => (at.clone(), Request::Ps),
        LocalCommand::Plan(at) => (at.clone(), Request::Plan),
        LocalCommand::Why(args) => by_bot(args, |bot| Request::Why { bot }),
        LocalCommand::Stop(args) => by_bot(args, |bot| Request::Stop { bot }),
        LocalCommand::Start(args) => by_bot(args, |bot| Request::Start { bot }),
        LocalCommand::Restart(args) => by_bot(args, |bot| Request::Restart { bot }),
        LocalCommand::Spec { bot, local } => (local.clone(), Request::Spec { bot: bot.clone() }),
        LocalCommand::Logs { of, tail, follow } => {
            let request = Request::Logs { bot: of.bot.clone(), tail: *tail, follow: *follow };
            return read_log(&of.local, &request, out);
        }
    };
    let response = ask(&at.run_dir, &request)?;
    if let Response::Refused { reason } = response {
        return Err(reason);
    }
    print(&response, at.output, out);
    Ok(())
}

/// To stdout. Whoever closes it early (`| head`) has read enough.
fn print(response: &Response, output: Output, out: &mut impl Write) {
    let text = match output {
        Output::Json => text::json(response),
        Output::Table => text::of(response),
    };
    let _ = out.write_all(text.as_bytes());
}

/// Prints a log for as long as it comes.
fn read_log(at: &LocalArgs, request: &Request, out: &mut impl Write) -> Result<(), Reason> {
    let socket = at.run_dir.join(SOCKET);
    let lines = send(&socket, request).map_err(|error| unanswered(&socket, &error))?;
    // Nothing may come for days, and a line is as long as the agent makes it.
    let _ = lines.get_ref().set_read_timeout(None);
    for line in lines.lines() {
        let response = line.and_then(|line| Ok(serde_json::from_str(&line)?));
        match response.map_err(|error| unanswered(&socket, &error))? {
            Response::End { reason } => return reason.map_or(Ok(()), Err),
            Response::Refused { reason } => return Err(reason),
            line @ (Response::Line { .. }
            | Response::Status(_)
            | Response::Bots { .. }
            | Response::Why(_)
            | Response::Spec { .. }
            | Response::Evicting { .. }
            | Response::Done { .. }) => {
                let text = if at.output == Output::Json { text::line(&line) } else { text::of(&line) };
                if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
                    return Ok(());
                }
            }
        }
    }
    let away = io::Error::from(io::ErrorKind::UnexpectedEof);
    Err(unanswered(&socket, &away))
}

/// Asks the running agent.
///
/// # Errors
/// When no agent runs there, or it does not answer: in one line, with what mends it.
pub fn ask(run_dir: &Path, request: &Request) -> Result<Response, Reason> {
    let socket = run_dir.join(SOCKET);
    exchange(&socket, request).map_err(|error| unanswered(&socket, &error))
}

fn unanswered(socket: &Path, error: &io::Error) -> Reason {
    let (at, kind) = (socket.display(), error.kind());
    if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        Reason::new("agent-not-running", format!("no agent answers at {at}"))
            .mend("start it (launchpad-agent run), or name the --run-dir with which it was started")
    } else if kind == io::ErrorKind::PermissionDenied {
        Reason::new("not-root", format!("only root may talk to the agent at {at}")).mend("run the command as root")
    } else {
        Reason::new("agent-silent", format!("the agent at {at} did not answer"))
            .because(error.to_string())
            .mend("look at its log (journalctl -u launchpad-agent)")
    }
}

fn exchange(socket: &Path, request: &Request) -> io::Result<Response> {
    let mut answer = String::new();
    send(socket, request)?.take(ANSWER_MAX_BYTES).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn send(socket: &Path, request: &Request) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(BufReader::new(stream))
}

/// The status for people.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut facts = vec![
        ("host", format!("{} ({})", status.name, status.host)),
        ("agent", format!("{}, pid {}", status.agent_version, status.pid)),
        ("link", status.link.to_string()),
    ];
    if let Some(expires) = status.certificate_expires {
        facts.push(("certificate", format!("in force until {expires}")));
    }
    match &status.report {
        None => facts.push(("spec", "the host has not been observed yet".to_owned())),
        Some(report) => {
            facts.push(("spec", spec(report)));
            facts.extend(lacks(report).map(|names| ("lacks", names)));
        }
    }
    let mut text = columns(facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    let Some(report) = &status.report else { return text };
    if !report.instances.is_empty() {
        let head = ["DEPLOYMENT", "PHASE", "RESTARTS", "ADDRESS", "REASON"].map(str::to_owned).to_vec();
        let rows = report.instances.iter().map(|(id, instance)| row(&id.to_string(), instance));
        text.push('\n');
        text.push_str(&columns(std::iter::once(head).chain(rows)));
    }
    for orphan in &report.orphans {
        let state = if orphan.running { "runs" } else { "does not run" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\norphan: container {} {state}, and no spec names it", orphan.container);
    }
    for reason in &report.troubles {
        let _ = writeln!(text, "\n{}", reason.paragraph());
    }
    text
}

fn spec(report: &HostReport) -> String {
    match report.accepted {
        None => "none was ever accepted".to_owned(),
        Some(accepted) if accepted.generation == report.applied => {
            format!("generation {} accepted and applied", accepted.generation)
        }
        Some(accepted) => format!("generation {} accepted, {} applied", accepted.generation, report.applied),
    }
}

/// What the host cannot do, by name: `doctor` has the reasons.
fn lacks(report: &HostReport) -> Option<String> {
    let absent = |(name, capability): (&String, &Capability)| match capability {
        Capability::Present => None,
        Capability::Absent { .. } => Some(name.clone()),
    };
    let names: Vec<String> = report.capabilities.iter().filter_map(absent).collect();
    (!names.is_empty()).then(|| format!("{} (launchpad-agent doctor says why)", names.join(", ")))
}

fn row(id: &str, instance: &InstanceReport) -> Vec<String> {
    let address = instance.container.as_ref().and_then(|container| container.address.clone());
    let failed = instance.enforcement.values().filter(|found| matches!(found.verdict, Verdict::Failed { .. }));
    let reasons = instance.reason.iter().chain(failed.filter_map(Enforcement::reason));
    let reasons: Vec<String> = reasons.map(ToString::to_string).collect();
    vec![
        id.to_owned(),
        phase(instance.phase).to_owned(),
        instance.restarts.to_string(),
        address.unwrap_or_else(|| NOTHING.to_owned()),
        if reasons.is_empty() { NOTHING.to_owned() } else { reasons.join("; ") },
    ]
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Absent => "absent",
        Phase::Pulling => "pulling",
        Phase::Preparing => "preparing",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Unready => "unready",
        Phase::Backoff => "backoff",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
        Phase::Refused => "refused",
    }
}

/// Rows with their columns aligned, two spaces apart, nothing at the lines' ends.
fn columns(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    use launchpad_protocol::digest::Digest;
    use launchpad_protocol::generation::{Accepted, Epoch, Generation, Revision};
    use launchpad_protocol::id::TypedId;
    use launchpad_protocol::report::{Capacity, ContainerReport, EventBatch, Orphan};
    use launchpad_protocol::time::Moment;

    use crate::link::ports::LinkStatus;

    fn id<I: TypedId + std::str::FromStr<Err: std::fmt::Debug>>(number: u32) -> I {
        format!("{}{number:032x}", I::PREFIX).parse().unwrap()
    }

    fn instance(phase: Phase, reason: Option<Reason>, address: Option<&str>) -> InstanceReport {
        let container = address.map(|address| ContainerReport {
            id: "c0ffee".to_owned(),
            image: None,
            started_at: None,
            address: Some(address.to_owned()),
            limits: None,
        });
        InstanceReport {
            phase,
            reason,
            revision: Revision(1),
            epoch: Epoch(1),
            container,
            restarts: 3,
            ready_at: None,
            enforcement: BTreeMap::new(),
            volume: None,
            oom_kills: 0,
        }
    }

    fn status() -> Status {
        let crash = Reason::new("crash-loop", "it ended with exit code 1").mend("read its log");
        let nft = Reason::new("nft-absent", "nft is not installed").mend("apt install nftables");
        let disk = Reason::new("disk-full", "no space is left").mend("free some");
        let orphan = Orphan { container: "dead".to_owned(), deployment: None, account: None, running: true };
        let report = HostReport {
            boot_id: "boot".to_owned(),
            agent_version: "0.1.0".to_owned(),
            wall: Moment::from_micros(0),
            accepted: Some(Accepted { generation: Generation(8), digest: Digest::of(b"spec") }),
            applied: Generation(7),
            capacity: Capacity::default(),
            capabilities: BTreeMap::from([("nft".to_owned(), Capability::Absent { reason: nft })]),
            instances: BTreeMap::from([
                (id(1), instance(Phase::Ready, None, Some("172.29.0.2"))),
                (id(2), instance(Phase::Backoff, Some(crash), None)),
            ]),
            orphans: vec![orphan],
            buried: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            troubles: vec![disk],
            events: EventBatch { journal: id(3), dropped: 0, events: Vec::new() },
            denials: BTreeMap::new(),
            gate: None,
        };
        let away = Reason::new("link-lost", "the connection to the coordinator was lost");
        Status {
            pid: 42,
            agent_version: "0.1.0".to_owned(),
            host: id(9),
            name: "web-1".to_owned(),
            link: LinkStatus::Disconnected { reason: away, since: Moment::from_micros(0) },
            certificate_expires: Some(Moment::from_micros(86_400_000_000)),
            report: Some(Box::new(report)),
        }
    }

    #[test]
    fn the_table_says_where_everything_stands_and_why() {
        insta::assert_snapshot!(table(&status()), @r"
        host         web-1 (host_00000000000000000000000000000009)
        agent        0.1.0, pid 42
        link         not connected since 1970-01-01T00:00:00.000000Z: the connection to the coordinator was lost
        certificate  in force until 1970-01-02T00:00:00.000000Z
        spec         generation 8 accepted, 7 applied
        lacks        nft (launchpad-agent doctor says why)

        DEPLOYMENT                            PHASE    RESTARTS  ADDRESS     REASON
        dep_00000000000000000000000000000001  ready    3         172.29.0.2  -
        dep_00000000000000000000000000000002  backoff  3         -           it ended with exit code 1; read its log

        orphan: container dead runs, and no spec names it

        disk-full: no space is left
          mend:    free some
        ");
    }

    #[test]
    fn a_status_survives_its_json() {
        let response = Response::Status(Box::new(status()));
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response);
    }

    #[test]
    fn an_agent_that_does_not_run_is_told_with_what_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let reason = ask(dir.path(), &Request::Status).unwrap_err();
        assert_eq!(reason.code, "agent-not-running");
        assert!(reason.to_string().contains("launchpad-agent run"), "{reason}");
    }
}
