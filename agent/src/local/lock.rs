//! One agent and one gate per data directory: two agents would each carry out the other's spec, two gates take each
//! other's rules away.
//!
//! `run`, `enroll` and `gate` take their lock first. It is the kernel's (`flock`), so a killed agent leaves none behind; the pid
//! in the file is only for people.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

const LOCK_FILE: &str = "agent.lock";
const GATE_LOCK_FILE: &str = "gate.lock";

/// The most digits of a pid that are read back (Linux: `PID_MAX_LIMIT`, 2^22).
const PID_DIGITS_MAX: u64 = 7;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataLock {
    _file: Flock<File>,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "another {} ({}) works in {}: stop it first, or choose another --data-dir", program,
        pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}")), dir.display()
    )]
    Held {
        /// `launchpad-agent`, or its gate.
        program: &'static str,
        /// The data directory.
        dir: PathBuf,
        /// Who, as the file says.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot lock {}: {source}; run as root, or choose another --data-dir", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl DataLock {
    /// Takes the lock of a data directory, which is there.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        Self::locked(data_dir, LOCK_FILE, "launchpad-agent")
    }

    /// Takes the gate's lock, likewise; the agent may run beside it.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn of_gate(data_dir: &Path) -> Result<Self, LockError> {
        Self::locked(data_dir, GATE_LOCK_FILE, "launchpad-agent gate")
    }

    fn locked(data_dir: &Path, file: &str, program: &'static str) -> Result<Self, LockError> {
        let path = data_dir.join(file);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = match Flock::lock(options.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held { program, dir: data_dir.to_owned(), pid: pid_in(file) });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let pid = std::process::id().to_string();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn pid_in(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_DIGITS_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_and_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        let error = DataLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_data_directory_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let error = DataLock::take(&missing).unwrap_err().to_string();
        assert!(error.contains("none/agent.lock") && error.contains("--data-dir"), "{error}");
    }
}
