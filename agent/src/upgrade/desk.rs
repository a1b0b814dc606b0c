//! The agent's side: begins an upgrade that its spec wishes, sees to it that somebody carries it out, and tells its end.
//!
//! [`Upgrading`] stands around the host's facts, because what is wished here is of the host and of no bot. The loop asks at
//! every turn; what is slow (a copy of this program, a call of systemctl) is done beside it. Nothing is waited for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use launchpad_protocol::id::OperationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, Capacity, Outcome};
use launchpad_protocol::spec::AgentUpgrade;
use launchpad_protocol::time::{BootMoment, Clock, Moment};
use launchpad_protocol::version::Version;

use super::course::Stage;
use super::{Log, Place, UNIT};
use crate::VERSION;
use crate::disk::Disk;
use crate::reconcile::facts::HostFacts;

/// How often the unit is asked for while there is a log without an end: it may have been asked for in the moment in which it
/// ended, or systemd may have been busy.
const PRESS_AGAIN: Duration = Duration::from_secs(60);

/// This program as the kernel runs it, whatever has become of its file.
const OURSELVES: &str = "/proc/self/exe";

/// One writing of a file: its inode, length and time.
type Edition = (u64, u64, i64, i64);

/// The facts of a host whose agent may be upgraded.
pub struct Upgrading<F> {
    facts: F,
    place: Place,
    data_dir: PathBuf,
    run_dir: PathBuf,
    clock: Clock,
    /// Since when this agent is what it is: the moment at which a wish for our own version is fulfilled.
    since: Moment,
    log: Option<Log>,
    /// What the log's file was when it was read.
    read: Option<Edition>,
    pressed_at: Option<BootMoment>,
}

impl<F: HostFacts> Upgrading<F> {
    /// Around those facts.
    #[must_use]
    pub fn around(facts: F, place: Place, data_dir: &Path, run_dir: &Path, clock: Clock) -> Self {
        let (data_dir, run_dir) = (data_dir.to_owned(), run_dir.to_owned());
        let since = clock.wall();
        Self { facts, place, data_dir, run_dir, clock, since, log: None, read: None, pressed_at: None }
    }

    /// Reads the log again if somebody has written it.
    fn refresh(&mut self) {
        let edition = fs::metadata(self.place.log_path()).ok();
        let edition = edition.map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        if edition == self.read {
            return;
        }
        match self.place.log() {
            Ok(log) => (self.log, self.read) = (log, edition),
            Err(error) => tracing::error!(%error, "the upgrade's log cannot be read"),
        }
    }

    /// Whether it is time to do something about an upgrade, for the first time or again.
    fn may_press(&mut self) -> bool {
        let now = self.clock.boot();
        let may = self.pressed_at.is_none_or(|pressed| now.since(pressed) >= PRESS_AGAIN);
        if may {
            self.pressed_at = Some(now);
        }
        may
    }

    fn begin(&mut self, wished: &AgentUpgrade) {
        if !self.may_press() {
            return;
        }
        tracing::info!(from = VERSION, to = %wished.version, operation = %wished.operation, "an upgrade of the agent begins");
        let log = Log {
            operation: wished.operation,
            from: Version::ours(),
            to: wished.version.clone(),
            data_dir: self.data_dir.clone(),
            run_dir: self.run_dir.clone(),
            stage: Stage::Fetching,
        };
        let place = self.place.clone();
        thread::spawn(move || {
            if let Err(reason) = begin(&place, &log) {
                tracing::error!(%reason, "an upgrade of the agent cannot begin");
                // Said once, as every end is. A disk that takes not even this is tried again.
                drop(place.write(&Log { stage: Stage::Refused { why: reason }, ..log }));
            }
        });
    }
}

impl<F: HostFacts> HostFacts for Upgrading<F> {
    fn boot_id(&self) -> &str {
        self.facts.boot_id()
    }

    fn capacity(&self) -> Capacity {
        self.facts.capacity()
    }

    fn capabilities(&self) -> BTreeMap<String, Capability> {
        self.facts.capabilities()
    }

    fn upgrade(&mut self, wished: Option<&AgentUpgrade>) -> Option<(OperationId, Outcome)> {
        self.refresh();
        if self.log.as_ref().is_some_and(|log| !log.stage.is_end()) {
            // Somebody was killed, or is at it; who asks twice wakes nobody twice.
            if self.may_press() {
                thread::spawn(|| {
                    press().unwrap_or_else(|reason| tracing::error!(%reason, "the upgrade does not go on"))
                });
            }
            return None;
        }
        let told = self.log.as_ref().and_then(|log| Some((log.operation, outcome(&log.stage)?)));
        let Some(wished) = wished.filter(|wished| told.as_ref().is_none_or(|(told, _)| *told != wished.operation))
        else {
            return told;
        };
        if wished.version.is_package_of(VERSION) {
            return Some((wished.operation, Outcome::Done { at: self.since }));
        }
        self.begin(wished);
        None
    }
}

/// How an upgrade is answered; none: it is not at its end.
fn outcome(stage: &Stage) -> Option<Outcome> {
    match stage {
        Stage::Done { at } => Some(Outcome::Done { at: *at }),
        Stage::Refused { why } | Stage::RolledBack { why } | Stage::Stuck { why } => {
            Some(Outcome::Refused { reason: why.clone() })
        }
        Stage::Fetching
        | Stage::Noting
        | Stage::Installing { .. }
        | Stage::Judging { .. }
        | Stage::Returning { .. }
        | Stage::Checking { .. } => None,
    }
}

/// Leaves a copy of this very program, then the log, then asks for the unit: a log without its program would begin at every
/// boot and do nothing.
fn begin(place: &Place, log: &Log) -> Result<(), Reason> {
    let (program, fresh) = (place.program(), place.program().with_extension("new"));
    let made = Disk::open(&place.folder).map_err(|error| Reason::new("upgrade-not-begun", error.to_string()));
    made.map(drop)?;
    let copy = fs::copy(OURSELVES, &fresh)
        .and_then(|_| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)))
        .and_then(|()| fs::File::open(&fresh)?.sync_all())
        .and_then(|()| fs::rename(&fresh, &program));
    copy.map_err(|error| {
        Reason::new("upgrade-not-begun", format!("{} cannot be written: {error}", program.display()))
            .mend("free some space under the agent's data directory")
    })?;
    place.write(log).map_err(|error| Reason::new("upgrade-not-begun", error.to_string()))?;
    // At boot, as long as the copy is there: what loses its power half-way may leave no agent that could ask for it.
    if let Err(said) = systemctl(["enable", "--quiet", UNIT]) {
        tracing::warn!(%said, "{UNIT} is not started at boot: an upgrade that loses its power waits for the agent");
    }
    press()
}

/// Asks systemd for the unit. It starts what is not running, and leaves alone what is.
fn press() -> Result<(), Reason> {
    systemctl(["start", "--no-block", UNIT]).map_err(|said| {
        Reason::new("upgrade-not-begun", format!("`systemctl start {UNIT}`: {said}"))
            .mend("upgrade this host's agent by its package manager, by hand")
    })
}

fn systemctl<const N: usize>(words: [&str; N]) -> Result<(), String> {
    let output = Command::new("systemctl").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
