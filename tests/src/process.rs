//! One program under a test's control: started with a log file, killed without mercy, started again as it was.
//!
//! Every daemon of the laboratory is a [`Process`]. The kernel kills it when the thread that started it ends
//! (`setpriv --pdeathsig`), so that nothing outlives a test that was itself killed: start daemons from the
//! test's own thread, not from a helper thread that ends first.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// How long a program gets to end after SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// Lines of a log that an error repeats.
const LOG_TAIL_LINES: usize = 20;
/// Proxies are for the world outside; the laboratory has none.
const PROXY_VARIABLES: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// How to start a program: kept, so that it can be started again in the same way.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    namespace: Option<PathBuf>,
    user: Option<String>,
    log: PathBuf,
}

impl Recipe {
    /// A recipe for `program`, whose output is appended to `log`. `name` is for errors.
    pub fn new(name: &str, program: impl Into<OsString>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            namespace: None,
            user: None,
            log: log.into(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it in the network namespace at `path`; `None` stays in the caller's.
    #[must_use]
    pub fn in_namespace(mut self, path: Option<&Path>) -> Self {
        self.namespace = path.map(Path::to_owned);
        self
    }

    /// Starts it as this user and its group, without any supplementary group.
    #[must_use]
    pub fn as_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the log cannot be opened or `setpriv` not be started. A program that cannot be executed ends at once
    /// instead, and says so in its log.
    pub fn spawn(&self) -> Result<Process> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open the log {}", self.log.display()))?;
        let child = self.command(&log)?.spawn().with_context(|| format!("start {} by setpriv", self.name))?;
        Ok(Process { recipe: self.clone(), child, exit: None })
    }

    /// `nsenter` rather than `ip netns exec`, which remounts /sys and so hides the cgroups from dockerd.
    fn command(&self, log: &File) -> Result<Command> {
        let mut command = match &self.namespace {
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display())).arg("setpriv");
                command
            }
            None => Command::new("setpriv"),
        };
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).args(&self.arguments);
        // What a developer's shell sets for our programs is not meant for these.
        let ours =
            env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("LAUNCHPAD_"));
        for variable in ours.chain(PROXY_VARIABLES.map(OsString::from)) {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A group of its own: Ctrl-C in a terminal reaches the demo, which stops things in the right order.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).process_group(0);
        Ok(command)
    }
}

/// A program that was started. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    child: Child,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Its process id: `setpriv` and `nsenter` replace themselves by the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().with_context(|| format!("look after {}", self.recipe.name))?;
        }
        Ok(self.exit.is_none())
    }

    /// How it ended; `None`: it has not.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn exit(&mut self) -> Result<Option<ExitStatus>> {
        Ok(if self.is_running()? { None } else { self.exit })
    }

    /// SIGKILL, and gone when this returns. Killing it twice is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running()? {
            self.child.kill().with_context(|| format!("kill {}", self.recipe.name))?;
            self.exit = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, and SIGKILL if it has not ended after ten seconds. Returns how it ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(status) = self.wait(TERM_GRACE) {
            return Ok(status);
        }
        self.kill()?;
        self.exit.context("a killed process has an exit status")
    }

    /// Sends a signal, if it still runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_running()? {
            let pid = Pid::from_raw(i32::try_from(self.pid())?);
            kill(pid, signal).with_context(|| format!("send {signal} to {}", self.recipe.name))?;
        }
        Ok(())
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.recipe.name);
        wait_for(&what, deadline, || {
            self.is_running()?;
            Ok(self.exit.ok_or_else(|| "it runs".to_owned()))
        })
    }

    /// Kills it if it runs, and starts it again as it was.
    ///
    /// # Errors
    /// As [`Recipe::spawn`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        *self = self.recipe.spawn()?;
        Ok(())
    }

    /// Waits until `ready` holds, or until the program ends, which is an error that repeats the end of its log.
    ///
    /// # Errors
    /// When it ends first, or is not ready after `deadline`.
    pub fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut() -> Result<(), String>) -> Result<()> {
        let name = self.recipe.name.clone();
        let outcome = wait_for(&format!("{name} to be ready"), deadline, || {
            if !self.is_running()? {
                let how = self.exit.map(describe).unwrap_or_default();
                bail!("{name} ended {how} before it was ready");
            }
            Ok(ready())
        });
        outcome.with_context(|| format!("the end of {}:\n{}", self.recipe.log.display(), self.log_tail()))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.recipe.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_else(|error| format!("(no log: {error})"));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: what cannot be killed now is found by `sweep`.
        let _ = self.kill();
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => String::new(),
    }
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not succeed: the error repeats what it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{name} ended {}: {words}", describe(output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        env::temp_dir().join(format!("launchpad-process-{}-{name}.log", std::process::id()))
    }

    #[test]
    fn a_program_that_dies_early_takes_its_log_into_the_error() {
        let path = log("dies");
        let mut process =
            Recipe::new("a shell", "sh", &path).args(["-c", "echo the disk is full; exit 3"]).spawn().unwrap();
        let error = process.wait_ready(Duration::from_secs(10), || Err("silent".to_owned())).unwrap_err();
        let text = format!("{error:#}");
        fs::remove_file(path).unwrap();
        assert!(text.contains("ended with exit code 3") && text.contains("the disk is full"), "{text}");
    }

    #[test]
    fn a_killed_program_starts_again_as_it_was() {
        let path = log("again");
        let mut process = Recipe::new("sleep", "sleep", &path).args(["1000"]).spawn().unwrap();
        let first = process.pid();
        process.restart().unwrap();
        assert_ne!(process.pid(), first);
        assert!(process.is_running().unwrap());
        process.kill().unwrap();
        assert!(!process.is_running().unwrap());
        fs::remove_file(path).unwrap();
    }
}
