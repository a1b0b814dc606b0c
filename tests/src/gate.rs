//! A host's gate under a test's control: run beside the host's agent, killed, run again on the same data.
//!
//! Called by [`crate::lab`], which starts one beside every agent, and by scenarios that kill it. It lives in its host's
//! network namespace; what it did there stays when it dies.

use std::time::Duration;

use anyhow::Result;

use crate::agent::Place;
use crate::caddy;
use crate::process::{Process, Recipe};
use crate::programs;

/// Rules, routes and a socket take a tenth of a second on a quiet machine.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// What a gate is run with, besides its agent's place.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Where it asks for names: `IP:PORT`.
    pub resolver: String,
    /// More arguments. Those of a Caddy beside it are there without being named.
    pub arguments: Vec<String>,
}

/// A running gate.
#[derive(Debug)]
pub struct Gate {
    process: Process,
}

impl Gate {
    /// Runs the gate of that agent's host, and waits until it listens.
    ///
    /// # Errors
    /// When it ends first: the error repeats its words.
    pub fn start(place: &Place, outside: &Outside) -> Result<Self> {
        let log = place.log.with_file_name("gate.log");
        let recipe = Recipe::new("launchpad-agent gate", programs::binary("launchpad-agent")?, log)
            .args(["gate".as_ref(), "--data-dir".as_ref(), place.data.as_os_str()])
            .args(["--run-dir".as_ref(), place.run.as_os_str()])
            .args(["--resolver", &outside.resolver])
            .args(caddy::gate_arguments(place))
            .args(&outside.arguments)
            .in_namespace(Some(&place.namespace));
        let mut gate = Self { process: recipe.spawn()? };
        gate.wait_up(place)?;
        Ok(gate)
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL, and the same again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn bounce(&mut self, place: &Place) -> Result<()> {
        self.process.restart()?;
        self.wait_up(place)
    }

    fn wait_up(&mut self, place: &Place) -> Result<()> {
        let socket = place.run.join("gate.sock");
        self.process.wait_ready(UP_WITHIN, || {
            std::os::unix::net::UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string())
        })
    }
}
