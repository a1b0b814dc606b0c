//! Where a test can have this process killed: before and after each commit of the store (`Store::write`).
//!
//! The points are named `coordinator:<commit>:<before|after>`; [`launchpad_protocol::killpoint`] says how one is armed.

pub use launchpad_protocol::killpoint::Side;

use crate::store::Commit;

/// Passes a point: the process may end here.
pub fn visit(commit: Commit, side: Side) {
    launchpad_protocol::killpoint::visit("coordinator", commit.name(), side);
}
