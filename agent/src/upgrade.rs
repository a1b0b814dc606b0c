//! The agent becomes another version of itself, by the host's own package manager, and comes back if that does it no good.
//!
//! ```text
//!  the spec wishes ──► desk.rs (the agent) ──► log.json, a copy of this program ──► launchpad-upgrade.service
//!                        ▲                                                                  │
//!     the report's ◄─ outcome, from the log                            runner.rs: the copy, whatever becomes of us
//!       outcomes                                                                            │
//!   course.rs (pure)   Fetching ─► Noting ─► Installing ─► Judging ─► Done                  ▼
//!                         │           │          └─────┬──────┘              packages.rs: apt and dpkg, dnf and rpm
//!                         ▼           ▼                ▼                     judge.rs: agent.sock, and the bots
//!                       Refused    Refused     Returning ─► Checking ─► RolledBack | Stuck
//! ```
//! The old version carries the upgrade out and judges it, in a unit of its own: the new one may be unable to do anything. Each
//! stage is on disk before it is begun, so that whoever is killed in it, or loses power, finds it again: the unit is started
//! at boot, and by every agent that finds a log without an end. Judged is what this host can see (the agent answers as the
//! new version, every bot that was ready is ready in the same start), never whether a coordinator can be reached.
//!
//! Tried once for each operation: what failed is answered with its reason, and an operator decides.

mod course;
mod desk;
mod judge;
mod packages;
mod runner;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use launchpad_protocol::id::OperationId;
use launchpad_protocol::version::Version;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError, Found};

pub use course::{Deed, Stage, Went, deed, step};
pub use desk::Upgrading;
pub use judge::{Before, Seen, Start, Verdict, verdict};
pub use packages::{Family, Packages, Shelf};
pub use runner::{UpgradeError, Works, carry_out, run};

/// The unit in which the old version carries an upgrade out.
pub const UNIT: &str = "launchpad-upgrade.service";

/// What our package is called, by apt and by dnf.
pub const PACKAGE: &str = "launchpad-agent";

const LOG_FILE: &str = "log";
const LOCK_FILE: &str = "lock";

/// One upgrade: what was wished, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// For which it is answered.
    pub operation: OperationId,
    /// What this host had.
    pub from: Version,
    /// What it is to have.
    pub to: Version,
    /// Where the packages are, and where the agent's socket is: they may have been moved, and a configuration file that comes
    /// with the new version may be beyond the old one.
    pub data_dir: PathBuf,
    /// As above.
    pub run_dir: PathBuf,
    /// How far it is.
    pub stage: Stage,
}

/// The folder in which an upgrade has its log, and the copy of the program that works by it. It is none of the agent's data,
/// which may lie on a disk of its own without the right to execute.
#[derive(Debug, Clone)]
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// That folder. It is made when there is something to write.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The log; none: this host was never upgraded, or the log is damaged and set aside. Without it nothing is done:
    /// whatever version is there stays there, and the operation is tried anew.
    ///
    /// # Errors
    /// [`DiskError`] when the operating system will not read it.
    pub fn log(&self) -> Result<Option<Log>, DiskError> {
        if !self.folder.exists() {
            return Ok(None);
        }
        Ok(match Disk::open(&self.folder)?.read(LOG_FILE)? {
            Found::Whole(bytes) => serde_json::from_slice(&bytes).ok(),
            Found::Nothing | Found::SetAside(_) => None,
        })
    }

    /// Writes the log down.
    ///
    /// # Errors
    /// [`DiskError`] names the step and the path.
    pub fn write(&self, log: &Log) -> Result<(), DiskError> {
        Disk::open(&self.folder)?.write(LOG_FILE, &serde_json::to_vec(log).unwrap_or_default())
    }

    /// Where the log is, for whoever watches it.
    fn log_path(&self) -> PathBuf {
        self.folder.join(LOG_FILE)
    }

    /// The copy of the program that carries the upgrade out. While it is there, the unit starts at boot.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.join(PACKAGE)
    }

    /// The right to carry out, for one process at a time; none: somebody has it.
    fn lock(&self) -> io::Result<Option<Flock<File>>> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(self.folder.join(LOCK_FILE))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}
