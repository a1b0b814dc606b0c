//! The loop itself, on the complete fake host: the real ledger, plan and work queues, a world that outlives the agent,
//! and a test in the coordinator's place.

use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::book::{Book, BookError, Changes, MemoryBook, Pages};
use launchpad_agent::disk::Disk;
use launchpad_agent::execute::ExecuteError;
use launchpad_agent::execute::fake::{FakeHost, Script, ScriptedExit, World};
use launchpad_agent::ledger::Ledger;
use launchpad_agent::link::ports::{Forget, Judged, LinkPorts, Offer, ports};
use launchpad_agent::reconcile::facts::FixedFacts;
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_agent::reconcile::{Parts, Reconciler};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::{Generation, Revision};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, InstanceReport, Phase, VOLUME_FULL};
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Operation, OperationAction};
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::encode_spec;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod support;

use support::{bot, id, spec};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host, and one life of its agent after the other.
struct Host {
    world: World,
    book: MemoryBook,
    dir: tempfile::TempDir,
    life: Life,
}

struct Life {
    ports: LinkPorts,
    local: mpsc::Sender<LocalRequest>,
    task: JoinHandle<()>,
}

impl Host {
    async fn new() -> Self {
        let world = World::new(Clock::machine());
        let (book, dir) = (MemoryBook::default(), tempfile::tempdir().expect("a temporary directory"));
        let life = Life::begin(&world, &book, &dir);
        Self { world, book, dir, life }
    }

    /// The agent dies where it stands, and another one begins.
    async fn die(&mut self) {
        self.life.task.abort();
        self.life = Life::begin(&self.world, &self.book, &self.dir);
    }

    async fn offer(&self, spec: &HostSpec) -> Judged {
        let (reply, judged) = oneshot::channel();
        self.life.ports.offers.send(Offer { offer: encode_spec(spec), reply }).await.expect("the loop runs");
        judged.await.expect("a judgement")
    }

    /// Waits for a report of which that holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&HostReport) -> bool) -> Arc<HostReport> {
        let told = |report: &Option<Arc<HostReport>>| report.as_deref().is_some_and(&holds);
        let reports = &mut self.life.ports.reports;
        let waited =
            tokio::time::timeout(PATIENCE, async { reports.wait_for(told).await.map(|found| found.clone()) });
        match waited.await {
            Ok(found) => found.expect("the loop runs").expect("a report"),
            Err(_) => panic!("never {what}; the last report: {:#?}", reports.borrow()),
        }
    }

    async fn until_phase(&mut self, phase: Phase) -> Arc<HostReport> {
        self.until(&format!("{phase:?}"), |report| one(report).is_some_and(|bot| bot.phase == phase)).await
    }

    fn starts(&self) -> u32 {
        self.world.starts(bot().deployment)
    }

    async fn ask(&self, request: impl FnOnce(oneshot::Sender<Result<(), Reason>>) -> LocalRequest) {
        let (reply, answer) = oneshot::channel();
        self.life.local.send(request(reply)).await.expect("the loop runs");
        answer.await.expect("an answer").expect("done");
    }
}

impl Life {
    fn begin(world: &World, book: &MemoryBook, dir: &tempfile::TempDir) -> Self {
        Self::with_book(world, Box::new(book.clone()), dir)
    }

    fn with_book(world: &World, book: Box<dyn Book>, dir: &tempfile::TempDir) -> Self {
        let clock = Clock::machine();
        let host = Arc::new(FakeHost::on(world.clone()));
        let ledger = Ledger::open(Disk::open(dir.path()).expect("a directory"), id(0xf)).expect("a ledger");
        let (link, reconcile) = ports(ledger.floor(), clock.wall());
        let (local, requests) = mpsc::channel(1);
        let parts = Parts {
            clock,
            entropy: Entropy::system(),
            ledger,
            book,
            hands: Arc::clone(&host) as _,
            eyes: host,
            facts: Box::new(FixedFacts { boot_id: "one".to_owned(), ..FixedFacts::default() }),
            ports: reconcile,
            local: requests,
            troubles: Vec::new(),
        };
        let reconciler = Reconciler::new(parts).expect("a loop");
        Self { ports: link, local, task: tokio::spawn(reconciler.run(CancellationToken::new())) }
    }
}

fn one(report: &HostReport) -> Option<&InstanceReport> {
    report.instances.get(&bot().deployment)
}

fn reason_code(report: &HostReport) -> Option<&str> {
    one(report).and_then(|bot| bot.reason.as_ref()).map(|reason| reason.code.as_str())
}

