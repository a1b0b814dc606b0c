//! What is said on the gate's socket: one line of JSON there, one back.
//!
//! `socket.rs` serves it; the agent's side is `execute/gate.rs`. Whoever can open the socket is root, and could write to
//! nftables directly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Denials, GateReport};
use serde::{Deserialize, Serialize};

use super::policy::{Change, TenantGate};

/// The socket's name in the run directory.
pub const SOCKET: &str = "gate.sock";

/// Bytes of one request: an instance with all its rules and names comes to a tenth of it.
pub const REQUEST_MAX_BYTES: u64 = 256 * 1024;

/// Bytes of one answer: a full host's 768 instances and the samples of as many tenants.
pub const RESPONSE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Change the policy; answered once the kernel holds it and the disk has it.
    Change(Change),
    /// Tell everything, as it is in the kernel now.
    Look,
    /// Answer when there is something new to tell, or after a while.
    Await {
        /// What the asker has seen ([`Look::standing`]); none: nothing yet, so that he is answered at once.
        standing: Option<u64>,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It is so.
    Done,
    /// An instance is let out and in to, and this is how it stands.
    Told(InstanceSight),
    /// Everything.
    Seen(Box<Look>),
    /// It may be worth looking again.
    Changed {
        /// What there is to see now.
        standing: u64,
    },
    /// It was not done.
    Refused {
        /// Why.
        reason: Reason,
    },
}

/// Everything that the gate knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Rises with everything that is worth telling.
    pub standing: u64,
    /// The tenants that it was told of.
    pub tenants: BTreeMap<AccountId, TenantSight>,
    /// The instances that it was told of.
    pub instances: BTreeMap<DeploymentId, InstanceSight>,
    /// What bots were kept from.
    pub denials: BTreeMap<AccountId, Denials>,
    /// Its own story.
    pub report: GateReport,
    /// What was told to be out of every bot's reach.
    pub never: BTreeSet<Ipv4Addr>,
}

/// A tenant's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSight {
    /// What it was told.
    pub told: TenantGate,
    /// What is wrong with its rules in the kernel; none: they are as they should be.
    pub fault: Option<Reason>,
}

/// An instance's way out and in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSight {
    /// What it was told, by digest ([`crate::observe::gate_digest`]).
    pub told: Digest,
    /// At which address the instance is recognised.
    pub address: Ipv4Addr,
    /// What is wrong with the way out; none: it is what was told.
    pub egress_fault: Option<Reason>,
    /// What is wrong with the way in.
    pub ingress_fault: Option<Reason>,
    /// What was read back, for people.
    pub egress_seen: String,
    /// Likewise.
    pub ingress_seen: String,
}
