//! What a host is like once it was attacked: its engine, its own programs, what its agent says of it, its disk.
//!
//! Called by [`super::site`]. [`Aftermath::look`] asks, [`Aftermath::harm`] judges, without a benefit of the
//! doubt: what could not be asked is harm.

use std::process::Command;

use anyhow::{Context as _, Result};
use launchpad_agent::execute::volume::space::RESERVE_BYTES;
use nix::sys::statvfs::statvfs;
use serde_json::Value;

use crate::engine::Engine;
use crate::host::Host;
use crate::process::run;
use crate::programs;

/// Seconds within which dockerd counts what it has: a tenth of one on a quiet machine.
const ENGINE_WITHIN_S: &str = "10";

/// A host as it was found.
#[derive(Debug, Clone)]
pub(super) struct Aftermath {
    /// Whether dockerd answers; if not, why.
    engine: Result<(), String>,
    /// The host's own programs that have ended.
    ended: Vec<&'static str>,
    /// What the agent reports to be wrong with the host, one sentence each; or why it does not say.
    troubles: Result<Vec<String>, String>,
    /// What is left of the disk that the volumes lie on.
    free_bytes: Result<u64, String>,
}

impl Aftermath {
    /// Looks at a host.
    ///
    /// # Errors
    /// When it lacks one of its programs, or the kernel does not say whether one runs.
    pub(super) fn look(host: &mut Host) -> Result<Self> {
        let running = [
            ("agent", host.agent()?.process().is_running()?),
            ("gate", host.gate()?.process().is_running()?),
            ("Caddy", host.caddy()?.process().is_running()?),
        ];
        let ended = running.into_iter().filter(|(_, runs)| !runs).map(|(name, _)| name).collect();
        let sentence = |error: anyhow::Error| format!("{error:#}");
        Ok(Self {
            engine: ask_engine(&host.engine).map_err(sentence),
            ended,
            troubles: troubles(host).map_err(sentence),
            free_bytes: free_bytes(host).map_err(sentence),
        })
    }

    /// One line for each thing that is wrong.
    pub(super) fn harm(&self) -> Vec<String> {
        let engine = self.engine.as_ref().err().map(|why| format!("the host's dockerd does not answer: {why}"));
        let ended = self.ended.iter().map(|name| format!("the host's {name} has ended"));
        let troubles = match &self.troubles {
            Ok(troubles) => troubles.iter().map(|told| format!("the host's agent reports trouble: {told}")).collect(),
            Err(why) => vec![format!("the host's agent does not say how it is: {why}")],
        };
        let disk = match self.free_bytes {
            Ok(free) if free >= RESERVE_BYTES => None,
            Ok(free) => Some(format!("{free} bytes are left of the host's disk, fewer than the reserve for itself")),
            Err(ref why) => Some(format!("the host's disk cannot be looked at: {why}")),
        };
        engine.into_iter().chain(ended).chain(troubles).chain(disk).collect()
    }
}

/// dockerd counts its containers, volumes and images: more than its own health check asks.
fn ask_engine(engine: &Engine) -> Result<()> {
    let mut command = Command::new("timeout");
    command.args([ENGINE_WITHIN_S, "docker", "info", "--format", "{{.ServerVersion}}"]);
    run(command.envs(engine.client_environment())).map(drop)
}

/// What the agent tells its host's owner.
fn troubles(host: &mut Host) -> Result<Vec<String>> {
    let run_dir = host.agent()?.place().run.clone();
    let mut command = Command::new(programs::binary("launchpad-agent")?);
    let told = run(command.args(["status", "--output", "json", "--run-dir"]).arg(run_dir))?;
    let told: Value = serde_json::from_str(&told).with_context(|| format!("read the agent's status: {told}"))?;
    let report = &told["report"];
    let troubles = report["troubles"].as_array().with_context(|| format!("no list of troubles in {told}"))?;
    let gate = report["gate"].is_null().then(|| "the gate does not answer".to_owned());
    Ok(troubles.iter().map(Value::to_string).chain(gate).collect())
}

fn free_bytes(host: &Host) -> Result<u64> {
    let data = host.place().data;
    let disk = statvfs(&data).with_context(|| format!("look at the disk of {}", data.display()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unharmed() -> Aftermath {
        Aftermath { engine: Ok(()), ended: Vec::new(), troubles: Ok(Vec::new()), free_bytes: Ok(RESERVE_BYTES) }
    }

    #[test]
    fn a_host_that_is_as_before_is_unharmed() {
        assert_eq!(unharmed().harm(), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_wrong_with_a_host_or_could_not_be_asked_is_harm() {
        let why = || "it timed out".to_owned();
        for harmed in [
            Aftermath { engine: Err(why()), ..unharmed() },
            Aftermath { ended: vec!["gate"], ..unharmed() },
            Aftermath { troubles: Ok(vec![why()]), ..unharmed() },
            Aftermath { troubles: Err(why()), ..unharmed() },
            Aftermath { free_bytes: Ok(RESERVE_BYTES - 1), ..unharmed() },
            Aftermath { free_bytes: Err(why()), ..unharmed() },
        ] {
            assert_eq!(harmed.harm().len(), 1, "{harmed:?}");
        }
    }
}
