//! Too much memory, and a crash on purpose.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};

use launchpad_hostile::Try;

use crate::place::Place;
use crate::runner::SELF;
use crate::sys::{Page, sys};

const BYTES_PER_MB: usize = 1 << 20;
/// A quarter of its memory, and at least this many MiB, is how far above its bound a bomb goes.
const ABOVE_MIN_MB: u64 = 64;
/// SIGKILL, with Linux's number: the killer's only word.
const SIGKILL: i32 = 9;

/// Has a child eat until it is killed. The bot itself must live on.
pub(crate) fn bomb(place: &Place) -> Vec<Try> {
    let bound = place.orders.bounds.memory_mb;
    let wanted = bound + (bound / 4).max(ABOVE_MIN_MB);
    let what = format!("takes {wanted} MiB of memory");
    let mut command = Command::new(SELF);
    command.args(["minion", "eat", &wanted.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    vec![match command.output() {
        Ok(output) if output.status.success() => Try::reached(what, "it got all of it"),
        Ok(output) => {
            let eaten = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or("0").to_owned();
            match output.status.signal() {
                Some(SIGKILL) => Try::contained(what, format!("killed after {eaten} MiB")),
                // Memory that is refused rather than overdrawn ends a program of Rust by an abort.
                _ => Try::contained(what, format!("ended after {eaten} MiB: {}", output.status)),
            }
        }
        Err(error) => Try::untried(what, error),
    }]
}

/// Touches that much memory, and says how far it came. Wants to be the first that is killed.
pub(crate) fn eat(megabytes: u64) -> ExitCode {
    // A kernel that lets nobody choose chooses the largest, which this is soon.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut eaten = Vec::new();
    for count in 1..=megabytes {
        eaten.push(vec![1_u8; BYTES_PER_MB]);
        println!("{count}");
    }
    drop(std::hint::black_box(eaten));
    ExitCode::SUCCESS
}

/// Asks for cores of any size, and crashes.
pub(crate) fn crash() -> ! {
    let mut unlimited = Page::new().with(0, [0xff; 16]);
    // A hard limit refuses this, which is what is looked for.
    let _ = sys!(SYS_prlimit64, 0, libc::RLIMIT_CORE, &mut unlimited);
    std::process::abort()
}
