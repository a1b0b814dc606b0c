//! Too many processes, threads, open files; too much processor.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use launchpad_hostile::Try;

use crate::place::Place;
use crate::runner::SELF;
use crate::sys::{Page, sys};

/// How far above its bound a bomb goes before it stops by itself. What the rest of the bot uses makes it
/// less.
const ABOVE: u64 = 64;
/// A thread that only waits needs next to nothing.
const STACK_BYTES: usize = 16 * 1024;
/// How long every core is asked for.
const BURN_FOR: Duration = Duration::from_secs(1);
/// More than any plan's cores.
const BURNING_THREADS: usize = 8;
/// A quota is kept over periods of 100 ms; the last one may be overdrawn on each core.
const CPU_ABOVE_PER_CENT: u64 = 50;

/// Starts processes that wait for their end.
pub(crate) fn forks(place: &Place) -> Vec<Try> {
    let bound = place.orders.bounds.pids;
    let what = format!("starts {} processes", bound + ABOVE);
    let (theirs, ours) = match io::pipe() {
        Ok(ends) => ends,
        Err(error) => return vec![Try::untried(what, error)],
    };
    let mut minions: Vec<Child> = Vec::new();
    let mut stopped = None;
    while stopped.is_none() && (minions.len() as u64) < bound + ABOVE {
        let started = theirs.try_clone().and_then(|end| {
            Command::new(SELF).args(["minion", "wait"]).stdin(OwnedFd::from(end)).stdout(Stdio::null()).spawn()
        });
        match started {
            Ok(minion) => minions.push(minion),
            Err(error) => stopped = Some(error),
        }
    }
    let count = minions.len();
    // The other end of their input: they read its end, and end.
    drop(ours);
    for minion in &mut minions {
        let _ = minion.wait();
    }
    vec![verdict(what, count, stopped)]
}

/// What a minion does.
pub(crate) fn wait_for_the_end() -> ExitCode {
    let _ = io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

/// Starts threads that wait for their end.
pub(crate) fn threads(place: &Place) -> Vec<Try> {
    let bound = place.orders.bounds.pids;
    let what = format!("starts {} threads", bound + ABOVE);
    let over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut stopped = None;
    while stopped.is_none() && (threads.len() as u64) < bound + ABOVE {
        let over = Arc::clone(&over);
        let wait = move || {
            while !over.load(Ordering::Relaxed) {
                thread::park();
            }
        };
        match thread::Builder::new().stack_size(STACK_BYTES).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(error) => stopped = Some(error),
        }
    }
    let count = threads.len();
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.thread().unpark();
        let _ = thread.join();
    }
    vec![verdict(what, count, stopped)]
}

/// Opens files; only a limit of its own may stop it, never one of the host.
pub(crate) fn files(place: &Place) -> Vec<Try> {
    let bound = place.orders.bounds.open_files;
    let what = format!("opens {} files", bound + ABOVE);
    let mut files = Vec::new();
    let mut stopped = None;
    while stopped.is_none() && (files.len() as u64) < bound + ABOVE {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => stopped = Some(error),
        }
    }
    let count = files.len();
    drop(files);
    vec![match stopped {
        Some(error) if error.raw_os_error() == Some(libc::ENFILE) => {
            Try::reached(what, format!("{count}, then the whole host had no more: {error}"))
        }
        stopped => verdict(what, count, stopped),
    }]
}

fn verdict(what: String, count: usize, stopped: Option<io::Error>) -> Try {
    match stopped {
        Some(error) => Try::contained(what, format!("{count}, then: {error}")),
        None => Try::reached(what, format!("{count}, and nothing stopped it")),
    }
}

/// Spins on several threads, and asks how much processor time they got.
pub(crate) fn cpu(place: &Place) -> Vec<Try> {
    let bound = place.orders.bounds.cpu_millis;
    let what = format!("uses {BURNING_THREADS} cores for {} ms", BURN_FOR.as_millis());
    let over = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(BURNING_THREADS + 1));
    let before = used_millis();
    let burning: Vec<_> = (0..BURNING_THREADS)
        .map(|_| {
            let (over, start) = (Arc::clone(&over), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    start.wait();
    thread::sleep(BURN_FOR);
    over.store(true, Ordering::Relaxed);
    for thread in burning {
        let _ = thread.join();
    }
    let used = used_millis() - before;
    let told = format!("{used} ms of processor time, of {bound} in a second");
    let within = bound + bound * CPU_ABOVE_PER_CENT / 100;
    vec![if used <= within { Try::contained(what, told) } else { Try::reached(what, told) }]
}

/// Processor time of this process, in milliseconds.
fn used_millis() -> u64 {
    let mut page = Page::new();
    let _ = sys!(SYS_clock_gettime, libc::CLOCK_PROCESS_CPUTIME_ID, &mut page);
    let field = |at: usize| {
        let bytes = page.bytes(at + 8).get(at..).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    field(0) * 1000 + field(8) / 1_000_000
}

#[cfg(test)]
mod tests {
    use launchpad_hostile::Outcome;

    use super::*;

    fn place() -> Place {
        let mut place = Place::from_env().unwrap();
        place.orders.bounds.pids = 4;
        place.orders.bounds.open_files = 4;
        place
    }

    #[test]
    fn a_bomb_that_nothing_stops_stops_by_itself_and_says_that_it_got_through() {
        for bomb in [threads, files] {
            let tries = bomb(&place());
            assert_eq!(tries[0].outcome, Outcome::Reached, "{tries:?}");
            assert!(tries[0].told.starts_with("68, "), "{tries:?}");
        }
    }

    #[test]
    fn processor_time_rises_with_work() {
        let before = used_millis();
        while used_millis() < before + 5 {
            std::hint::spin_loop();
        }
    }
}
