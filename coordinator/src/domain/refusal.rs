//! A No, as a value: what kind of No it is, and the reason that people read.
//!
//! Every rule of `domain` refuses with this; `api` turns the kind into a status code and the reason into a problem.

use launchpad_protocol::reason::Reason;

/// What kind of No.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The caller may not do this at all.
    Forbidden,
    /// There is no such thing, or it belongs to somebody else: the two look the same on purpose.
    NotFound,
    /// It clashes with what is: a taken name, a state from which there is no such step, a lost race.
    Conflict,
    /// It was well formed and can never be done here.
    Impossible,
    /// Not now; later perhaps.
    Unavailable,
}

/// A No.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// Why, and what would mend it.
    pub reason: Reason,
}

impl Refusal {
    /// The caller may not do this.
    #[must_use]
    pub const fn forbidden(reason: Reason) -> Self {
        Self { kind: RefusalKind::Forbidden, reason }
    }

    /// Nothing of that name that the caller may see. `noun` is what was looked for, `name` what it was called.
    #[must_use]
    pub fn not_found(noun: &str, name: impl std::fmt::Display) -> Self {
        let reason = Reason::new(&format!("no-such-{noun}"), format!("there is no {noun} `{name}`"))
            .mend(format!("list each {noun} that you may see, and use an id or a name from there"));
        Self { kind: RefusalKind::NotFound, reason }
    }

    /// It clashes with what is.
    #[must_use]
    pub const fn conflict(reason: Reason) -> Self {
        Self { kind: RefusalKind::Conflict, reason }
    }

    /// It can never be done here.
    #[must_use]
    pub const fn impossible(reason: Reason) -> Self {
        Self { kind: RefusalKind::Impossible, reason }
    }

    /// Not now.
    #[must_use]
    pub const fn unavailable(reason: Reason) -> Self {
        Self { kind: RefusalKind::Unavailable, reason }
    }
}
