//! An upgrade of the fleet's agents: one ring of hosts after the other, few hosts at once, and no further after the first
//! that does not take it.
//!
//! ```text
//!             ┌──────────(pause)──────────► Paused ──┐
//!   begun ► Running ◄───────────(resume)─────────────┤        a host:  Waiting ─► Asked ─► Done
//!             ├─(a host fails)────────────► Halted ──┘                    ▲         └────► Failed
//!             ├─(every ring is through)───► Done                          └───(resume)──────┘
//!             └─(abort; also when paused or halted)► Aborted
//! ```
//! Pure: `jobs::upgrader` gathers what hosts say, calls [`Upgrade::advance`], and commits what it answers. Whoever advances twice
//! with the same hosts changes nothing the second time, so that a crash in between costs nothing.
//!
//! A silent host holds nobody up and is not asked; when it is back while the upgrade goes on, its turn comes. A ring is
//! through when every host that speaks has the version, at least one of them by now, and the soak after it is over.

use std::collections::BTreeMap;
use std::time::Duration;

use launchpad_protocol::id::{HostId, OperationId, UpgradeId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::AgentUpgrade;
use launchpad_protocol::time::Moment;
use launchpad_protocol::version::Version;
use serde::{Deserialize, Serialize};

/// The ring of a host that was put into none.
pub const MAIN_RING: &str = "main";

/// How long a host may take to answer: a download, an installation and a way back on a slow one, and a reboot in between.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(45 * 60);

/// An upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Its id.
    pub id: UpgradeId,
    /// The version that agents are to have.
    pub to: Version,
    /// When it began.
    pub begun_at: Moment,
    /// How it stands.
    pub state: State,
    /// In the order in which they are upgraded. The hosts are those that were in them when it began.
    pub rings: Vec<Ring>,
    /// Hosts that are upgraded at once.
    pub at_once: u32,
    /// How long a ring is watched before the next begins.
    pub soak: Duration,
}

/// How an upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Hosts are asked, in their order.
    Running,
    /// An operator holds it.
    Paused,
    /// A host did not take it.
    Halted {
        /// Which, and why.
        reason: Reason,
    },
    /// Every ring is through.
    Done,
    /// An operator ended it.
    Aborted,
}

/// Hosts that are upgraded together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// What it is called.
    pub name: String,
    /// Its hosts.
    pub hosts: BTreeMap<HostId, Turn>,
    /// When its last host had the version: the soak begins.
    pub through_at: Option<Moment>,
}

/// How far one host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Turn {
    /// Its turn has not come.
    Waiting,
    /// It was told.
    Asked {
        /// For which it answers.
        operation: OperationId,
        /// When.
        at: Moment,
    },
    /// It has the version.
    Done {
        /// Since when that is known.
        at: Moment,
    },
    /// It has not: its old version runs again, or still.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// It left the fleet, or the upgrade ended first.
    Skipped,
}

/// A host as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What people call it.
    pub name: String,
    /// The version of its agent.
    pub version: String,
    /// Whether it reports.
    pub speaks: bool,
    /// What its last report answers.
    pub outcomes: BTreeMap<OperationId, Outcome>,
}

/// A wish that changes: what that host's spec says of its agent from now on.
pub type Wish = (HostId, Option<AgentUpgrade>);

/// What an operator may do with an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Ask no further host.
    Pause,
    /// Go on; hosts that failed are asked again.
    Resume,
    /// Ask no further host, ever.
    Abort,
}

