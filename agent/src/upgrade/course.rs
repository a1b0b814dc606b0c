//! The course of one upgrade: what is done next, and what follows from how it went. Pure: no file, no clock, no program.
//!
//! A stage holds everything that its deed needs, and is durable before the deed is begun. Whoever finds one whose doer was
//! killed says [`Went::Interrupted`] first, and does it again: every deed may be done twice.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use launchpad_protocol::version::Version;
use serde::{Deserialize, Serialize};

use super::judge::Before;

/// How often one version is installed before the other way is gone: a machine that dies each time it is tried would
/// try for ever.
const INSTALLS_MAX: u32 = 3;

/// How far an upgrade is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Stage {
    /// The packages are brought: the one to install, and the one to go back to.
    Fetching,
    /// What runs is noted.
    Noting,
    /// The new package is installed.
    Installing {
        /// What ran before.
        before: Before,
        /// How often it was begun and interrupted.
        interrupted: u32,
    },
    /// The new version is judged.
    Judging {
        /// What ran before.
        before: Before,
    },
    /// The old package is installed again.
    Returning {
        /// What ran before.
        before: Before,
        /// Why.
        why: Reason,
        /// How often it was begun and did not come to its end.
        failed: u32,
    },
    /// The old version is judged.
    Checking {
        /// What ran before.
        before: Before,
        /// Why it is there again.
        why: Reason,
    },
    /// The new version is there, and well.
    Done {
        /// Since when.
        at: Moment,
    },
    /// Nothing was installed.
    Refused {
        /// Why not.
        why: Reason,
    },
    /// The old version is there again, and well.
    RolledBack {
        /// Why.
        why: Reason,
    },
    /// Neither version is well: somebody has to look.
    Stuck {
        /// Why.
        why: Reason,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Have the packages of both versions on the shelf.
    Fetch,
    /// Note what runs.
    Note,
    /// Install that version from the shelf.
    Install {
        /// Which.
        version: Version,
        /// By the package manager's lower half alone, which asks no repository and mends what was interrupted.
        bare: bool,
    },
    /// See whether that version is well.
    Judge {
        /// Which.
        version: Version,
        /// What ran before.
        before: Before,
    },
}

/// How a deed went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Went {
    /// Well.
    Well,
    /// Well, and this is what runs.
    Noted(Before),
    /// Not well.
    Wrong(Reason),
    /// Its doer ended before it did.
    Interrupted,
}

impl Stage {
    /// Whether nothing more is done.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        match self {
            Self::Done { .. } | Self::Refused { .. } | Self::RolledBack { .. } | Self::Stuck { .. } => true,
            Self::Fetching
            | Self::Noting
            | Self::Installing { .. }
            | Self::Judging { .. }
            | Self::Returning { .. }
            | Self::Checking { .. } => false,
        }
    }

    /// Its name, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Noting => "noting",
            Self::Installing { .. } => "installing",
            Self::Judging { .. } => "judging",
            Self::Returning { .. } => "returning",
            Self::Checking { .. } => "checking",
            Self::Done { .. } => "done",
            Self::Refused { .. } => "refused",
            Self::RolledBack { .. } => "rolled-back",
            Self::Stuck { .. } => "stuck",
        }
    }
}

/// What is to be done in that stage; none: it is an end.
#[must_use]
pub fn deed(stage: &Stage, from: &Version, to: &Version) -> Option<Deed> {
    match stage {
        Stage::Fetching => Some(Deed::Fetch),
        Stage::Noting => Some(Deed::Note),
        Stage::Installing { interrupted, .. } => Some(Deed::Install { version: to.clone(), bare: *interrupted > 0 }),
        Stage::Judging { before } => Some(Deed::Judge { version: to.clone(), before: before.clone() }),
        Stage::Returning { .. } => Some(Deed::Install { version: from.clone(), bare: true }),
        Stage::Checking { before, .. } => Some(Deed::Judge { version: from.clone(), before: before.clone() }),
        Stage::Done { .. } | Stage::Refused { .. } | Stage::RolledBack { .. } | Stage::Stuck { .. } => None,
    }
}

