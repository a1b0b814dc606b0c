//! The local socket: what root asks the running agent.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::identity::{Enrolled, IdentityFiles};
use launchpad_agent::link::ports::LinkStatus;
use launchpad_agent::local::{LocalSocket, LocalView, REQUESTS_QUEUED, Request, Response, SOCKET};
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_agent::socket::SocketError;
use launchpad_agent::status;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use tokio::sync::mpsc;
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
    let world = World::new();
    let (run, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fleet = "127.0.0.1:7443".parse().unwrap();
    let files = IdentityFiles::open(data.path()).unwrap();
    files.store(&world.identity(Duration::ZERO, &[fleet], fleet)).unwrap();
    let (reconciler, requests) = mpsc::channel(REQUESTS_QUEUED);
    let view = LocalView { enrolled: Enrolled::load(data.path()).unwrap(), reconciler };
    let stop = CancellationToken::new();
    let task = tokio::spawn(LocalSocket::bind(run.path()).unwrap().serve(view, stop.clone()));
    Served { run, _data: data, requests, stop, task }
}

async fn ask(run: &Path, request: Request) -> Response {
    let run: PathBuf = run.to_owned();
    spawn_blocking(move || status::ask(&run, &request)).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_status_is_the_reconcilers_report_and_who_the_host_is() {
    let mut served = served();
    let asked = tokio::spawn({
        let run = served.run.path().to_owned();
        async move { ask(&run, Request::Status).await }
    });
    let Some(LocalRequest::Status(reply)) = served.requests.recv().await else { panic!("status is status") };
    let away = Reason::new("link-lost", "the connection was lost");
    let link = LinkStatus::Disconnected { reason: away, since: Moment::from_micros(1) };
    reply.send((link.clone(), Some(report(3, no_events())))).unwrap();
    let Response::Status(status) = asked.await.unwrap() else { panic!("status answers status") };
    assert_eq!((status.name.as_str(), status.pid), ("web-1", std::process::id()));
    assert_eq!(status.link, link);
    assert!(status.certificate_expires.is_some());
    assert_eq!(status.report.map(|report| *report), Arc::into_inner(report(3, no_events())));
}

#[tokio::test]
async fn a_stop_reaches_the_reconciler_and_its_refusal_comes_back() {
    let mut served = served();
    let deployment = "dep_00000000000000000000000000000001".parse().unwrap();
    let asked = tokio::spawn({
        let run = served.run.path().to_owned();
        async move { ask(&run, Request::Stop { deployment }).await }
    });
    let Some(LocalRequest::Stop(named, reply)) = served.requests.recv().await else { panic!("a stop is a stop") };
    assert_eq!(named, deployment);
    let reason = Reason::new("instance-unknown", "there is none");
    reply.send(Err(reason.clone())).unwrap();
    assert_eq!(asked.await.unwrap(), Response::Refused { reason });
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
