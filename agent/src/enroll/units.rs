//! The last step of joining: gate and agent are started, now and at every boot, where systemd runs the machine.

use std::path::Path;
use std::time::Duration;

use launchpad_protocol::reason::Reason;

use super::dockerd::machine::{SYSTEMD, run};

/// The gate first: the agent has it let bots out.
const UNITS: [&str; 2] = ["launchpad-gate.service", "launchpad-agent.service"];

/// How long both may take to be ready: a second each, on a host whose dockerd answers.
const START_WITHIN: Duration = Duration::from_secs(90);

/// How long systemd may take to tell whether there are such units.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Starts them, or says how; a line to print.
///
/// # Errors
/// When they do not start.
pub async fn start() -> Result<String, Reason> {
    if !Path::new(SYSTEMD).exists() {
        return Ok(
            "systemd does not run this machine: start `launchpad-agent gate` and `launchpad-agent run` yourself"
                .into(),
        );
    }
    if run("systemctl", &[&["cat", "--"], &UNITS[..]].concat(), LOOK_WITHIN).await.is_err() {
        return Ok(format!("now install the units and start them: systemctl enable --now {}", UNITS.join(" ")));
    }
    run("systemctl", &[&["enable", "--now", "--"], &UNITS[..]].concat(), START_WITHIN).await.map_err(|reason| {
        Reason::new("units-not-started", "the host has joined, and its units do not start")
            .because(reason.to_string())
            .mend(format!("systemctl status {}", UNITS.join(" ")))
    })?;
    Ok("gate and agent run, now and after every boot".into())
}
