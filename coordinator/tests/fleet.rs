//! The fleet's side of the coordinator, over real sockets of 127.0.0.1, against fake agents that speak the protocol.
//!
//! `fleet/coordinator.rs` is a coordinator without API and jobs, `fleet/agent.rs` an agent that says what a test has it
//! say. No test waits for a fixed time: each polls for what must come, and fails when it does not come in time.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod postgres;

mod fleet {
    pub mod agent;
    pub mod coordinator;

    mod asking;
    mod joining;
    mod renewing;
    mod replicas;
    mod reporting;
    mod revoking;
    mod rotating;
    mod sessions;
    mod storm;

    use std::time::Duration;

    /// How long anything may take that must happen: far longer than it does on the slowest machine.
    pub const PATIENCE: Duration = Duration::from_secs(20);

    /// What must come, in time.
    pub async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, future).await.expect("it did not come in time")
    }
}
