//! What the hostile bot says about an attack: each thing that it tried, and how that ended.

use serde::{Deserialize, Serialize};

/// How one try ended, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The kernel or the network said no, or nothing came back.
    Refused,
    /// It worked, within the bounds that were set.
    Contained,
    /// It could not be tried: this proves nothing, and a test must not take it for a refusal.
    Untried,
    /// It got through.
    Reached,
}

/// One try of an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// What was done.
    pub what: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen: the kernel's words, an answer, a count.
    pub told: String,
}

impl Try {
    /// It was refused.
    pub fn refused(what: impl Into<String>, told: impl ToString) -> Self {
        Self { what: what.into(), outcome: Outcome::Refused, told: told.to_string() }
    }

    /// It stayed within its bounds.
    pub fn contained(what: impl Into<String>, told: impl ToString) -> Self {
        Self { what: what.into(), outcome: Outcome::Contained, told: told.to_string() }
    }

    /// It could not be tried.
    pub fn untried(what: impl Into<String>, told: impl ToString) -> Self {
        Self { what: what.into(), outcome: Outcome::Untried, told: told.to_string() }
    }

    /// It got through.
    pub fn reached(what: impl Into<String>, told: impl ToString) -> Self {
        Self { what: what.into(), outcome: Outcome::Reached, told: told.to_string() }
    }
}

/// The kinds of attack, in the order in which they are best tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Room {
    /// What may be seen.
    Looks,
    /// What may be asked of the kernel.
    Kernel,
    /// What may be written.
    Files,
    /// How much may be used.
    Bombs,
    /// Who may be reached.
    Network,
}

/// An attack that the bot can be ordered to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name: the last part of its path.
    pub name: String,
    /// Its kind.
    pub room: Room,
    /// What it tries, in a few words.
    pub aim: String,
}

/// What came of an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which attack.
    #[serde(flatten)]
    pub attack: Entry,
    /// The worst outcome of its tries; an attack without a try is one that was not tried.
    pub outcome: Outcome,
    /// Each try, in order.
    pub tries: Vec<Try>,
}

impl Report {
    /// Sums up the tries of an attack.
    pub fn new(attack: Entry, tries: Vec<Try>) -> Self {
        let outcome = tries.iter().map(|each| each.outcome).max().unwrap_or(Outcome::Untried);
        Self { attack, outcome, tries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tries: Vec<Try>) -> Report {
        let attack = Entry { name: "mount".to_owned(), room: Room::Kernel, aim: "mounts".to_owned() };
        Report::new(attack, tries)
    }

    #[test]
    fn an_attack_is_as_bad_as_its_worst_try() {
        let refused = Try::refused("a", "EPERM");
        assert_eq!(report(vec![refused.clone()]).outcome, Outcome::Refused);
        assert_eq!(report(vec![Try::reached("b", "0"), refused.clone()]).outcome, Outcome::Reached);
        assert_eq!(report(vec![refused, Try::untried("c", "no such file")]).outcome, Outcome::Untried);
    }

    #[test]
    fn an_attack_that_tried_nothing_proves_nothing() {
        assert_eq!(report(Vec::new()).outcome, Outcome::Untried);
    }

    #[test]
    fn a_report_is_flat_json_and_comes_back() {
        let written = report(vec![Try::refused("mounts a tmpfs", "EPERM")]);
        let text = serde_json::to_string(&written).unwrap();
        assert!(text.starts_with(r#"{"name":"mount","room":"kernel","aim":"mounts","outcome":"refused""#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), written);
    }
}
