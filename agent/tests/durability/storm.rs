//! A storm of specs, stops, evictions and operations upon an agent that is killed again and again, at every durable step
//! and wherever it happens to be. What it has answered is in its ledger afterwards, each time.
//!
//! ```text
//! this process                          the agent, in a process of its own
//!   chooses where it dies ────────────► says what is asked for, asks, says what was answered … SIGKILL
//!   opens its ledger, compares ◄─────── lines on its standard output
//! ```
//! It goes on in the same directory, so each death finds what all the others have left.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use launchpad_agent::book::{Book as _, SledBook};
use launchpad_agent::disk::Disk;
use launchpad_agent::execute::fake::World;
use launchpad_agent::ledger::{Commit, Ledger};
use launchpad_agent::plan::marks::{Eviction, Marks, OperationMark};
use launchpad_agent::reconcile::request::{Evict, LocalRequest};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::generation::{Epoch, Revision};
use launchpad_protocol::id::{DeploymentId, OperationId, TombstoneId};
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Operation, OperationAction, Tombstone, TombstoneScope};
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::wire::encode_spec;
use serde::{Deserialize, Serialize};

use crate::life::Life;
use crate::support::{bot, id, spec};

/// Rounds when nobody says otherwise: `make soak` says 1,000. A round has a death at each point, and one anywhere.
const ROUNDS: u64 = 10;
const ROUNDS_VARIABLE: &str = "LAUNCHPAD_DURABILITY_ROUNDS";

/// Where the agent's process finds its directory: without it, its test is none.
const DIR_VARIABLE: &str = "LAUNCHPAD_DURABILITY_DIR";
const SEED_VARIABLE: &str = "LAUNCHPAD_DURABILITY_SEED";
/// Has the agent's process say what is answered before it asks: the bug that must be found.
const HASTY_VARIABLE: &str = "LAUNCHPAD_DURABILITY_HASTY";

/// What is asked of one life, if it is not killed before: more than any point's turn.
const STEPS: u64 = 40;
/// The latest visit of a point at which a life ends.
const TURN_MAX: u64 = 4;
/// Bots among which a spec chooses.
const BOTS: u64 = 4;
/// Marks the lines that are ours among those of the test's own runner.
const MARK: &str = "@ ";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Step {
    Offer(Box<HostSpec>),
    Stop(DeploymentId, Revision),
    Start(DeploymentId),
    Evict(DeploymentId, Eviction),
}

/// What the agent's process says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Said {
    /// It is about to ask for that.
    Asking(Step),
    /// The agent has answered that it is so.
    Answered(Step),
    /// A report told these.
    Told { outcomes: BTreeSet<OperationId>, buried: BTreeSet<TombstoneId> },
}

fn say(said: &Said) {
    let line = format!("{MARK}{}\n", serde_json::to_string(said).expect("a line"));
    std::io::stdout().write_all(line.as_bytes()).expect("a pipe");
}

fn below(entropy: &Entropy, n: u64) -> u64 {
    let drawn = entropy.full_jitter(Duration::from_micros(n * 1000)).as_micros() / 1000;
    u64::try_from(drawn).expect("small").min(n - 1)
}

/// The next spec: bots come, go, rise in revision and epoch, and are asked to restart.
fn next_spec(held: Option<&HostSpec>, told: &Told, entropy: &Entropy) -> HostSpec {
    let generation = held.map_or(1, |held| held.generation.0 + 1);
    let mut next = spec(generation, []);
    let mut keep = |instance: InstanceSpec| drop(next.instances.insert(instance.deployment, instance));
    let mut tombstones = held.map(|held| held.tombstones.clone()).unwrap_or_default();
    tombstones.retain(|id, _| !told.buried.contains(id));
    for n in 1..=BOTS {
        let deployment: DeploymentId = id(n.into());
        let before = held.and_then(|held| held.instances.get(&deployment));
        let goes = below(entropy, 8) == 0;
        match before {
            Some(_) if goes => {
                let scope = if below(entropy, 2) == 0 { TombstoneScope::Data } else { TombstoneScope::Container };
                let tombstone = Tombstone {
                    id: entropy.id(Moment::from_micros(0)),
                    deployment,
                    account: id(0xa),
                    scope,
                    stop_grace: Duration::from_secs(1),
                };
                tombstones.insert(tombstone.id, tombstone);
            }
            Some(before) => {
                let mut instance = before.clone();
                instance.operations.retain(|operation| !told.outcomes.contains(&operation.id));
                if below(entropy, 4) == 0 {
                    instance.revision = Revision(generation);
                    instance.recreate_hash = Digest::of(&generation.to_be_bytes());
                }
                if below(entropy, 5) == 0 {
                    instance.epoch = Epoch(generation);
                }
                if below(entropy, 3) == 0 {
                    let (id, action) = (entropy.id(Moment::from_micros(0)), OperationAction::Restart);
                    instance.operations.push(Operation { id, action });
                }
                keep(instance);
            }
            None if !goes && tombstones.values().all(|tombstone| tombstone.deployment != deployment) => {
                let (revision, epoch) = (Revision(generation), Epoch(generation));
                keep(InstanceSpec { deployment, revision, epoch, ..bot() });
            }
            None => {}
        }
    }
    next.tombstones = tombstones;
    next
}

