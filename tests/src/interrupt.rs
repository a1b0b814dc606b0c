//! Ctrl-C, SIGTERM and a closed terminal, for the programs in `bin/`: one thread waits for them, tidies up, and ends the
//! process.
//!
//! Without it, what a laboratory started is left to the next one: its daemons die with the thread that started them, but
//! shims, containers, mounts and namespaces stay. Tests do without: there, the next laboratory's sweep is soon enough.
//! Handlers, not a blocked mask: a mask would be inherited by every program that is started, and keep it from ending.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{process, thread};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::images;

/// What a shell reports for a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Set once stopping has begun.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt ends this process by way of `tidy`. `who` begins the lines on stderr.
///
/// # Errors
/// When the operating system gives no handler or no thread.
pub fn on_interrupt(who: &'static str, tidy: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("wait for the signals that stop us")?;
    let signals = {
        let _inside = runtime.enter();
        let handle = |kind| signal(kind).context("take the signals that stop us");
        [handle(SignalKind::interrupt())?, handle(SignalKind::terminate())?, handle(SignalKind::hangup())?]
    };
    thread::spawn(move || {
        runtime.block_on(any_of(signals));
        STOPPING.store(true, Ordering::SeqCst);
        eprintln!("\n{who}: stopping");
        images::interrupt_build();
        let code = match tidy() {
            Ok(()) => EXIT_INTERRUPTED,
            Err(error) => {
                eprintln!("{who}: {error:#}");
                1
            }
        };
        process::exit(code);
    });
    Ok(())
}

async fn any_of([mut interrupt, mut terminate, mut hangup]: [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// The outcome of a piece of work; never, once stopping has begun: what failed then failed because of it, and the process
/// is about to be ended.
pub fn unless_stopping<T>(outcome: T) -> T {
    while STOPPING.load(Ordering::SeqCst) {
        thread::park();
    }
    outcome
}
