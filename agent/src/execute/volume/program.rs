//! The system's own programs, run one at a time with a time-out: what the kernel offers no safe call for.
//!
//! `door.rs` decides what is run; nothing here knows what a volume is. A program may outlive an agent that is
//! killed: each holds a lock while it works, by its standard input, so that the next agent waits for it
//! before it tidies up ([`Programs::quiet`]).

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use tokio::process::Command;
use tokio::time::Instant;

/// What takes milliseconds; a machine that swaps may take long.
const QUICK: Duration = Duration::from_secs(30);
/// What reads or writes all metadata of a filesystem: a full check of 50 GB took seconds.
const THOROUGH: Duration = Duration::from_secs(600);
/// What moves all data of a volume: 50 GB at the pace of a slow disk, 20 MB a second.
const HEAVY: Duration = Duration::from_secs(3600);
/// How long the programs of an agent that was killed may still work before that is a fault.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Characters of a program's complaint that a reason repeats.
const COMPLAINT_MAX_CHARS: usize = 400;

/// A program of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Mounts a file by a loop device that frees itself.
    Mount,
    /// Attaches and frees loop devices.
    Losetup,
    /// Makes an ext4.
    MkfsExt4,
    /// Makes an ext4 larger.
    Resize2fs,
    /// Repairs an ext4.
    E2fsck,
    /// Sets attributes of files, as that of btrfs not to copy on write.
    Chattr,
    /// Sets the project of a folder on XFS.
    XfsIo,
    /// Sets and tells quotas of XFS.
    XfsQuota,
    /// Copies folders, sharing blocks where the filesystem can.
    Cp,
    /// Deletes folders of any depth.
    Rm,
}

impl Program {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Losetup => "losetup",
            Self::MkfsExt4 => "mkfs.ext4",
            Self::Resize2fs => "resize2fs",
            Self::E2fsck => "e2fsck",
            Self::Chattr => "chattr",
            Self::XfsIo => "xfs_io",
            Self::XfsQuota => "xfs_quota",
            Self::Cp => "cp",
            Self::Rm => "rm",
        }
    }

    /// The package that brings it, on Debian and on Fedora alike.
    const fn package(self) -> &'static str {
        match self {
            Self::Mount | Self::Losetup => "util-linux (Debian: mount)",
            Self::MkfsExt4 | Self::Resize2fs | Self::E2fsck | Self::Chattr => "e2fsprogs",
            Self::XfsIo | Self::XfsQuota => "xfsprogs",
            Self::Cp | Self::Rm => "coreutils",
        }
    }

    const fn within(self) -> Duration {
        match self {
            Self::Mount | Self::Losetup | Self::Chattr | Self::XfsIo | Self::XfsQuota => QUICK,
            Self::MkfsExt4 | Self::Resize2fs | Self::E2fsck => THOROUGH,
            Self::Cp | Self::Rm => HEAVY,
        }
    }

    /// Whether that end of it is a good one.
    const fn is_good(self, code: i32) -> bool {
        match self {
            // Repaired, also where the next mount has to be a fresh one: it is not mounted.
            Self::E2fsck => matches!(code, 0..=2),
            Self::Mount
            | Self::Losetup
            | Self::MkfsExt4
            | Self::Resize2fs
            | Self::Chattr
            | Self::XfsIo
            | Self::XfsQuota
            | Self::Cp
            | Self::Rm => code == 0,
        }
    }

    /// Whether it is on the agent's PATH.
    ///
    /// # Errors
    /// Which package brings it.
    pub fn present(self) -> Result<(), Reason> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|dir| dir.join(self.name()).is_file()) {
            Ok(())
        } else {
            Err(self.missing())
        }
    }

    fn missing(self) -> Reason {
        Reason::new("program-missing", format!("`{}` is not on the agent's PATH", self.name()))
            .mend(format!("install {} on the host", self.package()))
    }
}

/// Runs programs.
#[derive(Debug, Clone)]
pub struct Programs {
    at_work: PathBuf,
}