#[tokio::test]
async fn a_wish_becomes_a_ready_bot_that_is_reported_with_its_story() {
    let mut host = Host::new().await;
    assert_eq!(host.offer(&spec(1, [bot()])).await.refusal, None);
    let report = host.until("applied", |report| report.applied == Generation(1)).await;
    assert_eq!(one(&report).map(|bot| bot.phase), Some(Phase::Ready));
    let story: Vec<Phase> = report.events.events.iter().map(|event| event.phase).collect();
    assert_eq!(story, [Phase::Pulling, Phase::Preparing, Phase::Starting, Phase::Ready]);
    let last = report.events.events.last().expect("events").seq;
    host.life
        .ports
        .forgets
        .send(Forget { journal: report.events.journal, through: last })
        .await
        .expect("the loop runs");
    host.until("forgotten", |report| report.events.events.is_empty()).await;
}

#[tokio::test]
async fn an_agent_that_dies_or_forgets_adopts_what_runs() {
    let mut host = Host::new().await;
    host.offer(&spec(1, [bot()])).await;
    let before = host.until_phase(Phase::Ready).await;
    host.die().await;
    let after = host.until("adopted", |report| report.applied == Generation(1)).await;
    assert_eq!(one(&after).map(|bot| &bot.container), one(&before).map(|bot| &bot.container));
    host.book = MemoryBook::default();
    host.die().await;
    host.until("adopted without its book", |report| report.applied == Generation(1)).await;
    assert_eq!(host.starts(), 1);
}

#[tokio::test]
async fn a_step_that_failed_is_told_and_tried_again() {
    let mut host = Host::new().await;
    let full = Reason::new("disk-full", "no space is left");
    host.world.fail("prepare_volume", ExecuteError::Passing(full));
    host.offer(&spec(1, [bot()])).await;
    host.until("told", |report| reason_code(report) == Some("disk-full")).await;
    host.world.heal();
    host.until_phase(Phase::Ready).await;
}

#[tokio::test]
async fn what_is_refused_for_a_running_bot_is_not_tried_again_until_its_revision_changes() {
    let mut host = Host::new().await;
    host.offer(&spec(1, [bot()])).await;
    host.until_phase(Phase::Ready).await;
    host.world.fail_next("update_resources", ExecuteError::Refused(Reason::new("limits-refused", "no")));
    let smaller = |revision| {
        let mut wish = bot();
        (wish.revision, wish.resources.pids) = (Revision(revision), 7);
        wish
    };
    host.offer(&spec(2, [smaller(2)])).await;
    host.until("refused", |report| reason_code(report) == Some("limits-refused")).await;
    // The fake fails once only: had it been tried again, it would have succeeded and be told so.
    let mut beside = spec(3, [smaller(2)]);
    let neighbour = InstanceSpec { deployment: id(0xe), ..bot() };
    beside.instances.insert(neighbour.deployment, neighbour);
    host.offer(&beside).await;
    host.until("applied beside it", |report| report.applied == Generation(3)).await;
    let updates =
        |host: &Host| host.world.carried_out().iter().filter(|done| done.kind() == "update_resources").count();
    assert_eq!(updates(&host), 0);
    host.offer(&spec(4, [smaller(5)])).await;
    host.until("applied", |report| report.applied == Generation(4) && reason_code(report).is_none()).await;
    assert_eq!((updates(&host), host.starts()), (1, 1));
}

#[tokio::test]
async fn an_engine_that_was_away_is_told_and_held_against_nobody() {
    let mut host = Host::new().await;
    host.offer(&spec(1, [bot()])).await;
    host.until_phase(Phase::Ready).await;
    let away = Reason::new("engine-away", "nobody listens");
    host.world.set_away(Some(away.clone()));
    host.until("told", |report| report.troubles.contains(&away)).await;
    host.world.set_away(None);
    let back = host.until("well again", |report| report.troubles.is_empty()).await;
    assert_eq!((one(&back).map(|bot| bot.phase), host.starts()), (Some(Phase::Ready), 1));
}

#[tokio::test]
async fn a_volume_that_fills_is_told_once_until_there_is_room_again_and_the_bot_stays_ready() {
    let mut host = Host::new().await;
    host.offer(&spec(1, [bot()])).await;
    let ready = host.until_phase(Phase::Ready).await;
    let percent = bot().volume.expect("it has one").bytes / 100;
    for (filled, code) in [(96, Some(VOLUME_FULL)), (93, Some(VOLUME_FULL)), (97, Some(VOLUME_FULL)), (80, None)] {
        host.world.fill(bot().deployment, filled * percent);
        let seen = |report: &HostReport| one(report).and_then(|bot| bot.volume.as_ref()).map(|seen| seen.used_bytes);
        let told = host.until("seen", |report| seen(report) == Some(filled * percent)).await;
        assert_eq!((one(&told).map(|bot| bot.phase), reason_code(&told)), (Some(Phase::Ready), code), "{filled} %");
    }
    let before = ready.events.events.len();
    let report = host.until("told", |report| report.events.events.len() >= before + 2).await;
    let events = report.events.events.iter().skip(before);
    let story: Vec<_> =
        events.map(|event| (event.phase, event.reason.as_ref().map(|reason| reason.code.as_str()))).collect();
    assert_eq!(story, [(Phase::Ready, Some(VOLUME_FULL)), (Phase::Ready, None)]);
    assert_eq!(host.starts(), 1);
}