/// What reports have told in this life.
#[derive(Default)]
struct Told {
    outcomes: BTreeSet<OperationId>,
    buried: BTreeSet<TombstoneId>,
}

impl Told {
    fn hear(&mut self, life: &Life) {
        let report = life.ports.reports.borrow().clone();
        let Some(report) = report else { return };
        let (outcomes, buried) = (report.outcomes.keys().copied().collect(), report.buried.clone());
        if self.outcomes != outcomes || self.buried != buried {
            (self.outcomes, self.buried) = (outcomes, buried);
            say(&Said::Told { outcomes: self.outcomes.clone(), buried: self.buried.clone() });
        }
    }
}

/// Not a test by itself: the agent's process. Without its variables it has nothing to do.
#[tokio::test]
async fn the_agent_in_the_storm() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let seed = std::env::var(SEED_VARIABLE).expect("a seed").parse().expect("a number");
    let hasty = std::env::var_os(HASTY_VARIABLE).is_some();
    let (entropy, dir) = (Entropy::seeded(seed), Path::new(&dir));
    let world = World::new(Clock::machine());
    let mut held = open(dir).accepted_spec().map(|spec| (**spec).clone());
    let life = Life::begin(&world, dir);
    let mut told = Told::default();
    for _ in 0..STEPS {
        told.hear(&life);
        let step = next_step(held.as_ref(), &told, &entropy);
        say(&Said::Asking(step.clone()));
        if hasty {
            say(&Said::Answered(step.clone()));
        }
        let done = match &step {
            Step::Offer(offered) => {
                let judged = life.offer(offered).await;
                assert_eq!(judged.refusal, None, "{step:?}");
                held = Some((**offered).clone());
                Ok(())
            }
            Step::Stop(deployment, _) => life.order(|reply| LocalRequest::Stop(*deployment, reply)).await,
            Step::Start(deployment) => life.order(|reply| LocalRequest::Start(*deployment, reply)).await,
            Step::Evict(deployment, eviction) => {
                let evict = Evict { deployments: BTreeSet::from([*deployment]), data: eviction.data };
                life.order(|reply| LocalRequest::Evict(evict, reply)).await.map(drop)
            }
        };
        done.expect("an order for a bot that is wished for");
        if !hasty {
            say(&Said::Answered(step));
        }
        // Room for what the loop does between two orders.
        for _ in 0..below(&entropy, 60) {
            tokio::task::yield_now().await;
        }
    }
}

fn next_step(held: Option<&HostSpec>, told: &Told, entropy: &Entropy) -> Step {
    let listed: Vec<&InstanceSpec> = held.into_iter().flat_map(|held| held.instances.values()).collect();
    let draw = below(entropy, 10);
    if listed.is_empty() || draw < 5 {
        return Step::Offer(Box::new(next_spec(held, told, entropy)));
    }
    let n = usize::try_from(below(entropy, listed.len() as u64)).expect("small");
    let (deployment, revision) = (listed[n].deployment, listed[n].revision);
    match draw {
        5 | 6 => Step::Stop(deployment, revision),
        7 | 8 => Step::Start(deployment),
        _ => {
            let eviction = Eviction { revision: Some(revision), account: Some(listed[n].account), data: false };
            Step::Evict(deployment, eviction)
        }
    }
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(Disk::open(dir).expect("a directory"), id(0xf)).expect("a ledger")
}

