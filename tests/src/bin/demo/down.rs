//! Stopping: from a signal, from another terminal, or after a demo that was killed. One way for all three.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use launchpad_tests::wait::wait_until;
use launchpad_tests::{kernel, lab, sweep};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{RUN_ID, directory};

/// Removing containers, engines and files takes a few seconds on a quiet machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(90);
/// `demo down`.
pub(crate) fn down() -> Result<ExitCode> {
    let dir = directory();
    if let Some(pid) = lab::owner(&dir)? {
        println!("demo: asking process {pid} to stop");
        // It may have ended since: then there is nobody to wait for.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        wait_until("the demo to stop", STOPPED_WITHIN, || Ok(lab::owner(&dir)?.is_none()))?;
    }
    remove(&dir)?;
    println!(
        "demo: nothing of it runs; the built images stay in {}",
        launchpad_tests::programs::image_cache().display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Stops and removes the demo of this very process.
pub(crate) fn tidy() -> Result<()> {
    remove(&directory())?;
    // Still locked, by this process, until it ends: nobody can come in between.
    let _ = fs::remove_file(directory().with_extension("lock"));
    eprintln!("demo: stopped, nothing left behind");
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    sweep::sweep(dir, RUN_ID)?;
    // The agent's group above all tenants'; it stays where another agent on this machine has bots in it.
    kernel::remove_empty_cgroups("/launchpad");
    Ok(())
}
