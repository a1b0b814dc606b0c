//! The narrow door to systemd: properties of its groups, set for as long as the machine is up.
//!
//! `tenant.rs` calls these on hosts where systemd makes the control groups. A program rather than a connection to its bus: a
//! handful of calls in a host's life are not worth a second protocol in the agent.

use std::process::Stdio;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use tokio::process::Command;
use tokio::time::timeout;

/// It answers in milliseconds; a machine that reloads its units may take longer.
const WITHIN: Duration = Duration::from_secs(30);

/// Sets properties of a unit, whether anything is in it yet or not.
///
/// # Errors
/// When systemd refuses, does not answer, or is not there.
pub async fn set_properties(unit: &str, properties: &[String]) -> Result<(), Reason> {
    let arguments = ["set-property", "--runtime", "--", unit].into_iter().map(str::to_owned);
    run(arguments.chain(properties.iter().cloned()).collect()).await
}

/// Ends a unit that nothing is in any more, and takes back all properties that were set of it.
///
/// # Errors
/// As [`set_properties`].
pub async fn end(unit: &str) -> Result<(), Reason> {
    run(["stop", "--", unit].map(str::to_owned).into()).await?;
    run(["revert", "--", unit].map(str::to_owned).into()).await
}

async fn run(arguments: Vec<String>) -> Result<(), Reason> {
    let refused = |cause: String| {
        Reason::new("systemd-refuses", format!("`systemctl {}` failed", arguments.join(" ")))
            .because(cause)
            .mend("see `systemctl status`; the engine uses systemd for control groups, so the agent has to")
    };
    let mut command = Command::new("systemctl");
    command.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(WITHIN, command.output()).await {
        Err(_) => Err(refused(format!("no answer within {WITHIN:?}"))),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}