impl Programs {
    /// Programs that hold that lock while they work.
    #[must_use]
    pub const fn under(at_work: PathBuf) -> Self {
        Self { at_work }
    }

    /// Waits until no program works that somebody else has started here: an agent that is dead.
    ///
    /// # Errors
    /// When one works on and on.
    pub async fn quiet(&self) -> Result<(), Reason> {
        let Some(lock) = self.lock_file()? else { return Ok(()) };
        let end = Instant::now() + QUIET_WITHIN;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(Reason::new("volume-programs-busy", "a program of a former agent works on a volume")
                        .because(format!("it has held {} for {QUIET_WITHIN:?}", self.at_work.display()))
                        .mend(format!("see which with `fuser -v {}`, and end it", self.at_work.display())));
                }
                Err(TryLockError::Error(error)) => return Err(self.no_lock(&error)),
            }
        }
    }

    /// Runs a program to its end, and gives what it wrote.
    ///
    /// # Errors
    /// When it is missing, takes too long or complains: the reason repeats its words.
    pub async fn run(&self, program: Program, arguments: &[&OsStr]) -> Result<String, Reason> {
        let failed = |cause: String| {
            Reason::new("program-failed", format!("`{}` failed", line(program, arguments))).because(cause)
        };
        let lock = self.lock_file()?;
        if let Some(lock) = &lock {
            lock.lock_shared().map_err(|error| self.no_lock(&error))?;
        }
        let mut command = Command::new(program.name());
        command.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(lock.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            if is_missing { program.missing() } else { failed(error.to_string()) }
        })?;
        // Its copy of the lock goes with the child, not with us.
        drop(command);
        let ended = tokio::time::timeout(program.within(), child.wait_with_output()).await;
        let output = ended
            .map_err(|_| failed(format!("it did not end within {:?}", program.within())))?
            .map_err(|error| failed(error.to_string()))?;
        if output.status.code().is_some_and(|code| program.is_good(code)) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let complaint = String::from_utf8_lossy(complaint);
        let complaint: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let complaint: String = complaint.join(", ").chars().take(COMPLAINT_MAX_CHARS).collect();
        Err(failed(if complaint.is_empty() { output.status.to_string() } else { complaint }))
    }

    /// None: there is no directory for it, and so nothing that an agent has begun.
    fn lock_file(&self) -> Result<Option<File>, Reason> {
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.at_work) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.no_lock(&error)),
        }
    }

    fn no_lock(&self, error: &std::io::Error) -> Reason {
        super::failure::failed("lock", Path::new(&self.at_work), error)
    }
}

fn line(program: Program, arguments: &[&OsStr]) -> String {
    let mut words = vec![program.name().into()];
    words.extend(arguments.iter().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> (tempfile::TempDir, Programs) {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs::under(dir.path().join(".at-work"));
        (dir, programs)
    }

    #[tokio::test]
    async fn a_complaint_is_repeated_with_the_command_that_it_is_about() {
        let (dir, programs) = programs();
        let missing = dir.path().join("no such file");
        let reason = programs.run(Program::Losetup, &["-c".as_ref(), missing.as_ref()]).await.unwrap_err();
        assert!(reason.sentence.contains("losetup -c") && reason.cause.is_some(), "{reason}");
    }

    #[tokio::test]
    async fn whoever_opens_waits_for_a_program_that_outlived_its_agent() {
        let (dir, programs) = programs();
        programs.quiet().await.unwrap();
        let orphan = programs.lock_file().unwrap().unwrap();
        orphan.lock_shared().unwrap();
        let waiting = programs.clone();
        let mut waits = tokio::spawn(async move { waiting.quiet().await });
        let early = tokio::time::timeout(LOOK_EVERY * 5, &mut waits).await;
        assert!(early.is_err(), "it did not wait: {early:?}");
        drop(orphan);
        waits.await.unwrap().unwrap();
        drop(dir);
    }
}
