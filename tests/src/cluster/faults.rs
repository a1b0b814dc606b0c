//! What goes wrong in a run, and when.
//!
//! A part of [`World`]. How much is drawn with the seed, so that some runs see one fault and others a storm of them. At
//! [`Event::Calm`] everything is mended that would be mended by people or by itself; what the faults have done to stores
//! and hosts stays.

use launchpad_coordinator::domain::deployment::State;

use super::Bug;
use super::net::Weather;
use super::store::Row;
use super::world::{Event, MILLI, Micros, SECOND, STORM, World};

/// Faults in a run, at most.
const FAULTS_MAX: usize = 36;

/// How long bad weather lasts, at most.
const WEATHER_MAX: Micros = 12 * SECOND;

/// How long a host is cut off: longer than a lease, and than what is waited beyond it.
const PARTITION_MIN: Micros = 20 * SECOND;
const PARTITION_MAX: Micros = 45 * SECOND;

/// How long a machine sleeps, at most: what wakes within the margin finds its leases ended in time.
const SLEEP_MAX: Micros = 6 * SECOND;

/// How long an agent lives before it is killed again: enough to look once, and to stop what must not run.
const BREATH: Micros = SECOND;

/// How often a copy is made in the moments after a wish, in percent, and how soon: what is half-done is what a copy
/// remembers wrongly.
const COPIED_AFTER_WISH: u32 = 20;
const COPIED_WITHIN: Micros = 10 * MILLI;

/// How far a clock jumps, either way, at most: 9 days, beyond every plan's first retention.
const JUMP_MAX: Micros = 9 * 86_400 * SECOND;

/// A jump of the coordinator's clock after which all retention of the starter plan has passed.
const RETENTION_PASSES: Micros = 8 * 86_400 * SECOND;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Frames are lost, late, doubled, damaged and reordered for a while.
    Weather { host: usize },
    /// The sky clears.
    Clear { host: usize },
    /// A connection breaks.
    Cut { host: usize },
    /// An agent is killed; its book survives, or is lost.
    KillAgent { host: usize, keeps_book: bool },
    /// An agent is killed after the next spec is on disk and before its floors are.
    KillHolding { host: usize },
    /// The coordinator is killed.
    KillCoordinator,
    /// The store is copied.
    Copy,
    /// The coordinator is killed, and its store replaced by a copy.
    Restore,
    /// A host's wall clock jumps.
    HostClock { host: usize },
    /// The coordinator's wall clock jumps.
    CoordinatorClock,
    /// A bot exits.
    BotExits { host: usize, code: i32 },
    /// A bot hangs.
    BotHangs { host: usize },
    /// A host reboots.
    Reboot { host: usize },
    /// Nothing reaches a host, and nothing leaves it, for longer than a lease.
    Partition { host: usize },
    /// A machine sleeps for a while; its boot clock counts that.
    Suspend { host: usize },
}

impl World {
    /// Draws what will go wrong, and when.
    pub(super) fn schedule_faults(&mut self) {
        for _ in 0..self.pick(FAULTS_MAX) {
            let (fault, at) = (self.any_fault(), self.within(STORM));
            self.after(at, Event::Fault(fault));
        }
    }

    fn any_fault(&mut self) -> Fault {
        let host = self.pick(self.hosts.len());
        match self.pick(33) {
            0..=1 => Fault::Cut { host },
            2..=4 => Fault::KillAgent { host, keeps_book: true },
            5 => Fault::KillAgent { host, keeps_book: false },
            6 => Fault::KillHolding { host },
            7..=8 => Fault::KillCoordinator,
            9..=11 => Fault::Copy,
            12..=13 => Fault::Restore,
            14 => Fault::HostClock { host },
            15 => Fault::CoordinatorClock,
            16..=17 => Fault::BotExits { host, code: [1, 137, 78][self.pick(3)] },
            18..=19 => Fault::BotHangs { host },
            20 => Fault::Reboot { host },
            21..=23 => Fault::Partition { host },
            24 => Fault::Suspend { host },
            _ => Fault::Weather { host },
        }
    }

