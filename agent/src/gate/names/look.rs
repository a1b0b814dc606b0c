//! What the name server shows of itself: to the agent that asks the gate, and so to people.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

/// The name server, as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesLook {
    /// The servers that names are asked of, and what is wrong with which; nothing: as far as is known it
    /// answers.
    pub servers: BTreeMap<SocketAddr, Option<Reason>>,
    /// The tenants whose bots are answered, and why those of one are not.
    pub tenants: BTreeMap<AccountId, Option<Reason>>,
    /// Names that are remembered.
    pub remembered: usize,
    /// Questions that wait for an answer.
    pub waiting: usize,
    /// What was done since the gate started.
    pub tally: Tally,
}

/// Questions so far, by how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Answered with addresses after the kernel was asked.
    pub answered: u64,
    /// Answered with addresses at once.
    pub recalled: u64,
    /// Names handed on to another server.
    pub handed_on: u64,
    /// Names that were not allowed, or led inside.
    pub refused: u64,
    /// Allowed names that could not be answered.
    pub failed: u64,
    /// The last of those, and why.
    pub last_failure: Option<Failure>,
}

/// A name that could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The name.
    pub name: String,
    /// Why not.
    pub reason: Reason,
}
