//! How one issuing CA takes over from another while the fleet is online: the phases, and who may step where.
//!
//! ```text
//!              begin                on                  on, once no certificate of the old CA is in use
//!  (one CA) ─────────► distribute ─────► issue ───────────────────────────────────────────────────────► retired
//!                          │   ◄────────   │
//!                          │      back                    back, once no certificate of the new CA is in use
//!                          └──────────────────────────────────────────────────────────────────────────► abandoned
//! ```
//!
//! | phase      | who signs | whose hosts are let in | roots that hosts are told |
//! |------------|-----------|------------------------|---------------------------|
//! | distribute | old       | both                   | both                      |
//! | issue      | new       | both                   | both                      |
//! | retired    | new       | new                    | new                       |
//! | abandoned  | old       | old                    | old                       |
//!
//! `app` steps, `fleet` goes by what [`Phase`] says. No step needs a host to be there: whoever missed one finds a chain
//! that it can verify (a bridge that its old root has signed), and its own certificate still renews. Pure.

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::reason::Reason;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Hosts are told both roots; the old CA signs.
    Distribute,
    /// The new CA signs; hosts renew early.
    Issue,
    /// The new CA is the only one.
    Retired,
    /// The old CA is the only one again.
    Abandoned,
}

/// Which way an operator wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the new CA.
    On,
    /// Back to the old one.
    Back,
}

/// One of the two CAs of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one before.
    Old,
    /// The one after.
    New,
}

/// Who uses certificates of which CA: hosts whose certificate is in force, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Those of the old CA.
    pub old: Vec<String>,
    /// Those of the new CA.
    pub new: Vec<String>,
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoStep {
    /// The rotation has come to its end: there is nothing to go back to, and nothing further.
    Over(Phase),
    /// Hosts still use certificates of the CA that would go.
    InUse {
        /// Which.
        side: Side,
        /// By whom.
        hosts: Vec<String>,
    },
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 4] = [Self::Distribute, Self::Issue, Self::Retired, Self::Abandoned];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distribute => "distribute",
            Self::Issue => "issue",
            Self::Retired => "retired",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether the rotation has come to its end.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Distribute | Self::Issue => false,
            Self::Retired | Self::Abandoned => true,
        }
    }

    /// Which CA signs.
    #[must_use]
    pub const fn signer(self) -> Side {
        match self {
            Self::Distribute | Self::Abandoned => Side::Old,
            Self::Issue | Self::Retired => Side::New,
        }
    }

    /// Whether hosts of that CA are let in, and its root told to all.
    #[must_use]
    pub fn accepts(self, side: Side) -> bool {
        !self.is_over() || self.signer() == side
    }
}

/// The next phase in that direction.
///
/// # Errors
/// [`NoStep`] when there is none, or hosts would be cut off by it.
pub fn step(phase: Phase, direction: Direction, users: &Users) -> Result<Phase, NoStep> {
    let without = |side, hosts: &[String], next| match hosts {
        [] => Ok(next),
        hosts => Err(NoStep::InUse { side, hosts: hosts.to_vec() }),
    };
    match (phase, direction) {
        (Phase::Distribute, Direction::On) => Ok(Phase::Issue),
        (Phase::Issue, Direction::Back) => Ok(Phase::Distribute),
        (Phase::Issue, Direction::On) => without(Side::Old, &users.old, Phase::Retired),
        (Phase::Distribute, Direction::Back) => without(Side::New, &users.new, Phase::Abandoned),
        (Phase::Retired | Phase::Abandoned, Direction::On | Direction::Back) => Err(NoStep::Over(phase)),
    }
}

/// Hosts that a refusal names; of a whole fleet a few are enough to go and look.
const NAMED_MAX: usize = 8;

