//! One simulated host: a namespace with an engine and an agent in it, and what the API shows of it.
//!
//! Called by [`crate::lab`], which makes them, and by scenarios. The scenario that killed something waits here until the
//! coordinator knows it: what was true a moment before may still be shown, so a wait that must see news compares reports.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::agent::{self, Agent};
use crate::bot::Bot;
use crate::caddy::Caddy;
use crate::deployment::SOON;
use crate::engine::Engine;
use crate::gate::{Gate, Outside};
use crate::lab::Lab;
use crate::netns::HostNet;
use crate::wait::{wait_for, wait_until};

/// One simulated host: a namespace with an engine in it, and an agent once it is enrolled.
#[derive(Debug)]
pub struct Host {
    /// Its name in the fleet: `h1`.
    pub name: String,
    /// Its agent, if one was started. Declared first: it goes before the engine.
    pub agent: Option<Agent>,
    /// Its gate, if one was started.
    pub gate: Option<Gate>,
    /// Its Caddy, if one was started.
    pub caddy: Option<Caddy>,
    /// What its gate is run with from the next start on.
    pub outside: Outside,
    /// Its Docker engine.
    pub engine: Engine,
    /// Its namespace and link.
    pub net: HostNet,
    /// Where its files lie.
    pub(crate) dir: PathBuf,
}

impl Host {
    /// The bot at `address` (`ip:port`) on this host.
    pub fn bot(&self, address: &str) -> Bot<'_> {
        Bot::new(&self.net, address)
    }

    /// Its gate.
    ///
    /// # Errors
    /// Before [`Lab::start_agent`].
    pub fn gate(&mut self) -> Result<&mut Gate> {
        self.gate.as_mut().with_context(|| format!("no gate was started on {}", self.name))
    }

    /// Kills its gate, and starts it again on the same data.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn bounce_gate(&mut self) -> Result<()> {
        let place = self.place();
        self.gate()?.bounce(&place)
    }

    /// Runs a Caddy beside its gate: from then on its bots are reached at their public names.
    ///
    /// # Errors
    /// Before [`Lab::start_agent`], or when it does not come up.
    pub fn start_caddy(&mut self) -> Result<&mut Caddy> {
        self.gate()?;
        let caddy = Caddy::start(&self.place())?;
        Ok(self.caddy.insert(caddy))
    }

    /// Its Caddy.
    ///
    /// # Errors
    /// Before [`Host::start_caddy`].
    pub fn caddy(&mut self) -> Result<&mut Caddy> {
        self.caddy.as_mut().with_context(|| format!("no Caddy was started on {}", self.name))
    }

    /// Where its agent and its gate keep their files.
    pub(crate) fn place(&self) -> agent::Place {
        agent::Place::new(&self.name, &self.dir, &self.engine.socket(), &self.net.path())
    }

    /// Its agent.
    ///
    /// # Errors
    /// Before [`Lab::start_agent`].
    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().with_context(|| format!("no agent was started on {}", self.name))
    }
}

impl Lab {
    /// Host number `index` as the API shows it.
    ///
    /// # Errors
    /// When the API does not answer, or does not know the host.
    pub fn shown(&self, index: usize) -> Result<Value> {
        let name = format!("h{}", index + 1);
        let hosts = self.api()?.get("/hosts")?.success()?;
        let host = hosts["items"].as_array().into_iter().flatten().find(|host| host["name"] == name.as_str());
        host.cloned().with_context(|| format!("no host named {name} in {hosts}"))
    }

    /// Waits until host number `index` is connected.
    ///
    /// # Errors
    /// When it is not soon.
    pub fn wait_connected(&self, index: usize) -> Result<Value> {
        self.wait_shown(index, "connected", |host| host["connected"] == true)
    }

    /// Waits until host number `index` is connected and has applied what was published last.
    ///
    /// # Errors
    /// When it does not soon.
    pub fn wait_settled(&self, index: usize) -> Result<Value> {
        self.wait_settled_within(SOON, index)
    }

    /// As [`Lab::wait_settled`], for a host with so much to do that it may take that long.
    ///
    /// # Errors
    /// When it does not within `deadline`.
    pub fn wait_settled_within(&self, deadline: Duration, index: usize) -> Result<Value> {
        self.wait_shown_within(deadline, index, "connected and settled", |host| {
            host["connected"] == true && host["generation"]["applied"] == host["generation"]["published"]
        })
    }

    /// Waits until `holds` of host number `index`; `what` is for the error. A coordinator that is away is "not yet".
    ///
    /// # Errors
    /// When it does not hold soon, with the host as it was seen last.
    pub fn wait_shown(&self, index: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait_shown_within(SOON, index, what, holds)
    }

    fn wait_shown_within(
        &self,
        deadline: Duration,
        index: usize,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_for(&format!("host {index} to be {what}"), deadline, || {
            Ok(match self.shown(index) {
                Ok(host) if holds(&host) => Ok(host),
                Ok(host) => Err(host.to_string()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Waits until the coordinator has stored another report of host number `index`: whatever was wanted of the host or
    /// seen on it, there was the occasion.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn wait_for_report(&self, index: usize) -> Result<()> {
        let before = self.shown(index)?["last_seen_us"].clone();
        wait_until("another report", SOON, || Ok(self.shown(index)?["last_seen_us"] != before))
    }
}
