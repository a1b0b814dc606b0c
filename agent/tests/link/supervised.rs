//! The program itself, as systemd runs it: what it says when it is ready, at work and ending; and what it refuses to begin.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use launchpad_agent::identity::IdentityFiles;
use launchpad_agent::identity::machine::this_machine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{DEADLINE, World};

/// Four beats in each: one comes well within the deadline, and the test waits for it, not for the time.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A host that has joined, on a machine without Docker and without its coordinator.
struct Host {
    dir: tempfile::TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (world, nobody) = (World::new(), "127.0.0.1:1".parse().unwrap());
        let files = IdentityFiles::open(&dir.path().join("data")).unwrap();
        files.store(&world.identity(Duration::ZERO, &[nobody], nobody)).unwrap();
        files.sealing_key_or_new().unwrap();
        Self { dir }
    }

    fn files(&self) -> IdentityFiles {
        IdentityFiles::open(&self.dir.path().join("data")).unwrap()
    }

    fn command(&self, verb: &str) -> Command {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_launchpad-agent"));
        command.arg(verb).arg("--run-dir").arg(at("run")).stdin(Stdio::null());
        command.env("LAUNCHPAD_AGENT_DATA_DIR", at("data")).env("LAUNCHPAD_AGENT_DOCKER", at("no-docker.sock"));
        command
    }

    /// Starts the agent under a test in systemd's place.
    fn run(&self) -> (Running, UnixDatagram) {
        let path = self.dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut command = self.command("run");
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        (Running(command.stderr(Stdio::null()).spawn().unwrap()), systemd)
    }

    fn refused(&self) -> String {
        refused(self.command("run").output().unwrap())
    }
}

/// The one line of a refusal.
fn refused(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    text
}

/// The next message that says this; others before it are let go.
fn hear(systemd: &UnixDatagram, what: &str) -> String {
    let end = tokio::time::Instant::now() + DEADLINE;
    let mut buffer = [0; 4096];
    while tokio::time::Instant::now() < end {
        let bytes = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("`{what}` did not come: {error}"));
        let said = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if said.lines().any(|line| line == what) {
            return said;
        }
    }
    panic!("`{what}` did not come");
}

#[test]
fn it_is_ready_when_its_socket_answers_and_beats_and_says_that_it_ends() {
    let host = Host::new();
    let (mut agent, systemd) = host.run();
    let ready = hear(&systemd, "READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    // Neither Docker nor the coordinator is there.
    let status = host.command("status").output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    hear(&systemd, "WATCHDOG=1");
    hear(&systemd, "WATCHDOG=1");
    kill(Pid::from_raw(i32::try_from(agent.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    hear(&systemd, "STOPPING=1");
    assert_eq!(agent.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_agent_on_the_same_host_is_refused_and_told_who_the_first_is() {
    let host = Host::new();
    let (agent, systemd) = host.run();
    hear(&systemd, "READY=1");
    let line = host.refused();
    assert!(line.contains(&format!("pid {}", agent.0.id())) && line.contains("stop it first"), "{line}");
}

#[test]
fn an_agent_on_a_copied_disk_does_not_begin() {
    if this_machine().is_none() {
        // Nothing could be compared, here as there.
        return;
    }
    let host = Host::new();
    host.files().claim(Some("0123456789abcdef0123456789abcdef")).unwrap();
    let line = host.refused();
    assert!(line.contains("another machine") && line.contains("enroll --replace"), "{line}");
}

#[test]
fn the_environment_counts_before_the_file_and_the_command_line_before_both() {
    let host = Host::new();
    let (_agent, systemd) = host.run();
    hear(&systemd, "READY=1");
    let file = host.dir.path().join("agent.toml");
    let elsewhere = |line: &str, more: &[&str]| {
        std::fs::write(&file, line).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_launchpad-agent"));
        command.arg("status").args(more).env("LAUNCHPAD_AGENT_CONFIG", &file);
        command
    };
    let run: &Path = &host.dir.path().join("run");
    let wrong = "run_dir = \"/nowhere\"\n";
    let right = format!("run_dir = \"{}\"\n", run.display());
    let succeeds = |mut command: Command| command.output().unwrap().status.success();
    assert!(succeeds(elsewhere(&right, &[])));
    assert!(!succeeds(elsewhere(wrong, &[])));
    let mut by_environment = elsewhere(wrong, &[]);
    by_environment.env("LAUNCHPAD_AGENT_RUN_DIR", run);
    assert!(succeeds(by_environment));
    let mut by_word = elsewhere(wrong, &["--run-dir", run.to_str().unwrap()]);
    by_word.env("LAUNCHPAD_AGENT_RUN_DIR", "/nowhere");
    assert!(succeeds(by_word));
}

#[test]
fn a_file_with_a_wrong_type_is_refused_with_its_line_and_an_example() {
    let host = Host::new();
    let file = host.dir.path().join("agent.toml");
    std::fs::write(&file, "# ours\nsubnet_pool = 172\n").unwrap();
    let line = refused(host.command("run").arg("--config").arg(&file).output().unwrap());
    assert!(line.contains("agent.toml, line 2: `subnet_pool` is a number, where a string is expected"), "{line}");
    assert!(line.contains("subnet_pool = \"172.29.0.0/16\""), "{line}");
    std::fs::write(&file, "[gate]\nresolver = []\n").unwrap();
    let line = refused(host.command("run").arg("--config").arg(&file).output().unwrap());
    assert!(line.contains("line 2") && line.contains("did you mean `gate.resolvers`?"), "{line}");
}
