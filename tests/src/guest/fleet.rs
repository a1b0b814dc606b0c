//! Two guests with the agent's package on them, one coordinator, and a bot on each that must never be restarted.
//!
//! Called by `bin/vm.rs`. The pool accepts nothing: a host that cannot keep every promise gets no bot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::image;
use super::machine::Guest;
use super::package::Package;
use super::seed::Keys;
use super::standing::{self, Standing};
use super::switch::Switch;
use crate::coordinator::{Coordinator, Place};
use crate::deployment::Deployment;
use crate::held;
use crate::lab::{Lab, Run, http_address};
use crate::wait::wait_for;

/// Guests of a run.
const GUESTS: u8 = 2;
/// A shared pool that asks for all that a host can have.
const POOLS: &str = "[shared]\nkind = \"shared\"\n";
/// What a plan grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    name: &'static str,
    /// As the kernel is to hold it.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u64,
}

/// Two plans between which a running bot changes in place: their volume is the same.
const PLANS: [Plan; 2] = [
    Plan { name: "starter", memory_bytes: 128 << 20, cpu_millis: 200 },
    Plan { name: "pro", memory_bytes: 160 << 20, cpu_millis: 300 },
];
/// Everything that a guest does takes ten times as long when a build runs beside it.
pub const SOON: Duration = Duration::from_secs(600);

/// A running fleet of whole hosts. Dropping it removes everything.
#[derive(Debug)]
pub struct Fleet {
    /// The guests. Before the laboratory, so that they are gone when it sweeps.
    pub guests: Vec<Guest>,
    /// The bots, one on each guest, in the guests' order.
    pub bots: Vec<Deployment>,
    /// What is installed.
    pub package: Package,
    /// The coordinator's clock, ahead of ours.
    pub ahead: Duration,
    /// Coordinator and registry.
    pub lab: Lab,
    /// The index of the bots' plan.
    plan: usize,
    _switch: Switch,
}

impl Fleet {
    /// Boots everything and waits until a bot runs on each guest.
    ///
    /// # Errors
    /// When a step fails: the error says which.
    pub fn open(run: Run) -> Result<Self> {
        let package = Package::built()?;
        let base = image::ensure_built()?;
        let mut lab = Lab::enter_as(run, &["echo"])?;
        let keys = Keys::create(&lab.dir().join("keys"))?;
        let switch = Switch::create()?;
        let guests = (1..=GUESTS).map(|index| Guest::start(lab.dir(), index, &base, &keys, &switch));
        let guests = guests.collect::<Result<_>>()?;
        let mut place = Place::new(lab.dir(), &http_address());
        (place.pools, place.plans) = (POOLS.to_owned(), Some(PLANS.map(table).concat()));
        lab.start_coordinator_at(place)?;
        let mut fleet =
            Self { guests, bots: Vec::new(), package, ahead: Duration::ZERO, lab, plan: 0, _switch: switch };
        for index in 0..fleet.guests.len() {
            fleet.join(index).with_context(|| format!("make a host of guest {}", index + 1))?;
        }
        fleet.deploy()?;
        Ok(fleet)
    }

    /// Removes everything and says what resisted.
    ///
    /// # Errors
    /// When something could not be removed.
    pub fn close(self) -> Result<()> {
        let Self { guests, lab, .. } = self;
        drop(guests);
        lab.close()
    }

    /// The plan that all bots are to have.
    pub const fn plan(&self) -> Plan {
        PLANS[self.plan]
    }

    /// Where its files lie.
    pub fn dir(&self) -> PathBuf {
        self.lab.dir().to_owned()
    }

    /// Installs the package on a guest and enrols it: all that a fresh Debian needs.
    fn join(&mut self, index: usize) -> Result<()> {
        let guest = &mut self.guests[index];
        guest.wait_up()?;
        self.package.install(&guest.control)?;
        let token = self.lab.coordinator()?.host_token(&guest.name)?;
        let endpoint = Coordinator::enroll_endpoint();
        guest.control.sh(&format!(
            "LAUNCHPAD_JOIN_TOKEN={token} launchpad-agent enroll --configure-docker --coordinator {endpoint}"
        ))?;
        self.wait_host(index, "connected", |host| host["connected"] == true).map(drop)
    }

