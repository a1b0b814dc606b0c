//! An agent under a test's control: enrolled once, run, killed, run again on the same data.
//!
//! Called by [`crate::lab`] and the demo. It lives in its host's network namespace beside the host's dockerd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::coordinator::Coordinator;
use crate::process::{Process, Recipe, run};
use crate::programs;
use crate::wait::wait_for;

/// Handshake, hello and first report take under a second on a quiet machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);

/// Where an agent keeps its data, and what it is to use.
#[derive(Debug, Clone)]
pub struct Place {
    /// The host's name.
    pub name: String,
    /// `--data-dir`.
    pub data: PathBuf,
    /// `--run-dir`.
    pub run: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// dockerd's socket.
    pub docker: PathBuf,
    /// The host's network namespace.
    pub namespace: PathBuf,
    /// More environment of `run`, such as a kill point.
    pub environment: BTreeMap<String, String>,
}

impl Place {
    /// The agent of the host `name` with its files in `dir`.
    pub fn new(name: &str, dir: &Path, docker: &Path, namespace: &Path) -> Self {
        Self {
            name: name.to_owned(),
            data: dir.join("agent"),
            run: dir.join("agent-run"),
            log: dir.join("agent.log"),
            docker: docker.to_owned(),
            namespace: namespace.to_owned(),
            environment: BTreeMap::new(),
        }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    place: Place,
    /// How long its log was when the process was started.
    log_before_bytes: u64,
}

impl Agent {
    /// Enrols the host if it never was, and runs its agent.
    ///
    /// # Errors
    /// When enrolment is refused: the error repeats its words.
    pub fn start(place: Place, coordinator: &Coordinator) -> Result<Self> {
        if !place.data.exists() {
            enroll(&place, &coordinator.host_token(&place.name)?)?;
        }
        Self::run(place)
    }

    /// Runs the agent of a host that is enrolled already.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(place: Place) -> Result<Self> {
        let log_before_bytes = log_bytes(&place);
        Ok(Self { process: recipe(&place)?.spawn()?, place, log_before_bytes })
    }

    /// Waits until the coordinator counts the host as connected.
    ///
    /// # Errors
    /// When the agent ends first, or the host is not connected in time.
    pub fn wait_connected(&mut self, coordinator: &Coordinator) -> Result<()> {
        let (api, name) = (coordinator.api(), self.place.name.clone());
        self.process.wait_ready(CONNECTED_WITHIN, || {
            let hosts = api.get("/hosts").and_then(crate::api::Answer::success).map_err(|error| error.to_string())?;
            let items = hosts["items"].as_array().cloned().unwrap_or_default();
            let host = items.iter().find(|host| host["name"] == name.as_str());
            match host {
                Some(host) if host["connected"] == true => Ok(()),
                Some(host) => Err(host.to_string()),
                None => Err(format!("no host named {name}")),
            }
        })
    }

    /// Where it keeps its data; what is changed here counts from the next restart.
    pub fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL; containers go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts a killed agent again on the same data.
    ///
    /// # Errors
    /// As [`Agent::run`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.log_before_bytes = log_bytes(&self.place);
        // Afresh from the place: a test may have changed its environment meanwhile.
        self.process = recipe(&self.place)?.spawn()?;
        Ok(())
    }

    /// Waits until its log holds `text`, said since it was started last.
    ///
    /// # Errors
    /// After `deadline`, with the end of the log.
    pub fn wait_for_log(&self, text: &str, deadline: Duration) -> Result<()> {
        wait_for(&format!("`{text}` in the agent's log"), deadline, || {
            Ok(if self.log_since_start().contains(text) { Ok(()) } else { Err(self.process.log_tail()) })
        })
    }

    /// What it said since it was started last.
    pub fn log_since_start(&self) -> String {
        let log = std::fs::read(&self.place.log).unwrap_or_default();
        let since = usize::try_from(self.log_before_bytes).ok().and_then(|bytes| log.get(bytes..));
        String::from_utf8_lossy(since.unwrap_or_default()).into_owned()
    }
}

fn log_bytes(place: &Place) -> u64 {
    std::fs::metadata(&place.log).map_or(0, |log| log.len())
}

fn recipe(place: &Place) -> Result<Recipe> {
    let recipe = Recipe::new("launchpad-agent", programs::binary("launchpad-agent")?, &place.log)
        .args(["run".as_ref(), "--data-dir".as_ref(), place.data.as_os_str()])
        .args(["--run-dir".as_ref(), place.run.as_os_str()])
        .args(["--upgrade-dir".as_ref(), place.data.join("upgrade").as_os_str()])
        .args(["--docker".as_ref(), place.docker.as_os_str()])
        .in_namespace(Some(&place.namespace));
    Ok(place.environment.iter().fold(recipe, |recipe, (name, value)| recipe.env(name, value)))
}

/// Enrols a host with a join token, from inside the host's network.
///
/// # Errors
/// When it is refused: the error repeats the agent's words.
pub fn enroll(place: &Place, token: &str) -> Result<()> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", place.namespace.display())).arg(programs::binary("launchpad-agent")?);
    command.args([
        "enroll",
        "--coordinator",
        &Coordinator::enroll_endpoint(),
        "--token",
        token,
        "--name",
        &place.name,
    ]);
    command.arg("--data-dir").arg(&place.data).arg("--docker").arg(&place.docker);
    run(&mut command).map(drop)
}