/// What must be in the ledger.
#[derive(Debug, Clone, Default, PartialEq)]
struct Promised {
    spec: Option<HostSpec>,
    marks: Marks,
}

impl Promised {
    fn by(ledger: &Ledger) -> Self {
        Self { spec: ledger.accepted_spec().map(|spec| (**spec).clone()), marks: ledger.marks().clone() }
    }

    fn with(mut self, step: &Step) -> Self {
        match step {
            Step::Offer(offered) => {
                self.marks.raise(encode_spec(offered).accepted(), offered);
                self.spec = Some((**offered).clone());
            }
            Step::Stop(deployment, revision) => drop(self.marks.local_stops.insert(*deployment, *revision)),
            Step::Start(deployment) => {
                self.marks.local_stops.remove(deployment);
                self.marks.evicted.remove(deployment);
            }
            Step::Evict(deployment, eviction) => {
                self.marks.evicted.insert(*deployment, eviction.clone());
            }
        }
        self
    }

    /// What of it the ledger has lost; none: nothing.
    fn lost(&self, found: &Self) -> Option<String> {
        let differs = |what: &str, promised: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            Some(format!("{what}: promised {promised:?}, found {found:?}"))
        };
        if self.spec != found.spec {
            let generation = |held: &Self| held.spec.as_ref().map(|spec| spec.generation);
            return differs("the accepted spec", &generation(self), &generation(found));
        }
        let (mine, its) = (&self.marks, &found.marks);
        if mine.floor != its.floor {
            return differs("the floor", &mine.floor, &its.floor);
        }
        if mine.local_stops != its.local_stops {
            return differs("local stops", &mine.local_stops, &its.local_stops);
        }
        if mine.evicted != its.evicted {
            return differs("evictions", &mine.evicted, &its.evicted);
        }
        // One goes with the data that it fenced.
        let listed = self.spec.iter().flat_map(|spec| spec.instances.keys());
        let mut fallen = listed.filter(|id| its.epochs.get(*id) < mine.epochs.get(*id));
        fallen.next().and_then(|id| differs("an epoch", &mine.epochs.get(id), &its.epochs.get(id)))
    }

    /// What a report told that the ledger does not know any more.
    fn untold(&self, outcomes: &BTreeSet<OperationId>, buried: &BTreeSet<TombstoneId>) -> Option<String> {
        let spec = self.spec.as_ref()?;
        let listed = spec.instances.values().flat_map(|instance| &instance.operations).map(|operation| operation.id);
        let ended = |id: &OperationId| matches!(self.marks.operations.get(id), Some(OperationMark::Ended(_)));
        let undone = listed.filter(|id| outcomes.contains(id) && !ended(id)).map(|id| id.to_string()).next();
        let unburied = |id: &&TombstoneId| buried.contains(id) && !self.marks.buried.contains(id);
        undone.or_else(|| spec.tombstones.keys().find(unburied).map(ToString::to_string))
    }
}

/// Where a life ends.
#[derive(Debug, Clone)]
enum End {
    /// At that visit of that point.
    At(String),
    /// After that many lines, wherever it is.
    After(u64),
}

