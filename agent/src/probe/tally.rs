//! Counting probe answers until a verdict turns. Pure: [`super::Prober`]'s tasks feed it.
//!
//! ```text
//!  starting ── startup answers ──► watched ── `failures` of liveness in a row ──► verdict: restart it
//!     └── startup's time is over ──────────────────────────────────────────────► verdict: restart it
//! ```
//! Readiness only says ready or not; it never restarts anything.

use std::time::Duration;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{HttpProbe, ProbeSet};

use crate::plan::Health;

/// Which probe answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The startup probe.
    Startup,
    /// The readiness probe.
    Readiness,
    /// The liveness probe.
    Liveness,
}

/// The counts of one start of one container.
#[derive(Debug, Clone)]
pub struct Tally {
    health: Health,
    readiness_failures: u32,
    liveness_failures: u32,
}

impl Tally {
    /// Begins to count. An adopted container is taken for as well as it was last known to be.
    #[must_use]
    pub fn new(adopted_as_ready: bool) -> Self {
        let health = Health { started: adopted_as_ready, ready: adopted_as_ready, ..Health::default() };
        Self { health, readiness_failures: 0, liveness_failures: 0 }
    }

    /// What the counts say now.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Takes one answer. `running_for` is the time since the probes began to ask.
    pub fn take(&mut self, kind: Kind, answer: Result<(), String>, probes: &ProbeSet, running_for: Duration) {
        match (kind, answer) {
            (Kind::Startup, Ok(())) => self.health.started = true,
            (Kind::Startup, Err(said)) => {
                if running_for >= probes.startup.period * probes.startup.failures {
                    self.health.verdict = Some(not_started(running_for, &said));
                }
                self.health.last_failure = Some(told("startup", &probes.startup, &said));
            }
            (Kind::Readiness, Ok(())) => {
                self.readiness_failures = 0;
                self.health.ready = true;
                self.health.last_failure = None;
            }
            (Kind::Readiness, Err(said)) => {
                self.readiness_failures += 1;
                if self.readiness_failures >= probes.readiness.failures || !self.health.ready {
                    self.health.ready = false;
                    self.health.last_failure = Some(told("readiness", &probes.readiness, &said));
                }
            }
            (Kind::Liveness, Ok(())) => self.liveness_failures = 0,
            (Kind::Liveness, Err(said)) => {
                self.liveness_failures += 1;
                if self.liveness_failures >= probes.liveness.failures {
                    self.health.verdict =
                        Some(not_alive(self.liveness_failures, &told("liveness", &probes.liveness, &said)));
                }
            }
        }
    }
}

fn told(name: &str, probe: &HttpProbe, said: &str) -> String {
    format!("its {name} probe {} says: {said}", probe.path)
}

fn not_started(running_for: Duration, said: &str) -> Reason {
    Reason::new("start-timeout", format!("the bot did not start within {} s", running_for.as_secs()))
        .because(said.to_owned())
        .mend("read its log; if it is only slow, a plan with more CPU starts it faster")
}

fn not_alive(failures: u32, said: &str) -> Reason {
    Reason::new("liveness-failed", format!("the bot failed its liveness probe {failures} times in a row"))
        .because(said.to_owned())
        .mend("read its log: launchpad logs NAME --tail 50")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> ProbeSet {
        let probe = |path: &str, failures| HttpProbe {
            path: path.to_owned(),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            failures,
            body_contains: None,
        };
        ProbeSet { startup: probe("/startupz", 3), readiness: probe("/readyz", 2), liveness: probe("/healthz", 3) }
    }

    fn fail() -> Result<(), String> {
        Err("connection refused".to_owned())
    }

    #[test]
    fn startup_fails_only_when_its_time_is_over() {
        let mut tally = Tally::new(false);
        tally.take(Kind::Startup, fail(), &probes(), Duration::from_secs(29));
        assert_eq!(tally.health().verdict, None);
        tally.take(Kind::Startup, fail(), &probes(), Duration::from_secs(30));
        assert_eq!(tally.health().verdict.as_ref().map(|reason| reason.code.as_str()), Some("start-timeout"));
    }

    #[test]
    fn one_lost_answer_makes_no_ready_bot_unready() {
        let mut tally = Tally::new(true);
        tally.take(Kind::Readiness, fail(), &probes(), Duration::ZERO);
        assert!(tally.health().ready);
        tally.take(Kind::Readiness, fail(), &probes(), Duration::ZERO);
        assert!(!tally.health().ready && tally.health().verdict.is_none());
        tally.take(Kind::Readiness, Ok(()), &probes(), Duration::ZERO);
        assert!(tally.health().ready && tally.health().last_failure.is_none());
    }

    #[test]
    fn liveness_restarts_after_its_failures_in_a_row_and_not_before() {
        let mut tally = Tally::new(true);
        for answer in [fail(), fail(), Ok(()), fail(), fail()] {
            tally.take(Kind::Liveness, answer, &probes(), Duration::ZERO);
        }
        assert_eq!(tally.health().verdict, None);
        tally.take(Kind::Liveness, fail(), &probes(), Duration::ZERO);
        assert_eq!(tally.health().verdict.as_ref().map(|reason| reason.code.as_str()), Some("liveness-failed"));
    }
}