    /// Somebody's wish may be copied before it is granted.
    pub(super) fn perhaps_copy(&mut self) {
        if self.percent(COPIED_AFTER_WISH) {
            let span = self.within(COPIED_WITHIN);
            self.after(span, Event::Fault(Fault::Copy));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Weather { host } => self.worsen(host),
            Fault::Clear { host } => self.weather[host] = Weather::default(),
            Fault::Cut { host } => {
                if let Some(link) = self.hosts[host].agent.as_ref().and_then(|agent| agent.link) {
                    self.note(format_args!("host {host}: link {link} is cut"));
                    self.cut(link);
                }
            }
            Fault::KillAgent { host, keeps_book } => {
                // One that does not come back for longer than the margin stops nobody, and nobody can promise otherwise.
                let breathes = |since: Micros| self.now >= since + BREATH;
                if self.hosts[host].agent.as_ref().is_some_and(|agent| breathes(agent.since)) {
                    self.kill_agent(host, keeps_book);
                }
            }
            Fault::KillHolding { host } => self.hosts[host].dies_holding = true,
            Fault::KillCoordinator => self.restart_coordinator(),
            Fault::Copy => {
                self.note(format_args!("coordinator: its store is copied"));
                let copy = self.coordinator.store.clone();
                self.coordinator.copies.push(copy);
            }
            Fault::Restore => self.restore(),
            Fault::HostClock { host } => {
                self.hosts[host].skew = self.jump();
                self.note(format_args!("host {host}: its clock jumps"));
            }
            Fault::CoordinatorClock => {
                self.coordinator.skew = self.jump();
                self.note(format_args!("coordinator: its clock jumps"));
            }
            Fault::BotExits { host, code } => self.bot_exits(host, code),
            Fault::BotHangs { host } => self.bot_hangs(host),
            Fault::Reboot { host } => self.reboot(host),
            Fault::Partition { host } => {
                self.note(format_args!("host {host}: cut off"));
                self.weather[host] = Weather { lost: 100, ..Weather::default() };
                let span = PARTITION_MIN + self.within(PARTITION_MAX - PARTITION_MIN);
                self.after(span, Event::Fault(Fault::Clear { host }));
            }
            Fault::Suspend { host } => {
                self.note(format_args!("host {host}: sleeps"));
                self.hosts[host].suspended_until = self.now + self.within(SLEEP_MAX);
            }
        }
    }

    fn worsen(&mut self, host: usize) {
        let weather = Weather {
            lost: [0, 10, 50][self.pick(3)],
            twice: [0, 20][self.pick(2)],
            reordered: [0, 40][self.pick(2)],
            damaged: [0, 20][self.pick(2)],
            late: [0, 300 * MILLI, 2 * SECOND][self.pick(3)],
        };
        self.note(format_args!("host {host}: {weather:?}"));
        self.weather[host] = weather;
        let span = self.within(WEATHER_MAX);
        self.after(span, Event::Fault(Fault::Clear { host }));
    }

    fn jump(&mut self) -> Micros {
        self.within(2 * JUMP_MAX) - JUMP_MAX
    }

    fn restart_coordinator(&mut self) {
        self.kill_coordinator();
        let pause = self.within(4 * SECOND);
        self.after(pause, Event::Serve);
    }

    fn restore(&mut self) {
        if self.coordinator.copies.is_empty() {
            return;
        }
        let which = self.pick(self.coordinator.copies.len());
        self.note(format_args!("coordinator: copy {which} of its store is put in place"));
        self.restart_coordinator();
        let incarnation = self.id(self.coordinator_wall());
        let mut copy = self.coordinator.copies[which].clone();
        for (id, one) in &self.coordinator.store.deployments {
            let ended = |other: &Row| other.row.state == State::Terminated;
            let elsewhere = |other: &Row| ended(other) || other.row.host != one.row.host;
            if !ended(one) && copy.deployments.get(id).is_none_or(elsewhere) {
                self.oracle.forgets(*id);
            }
        }
        let waiting = copy.operations.clone();
        if self.bug != Some(Bug::ServeOldCopyUnfrozen) {
            copy.restamp(incarnation);
        }
        if self.bug == Some(Bug::RepeatOperations) {
            copy.operations = waiting;
        }
        self.coordinator.store = copy;
    }

    /// The faults end: the sky clears, clocks are set, whoever was down gets up. Time for retention passes at once.
    pub(super) fn calm(&mut self) {
        self.note(format_args!("calm"));
        self.calm_at = Some(self.now);
        self.weather.fill(Weather::default());
        self.coordinator.skew = RETENTION_PASSES + JUMP_MAX;
        for host in &mut self.hosts {
            (host.skew, host.dies_holding) = (0, false);
        }
        self.after(0, Event::Look);
    }
}
