//! The doing: `launchpad-agent upgrade`, which `launchpad-upgrade.service` runs from the copy that the old version left.
//!
//! It takes the log's stage, does its deed, writes the next stage down, and ends when there is none. At the end the copy goes, so
//! that the unit has nothing to start at the next boot. It is a program of its own and may wait as it likes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use launchpad_protocol::killpoint::{Side, visit};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{BootMoment, Clock, Moment};
use launchpad_protocol::version::Version;

use super::course::{Deed, Went, deed, step};
use super::judge::{Before, Seen, Verdict, verdict};
use super::{Log, Packages, Place};
use crate::config::UpgradeArgs;
use crate::disk::DiskError;
use crate::local::SOCKET;

/// Between two looks at the agent.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the running agent has to say what runs before anything is changed.
const NOTE_WITHIN: Duration = Duration::from_secs(30);
/// How long one exchange on the socket may take.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer: the report of a full host is a tenth of it.
const ANSWER_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Why an upgrade is not carried on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The log.
    #[error("the upgrade's log: {0}")]
    Disk(#[from] DiskError),
    /// The lock.
    #[error("cannot lock the upgrade: {0}")]
    Lock(#[from] std::io::Error),
}

/// What carries out deeds: the package manager and the agent's socket, or a test's.
pub trait Works {
    /// Has the packages of both versions.
    ///
    /// # Errors
    /// Which is missing, and why.
    fn fetch(&mut self, log: &Log) -> Result<(), Reason>;
    /// What runs.
    ///
    /// # Errors
    /// When the agent does not say.
    fn note(&mut self) -> Result<Before, Reason>;
    /// Installs a version.
    ///
    /// # Errors
    /// The package manager's words.
    fn install(&mut self, version: &Version, bare: bool) -> Result<(), Reason>;
    /// Waits until that version is well, or cannot become so.
    ///
    /// # Errors
    /// Why it is not.
    fn judge(&mut self, version: &Version, before: &Before) -> Result<(), Reason>;
    /// It is over.
    fn tidy(&mut self, log: &Log);
    /// Now.
    fn now(&self) -> Moment;
}

/// Carries out what the log of this host says.
///
/// # Errors
/// When the log can be neither read nor written. Whoever comes next finds the stage as it was.
pub fn run(args: &UpgradeArgs) -> Result<Option<Log>, UpgradeError> {
    let place = Place::at(&args.upgrade_dir);
    let Some(log) = place.log()? else { return Ok(None) };
    // Held to the end: the unit at boot and the agent may both start us.
    let Some(_lock) = place.lock()? else { return Ok(None) };
    let Log { data_dir, run_dir, .. } = log;
    carry_out(&place, &mut Host { args: args.clone(), data_dir, run_dir, clock: Clock::machine() })
}

/// Carries the log to its end.
///
/// # Errors
/// As [`run`].
pub fn carry_out(place: &Place, works: &mut dyn Works) -> Result<Option<Log>, UpgradeError> {
    let mut begun_by_us = false;
    loop {
        let Some(mut log) = place.log()? else { return Ok(None) };
        let Some(next) = deed(&log.stage, &log.from, &log.to) else {
            works.tidy(&log);
            drop(fs::remove_file(place.program()));
            return Ok(Some(log));
        };
        let went = if begun_by_us { carry(next, &log, works) } else { Went::Interrupted };
        begun_by_us = true;
        if let Went::Wrong(reason) = &went {
            tracing::warn!(%reason, stage = log.stage.name(), to = %log.to, "the upgrade does not go well");
        }
        log.stage = step(log.stage, went, works.now());
        visit("agent", "upgrade", Side::Before);
        place.write(&log)?;
        visit("agent", "upgrade", Side::After);
        tracing::info!(stage = log.stage.name(), from = %log.from, to = %log.to, "the upgrade goes on");
    }
}

fn carry(deed: Deed, log: &Log, works: &mut dyn Works) -> Went {
    let done = match deed {
        Deed::Fetch => works.fetch(log),
        Deed::Note => match works.note() {
            Ok(before) => return Went::Noted(before),
            Err(reason) => Err(reason),
        },
        Deed::Install { version, bare } => works.install(&version, bare),
        Deed::Judge { version, before } => works.judge(&version, &before),
    };
    done.map_or_else(Went::Wrong, |()| Went::Well)
}

/// This host.
struct Host {
    args: UpgradeArgs,
    data_dir: PathBuf,
    run_dir: PathBuf,
    clock: Clock,
}

impl Works for Host {
    fn fetch(&mut self, log: &Log) -> Result<(), Reason> {
        let packages = Packages::find(&self.data_dir)?;
        packages.fetch(&log.from).map_err(|reason| {
            Reason::new("no-way-back", format!("{} stays, because it could not come back: {reason}", log.from))
                .mend(reason.mend.unwrap_or_default())
        })?;
        packages.fetch(&log.to)
    }

    fn note(&mut self) -> Result<Before, Reason> {
        let deadline = self.clock.boot() + NOTE_WITHIN;
        loop {
            let why = match self.look() {
                Ok(seen) => match Before::of(&seen) {
                    Some(before) => return Ok(before),
                    None => "it has not seen its host yet".to_owned(),
                },
                Err(why) => why,
            };
            if self.clock.boot() >= deadline {
                return Err(Reason::new(
                    "agent-silent",
                    "the agent does not say what runs, so that nothing is changed",
                )
                .because(why)
                .mend("see `systemctl status launchpad-agent`"));
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn install(&mut self, version: &Version, bare: bool) -> Result<(), Reason> {
        Packages::find(&self.data_dir)?.install(version, bare)
    }

    /// Well is who is so for a while, in one process: an agent that dies and comes back answers, too.
    fn judge(&mut self, version: &Version, before: &Before) -> Result<(), Reason> {
        let (within, steady) = (Duration::from_secs(self.args.judge_within), Duration::from_secs(self.args.steady));
        let deadline = self.clock.boot() + within;
        let mut well: Option<(u32, BootMoment)> = None;
        loop {
            let why = match self.look() {
                Err(why) => Reason::new("agent-silent", "the agent does not answer on its socket").because(why),
                Ok(seen) => match verdict(before, version, &seen) {
                    Verdict::Ill(why) => return Err(why),
                    Verdict::NotYet(why) => why,
                    Verdict::Well => {
                        let since =
                            well.filter(|(pid, _)| *pid == seen.pid).map_or(self.clock.boot(), |(_, since)| since);
                        if self.clock.boot().since(since) >= steady {
                            return Ok(());
                        }
                        well = Some((seen.pid, since));
                        sleep(LOOK_AGAIN);
                        continue;
                    }
                },
            };
            well = None;
            if self.clock.boot() >= deadline {
                let sentence = format!("{version} was not well within {} s: {}", within.as_secs(), why.sentence);
                let told = Reason { sentence, ..why };
                return Err(told);
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn tidy(&mut self, log: &Log) {
        if let Ok(packages) = Packages::find(&self.data_dir) {
            packages.keep_only([&log.from, &log.to]);
        }
    }

    fn now(&self) -> Moment {
        self.clock.wall()
    }
}

impl Host {
    /// One answer of the agent.
    fn look(&self) -> Result<Seen, String> {
        let path = self.run_dir.join(SOCKET);
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(EXCHANGE_WITHIN))?;
            stream.set_write_timeout(Some(EXCHANGE_WITHIN))?;
            stream.write_all(b"{\"do\":\"status\"}\n")?;
            let mut answer = Vec::new();
            stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&answer).map_err(|error| format!("{}: {error}", path.display()))
    }
}
