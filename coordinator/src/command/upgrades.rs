//! What an operator may ask of the versions of agents.

use std::collections::BTreeSet;
use std::time::Duration;

use launchpad_protocol::version::Version;

use super::{FieldProblems, Name};

/// Hosts at once, unless said otherwise: what goes wrong goes wrong once.
const AT_ONCE_DEFAULT: u32 = 1;
/// At most: more are no longer a ring at a time.
const AT_ONCE_MAX: u32 = 1_000;
/// How long a ring is watched, unless said otherwise: what a new agent does to its host shows within some reports.
const SOAK_DEFAULT: Duration = Duration::from_secs(600);
/// At most a week: a typing mistake should not wait for years.
const SOAK_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Have agents become another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartUpgrade {
    /// Which.
    pub to: Version,
    /// Which hosts, in which order.
    pub whom: Whom,
    /// Hosts at once.
    pub at_once: u32,
    /// How long each ring is watched.
    pub soak: Duration,
}

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// One ring after the other.
    Rings(Vec<Name>),
    /// These, by name or id, as one ring.
    Hosts(BTreeSet<String>),
}

/// The fields as they came.
#[derive(Debug, Clone, Default)]
pub struct UpgradeDraft {
    /// `to`.
    pub to: String,
    /// `rings`.
    pub rings: Vec<String>,
    /// `hosts`.
    pub hosts: Vec<String>,
    /// `at_once`.
    pub at_once: Option<u32>,
    /// `soak_s`.
    pub soak_s: Option<u64>,
}

impl StartUpgrade {
    /// Checks the fields.
    ///
    /// # Errors
    /// Every bad field.
    pub fn new(draft: UpgradeDraft) -> Result<Self, FieldProblems> {
        let mut problems = FieldProblems::default();
        let to: Option<Version> = match draft.to.parse() {
            Ok(version) => Some(version),
            Err(error) => {
                let error: launchpad_protocol::version::VersionError = error;
                problems.add("to", error.to_string(), "the version of a package, such as 0.2.0");
                None
            }
        };
        let rings: Vec<_> =
            draft.rings.iter().filter_map(|ring| super::deployment::name(&mut problems, "rings", ring)).collect();
        let twice = rings.iter().collect::<BTreeSet<_>>().len() < rings.len();
        if draft.rings.is_empty() == draft.hosts.is_empty() {
            problems.add("rings", "either rings or hosts say whom", "rings in their order, or hosts by name or id");
        } else if twice {
            problems.add("rings", "a ring is named twice", "each ring once, in the order in which they are upgraded");
        }
        let at_once = draft.at_once.unwrap_or(AT_ONCE_DEFAULT);
        if at_once == 0 || at_once > AT_ONCE_MAX {
            problems.add("at_once", format!("is {at_once}"), format!("from 1 to {AT_ONCE_MAX} hosts at once"));
        }
        let soak = draft.soak_s.map_or(SOAK_DEFAULT, Duration::from_secs);
        if soak > SOAK_MAX {
            problems.add("soak_s", format!("is {} s", soak.as_secs()), "at most a week");
        }
        let whom = if rings.is_empty() { Whom::Hosts(draft.hosts.into_iter().collect()) } else { Whom::Rings(rings) };
        match (to, problems.is_empty()) {
            (Some(to), true) => Ok(Self { to, whom, at_once, soak }),
            _ => Err(problems),
        }
    }
}

/// The name of a ring.
///
/// # Errors
/// Why it is none.
pub fn ring_name(text: &str) -> Result<Name, FieldProblems> {
    let mut problems = FieldProblems::default();
    super::deployment::name(&mut problems, "ring", text).ok_or(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_goes_host_by_host_unless_told_otherwise() {
        let draft =
            UpgradeDraft { to: "0.2.0".to_owned(), rings: vec!["canary".to_owned()], ..UpgradeDraft::default() };
        let command = StartUpgrade::new(draft).unwrap();
        assert_eq!((command.at_once, command.soak), (AT_ONCE_DEFAULT, SOAK_DEFAULT));
    }

    #[test]
    fn every_bad_field_is_listed() {
        let draft = UpgradeDraft {
            to: "latest".to_owned(),
            at_once: Some(0),
            soak_s: Some(u64::MAX),
            ..UpgradeDraft::default()
        };
        let fields: Vec<_> = StartUpgrade::new(draft).unwrap_err().0.into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["to", "rings", "at_once", "soak_s"]);
    }

    #[test]
    fn a_ring_comes_once() {
        let rings = vec!["canary".to_owned(), "canary".to_owned()];
        let draft = UpgradeDraft { to: "0.2.0".to_owned(), rings, ..UpgradeDraft::default() };
        assert_eq!(StartUpgrade::new(draft).unwrap_err().0[0].problem, "a ring is named twice");
    }
}
