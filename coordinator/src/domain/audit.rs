//! The audit log is a chain: each entry's hash covers the one before, so that an entry cannot be changed, removed or
//! slipped in without breaking every later one.
//!
//! `store::audit` appends and reads; the arithmetic is here.

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, UserId};
use launchpad_protocol::time::Moment;
use serde::{Deserialize, Serialize};

/// What is remembered of one success that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Moment,
    /// Who. Absent: the coordinator itself.
    pub user: Option<UserId>,
    /// As what.
    pub role: String,
    /// In whose account. Absent: the fleet's.
    pub account: Option<AccountId>,
    /// Whether somebody acted beyond their own account.
    pub cross_account: bool,
    /// What: `deployment.create`.
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// What else matters; nothing secret.
    pub detail: String,
}

impl AuditEntry {
    /// What the coordinator did by itself.
    #[must_use]
    pub fn by_coordinator(at: Moment, action: &str, target: String, detail: String) -> Self {
        Self {
            at,
            user: None,
            role: "coordinator".to_owned(),
            account: None,
            cross_account: false,
            action: action.to_owned(),
            target,
            detail,
        }
    }
}

/// What the first entry's hash covers in place of a predecessor.
#[must_use]
pub fn genesis() -> Digest {
    Digest::of(b"launchpad audit v1")
}

/// The hash of an entry: SHA-256 over its predecessor's hash and its own fields as JSON, in the order of the struct.
#[must_use]
pub fn chain(previous: Digest, entry: &AuditEntry) -> Digest {
    let mut bytes = previous.as_bytes().to_vec();
    // Nothing in an entry can fail to be JSON: it holds strings, numbers and a bool.
    bytes.extend(serde_json::to_vec(entry).unwrap_or_default());
    Digest::of(&bytes)
}

/// Finds the first entry, counted from zero, that does not follow from the one before.
#[must_use]
pub fn first_break<'a>(entries: impl IntoIterator<Item = (&'a AuditEntry, Digest)>) -> Option<usize> {
    let mut previous = genesis();
    entries.into_iter().position(|(entry, hash)| {
        let broken = chain(previous, entry) != hash;
        previous = hash;
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &str) -> AuditEntry {
        AuditEntry {
            at: Moment::from_micros(1),
            user: None,
            role: "operator".to_owned(),
            account: None,
            cross_account: false,
            action: "host.revoke".to_owned(),
            target: target.to_owned(),
            detail: String::new(),
        }
    }

    fn log(targets: &[&str]) -> Vec<(AuditEntry, Digest)> {
        let mut previous = genesis();
        let linked = |target: &&str| {
            let entry = entry(target);
            previous = chain(previous, &entry);
            (entry, previous)
        };
        targets.iter().map(linked).collect()
    }

    fn broken(log: &[(AuditEntry, Digest)]) -> Option<usize> {
        first_break(log.iter().map(|(entry, hash)| (entry, *hash)))
    }

    #[test]
    fn an_untouched_chain_holds() {
        assert_eq!(broken(&log(&["a", "b", "c"])), None);
    }

    #[test]
    fn a_changed_removed_or_inserted_entry_breaks_the_chain_where_it_happened() {
        let mut changed = log(&["a", "b", "c"]);
        changed[1].0.target = "x".to_owned();
        assert_eq!(broken(&changed), Some(1));
        let mut removed = log(&["a", "b", "c"]);
        removed.remove(1);
        assert_eq!(broken(&removed), Some(1));
        let mut inserted = log(&["a", "b", "c"]);
        inserted.insert(2, inserted[0].clone());
        assert_eq!(broken(&inserted), Some(2));
    }
}