/// Lives once, until `end`, and compares. Whether it was killed there.
fn live(dir: &Path, seed: u64, end: &End, hasty: bool) -> Result<bool, String> {
    let mut promised = Promised::by(&open(dir));
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "storm::the_agent_in_the_storm", "--nocapture", "--test-threads", "1"]);
    command.env(DIR_VARIABLE, dir).env(SEED_VARIABLE, seed.to_string()).env_remove("LAUNCHPAD_KILL_AT");
    if hasty {
        command.env(HASTY_VARIABLE, "1");
    }
    if let End::At(point) = end {
        command.env("LAUNCHPAD_KILL_AT", point);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the agent's process");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut asked, mut told, mut heard) = (None, (BTreeSet::new(), BTreeSet::new()), 0);
    for line in lines.lines() {
        let line = line.expect("a line");
        // The runner's own words stand before the first of ours on the same line. A kill may cut the last one off.
        let Some((_, said)) = line.split_once(MARK) else { continue };
        let Ok(said) = serde_json::from_str(said) else { continue };
        match said {
            Said::Asking(step) => asked = Some(step),
            Said::Answered(step) => {
                promised = promised.with(&step);
                asked = None;
            }
            Said::Told { outcomes, buried } => told = (outcomes, buried),
        }
        heard += 1;
        if matches!(end, End::After(lines) if *lines == heard) {
            child.kill().expect("SIGKILL");
        }
    }
    let ended = child.wait().expect("an end");
    let killed = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9);
    if !killed && !ended.success() {
        return Err(format!("the agent ended by itself: {ended}"));
    }
    let found = Promised::by(&open(dir));
    SledBook::open(&dir.join("book"))
        .and_then(|(book, damaged)| {
            assert_eq!(damaged, None, "a kill damages no book");
            book.read()
        })
        .map_err(|error| error.to_string())?;
    if let Some(untold) = found.untold(&told.0, &told.1) {
        return Err(format!("{untold} was told as done, and is not known any more"));
    }
    // What was asked for and not answered may have happened, or not.
    match (promised.lost(&found), asked.map(|step| promised.with(&step))) {
        (None, _) => Ok(killed),
        (Some(lost), Some(ahead)) => ahead.lost(&found).map_or(Ok(killed), |_| Err(lost)),
        (Some(lost), None) => Err(lost),
    }
}

fn points() -> Vec<String> {
    let places = Commit::ALL.map(Commit::name).into_iter().chain([launchpad_agent::book::COMMIT]);
    places.flat_map(|place| ["before", "after"].map(|side| format!("agent:{place}:{side}"))).collect()
}

/// Lanes of deaths side by side: a life waits for its disk and its pipe half of the time.
const LANES: u64 = 2;

/// On memory where there is some: a kill asks nothing of the disk.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Rounds of deaths in one directory; how often each point was reached.
fn lane(rounds: std::ops::Range<u64>, hasty: bool) -> Result<Vec<(String, u64)>, String> {
    let (dir, entropy) = (place(), Entropy::seeded(rounds.start));
    let mut reached: Vec<(String, u64)> = points().into_iter().map(|point| (point, 0)).collect();
    for round in rounds {
        for (n, (point, times)) in reached.iter_mut().enumerate() {
            let end = End::At(format!("{point}#{}", 1 + below(&entropy, TURN_MAX)));
            let seed = round * 1000 + n as u64;
            let killed = live(dir.path(), seed, &end, hasty);
            *times += u64::from(killed.map_err(|lost| format!("seed {seed}, {end:?}: {lost}"))?);
        }
        let end = End::After(1 + below(&entropy, 2 * STEPS));
        live(dir.path(), round * 1000 + 999, &end, hasty)
            .map_err(|lost| format!("round {round}, {end:?}: {lost}"))?;
    }
    Ok(reached)
}

fn rounds(rounds: u64, hasty: bool) -> Result<Vec<(String, u64)>, String> {
    let share = move |n: u64| n * rounds / LANES..(n + 1) * rounds / LANES;
    let lanes: Vec<_> = (0..LANES).map(|n| std::thread::spawn(move || lane(share(n), hasty))).collect();
    let mut reached: Vec<(String, u64)> = Vec::new();
    for lane in lanes {
        let part = lane.join().map_err(|_| "a lane broke off".to_owned())??;
        if reached.is_empty() {
            reached = part;
        } else {
            reached.iter_mut().zip(part).for_each(|(all, (_, times))| all.1 += times);
        }
    }
    Ok(reached)
}

#[test]
fn no_death_loses_a_spec_a_floor_an_epoch_or_a_stop_that_was_answered() {
    let wanted = std::env::var(ROUNDS_VARIABLE).ok().map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let reached = rounds(wanted, false).unwrap_or_else(|lost| panic!("{lost}"));
    let idle: Vec<&(String, u64)> = reached.iter().filter(|(_, times)| *times == 0).collect();
    assert!(idle.is_empty(), "nobody died there: {idle:?}");
    println!("{wanted} rounds: {reached:?}");
}

#[test]
fn an_answer_that_comes_before_its_write_is_found() {
    let found = rounds(ROUNDS, true).expect_err("an answer before the write must be found");
    assert!(found.contains("promised"), "{found}");
}