    /// A bot on each guest: placement takes the emptier one.
    fn deploy(&mut self) -> Result<()> {
        let api = self.lab.api()?;
        for index in 0..self.guests.len() {
            let name = format!("steady-{}", index + 1);
            let (plan, image, egress) = (self.plan().name, self.lab.image("echo")?, [held::egress()]);
            let body = json!({ "name": name, "profile": "echo", "plan": plan, "image": image, "egress": egress });
            let bot = Deployment::order(&api, &body)?;
            bot.api.wait_for_state(&bot.id, "running", SOON)?;
            self.bots.push(bot);
        }
        let mut at = Vec::new();
        for (index, guest) in self.guests.iter().enumerate() {
            let host = self.host(index)?["id"].clone();
            let mut of_host = Vec::new();
            for bot in &self.bots {
                if bot.get()?["host"] == host {
                    of_host.push(bot.clone());
                }
            }
            ensure!(of_host.len() == 1, "{} bots are on {}, one was to be", of_host.len(), guest.name);
            at.extend(of_host);
        }
        self.bots = at;
        for (guest, bot) in self.guests.iter().zip(&self.bots) {
            standing::mark_volume(&guest.control, &bot.id)?;
        }
        self.wait_settled()
    }

    /// A guest as the API shows it.
    ///
    /// # Errors
    /// When the API does not answer, or does not know it.
    pub fn host(&self, index: usize) -> Result<Value> {
        self.lab.shown(index)
    }

    /// Waits until `holds` of a guest as the API shows it. A coordinator that is away is "not yet".
    ///
    /// # Errors
    /// When it does not in time, with the host as it was seen last.
    pub fn wait_host(&self, index: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(&format!("host {} to be {what}", index + 1), SOON, || {
            Ok(match self.host(index) {
                Ok(host) if holds(&host) => Ok(host),
                Ok(host) => Err(host.to_string()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Orders a change of every bot that needs no restart: another plan. It is not waited for.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn change(&mut self) -> Result<()> {
        self.plan = (self.plan + 1) % PLANS.len();
        let plan = self.plan().name;
        for bot in &self.bots {
            bot.api.put(&format!("/deployments/{}/plan", bot.id), &json!({ "plan": plan }))?.success()?;
        }
        Ok(())
    }

    /// How every bot stands, by deployment.
    ///
    /// # Errors
    /// When a guest does not answer.
    pub fn standing(&self) -> Result<BTreeMap<String, Standing>> {
        let mut found = BTreeMap::new();
        for guest in &self.guests {
            found.extend(standing::look(&guest.control)?);
        }
        Ok(found)
    }

    /// Waits until what is equals what is wished: every host has applied what was published last, every bot runs on its plan
    /// with every promise kept, by the API and by the kernel, and nothing else runs.
    ///
    /// # Errors
    /// When it does not in time, with what was seen last.
    pub fn wait_settled(&self) -> Result<()> {
        wait_for("what is to equal what is wished", SOON, || {
            Ok(self.unsettled().unwrap_or_else(|error| Some(format!("{error:#}"))).map_or(Ok(()), Err))
        })
    }

    /// What is not as it is wished; none: all of it is.
    fn unsettled(&self) -> Result<Option<String>> {
        for index in 0..self.guests.len() {
            let host = self.host(index)?;
            if host["connected"] != true || host["generation"]["applied"] != host["generation"]["published"] {
                return Ok(Some(host.to_string()));
            }
        }
        for bot in &self.bots {
            let now = bot.get()?;
            if now["state"] != "running" || now["plan"] != self.plan().name {
                return Ok(Some(now.to_string()));
            }
            held::all_enforced(&now)?;
        }
        let memory = self.plan().memory_bytes;
        let standing = self.standing()?;
        let wished = standing.len() == self.bots.len()
            && self.bots.iter().all(|bot| {
                standing
                    .get(&bot.id)
                    .is_some_and(|seen| seen.running && seen.has_volume && seen.memory_bytes == Some(memory))
            });
        Ok((!wished).then(|| format!("{standing:?}, where {memory} bytes and a volume are wished")))
    }

    /// Saves what an investigator needs of every guest to `folder`.
    pub fn save_logs(&self, folder: &Path, name: &str) {
        let _ = std::fs::create_dir_all(folder);
        for guest in &self.guests {
            if let Err(error) = guest.save_journal(&folder.join(format!("{name}-{}.log", guest.name))) {
                eprintln!("vm: no journal of {}: {error:#}", guest.name);
            }
        }
    }
}

/// A plan as the coordinator reads it.
fn table(plan: Plan) -> String {
    let Plan { name, memory_bytes, cpu_millis } = plan;
    let memory_mb = memory_bytes >> 20;
    format!(
        "[{name}]\ncpu_millis = {cpu_millis}\nmemory_mb = {memory_mb}\nstorage_mb = 64\nretention_days = 1\negress_rules = 8\n"
    )
}