impl NoStep {
    /// The same in words.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Over(phase) => {
                Reason::new("ca-rotation-over", format!("the last rotation of the CA is {phase}")).mend(BEGIN)
            }
            Self::InUse { side, hosts } => {
                let named: Vec<_> = hosts.iter().take(NAMED_MAX).map(String::as_str).collect();
                let more = hosts.len().saturating_sub(NAMED_MAX);
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                let sentence = format!("certificates of the {side} CA are in use on {}{more}", named.join(", "));
                Reason::new("ca-in-use", sentence)
                    .because(
                        "a connected host renews within minutes; one that is off holds its certificate until it ends",
                    )
                    .mend("wait, and see `launchpad pki status`; a certificate lives for a day at the most")
            }
        }
    }
}

/// How a rotation begins: where the root's key is, and nowhere else.
pub const BEGIN: &str = "begin one on the coordinator's machine, with the root's key at hand: `launchpad-coordinator pki \
                         rotate --data-dir DIR --root-key FILE`";

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
        })
    }
}

/// A text that is no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no phase of a rotation: expected distribute, issue, retired or abandoned")]
pub struct PhaseError(String);

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| PhaseError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(old: &[&str], new: &[&str]) -> Users {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Users { old: names(old), new: names(new) }
    }

    #[test]
    fn the_way_on_and_the_way_back() {
        let nobody = Users::default();
        assert_eq!(step(Phase::Distribute, Direction::On, &nobody), Ok(Phase::Issue));
        assert_eq!(step(Phase::Issue, Direction::On, &nobody), Ok(Phase::Retired));
        assert_eq!(step(Phase::Issue, Direction::Back, &nobody), Ok(Phase::Distribute));
        assert_eq!(step(Phase::Distribute, Direction::Back, &nobody), Ok(Phase::Abandoned));
        for over in [Phase::Retired, Phase::Abandoned] {
            for direction in [Direction::On, Direction::Back] {
                assert_eq!(step(over, direction, &nobody), Err(NoStep::Over(over)));
            }
        }
    }

    #[test]
    fn a_ca_whose_certificates_are_in_use_does_not_go_and_its_users_are_named() {
        let refused = step(Phase::Issue, Direction::On, &users(&["h1"], &["h2"])).unwrap_err();
        assert_eq!(refused, NoStep::InUse { side: Side::Old, hosts: vec!["h1".to_owned()] });
        assert!(refused.reason().to_string().contains("h1"), "{}", refused.reason());
        let refused = step(Phase::Distribute, Direction::Back, &users(&["h1"], &["h2"])).unwrap_err();
        assert_eq!(refused, NoStep::InUse { side: Side::New, hosts: vec!["h2".to_owned()] });
    }

    #[test]
    fn a_refusal_names_a_few_of_many() {
        let many: Vec<_> = (0..100).map(|n| format!("host-{n}")).collect();
        let told = NoStep::InUse { side: Side::Old, hosts: many }.reason().to_string();
        assert!(told.contains("host-7 and 92 more"), "{told}");
    }

    #[test]
    fn a_phase_reads_back_as_it_was_written() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
        assert!("prepare".parse::<Phase>().is_err());
    }

    fn any_users() -> impl Strategy<Value = Users> {
        let names = || proptest::collection::vec("h[0-9]", 0..3);
        (names(), names()).prop_map(|(old, new)| Users { old, new })
    }

    proptest! {
        /// Whoever was let in and uses a certificate is let in after any step, in any order of steps: nobody is cut off.
        #[test]
        fn no_step_shuts_out_a_host_that_uses_its_certificate(
            steps in proptest::collection::vec((any::<bool>(), any_users()), 0..12)
        ) {
            let mut phase = Phase::Distribute;
            for (on, users) in steps {
                let direction = if on { Direction::On } else { Direction::Back };
                let Ok(next) = step(phase, direction, &users) else { continue };
                prop_assert!(!phase.is_over(), "{phase} is an end");
                prop_assert!(next.accepts(Side::Old) || users.old.is_empty());
                prop_assert!(next.accepts(Side::New) || users.new.is_empty());
                prop_assert!(next.accepts(next.signer()), "whoever signs is let in");
                phase = next;
            }
        }
    }
}
