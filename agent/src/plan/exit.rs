//! What an exit means: the end of a road, something that passes, or a crash.
//!
//! Called by [`super::record`] once for each exit. The codes and texts come from the workload's profile; no workload is
//! known here by name.

use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::EXIT_TRANSIENT;
use launchpad_protocol::spec::RestartPolicy;
use launchpad_protocol::time::BootMoment;

use crate::observe::Exit;

/// What an exit means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// We stopped it.
    Ours,
    /// No restart mends it.
    Terminal(Reason),
    /// It passes by itself; try again without counting it.
    Transient {
        /// What it waits for.
        reason: Reason,
        /// When to try again.
        retry: Duration,
    },
    /// It crashed.
    Crash(Reason),
}

/// Judges an exit that nobody asked for. `row_began` is when the first of the present row of transient exits came.
#[must_use]
pub fn judge(exit: &Exit, policy: &RestartPolicy, row_began: BootMoment, now: BootMoment) -> Meaning {
    if exit.out_of_memory {
        return Meaning::Crash(out_of_memory());
    }
    if policy.terminal.contains(&exit.code) {
        return Meaning::Terminal(terminal(exit));
    }
    let passes = policy.transient.iter().find(|transient| {
        transient.code == exit.code
            && transient.output_contains.as_ref().is_none_or(|text| exit.output_tail.contains(text))
            && now.since(row_began) < transient.believed_for
    });
    match passes {
        Some(transient) => Meaning::Transient {
            reason: Reason::new(
                EXIT_TRANSIENT,
                format!("the bot exited with code {}, which passes by itself", exit.code),
            )
            .because(last_line(exit))
            .mend(format!("nothing to do: it is tried again every {:?} and not counted as a crash", transient.retry)),
            retry: transient.retry,
        },
        None => Meaning::Crash(crash(exit)),
    }
}

/// How long to wait after that many crashes in a row: doubled each time, never above the cap. No jitter: these are
/// restarts of one bot on one host, and there is no herd.
#[must_use]
pub fn backoff(policy: &RestartPolicy, crashes: u32) -> Duration {
    let doublings = crashes.saturating_sub(1).min(u32::BITS - 1);
    policy.backoff_initial.saturating_mul(1 << doublings).min(policy.backoff_cap)
}

/// The story of a crash, told with how often it happened.
#[must_use]
pub fn with_count(reason: Reason, crashes: u32) -> Reason {
    if crashes < 2 {
        return reason;
    }
    let sentence = format!("{} ({crashes} crashes in a row)", reason.sentence);
    Reason { sentence, ..reason }
}

fn out_of_memory() -> Reason {
    Reason::new("out-of-memory", "the kernel killed the bot because it needed more memory than its plan grants")
        .mend("choose a plan with more memory, or make the bot use less")
}

fn terminal(exit: &Exit) -> Reason {
    Reason::new("exit-terminal", format!("the bot exited with code {}, which no restart mends", exit.code))
        .because(last_line(exit))
        .mend("correct its config or image, then deploy the change: that is a new revision, and is tried at once")
}

fn crash(exit: &Exit) -> Reason {
    let sentence = match exit.code {
        0 => "the bot ended by itself, with code 0".to_owned(),
        code @ 129..=159 => format!("the bot was ended by signal {} (exit code {code})", code - 128),
        code => format!("the bot exited with code {code}"),
    };
    Reason::new("crashed", sentence).because(last_line(exit)).mend("read its log: launchpad logs NAME --tail 50")
}

/// What the bot last said: mostly the best explanation that there is.
fn last_line(exit: &Exit) -> String {
    /// Enough to recognise a message; a stack trace belongs in the log.
    const MAX_CHARS: usize = 240;
    let line = exit.output_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(
        || "it left no output".to_owned(),
        |line| format!("its last words: {}", line.chars().take(MAX_CHARS).collect::<String>()),
    )
}
