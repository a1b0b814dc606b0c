//! `launchpad plan NAME PLAN`: what a bot may use from now on.

use serde_json::json;

use crate::answers::Plan;
use crate::arguments::ChangePlan;
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, bytes, facts};

/// Chooses another plan.
pub(super) fn run(client: &Client, wanted: &ChangePlan, output: Output) -> Result<(), Failure> {
    let name = &wanted.target.deployment;
    let value = client.put(&path(&["deployments", name, "plan"]), &[], &json!({ "plan": wanted.plan }))?;
    output.show(&value, || {
        let Plan { plan, cpu_millis, memory_bytes, storage_bytes, egress_rules, retention_days } = read(&value)?;
        let granted = facts(&[
            ("plan", Some(plan)),
            ("cpu", Some(format!("{}.{:03} cores", cpu_millis / 1_000, cpu_millis % 1_000))),
            ("memory", Some(bytes(memory_bytes))),
            ("volume", Some(bytes(storage_bytes))),
            ("egress rules", Some(egress_rules.to_string())),
            ("data kept", Some(format!("{retention_days} days after its end"))),
        ]);
        Ok(format!(
            "{granted}\n\nIts limits change while it runs. `launchpad status {name}` says when they hold, and whether its \
             volume waits for a restart to grow."
        ))
    })
}
