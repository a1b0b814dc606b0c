//! Runs one attack in a process of its own and answers with its report, whatever became of that process.
//!
//! Called by `http`, on the thread of the request.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use launchpad_hostile::{Entry, Report, Try};

use crate::bombs;
use crate::place::Place;

/// Of one attack, beside what it was ordered to hold: filling ten gigabytes on a slow disk takes the longest.
const DEADLINE: Duration = Duration::from_secs(180);
/// What the kernel ends a process with whose filter says "kill", with Linux's number.
const SIGSYS: i32 = 31;
/// This program, wherever it lies.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Runs it. A process that dies of its attack was refused if a filter killed it; else nothing is proved.
pub(crate) fn run(place: &Place, attack: Entry) -> Report {
    let deadline = DEADLINE + Duration::from_millis(place.orders.bounds.volume_full_for_ms);
    let what = attack.aim.clone();
    let ended = ended(&attack.name, deadline);
    // One that was killed could not remove it by itself.
    bombs::tidy(place);
    let tried = match ended {
        Ok(output) => match serde_json::from_slice::<Report>(&output.stdout) {
            Ok(report) => return report,
            Err(_) => without_report(what, output.status),
        },
        Err(error) => Try::untried(what, error),
    };
    Report::new(attack, vec![tried])
}

fn without_report(what: String, status: ExitStatus) -> Try {
    match status.signal() {
        Some(SIGSYS) => Try::refused(what, "a system call filter killed the attacker"),
        _ => Try::untried(what, format!("the attacker ended without a report: {status}")),
    }
}

/// The output of `hostile attack NAME`, or one line that says why there is none.
fn ended(name: &str, deadline: Duration) -> Result<Output, String> {
    let mut command = Command::new(SELF);
    command.args(["attack", name]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("cannot start the attacker: {error}"))?;
    let pid = child.id();
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match outcome.recv_timeout(deadline) {
        Ok(output) => output.map_err(|error| format!("cannot wait for the attacker: {error}")),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            crate::sys::kill_process(pid);
            Err(format!("the attacker had not ended after {} s", deadline.as_secs()))
        }
    }
}
