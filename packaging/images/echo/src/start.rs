//! What goes wrong before the bot listens: delay, exit, lease, ballast; and the log chatter that goes on after.
//!
//! Called once by `main`. Nothing here ends the process: an exit that was ordered is returned as a value.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::config::{Config, Surroundings};
use crate::control::Ballast;

/// The line to print and the code to exit with.
#[derive(Debug)]
pub(crate) struct LastWords {
    pub(crate) line: String,
    pub(crate) code: i32,
}

/// The lease's file on the volume. A clean stop removes it; a killed bot leaves it behind, as real ones do.
pub(crate) fn lease_file(surroundings: &Surroundings) -> PathBuf {
    surroundings.state.join("lease")
}

/// Do to the start what the config orders. Returns the memory that it asked to be held.
pub(crate) fn misbehave(config: &Config, surroundings: &Surroundings) -> Result<Ballast, LastWords> {
    thread::sleep(Duration::from_millis(config.start_delay_ms));
    if let Some(code) = config.exit_code_at_start {
        let line = config.last_line.clone().unwrap_or_else(|| format!("echo: told to exit {code} at start"));
        return Err(LastWords { line, code });
    }
    if config.lease_ms > 0 {
        take_lease(lease_file(surroundings), Duration::from_millis(config.lease_ms))?;
    }
    let mut ballast = Ballast::default();
    ballast.eat(config.memory_mb);
    if config.log_lines_per_second > 0 {
        let lines_per_second = config.log_lines_per_second;
        thread::spawn(move || chatter(lines_per_second));
    }
    Ok(ballast)
}

#[expect(clippy::disallowed_methods, reason = "a file's age is told by the wall clock")]
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Refuse while a lease younger than `term` lies there; otherwise hold one and keep it fresh.
fn take_lease(path: PathBuf, term: Duration) -> Result<(), LastWords> {
    if age(&path).is_some_and(|age| age < term) {
        return Err(LastWords { line: "echo: another owner lease is still active".into(), code: 1 });
    }
    let renew = move || File::create(&path).and_then(|mut file| file.write_all(b"held\n"));
    renew().map_err(|error| LastWords { line: format!("echo: cannot write the lease: {error}"), code: 1 })?;
    thread::spawn(move || {
        loop {
            thread::sleep(term / 2);
            if let Err(error) = renew() {
                eprintln!("echo: cannot renew the lease: {error}");
            }
        }
    });
    Ok(())
}

/// Write numbered lines for ever, so that a reader can tell a lost or doubled one.
fn chatter(lines_per_second: u32) {
    for number in 0_u64.. {
        println!("echo: line {number}");
        thread::sleep(Duration::from_secs(1) / lines_per_second);
    }
}
