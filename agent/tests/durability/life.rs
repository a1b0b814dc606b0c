//! One agent's life: the loop with its real ledger and book in a directory, and a test in the places of the coordinator
//! and of whoever is on the host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use launchpad_agent::book::{self, Book};
use launchpad_agent::disk::{Disk, DiskError};
use launchpad_agent::execute::fake::{FakeHost, World};
use launchpad_agent::ledger::Ledger;
use launchpad_agent::link::ports::{Judged, LinkPorts, Offer, ports};
use launchpad_agent::reconcile::facts::FixedFacts;
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_agent::reconcile::{Parts, Reconciler};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, InstanceReport, Phase};
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::encode_spec;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{bot, id};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The boot in which a test begins.
pub(crate) const FIRST_BOOT: &str = "one";

/// A running agent. Dropping it kills it where it stands.
pub(crate) struct Life {
    pub(crate) ports: LinkPorts,
    local: mpsc::Sender<LocalRequest>,
    task: JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Life {
    /// The agent of that directory, as its program starts it.
    pub(crate) fn begin(world: &World, dir: &Path) -> Self {
        Self::in_boot(FIRST_BOOT, world, Clock::machine(), dir)
    }

    pub(crate) fn in_boot(boot_id: &str, world: &World, clock: Clock, dir: &Path) -> Self {
        let disk = Disk::open(dir).expect("a directory");
        Self::with(boot_id, world, clock, disk, dir).expect("a ledger that opens")
    }

    pub(crate) fn with(
        boot_id: &str,
        world: &World,
        clock: Clock,
        disk: Disk,
        dir: &Path,
    ) -> Result<Self, DiskError> {
        let ledger = Ledger::open(disk, id(0xf))?;
        let (book, damaged) = book::open(&dir.join("book"));
        Ok(Self::of(boot_id, world, clock, ledger, book, damaged.into_iter().collect()))
    }

    fn of(
        boot_id: &str,
        world: &World,
        clock: Clock,
        ledger: Ledger,
        book: Box<dyn Book>,
        troubles: Vec<Reason>,
    ) -> Self {
        let host = Arc::new(FakeHost::on(world.clone()));
        let (link, reconcile) = ports(ledger.floor(), clock.wall());
        let (local, requests) = mpsc::channel(1);
        let parts = Parts {
            clock,
            entropy: Entropy::system(),
            ledger,
            book,
            hands: Arc::clone(&host) as _,
            eyes: host,
            facts: Box::new(FixedFacts { boot_id: boot_id.to_owned(), ..FixedFacts::default() }),
            ports: reconcile,
            local: requests,
            troubles,
        };
        let reconciler = Reconciler::new(parts).expect("a loop");
        Self { ports: link, local, task: tokio::spawn(reconciler.run(CancellationToken::new())) }
    }

    pub(crate) async fn offer(&self, spec: &HostSpec) -> Judged {
        let (reply, judged) = oneshot::channel();
        self.ports.offers.send(Offer { offer: encode_spec(spec), reply }).await.expect("the loop runs");
        judged.await.expect("a judgement")
    }

    pub(crate) async fn order<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Reason>>) -> LocalRequest,
    ) -> Result<T, Reason> {
        let (reply, answer) = oneshot::channel();
        self.local.send(request(reply)).await.expect("the loop runs");
        answer.await.expect("an answer")
    }

    /// Waits for a report of which that holds.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&HostReport) -> bool) -> Arc<HostReport> {
        let told = |report: &Option<Arc<HostReport>>| report.as_deref().is_some_and(&holds);
        let reports = &mut self.ports.reports;
        let waited =
            tokio::time::timeout(PATIENCE, async { reports.wait_for(told).await.map(|found| found.clone()) });
        match waited.await {
            Ok(found) => found.expect("the loop runs").expect("a report"),
            Err(_) => panic!("never {what}; the last report: {:#?}", reports.borrow()),
        }
    }

    pub(crate) async fn until_phase(&mut self, phase: Phase) -> Arc<HostReport> {
        self.until(&format!("{phase:?}"), |report| one(report).is_some_and(|bot| bot.phase == phase)).await
    }

    /// Ends it and waits until nothing of it holds a file.
    pub(crate) async fn end(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// The plain bot.
pub(crate) fn one(report: &HostReport) -> Option<&InstanceReport> {
    report.instances.get(&bot().deployment)
}

pub(crate) fn codes(report: &HostReport) -> Vec<&str> {
    report.troubles.iter().map(|reason| reason.code.as_str()).collect()
}
