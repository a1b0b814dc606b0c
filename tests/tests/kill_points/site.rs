//! One laboratory, the point that is armed in it, and the process that has to die there once.
//!
//! ```text
//!  arm ─► the journey, in steps that are tried again ─► settle: it died once, by SIGKILL; the neighbour is the same
//!              └─ revive: whatever died is started again, disarmed
//! ```

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use launchpad_tests::deployment::{Deployment, Identity};
use launchpad_tests::lab::Lab;
use launchpad_tests::process::Process;
use launchpad_tests::wait::wait_for;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A journey takes three seconds on a quiet machine; a death adds a reconnect with its backoff, a host's silence thirty.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between what an action did and the visit of the point after it there is one system call, on a busy machine.
const DIES_WITHIN: Duration = Duration::from_secs(20);
/// Arms a point; `launchpad_protocol::killpoint` reads it.
pub(crate) const KILL_AT: &str = "LAUNCHPAD_KILL_AT";

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Agent,
    Coordinator,
}

struct Armed {
    victim: Victim,
    point: String,
    died: bool,
}

/// A laboratory in which points are visited one after the other.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) neighbour: Option<(Deployment, Identity)>,
    armed: Option<Armed>,
}

impl Site {
    /// A coordinator and a host that nobody has enrolled.
    pub(crate) fn without_agent() -> Result<Self> {
        let mut lab = Lab::enter(&["echo"])?;
        lab.start_coordinator()?;
        lab.add_host()?;
        Ok(Self { lab, neighbour: None, armed: None })
    }

    /// A host without bots.
    pub(crate) fn with_host() -> Result<Self> {
        Ok(Self { lab: Lab::with_hosts(1)?, neighbour: None, armed: None })
    }

    /// A host with a bot that has to stay as it is.
    pub(crate) fn with_neighbour() -> Result<Self> {
        let mut site = Self::with_host()?;
        let neighbour = Deployment::running(&site.lab, "neighbour")?;
        let identity = neighbour.identity(&site.lab.host(0)?.engine)?;
        site.neighbour = Some((neighbour, identity));
        Ok(site)
    }

    /// Removes the laboratory.
    pub(crate) fn close(self) -> Result<()> {
        self.lab.close()
    }

    /// Starts the process that has the point again, armed. It may die before it is ready.
    pub(crate) fn arm(&mut self, point: &str) -> Result<()> {
        let victim = if point.starts_with("agent:") { Victim::Agent } else { Victim::Coordinator };
        self.armed = Some(Armed { victim, point: point.to_owned(), died: false });
        let started = self.start(Some(point));
        if started.is_err() && self.process(victim)?.exit()?.is_none_or(|exit| !is_killed(exit)) {
            return started.with_context(|| format!("start the {victim:?} armed"));
        }
        Ok(())
    }

    /// That the armed process died once, and that nothing of the neighbour has changed. Disarms.
    pub(crate) fn settle(&mut self) -> Result<()> {
        // What the journey waited for may have shown a moment before the point.
        wait_for("a death at the point (are the programs built with the feature killpoints?)", DIES_WITHIN, || {
            self.revive()?;
            let died = self.armed.as_ref().is_some_and(|armed| armed.died);
            Ok(if died { Ok(()) } else { Err("it runs".to_owned()) })
        })?;
        self.armed = None;
        let Some((neighbour, before)) = self.neighbour.clone() else { return Ok(()) };
        let engine = &self.lab.host(0)?.engine;
        // By the container's own id: the API may not know it again yet.
        let after = launchpad_tests::deployment::identity(engine, &before.container)?;
        ensure!(after == before, "the neighbour {} was touched: {before:?} became {after:?}", neighbour.id);
        Ok(())
    }

