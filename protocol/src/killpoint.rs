//! Places at which a test can have a process killed: around every action of a plan and every commit of a store.
//!
//! Without the feature `killpoints` (that is: in every release) [`visit`] is nothing at all. With it, one variable of the
//! environment counts: `LAUNCHPAD_KILL_AT=<point>[#<nth>]` raises SIGKILL at the nth visit of that point (from 1).
//! `tests/tests/kill_points` visits every one.
//!
//! A point is named `<process>:<place>:<before|after>`, as in `agent:create_container:after`. SIGKILL, not an exit:
//! nothing is flushed, dropped or said.

use std::fmt;

/// On which side of an action or a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It is prepared, and nothing of it has happened.
    Before,
    /// It has happened, and nobody knows.
    After,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// Passes a point: the process may end here.
#[cfg(not(feature = "killpoints"))]
#[inline]
pub const fn visit(_process: &str, _place: &str, _side: Side) {}

#[cfg(feature = "killpoints")]
pub use armed::visit;

#[cfg(feature = "killpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Side;

    /// What the environment asks for. One per process by nature, as is a SIGKILL.
    static PLAN: LazyLock<KillPlan> = LazyLock::new(KillPlan::from_environment);

    struct KillPlan {
        at: Option<(String, u64)>,
        visits: AtomicU64,
    }

    impl KillPlan {
        fn from_environment() -> Self {
            Self { at: std::env::var("LAUNCHPAD_KILL_AT").ok().map(|text| parse(&text)), visits: AtomicU64::new(0) }
        }
    }

    /// The point, and which visit of it.
    fn parse(text: &str) -> (String, u64) {
        match text.rsplit_once('#') {
            Some((point, nth)) => (point.to_owned(), nth.parse().unwrap_or(1)),
            None => (text.to_owned(), 1),
        }
    }

    /// Passes a point: the process may end here.
    pub fn visit(process: &str, place: &str, side: Side) {
        let point = format!("{process}:{place}:{side}");
        if let Some((wanted, nth)) = &PLAN.at
            && *wanted == point
            && PLAN.visits.fetch_add(1, Ordering::SeqCst) + 1 == *nth
        {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_named_with_or_without_its_turn() {
            assert_eq!(parse("agent:bury:before"), ("agent:bury:before".to_owned(), 1));
            assert_eq!(parse("agent:bury:after#3"), ("agent:bury:after".to_owned(), 3));
        }
    }
}
