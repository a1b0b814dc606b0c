//! The way into a guest: commands over ssh, on a link that no fault touches.
//!
//! Handshakes are dear under emulation, so one connection is kept open beside each guest and all commands share it; while it
//! is away, as during a boot, ssh makes one of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::seed::Keys;
use crate::process::{Process, Recipe, run};
use crate::wait::wait_for;

/// For one command. The slowest (an image that is unpacked) takes seconds on a quiet machine, ten times that on a busy one.
const COMMAND_WITHIN: Duration = Duration::from_secs(600);
/// A guest that is stopped answers nothing: how long ssh waits for its first word.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// ssh to one guest.
#[derive(Debug)]
pub struct Control {
    dir: PathBuf,
    key: PathBuf,
    address: String,
    /// The shared connection.
    master: Option<Process>,
}

impl Control {
    /// To the guest at `address`; its files lie in `dir`.
    ///
    /// # Errors
    /// When the guest's key cannot be written down.
    pub fn new(dir: &Path, keys: &Keys, address: &str) -> Result<Self> {
        fs::write(dir.join("known_hosts"), keys.known(address)?).context("write down the guest's key")?;
        Ok(Self { dir: dir.to_owned(), key: keys.own.clone(), address: address.to_owned(), master: None })
    }

    /// Runs a piece of shell in the guest and returns what it printed, trimmed.
    ///
    /// # Errors
    /// When it fails, or the guest does not answer: the error repeats its words.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = run(self.command(COMMAND_WITHIN).arg(script));
        Ok(output.with_context(|| format!("in guest {}", self.address))?.trim().to_owned())
    }

    /// Copies a file into the guest.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn copy(&self, from: &Path, to: &str, mode: &str) -> Result<()> {
        let file = File::open(from).with_context(|| format!("open {}", from.display()))?;
        let script = format!("cat >'{to}' && chmod {mode} '{to}'");
        let output = self.command(COMMAND_WITHIN).arg(script).stdin(file).output().context("start ssh")?;
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        anyhow::ensure!(output.status.success(), "copy {} to {to}: {words}", from.display());
        Ok(())
    }

    /// Waits until a piece of shell succeeds, and returns what it printed. A guest that does not answer is "not yet".
    ///
    /// # Errors
    /// After `deadline`, with what it said last.
    pub fn wait(&self, what: &str, deadline: Duration, script: &str) -> Result<String> {
        wait_for(what, deadline, || Ok(self.sh(script).map_err(|error| format!("{error:#}"))))
    }

    /// Opens the shared connection.
    ///
    /// # Errors
    /// When ssh cannot be started. One that does not come up is only slower.
    pub fn share(&mut self) -> Result<()> {
        self.unshare();
        let recipe = Recipe::new("ssh", "ssh", self.dir.join("ssh.log"));
        let options = self.options().into_iter().chain(["-M", "-N"].map(str::to_owned));
        self.master = Some(recipe.args(options).args([self.user()]).spawn()?);
        Ok(())
    }

    /// Closes it: before the guest goes.
    pub fn unshare(&mut self) {
        self.master = None;
        // Killed, it leaves the socket, which the next one would refuse to take.
        let _ = fs::remove_file(self.socket());
    }

    /// The command line by which a person gets in.
    pub fn by_hand(&self) -> String {
        format!("ssh {} {}", self.options().join(" "), self.user())
    }

    fn command(&self, within: Duration) -> Command {
        let mut command = Command::new("timeout");
        command.arg(within.as_secs().to_string()).arg("ssh").args(self.options()).arg(self.user());
        command
    }

    fn user(&self) -> String {
        format!("root@{}", self.address)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("ssh.sock")
    }

    fn options(&self) -> Vec<String> {
        let options = [
            format!("IdentityFile={}", self.key.display()),
            format!("UserKnownHostsFile={}", self.dir.join("known_hosts").display()),
            format!("ControlPath={}", self.socket().display()),
            format!("ConnectTimeout={}", CONNECT_WITHIN.as_secs()),
            "StrictHostKeyChecking=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        // Nothing of whoever runs this: neither their settings nor their agent.
        let none = ["-F", "/dev/null", "-a", "-x"].map(str::to_owned);
        none.into_iter().chain(options.into_iter().flat_map(|option| ["-o".to_owned(), option])).collect()
    }
}