impl Upgrade {
    /// Whether nothing more is done.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match self.state {
            State::Done | State::Aborted => true,
            State::Running | State::Paused | State::Halted { .. } => false,
        }
    }

    /// Takes in what hosts say, and asks those whose turn it is. `hosts` are all that are in the fleet.
    pub fn advance(
        &mut self,
        hosts: &BTreeMap<HostId, Standing>,
        now: Moment,
        mut new_operation: impl FnMut() -> OperationId,
    ) -> Vec<Wish> {
        if self.is_over() {
            return Vec::new();
        }
        self.listen(hosts, now);
        if self.state == State::Running { self.ask(hosts, now, &mut new_operation) } else { Vec::new() }
    }

    /// What an operator wants. Answers the wishes that are taken back: a host that is at it already ends by itself, with one
    /// version or the other.
    ///
    /// # Errors
    /// Why that cannot be done now.
    pub fn steer(&mut self, steer: Steer) -> Result<Vec<Wish>, Reason> {
        match (&self.state, steer) {
            (State::Done | State::Aborted, _) => Err(self.is_over_already()),
            (State::Running, Steer::Pause) => {
                self.state = State::Paused;
                Ok(Vec::new())
            }
            (State::Running, Steer::Resume) | (State::Paused | State::Halted { .. }, Steer::Pause) => Ok(Vec::new()),
            (State::Paused | State::Halted { .. }, Steer::Resume) => {
                self.state = State::Running;
                for turn in self.turns_mut() {
                    if matches!(turn, Turn::Failed { .. }) {
                        *turn = Turn::Waiting;
                    }
                }
                Ok(Vec::new())
            }
            (State::Running | State::Paused | State::Halted { .. }, Steer::Abort) => Ok(self.abort()),
        }
    }

    fn abort(&mut self) -> Vec<Wish> {
        self.state = State::Aborted;
        let mut taken_back = Vec::new();
        for ring in &mut self.rings {
            for (host, turn) in &mut ring.hosts {
                match turn {
                    Turn::Asked { .. } => taken_back.push((*host, None)),
                    Turn::Waiting => {}
                    Turn::Done { .. } | Turn::Failed { .. } | Turn::Skipped => continue,
                }
                *turn = Turn::Skipped;
            }
        }
        taken_back
    }

    fn turns_mut(&mut self) -> impl Iterator<Item = &mut Turn> {
        self.rings.iter_mut().flat_map(|ring| ring.hosts.values_mut())
    }

    /// What became of those who were asked.
    fn listen(&mut self, hosts: &BTreeMap<HostId, Standing>, now: Moment) {
        let mut halts = None;
        for ring in &mut self.rings {
            for (id, turn) in &mut ring.hosts {
                let Some(host) = hosts.get(id) else {
                    if matches!(turn, Turn::Waiting | Turn::Asked { .. }) {
                        *turn = Turn::Skipped;
                    }
                    continue;
                };
                let Turn::Asked { operation, at } = turn else { continue };
                let reason = match host.outcomes.get(operation) {
                    Some(Outcome::Done { .. }) => {
                        *turn = Turn::Done { at: now };
                        continue;
                    }
                    Some(Outcome::Refused { reason }) => reason.clone(),
                    None if now.since(*at) > ANSWER_WITHIN => no_answer(),
                    None => continue,
                };
                halts.get_or_insert_with(|| halted_by(&host.name, &self.to, &reason));
                *turn = Turn::Failed { reason };
            }
        }
        if let Some(reason) = halts {
            self.state = State::Halted { reason };
        }
    }

    fn ask(
        &mut self,
        hosts: &BTreeMap<HostId, Standing>,
        now: Moment,
        new_operation: &mut dyn FnMut() -> OperationId,
    ) -> Vec<Wish> {
        let asked = self.rings.iter().flat_map(|ring| ring.hosts.values()).filter(|turn| turn.is_asked()).count();
        let mut free = usize::try_from(self.at_once).unwrap_or(usize::MAX).saturating_sub(asked);
        let mut wishes = Vec::new();
        let Self { rings, to, soak, .. } = self;
        for ring in rings.iter_mut() {
            for (id, turn) in &mut ring.hosts {
                let Some(host) = hosts.get(id).filter(|host| host.speaks && *turn == Turn::Waiting) else { continue };
                if to.is_package_of(&host.version) {
                    *turn = Turn::Done { at: now };
                } else if free > 0 {
                    free -= 1;
                    let operation = new_operation();
                    wishes.push((*id, Some(AgentUpgrade { operation, version: to.clone() })));
                    *turn = Turn::Asked { operation, at: now };
                }
            }
            if ring.through_at.is_none() && ring.is_through(hosts) {
                ring.through_at = Some(now);
            }
            if ring.through_at.is_none_or(|through| now.since(through) < *soak) {
                return wishes;
            }
        }
        // A host that was silent when its ring went on may have been asked since: what becomes of it is heard as well.
        if !self.rings.iter().flat_map(|ring| ring.hosts.values()).any(Turn::is_asked) {
            self.state = State::Done;
        }
        wishes
    }

    fn is_over_already(&self) -> Reason {
        let what = if self.state == State::Done { "done" } else { "aborted" };
        Reason::new("upgrade-over", format!("the upgrade to {} is {what}", self.to))
            .mend("begin another with `launchpad hosts upgrade --to VERSION --ring RING`")
    }
}

impl Turn {
    const fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }
}

impl Ring {
    /// Whether every host that speaks has had its turn, and one of them shows what the version does; a ring whose hosts
    /// are all silent shows nothing.
    fn is_through(&self, hosts: &BTreeMap<HostId, Standing>) -> bool {
        let is_silent = |id: &HostId| hosts.get(id).is_some_and(|host| !host.speaks);
        let passed = self.hosts.iter().all(|(id, turn)| match turn {
            Turn::Done { .. } | Turn::Skipped => true,
            Turn::Waiting => is_silent(id),
            Turn::Asked { .. } | Turn::Failed { .. } => false,
        });
        let shown = self.hosts.values().any(|turn| matches!(turn, Turn::Done { .. }));
        passed && (shown || self.hosts.values().all(|turn| *turn == Turn::Skipped))
    }
}

fn halted_by(host: &str, to: &Version, reason: &Reason) -> Reason {
    let halted =
        Reason::new("upgrade-halted", format!("host {host} did not take {to}, and no further host is asked"));
    halted.because(reason.to_string()).mend(
        "see to that host, then `launchpad hosts upgrade --resume` asks it again; or `launchpad hosts upgrade --abort`",
    )
}

fn no_answer() -> Reason {
    let minutes = ANSWER_WITHIN.as_secs() / 60;
    Reason::new("upgrade-unanswered", format!("it has not said within {minutes} minutes what became of the upgrade"))
        .because("it is silent, or its agent is of a version that cannot upgrade itself")
        .mend("see `journalctl -u launchpad-upgrade` on that host")
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