/// What follows.
#[must_use]
pub fn step(stage: Stage, went: Went, now: Moment) -> Stage {
    match (stage, went) {
        (Stage::Fetching, Went::Well | Went::Noted(_)) => Stage::Noting,
        (Stage::Noting, Went::Noted(before)) => Stage::Installing { before, interrupted: 0 },
        // Asked for again: without it nobody could tell a bot that was restarted from one that was not.
        (Stage::Noting, Went::Well | Went::Interrupted) => Stage::Noting,
        (Stage::Fetching, Went::Interrupted) => Stage::Fetching,
        (Stage::Fetching | Stage::Noting, Went::Wrong(why)) => Stage::Refused { why },

        (Stage::Installing { before, .. }, Went::Well | Went::Noted(_)) => Stage::Judging { before },
        (Stage::Installing { before, .. }, Went::Wrong(why)) => Stage::Returning { before, why, failed: 0 },
        (Stage::Installing { before, interrupted }, Went::Interrupted) if interrupted + 1 < INSTALLS_MAX => {
            Stage::Installing { before, interrupted: interrupted + 1 }
        }
        (Stage::Installing { before, .. }, Went::Interrupted) => {
            Stage::Returning { before, why: never_ends(), failed: 0 }
        }

        (Stage::Judging { .. }, Went::Well | Went::Noted(_)) => Stage::Done { at: now },
        (Stage::Judging { before }, Went::Wrong(why)) => Stage::Returning { before, why, failed: 0 },
        (Stage::Judging { before }, Went::Interrupted) => Stage::Judging { before },

        (Stage::Returning { before, why, .. }, Went::Well | Went::Noted(_)) => Stage::Checking { before, why },
        (Stage::Returning { before, why, failed }, Went::Wrong(_) | Went::Interrupted)
            if failed + 1 < INSTALLS_MAX =>
        {
            Stage::Returning { before, why, failed: failed + 1 }
        }
        (Stage::Returning { why, .. }, Went::Wrong(back)) => Stage::Stuck { why: no_way_back(&why, &back) },
        (Stage::Returning { why, .. }, Went::Interrupted) => Stage::Stuck { why: no_way_back(&why, &never_ends()) },

        (Stage::Checking { why, .. }, Went::Well | Went::Noted(_)) => Stage::RolledBack { why },
        (Stage::Checking { why, .. }, Went::Wrong(ill)) => Stage::Stuck { why: no_way_back(&why, &ill) },
        (Stage::Checking { before, why }, Went::Interrupted) => Stage::Checking { before, why },

        (end @ (Stage::Done { .. } | Stage::Refused { .. } | Stage::RolledBack { .. } | Stage::Stuck { .. }), _) => {
            end
        }
    }
}

fn never_ends() -> Reason {
    Reason::new("install-interrupted", format!("installing it was interrupted {INSTALLS_MAX} times"))
        .mend("see `journalctl -u launchpad-upgrade` on that host")
}

fn no_way_back(why: &Reason, back: &Reason) -> Reason {
    Reason::new("agent-stuck", format!("{why}; going back failed as well: {back}"))
        .because("neither version of the agent is well; the bots run on, without anybody who looks after them")
        .mend("install launchpad-agent by hand on that host, from /var/lib/launchpad-agent/packages")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason() -> Reason {
        Reason::new("ill", "it is ill")
    }

    fn went() -> impl Strategy<Value = Went> {
        prop_oneof![
            4 => Just(Went::Noted(Before::default())),
            1 => Just(Went::Wrong(reason())),
            2 => Just(Went::Interrupted),
        ]
    }

    proptest! {
        /// Whatever happens, and however often it is interrupted: the end says which version is installed and that it was
        /// found well, nothing is installed before both packages are there, and no version is installed for ever.
        #[test]
        fn every_course_ends_with_the_version_that_its_end_names(course in proptest::collection::vec(went(), 60)) {
            let (from, to): (Version, Version) = ("1.0.0".parse().unwrap(), "1.1.0".parse().unwrap());
            let (mut installed, mut well, mut fetched, mut installs) = (from.clone(), true, false, 0);
            let mut stage = Stage::Fetching;
            for went in course {
                let Some(deed) = deed(&stage, &from, &to) else { break };
                let is_well = matches!(went, Went::Well | Went::Noted(_));
                match deed {
                    Deed::Fetch => fetched |= is_well,
                    Deed::Note => prop_assert!(fetched),
                    Deed::Install { version, .. } => {
                        prop_assert!(fetched, "nothing is installed without a way back");
                        installs += 1;
                        // Interrupted half-way, anything may be there.
                        (installed, well) = (version, false);
                    }
                    Deed::Judge { version, .. } => {
                        prop_assert_eq!(&version, &installed, "what was installed is judged");
                        well = is_well;
                    }
                }
                stage = step(stage, went, Moment::from_micros(1));
            }
            prop_assert!(installs <= 2 * INSTALLS_MAX);
            match stage {
                Stage::Done { .. } => prop_assert!(installed == to && well),
                Stage::RolledBack { .. } => prop_assert!(installed == from && well),
                Stage::Refused { .. } => prop_assert!(installed == from && installs == 0),
                Stage::Stuck { .. } => prop_assert!(!well),
                Stage::Fetching
                | Stage::Noting
                | Stage::Installing { .. }
                | Stage::Judging { .. }
                | Stage::Returning { .. }
                | Stage::Checking { .. } => {}
            }
        }
    }

    #[test]
    fn what_was_interrupted_while_it_was_installed_is_installed_again_by_the_lower_half() {
        let (from, to): (Version, Version) = ("1.0.0".parse().unwrap(), "1.1.0".parse().unwrap());
        let fresh = Stage::Installing { before: Before::default(), interrupted: 0 };
        assert_eq!(deed(&fresh, &from, &to), Some(Deed::Install { version: to.clone(), bare: false }));
        let again = step(fresh, Went::Interrupted, Moment::from_micros(1));
        assert_eq!(deed(&again, &from, &to), Some(Deed::Install { version: to, bare: true }));
    }

    #[test]
    fn a_host_that_dies_whenever_the_new_version_is_installed_goes_back() {
        let mut stage = Stage::Installing { before: Before::default(), interrupted: 0 };
        for _ in 0..INSTALLS_MAX {
            stage = step(stage, Went::Interrupted, Moment::from_micros(1));
        }
        assert_eq!(stage.name(), "returning");
    }
}