    /// Tries until `attempt` gives a value, reviving the dead. `None` and `Err` are "not yet".
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&mut Lab) -> Result<Option<T>>,
    ) -> Result<T> {
        wait_for(what, PATIENCE, || {
            self.revive()?;
            Ok(match attempt(&mut self.lab) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err("not yet".to_owned()),
                // The process is away or dies in the middle of an answer.
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Sends an order until it is answered; its key makes it count once.
    pub(crate) fn order(&mut self, path: &str, body: &Value, key: &str) -> Result<Value> {
        self.until(&format!("an answer to POST {path}"), |lab| {
            lab.api()?.post_once(path, body, key)?.success().map(Some)
        })
    }

    /// Orders the echo bot, on Starter.
    pub(crate) fn deploy(&mut self, name: &str) -> Result<Value> {
        let image = self.lab.image("echo")?;
        let body = json!({ "name": name, "profile": "echo", "plan": "starter", "image": image });
        let accepted = self.order("/deployments", &body, &format!("{name}-deploy"))?;
        let id = accepted["id"].as_str().context("the API answered without an id")?.to_owned();
        self.until_deployment(&id, "running", |now| now["state"] == "running")
    }

    /// Asks for its end, until that is answered.
    pub(crate) fn delete(&mut self, deployment: &Value, purge: bool) -> Result<()> {
        let path = format!("/deployments/{}?purge={purge}", id(deployment)?);
        self.until("an answer to DELETE", |lab| {
            let answer = lab.api()?.delete(&path)?;
            // A repeated DELETE may find it gone, or on its way.
            ensure!(answer.status < 500, "status {}", answer.status);
            Ok(Some(()))
        })
    }

    /// Looks at a deployment until `holds`.
    pub(crate) fn until_deployment(&mut self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let path = format!("/deployments/{id}");
        self.until(&format!("{id}: {what}"), |lab| {
            let deployment = lab.api()?.get(&path)?.success()?;
            if holds(&deployment) { Ok(Some(deployment)) } else { bail!("{deployment}") }
        })
    }

    /// Starts the armed process again, disarmed, if it died as it should.
    fn revive(&mut self) -> Result<()> {
        let Some(Armed { victim, ref point, died }) = self.armed else { return Ok(()) };
        let point = point.clone();
        let process = self.process(victim)?;
        let Some(exit) = process.exit()? else { return Ok(()) };
        let tail = process.log_tail();
        ensure!(is_killed(exit) && !died, "at {point} the {victim:?} ended with {exit}, died before: {died}\n{tail}");
        if let Some(armed) = &mut self.armed {
            armed.died = true;
        }
        self.start(None)
    }

    /// Starts the victim again with that point or none.
    fn start(&mut self, point: Option<&str>) -> Result<()> {
        let Some(Armed { victim, .. }) = self.armed else { bail!("nothing is armed") };
        let environment = match victim {
            Victim::Agent => &mut self.lab.host(0)?.agent()?.place().environment,
            Victim::Coordinator => &mut self.lab.coordinator()?.place().environment,
        };
        match point {
            Some(point) => drop(environment.insert(KILL_AT.to_owned(), point.to_owned())),
            None => drop(environment.remove(KILL_AT)),
        }
        match victim {
            Victim::Agent => self.lab.host(0)?.agent()?.restart(),
            Victim::Coordinator => self.lab.coordinator()?.restart(),
        }
    }

    fn process(&mut self, victim: Victim) -> Result<&mut Process> {
        Ok(match victim {
            Victim::Agent => self.lab.host(0)?.agent()?.process(),
            Victim::Coordinator => self.lab.coordinator()?.process(),
        })
    }
}

fn is_killed(exit: std::process::ExitStatus) -> bool {
    exit.signal() == Some(Signal::SIGKILL as i32)
}

/// The id of a deployment that the API showed.
pub(crate) fn id(deployment: &Value) -> Result<String> {
    Ok(deployment["id"].as_str().context("a deployment has an id")?.to_owned())
}

/// A name for what a point's journey makes.
pub(crate) fn name_of(point: &str) -> String {
    point.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
