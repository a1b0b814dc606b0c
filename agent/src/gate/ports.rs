//! The narrow doors between the gate's parts: names ask the kernel's keeper to let addresses pass, and tell what they
//! refused. Each part has a complete fake of the other's door in its tests.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;

/// Addresses that a name resolved to, for the one bot that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Who asked.
    pub deployment: DeploymentId,
    /// Its address.
    pub bot: Ipv4Addr,
    /// The name that it asked for, in lower case and without its final dot: the policy may have changed since, and is
    /// asked again.
    pub name: String,
    /// Where it may go.
    pub to: Vec<Ipv4Addr>,
    /// On which TCP ports.
    pub ports: Vec<u16>,
    /// For how long; connections that are open then stay open.
    pub lifetime: Duration,
}

/// Who holds the kernel's sets.
#[async_trait]
pub trait Admits: Send + Sync + 'static {
    /// Lets them pass. When this returns, the kernel has it: only then is the name answered.
    ///
    /// # Errors
    /// When the kernel does not take it: then the name is not answered.
    async fn admit(&self, admission: Admission) -> Result<(), Reason>;

    /// Rises whenever something admitted for that bot has left the kernel before its time.
    fn losses(&self, _deployment: DeploymentId) -> u64 {
        0
    }
}

/// Who counts what was refused.
pub trait Witnesses: Send + Sync + 'static {
    /// A bot asked for a name that it may not have, or whose answer led inside.
    fn name_refused(&self, account: AccountId, deployment: DeploymentId, name: &str);
}
