//! One run: a coordinator, a few machines, what people want, what goes wrong, and the oracle over all of it.
//!
//! ```text
//!   each tick of 10 ms:  what is due ─► every process runs ─► clocks move ─► the oracle looks
//!   after the storm: everything is mended, and all must be as it should be within a bound
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use launchpad_protocol::entropy::IdGen;
use launchpad_protocol::time::{Clock, Moment};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::chronicle::Chronicle;
use crate::coordinator::Coordinator;
use crate::drive::{Health, Plant};
use crate::faults::{Fault, Line, Tally, lasts};
use crate::machine::Machine;
use crate::net::{COORDINATOR, Net, TICK};
use crate::oracle::Violation;
use crate::settled::unsettled;
use crate::store_view::{Observer, StoreView};
use crate::users::{Users, Wish};

/// When every run begins: 2026-01-01.
const START: Moment = Moment::from_micros(1_767_225_600_000_000);

/// Machines, at least and at most.
const MACHINES: (usize, usize) = (3, 5);

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(30);

/// Within which all must be as it should be once they do not any more: a link that is noticed late (30 s), a report
/// that is repeated (20 s), a backoff at its cap (10 s), and as much again.
const BOUND: Duration = Duration::from_secs(120);

/// How often the store is looked at, and how often it is asked whether all is well.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Faults and wishes of a run, at most.
const FAULTS_MAX: usize = 18;
const WISHES: (usize, usize) = (5, 14);

/// How far a wall clock is set wrong, at most.
const SKEW_MAX: Duration = Duration::from_secs(3_600);

/// How long something that died stays down, at most.
const DOWN_MAX: Duration = Duration::from_secs(5);

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Hash of everything that was told, in order.
    pub(crate) trace: u64,
    /// Simulated milliseconds from the end of the faults until all was as it should be.
    pub(crate) settled_ms: Option<u64>,
    /// Faults that had an effect.
    pub(crate) faults: BTreeMap<String, u64>,
    /// What was violated, and how it came to that.
    pub(crate) violation: Option<(u8, String, String)>,
}

/// What happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Wish(Wish),
    Fault(Fault),
    Mend { machine: usize },
    DiskWell { machine: usize },
    PowerOn { machine: usize },
    CoordinatorUp,
    Calm,
}

/// How a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// A mistake made on purpose.
    pub(crate) plant: Option<Plant>,
    /// Nothing goes wrong.
    pub(crate) calm: bool,
}

pub(crate) struct World {
    script: Script,
    now: Duration,
    net: Net,
    chance: StdRng,
    chronicle: Chronicle,
    coordinator: Coordinator,
    coordinator_is_up: bool,
    machines: Vec<Machine>,
    is_up: Vec<bool>,
    lines: Vec<Line>,
    users: Users,
    observer: Observer,
    seen: StoreView,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    tally: Tally,
    calm_at: Option<Duration>,
}

impl World {
    /// The world of that script, in an empty directory, before anything has happened.
    pub(crate) fn new(script: Script, dir: &Path) -> Self {
        let Script { seed, plant, calm } = script;
        let mut chance = StdRng::seed_from_u64(seed);
        let chronicle = Chronicle::new();
        let count = chance.random_range(MACHINES.0..=MACHINES.1);
        let machines: Vec<_> = (0..count)
            .map(|index| {
                let id = IdGen::over(&mut chance).next(START);
                Machine::new(index, id, START, chance.random(), plant, &chronicle)
            })
            .collect();
        let clock = Clock::manual(START);
        let coordinator = Coordinator::install(dir, clock, chance.random(), &machines, &chronicle);
        let hosts = machines.iter().map(Machine::id).collect();
        let observer = Observer::open(&coordinator.database(), hosts, START);
        let mut net = Net::new(chance.random());
        let home = coordinator.clone();
        net.machine(COORDINATOR, move || home.clone().live());
        for machine in &machines {
            let host = machine.clone();
            net.machine(&machine.name(), move || host.clone().live());
        }
        let mut world = Self {
            script,
            now: Duration::ZERO,
            net,
            chronicle,
            coordinator,
            coordinator_is_up: true,
            is_up: vec![true; count],
            lines: vec![Line::Clear; count],
            machines,
            users: Users::default(),
            observer,
            seen: StoreView::default(),
            queue: BTreeMap::new(),
            queued: 0,
            tally: Tally::new(),
            calm_at: None,
            chance,
        };
        world.draw_events(calm);
        world
    }

    fn draw_events(&mut self, calm: bool) {
        for number in 0..self.chance.random_range(WISHES.0..=WISHES.1) {
            let wish = Wish::draw(&mut self.chance, number);
            let latest = if number < 3 { STORM / 3 } else { STORM };
            let at = latest.mul_f64(self.chance.random::<f64>());
            self.at(at, Event::Wish(wish));
        }
        if !calm {
            for _ in 0..self.chance.random_range(1..=FAULTS_MAX) {
                let fault = Fault::draw(&mut self.chance);
                let at = STORM.mul_f64(self.chance.random::<f64>());
                self.at(at, Event::Fault(fault));
            }
        }
        self.at(STORM, Event::Calm);
    }

