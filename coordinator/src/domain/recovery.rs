//! When the store may be older than its fleet: what it has to learn from hosts before it wishes anything of them.
//!
//! `jobs::placer`, `app::recovery`, `app::restore` and `fleet::view` ask here, and so does the cluster test, which
//! restores old copies at any moment.
//!
//! ```text
//!   restored ─► frozen: nothing is published, nothing is placed, what waited to happen once is refused
//!                  │ hosts run on as they were, and each reports or is left out by name (`recovery_gate`)
//!                  ▼
//!               confirmed ─► what runs keeps its host (`whereabouts`)
//!                        └─► overtake: revisions and epochs above what hosts hold
//! ```

use std::collections::BTreeMap;

use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::InstanceReport;

use super::placement::{Candidate, Placement, Wanted, place};
use super::refusal::Refusal;

/// Chooses a host, unless publishing is frozen: a deployment that waits for one may run somewhere already, as the store
/// has forgotten.
#[must_use]
pub fn place_unless(frozen: Option<&Reason>, wanted: &Wanted, hosts: &[Candidate]) -> Placement {
    match frozen {
        Some(reason) => Placement::Nowhere { reason: waits_for_recovery(reason), refused: BTreeMap::new() },
        None => place(wanted, hosts),
    }
}

/// What a wish must become to be newer than what its host holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaken {
    /// Its revision: the same, or one above the host's.
    pub revision: Revision,
    /// Its epoch: at least the host's.
    pub epoch: Epoch,
}

/// Raises a wish above what its host holds; none: it is not behind.
#[must_use]
pub fn overtake(revision: Revision, epoch: Epoch, reported: &InstanceReport) -> Option<Overtaken> {
    let behind = reported.revision > revision;
    let overtaken = Overtaken {
        revision: if behind { reported.revision.next() } else { revision },
        epoch: epoch.max(reported.epoch),
    };
    (behind || overtaken.epoch != epoch).then_some(overtaken)
}

/// Why an operation of a restored copy is not carried out. It may have been, after the copy was made, and its host has
/// forgotten it since: a bot that runs is not restarted for a wish that may be a week old.
#[must_use]
pub fn operation_of_a_copy() -> Reason {
    Reason::new("restored", "the store was restored from an older copy before this was known to be done")
        .because("it may have been carried out after that copy was made")
        .mend("ask for it again if it is still wanted")
}

/// Whether a deployment without a host may be forgotten at once. While publishing is frozen it may run somewhere, and to
/// forget it would leave it running there with nobody to name it.
///
/// # Errors
/// A refusal while publishing is frozen.
pub fn may_forget(frozen: Option<&Reason>) -> Result<(), Refusal> {
    let Some(frozen) = frozen else { return Ok(()) };
    let reason = Reason::new("recovering", "it has no host here, and may run on one: it cannot be deleted yet")
        .because(frozen.sentence.clone())
        .mend("delete it again once an operator has confirmed the recovery: launchpad recover confirm");
    Err(Refusal::conflict(reason))
}

fn waits_for_recovery(frozen: &Reason) -> Reason {
    Reason::new("recovering", "nothing is placed until the recovery is confirmed")
        .because(frozen.sentence.clone())
        .mend("an operator confirms it: launchpad recover confirm")
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
