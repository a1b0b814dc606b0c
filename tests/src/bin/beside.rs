//! `beside COMMAND…`: runs a command beside a private Docker engine and a private Postgres, inside the engine's own
//! network namespace, takes both away again, and says how long it took.
//!
//! `make test` runs the crates' suites with it: those of agent and store want a real engine and a real Postgres, which
//! they find by three variables, and do not know this laboratory. The command's exit code becomes ours. An interrupt ends
//! the command and all that it started, and sweeps what the command's own laboratories left behind as well.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::interrupt;
use launchpad_tests::lab::{self, Lab, Run};
use launchpad_tests::postgres::Postgres;
use launchpad_tests::wait::{Stopwatch, wait_until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The socket of the engine, for `agent/tests/docker`.
const DOCKER: &str = "LAUNCHPAD_TEST_DOCKER";
/// The echo bot's image there, by digest.
const IMAGE: &str = "LAUNCHPAD_TEST_IMAGE";
/// The database, for `coordinator/tests/store_postgres.rs`.
const POSTGRES: &str = "LAUNCHPAD_TEST_POSTGRES_URL";
/// cargo and a suite end at once on SIGTERM; the rest is a busy machine.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// The command's process group while it runs, or 0.
static COMMAND_GROUP: AtomicI32 = AtomicI32::new(0);

fn main() -> Result<ExitCode> {
    let command: Vec<OsString> = env::args_os().skip(1).collect();
    anyhow::ensure!(!command.is_empty(), "usage: beside COMMAND [ARGUMENT…]");
    let run = Run::fresh()?;
    let remains = run.remains();
    interrupt::on_interrupt("beside", move || {
        end_command()?;
        remains.sweep()?;
        // The suites have died with the command, and their laboratories are nobody's.
        lab::sweep_stale(&env::temp_dir())
    })?;
    let clock = Stopwatch::start();
    let status = interrupt::unless_stopping(run_beside(run, &command))?;
    eprintln!("beside: {} after {:.0} s", status, clock.elapsed().as_secs_f64());
    // A signal has no code; to the caller it is a failure like any other.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn run_beside(run: Run, command: &[OsString]) -> Result<ExitStatus> {
    let mut lab = Lab::enter_as(run, &["echo"])?;
    let image = lab.image("echo")?;
    let postgres = Postgres::start(&lab.dir().join("postgres"))?;
    let host = lab.add_host()?;
    let mut child = Command::new("nsenter")
        .arg(format!("--net={}", host.net.path().display()))
        .args(command)
        .env(DOCKER, host.engine.socket())
        .env(IMAGE, image)
        .env(POSTGRES, postgres.url())
        // A group of its own, so that an interrupt can end all of it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", command[0].display()))?;
    COMMAND_GROUP.store(i32::try_from(child.id())?, Ordering::SeqCst);
    let status = child.wait().with_context(|| format!("wait for {}", command[0].display()));
    COMMAND_GROUP.store(0, Ordering::SeqCst);
    let status = interrupt::unless_stopping(status)?;
    drop(postgres);
    lab.close()?;
    Ok(status)
}

/// SIGTERM to all of the command, and SIGKILL to what is left of it after a while.
fn end_command() -> Result<()> {
    let group = COMMAND_GROUP.load(Ordering::SeqCst);
    if group == 0 {
        return Ok(());
    }
    let group = Pid::from_raw(group);
    // It may have ended since.
    let _ = killpg(group, Signal::SIGTERM);
    let ended = wait_until("the command to end", COMMAND_ENDS_WITHIN, || Ok(killpg(group, None).is_err()));
    if ended.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
        wait_until("the killed command to be gone", COMMAND_ENDS_WITHIN, || Ok(killpg(group, None).is_err()))?;
    }
    Ok(())
}
