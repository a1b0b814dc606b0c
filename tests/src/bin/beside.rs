//! `beside COMMAND…`: runs a command beside a private Docker engine and a private Postgres, inside the engine's own
//! network namespace, and takes both away again.
//!
//! `make test` runs the crates' suites with it: those of agent and store want a real engine and a real Postgres, which
//! they find by three variables, and do not know this laboratory. The command's exit code becomes ours.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use launchpad_tests::lab::Lab;
use launchpad_tests::postgres::Postgres;

/// The socket of the engine, for `agent/tests/docker`.
const DOCKER: &str = "LAUNCHPAD_TEST_DOCKER";
/// The echo bot's image there, by digest.
const IMAGE: &str = "LAUNCHPAD_TEST_IMAGE";
/// The database, for `coordinator/tests/store_postgres.rs`.
const POSTGRES: &str = "LAUNCHPAD_TEST_POSTGRES_URL";

fn main() -> Result<ExitCode> {
    let command: Vec<OsString> = env::args_os().skip(1).collect();
    anyhow::ensure!(!command.is_empty(), "usage: beside COMMAND [ARGUMENT…]");
    let mut lab = Lab::enter(&["echo"])?;
    let image = lab.image("echo")?;
    let postgres = Postgres::start(&lab.dir().join("postgres"))?;
    let host = lab.add_host()?;
    let status = Command::new("nsenter")
        .arg(format!("--net={}", host.net.path().display()))
        .args(&command)
        .env(DOCKER, host.engine.socket())
        .env(IMAGE, image)
        .env(POSTGRES, postgres.url())
        .status()
        .with_context(|| format!("run {}", command[0].display()))?;
    drop(postgres);
    lab.close()?;
    // A signal has no code; to the caller it is a failure like any other.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
