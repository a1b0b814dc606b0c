//! What the report says of the host itself, besides its instances.

use std::collections::BTreeMap;

use launchpad_protocol::id::OperationId;
use launchpad_protocol::report::{Capability, Capacity, Outcome};
use launchpad_protocol::spec::AgentUpgrade;

/// Where those facts come from: [`crate::doctor`] on a real host, plain values in tests.
pub trait HostFacts: Send + 'static {
    /// The kernel's boot id.
    fn boot_id(&self) -> &str;
    /// The host's size.
    fn capacity(&self) -> Capacity;
    /// What the host can enforce.
    fn capabilities(&self) -> BTreeMap<String, Capability>;
    /// What has become of an upgrade of the agent itself, now that this one is wished; none: there is none, or it is under way.
    fn upgrade(&mut self, _wished: Option<&AgentUpgrade>) -> Option<(OperationId, Outcome)> {
        None
    }
}

/// Facts that were found once, or made up.
#[derive(Debug, Clone, Default)]
pub struct FixedFacts {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The host's size.
    pub capacity: Capacity,
    /// What the host can enforce.
    pub capabilities: BTreeMap<String, Capability>,
}

impl HostFacts for FixedFacts {
    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn capabilities(&self) -> BTreeMap<String, Capability> {
        self.capabilities.clone()
    }
}
