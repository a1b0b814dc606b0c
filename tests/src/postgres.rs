//! A private Postgres: its own cluster in a temporary folder, reached by a socket in that folder and by nothing else.
//!
//! Called by [`crate::lab`] and by the store's suite. Postgres refuses to run as root, so it runs as `postgres`
//! (Debian's package makes that user), or as `nobody`.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::User;

use crate::process::{Process, Recipe, run};
use crate::wait::wait_for;

/// Under a second on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The name of the one database.
const DATABASE: &str = "launchpad";

/// A running cluster. Dropping it kills it; its folder is the caller's to remove.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    dir: PathBuf,
}

impl Postgres {
    /// Makes a cluster in `dir`, starts it and creates an empty database.
    ///
    /// # Errors
    /// When Postgres is not installed, or refuses: the error repeats its words.
    pub fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let user = user()?;
        chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("give {} to {}", dir.display(), user.name))?;
        let programs = newest_programs()?;
        let data = dir.join("data");

        let mut initdb = as_user(&user.name, &programs.join("initdb"));
        // Nothing here must survive a power cut: no fsync, here and below.
        run(initdb
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=launchpad"])
            .arg(&data))?;

        let settings = format!("-c listen_addresses= -c unix_socket_directories={} -c fsync=off", dir.display());
        let recipe = Recipe::new("postgres", programs.join("postgres"), dir.join("postgres.log"));
        let recipe = recipe.as_user(&user.name).args(["-D".as_ref(), data.as_os_str()]).args(settings.split(' '));
        let mut process = recipe.spawn()?;
        let is_ready = programs.join("pg_isready");
        process.wait_ready(READY_WITHIN, || answers(&is_ready, dir))?;
        let postgres = Self { process, dir: dir.to_owned() };
        let mut createdb = Command::new(programs.join("createdb"));
        run(createdb.arg("--host").arg(dir).args(["--username=launchpad", DATABASE]))?;
        Ok(postgres)
    }

    /// What `--database-url` must be.
    pub fn url(&self) -> String {
        let socket = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://launchpad@localhost/{DATABASE}?host={socket}")
    }

    /// SIGKILL, as a power cut would.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts a killed cluster again, and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        let is_ready = newest_programs()?.join("pg_isready");
        wait_for("Postgres to come back", READY_WITHIN, || {
            // A killed Postgres's children hold its shared memory a moment longer, and a new one refuses meanwhile.
            if !self.process.is_running()? {
                self.process.restart()?;
            }
            Ok(answers(&is_ready, &self.dir))
        })
    }
}

/// Whether the cluster whose socket lies in `dir` takes connections.
fn answers(is_ready: &Path, dir: &Path) -> Result<(), String> {
    run(Command::new(is_ready).arg("--host").arg(dir)).map(drop).map_err(|error| error.to_string())
}

fn user() -> Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).with_context(|| format!("look up user {name}"))? {
            return Ok(user);
        }
    }
    anyhow::bail!("neither a user postgres nor nobody: install the package postgresql")
}

/// setpriv rather than su: no shell, no PAM.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    // initdb looks back at the folder that it was started in, which may be closed to this user.
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program).current_dir("/");
    command
}

/// Debian keeps each version's programs apart and not on the path.
fn newest_programs() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(root).context("look for Postgres; packaging/setup.sh installs it")?;
    let numbers = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let with_server = numbers.filter(|number| root.join(format!("{number}/bin/initdb")).exists());
    let newest = with_server.max().with_context(|| format!("no Postgres server in {}", root.display()))?;
    Ok(root.join(format!("{newest}/bin")))
}
