//! The real dockerd: asked on its socket, restarted by systemd.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::ListContainersOptions;
use launchpad_protocol::reason::Reason;
use nix::unistd::User;
use tokio::process::Command;
use tokio::time::timeout;

use super::Dockerd;
use crate::execute::engine::{CALL_TIMEOUT, Engine};
use crate::execute::facts::EngineFacts;

/// systemd made this directory where it is what runs the machine.
pub(in crate::enroll) const SYSTEMD: &str = "/run/systemd/system";

/// How long dockerd may take to end and to start: it loads every image's layers first.
const RESTART_WITHIN: Duration = Duration::from_secs(180);

/// How long `useradd` may take: it waits for whoever else changes users.
const USER_WITHIN: Duration = Duration::from_secs(30);

/// This host.
#[derive(Debug)]
pub struct Machine {
    engine: Engine,
}

impl Machine {
    /// With dockerd at that socket.
    #[must_use]
    pub fn with(docker: &Path) -> Self {
        Self { engine: Engine::behind(docker) }
    }
}

#[async_trait]
impl Dockerd for Machine {
    async fn facts(&self) -> Result<EngineFacts, Reason> {
        EngineFacts::read(&self.engine).await.map_err(|error| error.reason().clone())
    }

    async fn containers(&self) -> Result<usize, Reason> {
        let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        let listed = self.engine.ask(CALL_TIMEOUT, |docker| async move { docker.list_containers(Some(all)).await });
        let listed = listed.await.map_err(|error| error.reason().clone())?;
        let listed = listed.map_err(|error| self.engine.failed("list containers", &error).reason().clone())?;
        Ok(listed.len())
    }

    async fn add_user(&self, name: &str) -> Result<(), Reason> {
        if matches!(User::from_name(name), Ok(Some(_))) {
            return Ok(());
        }
        let words = [
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
        ];
        run("useradd", &[&words[..], &[name]].concat(), USER_WITHIN).await
    }

    async fn restart(&self) -> Result<(), Reason> {
        if !Path::new(SYSTEMD).exists() {
            return Err(Reason::new("no-systemd", "Docker cannot be restarted from here")
                .because("systemd does not run this machine")
                .mend("configure Docker by hand: \"live-restore\" and \"userns-remap\" in /etc/docker/daemon.json"));
        }
        run("systemctl", &["restart", "docker.service"], RESTART_WITHIN).await
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it is missing, takes too long or complains: the reason repeats its words.
pub(in crate::enroll) async fn run(program: &str, words: &[&str], within: Duration) -> Result<(), Reason> {
    let failed = |cause: String| {
        Reason::new("program-failed", format!("`{program} {}` failed", words.join(" ")))
            .because(cause)
            .mend("run it by hand to see why, then this command again")
    };
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(within, command.output()).await {
        Err(_) => Err(failed(format!("it did not end within {} s", within.as_secs()))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))),
    }
}