#[tokio::test]
async fn a_bot_that_crashes_is_started_again_after_its_pause_and_says_why() {
    let mut host = Host::new().await;
    let crash = ScriptedExit { after: Duration::ZERO, code: 3, out_of_memory: false, last_words: "boom".to_owned() };
    host.world.script(bot().deployment, Script { exits: [crash].into(), ..Script::default() });
    host.offer(&spec(1, [bot()])).await;
    let waiting = host.until_phase(Phase::Backoff).await;
    let reason = one(&waiting).and_then(|bot| bot.reason.clone()).expect("a reason");
    assert_eq!((reason.code.as_str(), reason.cause.as_deref()), ("crashed", Some("its last words: boom")));
    host.until_phase(Phase::Ready).await;
    assert_eq!(host.starts(), 2);
}

#[tokio::test]
async fn a_restart_happens_once_and_is_answered() {
    let mut host = Host::new().await;
    host.offer(&spec(1, [bot()])).await;
    host.until_phase(Phase::Ready).await;
    let mut wish = bot();
    wish.operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    host.offer(&spec(2, [wish.clone()])).await;
    host.until("answered", |report| report.outcomes.contains_key(&id(0x0b))).await;
    host.die().await;
    host.until("adopted", |report| report.applied == Generation(2)).await;
    assert_eq!(host.starts(), 2);
}

#[tokio::test]
async fn no_report_says_that_a_copy_is_deleted_and_lists_it_still() {
    let mut host = Host::new().await;
    let mut wish = bot();
    let taken = Operation { id: id(0x0c), action: OperationAction::Snapshot { name: "before".to_owned() } };
    wish.operations.push(taken.clone());
    host.offer(&spec(1, [wish.clone()])).await;
    let answered = |report: &HostReport, asked: &Operation| report.outcomes.contains_key(&asked.id);
    let listed = |report: &HostReport| {
        let volume = one(report).and_then(|instance| instance.volume.as_ref());
        volume.is_some_and(|volume| volume.snapshots.contains_key("before"))
    };
    let report = host.until("taken", |report| answered(report, &taken)).await;
    assert!(listed(&report), "{report:#?}");
    let dropped = Operation { id: id(0x0d), action: OperationAction::DropSnapshot { name: "before".to_owned() } };
    wish.operations.push(dropped.clone());
    host.offer(&spec(2, [wish])).await;
    let report = host.until("deleted", |report| answered(report, &dropped)).await;
    assert!(!listed(&report), "{report:#?}");
}

#[tokio::test]
async fn a_stop_made_on_the_host_outlives_the_agent_until_it_is_taken_back() {
    let mut host = Host::new().await;
    let deployment: DeploymentId = bot().deployment;
    host.offer(&spec(1, [bot()])).await;
    host.until_phase(Phase::Ready).await;
    host.ask(|reply| LocalRequest::Stop(deployment, reply)).await;
    host.until_phase(Phase::Stopped).await;
    host.die().await;
    host.until("still stopped", |report| report.applied == Generation(1)).await;
    assert_eq!(host.starts(), 1);
    host.ask(|reply| LocalRequest::Start(deployment, reply)).await;
    host.until_phase(Phase::Ready).await;
}

#[tokio::test]
async fn a_book_that_cannot_be_written_is_told_and_stops_nothing() {
    struct FullBook;
    impl Book for FullBook {
        fn read(&self) -> Result<Pages, BookError> {
            MemoryBook::default().read()
        }
        fn write(&mut self, _: &Changes) -> Result<(), BookError> {
            Err(BookError::new("flush", "no space left on device"))
        }
    }
    let mut host = Host::new().await;
    host.life.task.abort();
    host.life = Life::with_book(&host.world, Box::new(FullBook), &host.dir);
    host.offer(&spec(1, [bot()])).await;
    let report =
        host.until("ready, and told", |report| !report.troubles.is_empty() && report.applied == Generation(1)).await;
    assert_eq!(report.troubles[0].code, "book-unwritable");
}
