//! Stopping: from a signal, from another terminal, or after a demo that was killed. One way for all three.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, process, thread};

use anyhow::{Context as _, Result};
use launchpad_tests::wait::wait_until;
use launchpad_tests::{images, kernel, lab, sweep};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::{RUN_ID, directory};

/// Removing containers, engines and files takes a few seconds on a quiet machine.
const STOPPED_WITHIN: Duration = Duration::from_secs(90);
/// What a shell reports for a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Set once stopping has begun: what fails from then on fails because of it, and is not worth a word.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Whether stopping has begun.
pub(crate) fn is_stopping() -> bool {
    STOPPING.load(Ordering::SeqCst)
}

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

/// From now on Ctrl-C, SIGTERM and a closed terminal end the demo by way of `tidy`. Call it before any other thread
/// starts: the signals are blocked, and one thread waits for them.
pub(crate) fn on_interrupt(tidy: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("block the signals that stop the demo")?;
    thread::spawn(move || {
        // It fails only for a set that is no set.
        let Ok(_signal) = signals.wait() else { return };
        STOPPING.store(true, Ordering::SeqCst);
        eprintln!("\ndemo: stopping");
        images::interrupt_build();
        let code = match tidy() {
            Ok(()) => EXIT_INTERRUPTED,
            Err(error) => {
                eprintln!("demo: {error:#}");
                1
            }
        };
        process::exit(code);
    });
    Ok(())
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
