//! The local socket: what root asks the running agent.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::execute::fake::{FakeHost, World as FakeWorld};
use launchpad_agent::execute::{ExecuteError, Eyes};
use launchpad_agent::identity::{Enrolled, IdentityFiles};
use launchpad_agent::link::ports::LinkStatus;
use launchpad_agent::local::{LocalSocket, LocalView, REQUESTS_QUEUED, Request, Response, SOCKET};
use launchpad_agent::observe::Observed;
use launchpad_agent::reconcile::request::{LocalRequest, Shown, Windows};
use launchpad_agent::socket::SocketError;
use launchpad_agent::status;
use launchpad_protocol::frame::{Answer, LogLine, OutputStream, Question};
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::HttpProbe;
use launchpad_protocol::time::{Clock, Moment};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::world::{World, no_events, report, until};

struct Served {
    run: tempfile::TempDir,
    _data: tempfile::TempDir,
    requests: mpsc::Receiver<LocalRequest>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn served() -> Served {
    served_with(Arc::new(FakeHost::on(FakeWorld::new(Clock::machine()))))
}

fn served_with(eyes: Arc<dyn Eyes>) -> Served {
    let world = World::new();
    let (run, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fleet = "127.0.0.1:7443".parse().unwrap();
    let files = IdentityFiles::open(data.path()).unwrap();
    files.store(&world.identity(Duration::ZERO, &[fleet], fleet)).unwrap();
    let (reconciler, requests) = mpsc::channel(REQUESTS_QUEUED);
    let view = LocalView { enrolled: Enrolled::load(data.path()).unwrap(), reconciler, eyes };
    let stop = CancellationToken::new();
    let task = tokio::spawn(LocalSocket::bind(run.path()).unwrap().serve(view, stop.clone()));
    Served { run, _data: data, requests, stop, task }
}

async fn ask(run: &Path, request: Request) -> Response {
    let run: PathBuf = run.to_owned();
    spawn_blocking(move || status::ask(&run, &request)).await.unwrap().unwrap()
}

/// What the loop would show.
async fn show(
    served: &mut Served,
    link: LinkStatus,
    shown: Shown,
) -> (watch::Sender<LinkStatus>, watch::Sender<Shown>) {
    let Some(LocalRequest::Watch(reply)) = served.requests.recv().await else {
        panic!("a window is asked for first")
    };
    let (link, shown) = (watch::Sender::new(link), watch::Sender::new(shown));
    reply.send(Windows { link: link.subscribe(), shown: shown.subscribe() }).unwrap();
    (link, shown)
}

fn away() -> LinkStatus {
    LinkStatus::Disconnected {
        reason: Reason::new("link-lost", "the connection was lost"),
        since: Moment::from_micros(1),
    }
}

#[tokio::test]
async fn the_status_is_the_reconcilers_report_and_who_the_host_is_also_while_the_loop_is_busy() {
    let mut served = served();
    let run = served.run.path().to_owned();
    let asked = tokio::spawn({
        let run = run.clone();
        async move { ask(&run, Request::Status).await }
    });
    let shown = Shown { report: Some(report(3, no_events())), ..Shown::default() };
    let windows = show(&mut served, away(), shown).await;
    // The second is answered while nobody takes requests at all.
    for answer in [asked.await.unwrap(), ask(&run, Request::Status).await] {
        let Response::Status(status) = answer else { panic!("status answers status") };
        assert_eq!((status.name.as_str(), status.pid), ("web-1", std::process::id()));
        assert_eq!(status.link, away());
        assert!(status.certificate_expires.is_some());
        assert_eq!(status.report.map(|report| *report), Arc::into_inner(report(3, no_events())));
    }
    drop(windows);
}

#[tokio::test]
async fn a_stop_reaches_the_reconciler_and_its_refusal_comes_back() {
    let mut served = served();
    let deployment = "dep_00000000000000000000000000000001";
    let asked = tokio::spawn({
        let run = served.run.path().to_owned();
        async move { ask(&run, Request::Stop { bot: deployment.to_owned() }).await }
    });
    let _windows = show(&mut served, away(), Shown::default()).await;
    let Some(LocalRequest::Stop(named, reply)) = served.requests.recv().await else { panic!("a stop is a stop") };
    assert_eq!(named.to_string(), deployment);
    let reason = Reason::new("instance-unknown", "there is none");
    reply.send(Err(reason.clone())).unwrap();
    assert_eq!(asked.await.unwrap(), Response::Refused { reason });
}

/// A bot that has said two things.
struct Talker;

#[async_trait::async_trait]
impl Eyes for Talker {
    async fn observe(&self, _: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError> {
        std::future::pending().await
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>) {
        let Question::Logs { follow, .. } = question;
        for (at, text) in [(1, "one"), (2, "two")] {
            let at = Moment::from_micros(at);
            let line = LogLine { at, stream: OutputStream::Stdout, text: text.to_owned() };
            let _ = pieces.send(Answer::Line(line)).await;
        }
        if *follow {
            pieces.closed().await;
        }
        let _ = pieces.send(Answer::End(None)).await;
    }

    async fn probe(&self, _: Ipv4Addr, _: u16, _: &HttpProbe) -> Result<(), String> {
        Ok(())
    }
}

/// The lines that a log has, as they come.
fn log_lines(run: &Path, request: &Request) -> impl Iterator<Item = Response> + use<> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(run.join(SOCKET)).unwrap();
    stream.write_all(format!("{}\n", serde_json::to_string(request).unwrap()).as_bytes()).unwrap();
    BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

#[tokio::test]
async fn a_log_is_sent_line_by_line_past_the_loop_and_whoever_stops_following_leaves_his_place() {
    let mut served = served_with(Arc::new(Talker));
    let run = served.run.path().to_owned();
    let bot = "dep_00000000000000000000000000000001".to_owned();
    let whole = Request::Logs { bot: bot.clone(), tail: 5, follow: false };
    let read = spawn_blocking({
        let run = run.clone();
        move || log_lines(&run, &whole).collect::<Vec<_>>()
    });
    let _windows = show(&mut served, away(), Shown::default()).await;
    let lines = read.await.unwrap();
    let text = |line: &Response| if let Response::Line { text, .. } = line { Some(text.clone()) } else { None };
    let texts: Vec<String> = lines.iter().filter_map(text).collect();
    assert_eq!(
        (texts, lines.last()),
        (vec!["one".to_owned(), "two".to_owned()], Some(&Response::End { reason: None }))
    );
    // More than may follow at once, one after the other; nobody takes requests meanwhile.
    for _ in 0..10 {
        loop {
            let (run, bot) = (run.clone(), bot.clone());
            let first = spawn_blocking(move || log_lines(&run, &Request::Logs { bot, tail: 5, follow: true }).next());
            match first.await.unwrap() {
                Some(Response::Refused { reason }) if reason.code == "followers-full" => {}
                first => {
                    assert!(matches!(&first, Some(Response::Line { .. })), "{first:?}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn only_root_can_open_the_socket_and_it_goes_with_the_agent() {
    let served = served();
    let socket = served.run.path().join(SOCKET);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.stop.cancel();
    served.task.await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_agent_does_not_take_the_socket_of_one_that_lives() {
    let served = served();
    let error = LocalSocket::bind(served.run.path()).unwrap_err();
    assert!(matches!(error, SocketError::Taken { .. }), "{error}");
    // One that was killed leaves its socket behind, and nobody answers on it.
    served.task.abort();
    let run = served.run.path().to_owned();
    until("the socket of the dead is taken over", move || LocalSocket::bind(&run).is_ok()).await;
}

#[tokio::test]
async fn a_request_that_is_none_is_told_so() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let served = served();
    let socket = served.run.path().join(SOCKET);
    let answer = spawn_blocking(move || {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"{\"do\":\"dance\"}\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    });
    let answer: Response = serde_json::from_str(&answer.await.unwrap()).unwrap();
    assert!(matches!(&answer, Response::Refused { reason } if reason.code == "request-malformed"), "{answer:?}");
}