    /// Lets everything happen.
    pub(crate) fn run(mut self) -> Outcome {
        let (settled, violation) = match self.play() {
            Ok(settled) => (Some(settled), None),
            Err(violation) => (None, Some(violation)),
        };
        let (trace, story) = self.chronicle.told();
        Outcome {
            seed: self.script.seed,
            trace,
            settled_ms: settled.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            faults: self.tally.iter().map(|(fault, times)| (format!("{fault:?}"), *times)).collect(),
            violation: violation.map(|Violation { invariant, what }| (invariant, what, story)),
        }
    }

    fn play(&mut self) -> Result<Duration, Violation> {
        let (mut look_at, mut ask_at) = (Duration::ZERO, STORM);
        loop {
            self.tick()?;
            if self.now >= look_at {
                look_at = self.now + LOOK_EVERY;
                self.look()?;
            }
            let Some(calm_at) = self.calm_at.filter(|_| self.now >= ask_at) else { continue };
            ask_at = self.now + ASK_EVERY;
            match unsettled(&self.seen, &self.machines, &self.journals()) {
                None => return Ok(self.now - calm_at),
                Some(what) if self.now > calm_at + BOUND => return Err(Violation { invariant: 8, what }),
                Some(_) => {}
            }
        }
    }

    /// What is due happens, every process runs for a tick, and what they did is looked at.
    fn tick(&mut self) -> Result<(), Violation> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = entry.remove();
            self.happen(event);
        }
        self.net.step().map_err(|what| Violation { invariant: 0, what })?;
        self.now += TICK;
        self.chronicle.set_now(self.now);
        self.coordinator.clock().advance(TICK);
        for index in 0..self.machines.len() {
            self.machines[index].clock().advance(TICK);
            if self.is_up[index] && self.machines[index].drive().health() == Health::Dark {
                self.count(Fault::PowerCutWhileWriting);
                self.cut_power(index);
            }
        }
        let touched: Vec<_> = self.machines.iter().map(Machine::take_touched).collect();
        if touched.contains(&true) {
            let observed: Vec<_> = self.machines.iter().map(|machine| machine.world().truth()).collect();
            self.chronicle.oracle(|oracle| oracle.look_at_hosts(&observed));
        }
        self.chronicle.violation().map_or(Ok(()), Err)
    }

    fn look(&mut self) -> Result<(), Violation> {
        let view = self.observer.look(&self.journals());
        view.tell(&self.seen, &self.chronicle);
        self.chronicle.oracle(|oracle| oracle.look_at_store(&view));
        self.seen = view;
        self.chronicle.violation().map_or(Ok(()), Err)
    }

    fn journals(&self) -> Vec<BTreeMap<launchpad_protocol::id::JournalId, u64>> {
        self.chronicle.oracle(|oracle| (0..self.machines.len()).map(|machine| oracle.written(machine)).collect())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wish(wish) => match self.coordinator.running() {
                Some(app) => {
                    let owners = self.coordinator.owners();
                    self.users.ask(&app, owners, wish, &mut self.chance, &self.chronicle);
                }
                None => self.chronicle.note(format_args!("user: nobody is there for {wish:?}")),
            },
            Event::Fault(fault) => self.fault(fault),
            Event::Mend { machine } => self.mend(machine),
            Event::DiskWell { machine } => self.disk_well(machine),
            Event::PowerOn { machine } => self.power_on(machine),
            Event::CoordinatorUp => self.coordinator_up(),
            Event::Calm => self.calm(),
        }
    }

    fn fault(&mut self, fault: Fault) {
        let machine = self.chance.random_range(0..self.machines.len());
        let span = lasts(&mut self.chance);
        let happens = match fault {
            Fault::AgentKilled => self.kill_agent(machine),
            Fault::PowerCut => self.is_up[machine] && self.cut_power(machine),
            Fault::PowerCutWhileWriting => {
                let after = self.chance.random_range(0..12);
                self.sicken(machine, Health::LosesPower(after), None);
                // Counted when it comes to that.
                false
            }
            Fault::CoordinatorKilled => self.kill_coordinator(),
            Fault::CutToCoordinator => self.worsen(machine, Line::CutTo, span),
            Fault::CutFromCoordinator => self.worsen(machine, Line::CutFrom, span),
            Fault::Held => self.worsen(machine, Line::Held, span),
            // Counted when an operation is refused.
            Fault::DiskFull => self.sicken(machine, Health::Full, Some(span)),
            Fault::DiskFails => self.sicken(machine, Health::Failing, Some(span)),
            Fault::ClockSet => {
                let clock = self.machines[machine].clock().clone();
                self.set_wrong(&clock)
            }
            Fault::CoordinatorClockSet => {
                let clock = self.coordinator.clock().clone();
                self.set_wrong(&clock)
            }
            Fault::BotExits => self.bot_exits(machine),
        };
        if happens {
            self.count(fault);
            self.chronicle.note(format_args!("fault: {fault:?} on machine {machine}"));
        }
    }

    fn count(&mut self, fault: Fault) {
        *self.tally.entry(fault).or_default() += 1;
    }

    fn kill_agent(&mut self, index: usize) -> bool {
        if self.is_up[index] {
            let pause = self.down();
            self.machines[index].pause_next(pause);
            self.net.begin_again(&self.machines[index].name());
        }
        self.is_up[index]
    }

    fn cut_power(&mut self, index: usize) -> bool {
        let machine = &self.machines[index];
        self.net.cut_power(&machine.name());
        machine.drive().set_health(Health::Well);
        machine.reboot();
        self.is_up[index] = false;
        self.chronicle.note(format_args!("machine {index}: loses power"));
        let at = self.now + self.down();
        self.at(at, Event::PowerOn { machine: index });
        true
    }

    fn power_on(&mut self, index: usize) {
        if !std::mem::replace(&mut self.is_up[index], true) {
            self.net.begin_again(&self.machines[index].name());
        }
    }

    fn kill_coordinator(&mut self) -> bool {
        if !std::mem::replace(&mut self.coordinator_is_up, false) {
            return false;
        }
        self.coordinator.gone();
        self.net.cut_power(COORDINATOR);
        let at = self.now + self.down();
        self.at(at, Event::CoordinatorUp);
        true
    }

    fn coordinator_up(&mut self) {
        if !std::mem::replace(&mut self.coordinator_is_up, true) {
            self.net.begin_again(COORDINATOR);
        }
    }

    fn worsen(&mut self, index: usize, line: Line, span: Duration) -> bool {
        if self.lines[index] != Line::Clear {
            return false;
        }
        self.lines[index] = line;
        let name = self.machines[index].name();
        match line {
            Line::Clear => {}
            Line::CutTo => self.net.partition(&name, COORDINATOR),
            Line::CutFrom => self.net.partition(COORDINATOR, &name),
            Line::Held => self.net.hold(&name, COORDINATOR),
        }
        self.at(self.now + span, Event::Mend { machine: index });
        true
    }

    fn mend(&mut self, index: usize) {
        let name = self.machines[index].name();
        match std::mem::replace(&mut self.lines[index], Line::Clear) {
            Line::Clear => return,
            Line::CutTo => self.net.repair(&name, COORDINATOR),
            Line::CutFrom => self.net.repair(COORDINATOR, &name),
            Line::Held => self.net.release(&name, COORDINATOR),
        }
        self.chronicle.note(format_args!("machine {index}: its line is mended"));
    }

    fn sicken(&mut self, index: usize, health: Health, span: Option<Duration>) -> bool {
        let drive = self.machines[index].drive();
        if self.is_up[index] && drive.health() == Health::Well {
            drive.set_health(health);
            self.chronicle.note(format_args!("machine {index}: its disk is {health:?}"));
            if let Some(span) = span {
                self.at(self.now + span, Event::DiskWell { machine: index });
            }
        }
        false
    }

    fn disk_well(&mut self, index: usize) {
        let drive = self.machines[index].drive();
        let (health, refused) = (drive.health(), drive.take_refused());
        drive.set_health(Health::Well);
        match health {
            Health::Full if refused > 0 => self.count(Fault::DiskFull),
            Health::Failing if refused > 0 => self.count(Fault::DiskFails),
            Health::Full | Health::Failing | Health::Well | Health::LosesPower(_) | Health::Dark => {}
        }
    }

    fn set_wrong(&mut self, clock: &Clock) -> bool {
        let right = START + self.now;
        let skew = SKEW_MAX.mul_f64(self.chance.random::<f64>());
        set(clock, if self.chance.random_bool(0.5) { right + skew } else { right - skew });
        true
    }

    fn bot_exits(&mut self, index: usize) -> bool {
        let machine = &self.machines[index];
        let observed = machine.world().truth();
        let mut running = observed.containers.values().filter(|container| container.running_since().is_some());
        let Some(container) = running.next() else { return false };
        machine.world().end(&container.id, 1, false, "enough");
        machine.touch();
        true
    }

    /// The faults end: lines are clear, disks well, clocks right, and whoever is down gets up.
    fn calm(&mut self) {
        for index in 0..self.machines.len() {
            self.mend(index);
            self.disk_well(index);
            set(self.machines[index].clock(), START + self.now);
            self.power_on(index);
        }
        set(self.coordinator.clock(), START + self.now);
        self.coordinator_up();
        self.chronicle.note(format_args!("calm"));
        self.calm_at = Some(self.now);
    }

    fn down(&mut self) -> Duration {
        DOWN_MAX.mul_f64(self.chance.random::<f64>())
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }
}

/// Sets a wall clock.
fn set(clock: &Clock, to: Moment) {
    clock.jump(to.micros() - clock.wall().micros());
}
