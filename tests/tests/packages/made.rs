//! Packages to test: made by the very script that makes those that are shipped, of small programs instead of ours. What a
//! package does to its host is in its scripts, and those are the real ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::programs;
use tempfile::TempDir;

/// What is packaged.
pub(crate) const PACKAGES: [&str; 3] = ["launchpad", "launchpad-agent", "launchpad-coordinator"];

/// A program that every Debian has and that runs until it is killed, when told to.
const STAND_IN: &str = "/usr/bin/sleep";

/// The version that Cargo.toml gives everything, and one after it.
pub(crate) const RELEASED: &str = env!("CARGO_PKG_VERSION");
pub(crate) const NEXT: &str = "9.0.0";

/// The manual of all programs, as it is shipped.
fn manual() -> Result<&'static Path> {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    if let Some(dir) = MADE.get() {
        return Ok(dir.path());
    }
    let dir = TempDir::new()?;
    let status = Command::new(programs::binary("manual")?).arg(dir.path()).status()?;
    ensure!(status.success(), "manual: {status}");
    Ok(MADE.get_or_init(|| dir).path())
}

/// One version of all packages.
pub(crate) struct Made {
    dir: PathBuf,
    /// Goes with them, if they were made here.
    _made_in: Option<TempDir>,
}

impl Made {
    /// Of that version, and of programs that are told apart by it.
    pub(crate) fn of(version: &str) -> Result<Self> {
        let (programs, out) = (TempDir::new()?, TempDir::new()?);
        for package in PACKAGES {
            let program = programs.path().join(package);
            fs::copy(STAND_IN, &program)?;
            // Behind the end of an ELF file nobody reads.
            let mut bytes = fs::read(&program)?;
            bytes.extend(version.bytes());
            fs::write(&program, bytes)?;
        }
        make(programs.path(), out.path(), Some(version))?;
        Ok(Self { dir: out.path().to_owned(), _made_in: Some(out) })
    }

    /// Those of a directory.
    pub(crate) fn already_in(dir: PathBuf) -> Self {
        Self { dir, _made_in: None }
    }

    /// The file of a package for Debian.
    pub(crate) fn deb(&self, package: &str) -> Result<PathBuf> {
        self.find(&format!("{package}_"), ".deb")
    }

    /// The file of a package for the others. A digit follows, because `launchpad-` begins two other names.
    pub(crate) fn rpm(&self, package: &str) -> Result<PathBuf> {
        let found = ('0'..='9').find_map(|digit| self.find(&format!("{package}-{digit}"), ".rpm").ok());
        found.with_context(|| format!("no rpm of {package} in {}", self.dir.display()))
    }

    fn find(&self, begins: &str, ends: &str) -> Result<PathBuf> {
        let paths = fs::read_dir(&self.dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut fitting = paths.filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(begins) && name.ends_with(ends)
        });
        fitting.next().with_context(|| format!("no {begins}…{ends} in {}", self.dir.display()))
    }
}

/// Runs `packages.sh`.
pub(crate) fn make(programs: &Path, out: &Path, version: Option<&str>) -> Result<()> {
    let made = Command::new(programs::workspace().join("packaging/packages.sh"))
        .args([programs, manual()?, out])
        .args(version)
        .output()?;
    ensure!(made.status.success(), "packages.sh: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
