//! Snapshots of a bot's volume: which there will be once its host has done what it was asked to, and what may be asked.
//!
//! The host decides in the end, and answers by an outcome; here people are told at once what cannot be.

use std::collections::BTreeSet;

use launchpad_protocol::limits::SNAPSHOTS_PER_VOLUME_MAX;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::OperationAction;
use launchpad_protocol::time::Moment;

use super::refusal::Refusal;

/// The names of the snapshots that there will be: those that its host keeps, and what becomes of them by the operations
/// that wait, oldest first.
pub fn expected<'a>(
    kept: impl IntoIterator<Item = &'a String>,
    waiting: impl IntoIterator<Item = &'a OperationAction>,
) -> BTreeSet<String> {
    let mut names: BTreeSet<_> = kept.into_iter().cloned().collect();
    for action in waiting {
        match action {
            OperationAction::Snapshot { name } => drop(names.insert(name.clone())),
            OperationAction::DropSnapshot { name } => drop(names.remove(name)),
            OperationAction::Restart | OperationAction::Restore { .. } | OperationAction::ClearLocalStop => {}
        }
    }
    names
}

/// Whether a snapshot of that name may be taken.
///
/// # Errors
/// A refusal when there is one, or as many as a volume has.
pub fn may_take(name: &str, expected: &BTreeSet<String>) -> Result<(), Refusal> {
    if expected.contains(name) {
        let reason = Reason::new("snapshot-exists", format!("there is a snapshot `{name}` already"));
        return Err(Refusal::conflict(reason.mend("choose another name, or delete that one first")));
    }
    if expected.len() >= SNAPSHOTS_PER_VOLUME_MAX {
        let sentence = format!("it has {} snapshots, {SNAPSHOTS_PER_VOLUME_MAX} are the most", expected.len());
        return Err(Refusal::conflict(Reason::new("too-many-snapshots", sentence).mend("delete one first")));
    }
    Ok(())
}

/// Whether there is a snapshot of that name to put back or to delete.
///
/// # Errors
/// A refusal when there is none.
pub fn may_use(name: &str, expected: &BTreeSet<String>) -> Result<(), Refusal> {
    if expected.contains(name) { Ok(()) } else { Err(Refusal::not_found("snapshot", name)) }
}

/// The name of a snapshot that nobody named: when it was asked for, to the second.
#[must_use]
pub fn name_at(now: Moment) -> String {
    let digits: String = now.to_string().chars().filter(char::is_ascii_digit).take(SECOND_DIGITS).collect();
    let (date, time) = digits.split_at(digits.len().min(DATE_DIGITS));
    format!("s-{date}-{time}")
}

/// Digits of a date: 20261122.
const DATE_DIGITS: usize = 8;
/// Digits of a date and a time of day.
const SECOND_DIGITS: usize = DATE_DIGITS + 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str) -> OperationAction {
        OperationAction::Snapshot { name: name.to_owned() }
    }

    #[test]
    fn what_waits_counts_as_done() {
        let waiting = [
            snapshot("b"),
            OperationAction::DropSnapshot { name: "a".to_owned() },
            OperationAction::Restore { name: "b".to_owned() },
        ];
        let names = expected(&["a".to_owned()], &waiting);
        assert_eq!(names, ["b".to_owned()].into());
        assert!(may_use("b", &names).is_ok() && may_use("a", &names).is_err());
        assert_eq!(may_take("b", &names).expect_err("there is one").reason.code, "snapshot-exists");
        assert!(may_take("a", &names).is_ok());
    }

    #[test]
    fn a_volume_has_so_many_snapshots_and_not_one_more() {
        let names: BTreeSet<_> = (0..SNAPSHOTS_PER_VOLUME_MAX).map(|n| n.to_string()).collect();
        assert_eq!(may_take("more", &names).expect_err("too many").reason.code, "too-many-snapshots");
    }

    #[test]
    fn a_snapshot_that_nobody_named_is_called_after_its_second() {
        let name = name_at(Moment::from_micros(1_800_000_000_123_456));
        assert_eq!(name, "s-20270115-080000");
    }
}
