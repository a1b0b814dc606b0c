//! The hostile bot under a test's command: its attacks, one by one or all, and what it reports.
//!
//! Called by the scenario and the program of the contract. Attacks on the network wait for answers that do
//! not come, so they run side by side; the others change what their neighbours would see, and run one after
//! the other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use launchpad_hostile::{Entry, Outcome, Report, Room};

use crate::bot::Bot;

/// Filling a volume on a busy machine takes the longest; the bot itself gives up a little earlier.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(240);
/// Attacks on the network at a time: each is a process or two, of the few dozen that a bot may have.
const SIDE_BY_SIDE: usize = 6;

/// The hostile bot.
#[derive(Debug)]
pub struct Hostile<'a>(Bot<'a>);

impl<'a> Hostile<'a> {
    /// The bot behind that door.
    pub fn new(bot: Bot<'a>) -> Self {
        Self(bot.patient(ATTACK_TIMEOUT))
    }

    /// All that it can be ordered to try.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn catalogue(&self) -> Result<Vec<Entry>> {
        let answer = self.0.get("/attacks")?;
        ensure!(answer.status == 200, "the catalogue of attacks: {answer:?}");
        serde_json::from_value(answer.body).context("read the catalogue of attacks")
    }

    /// Orders one attack.
    ///
    /// # Errors
    /// When there is no such attack, or the bot dies of it.
    pub fn attack(&self, name: &str) -> Result<Report> {
        let answer = self.0.post(&format!("/attack/{name}")).with_context(|| format!("attack {name}"))?;
        ensure!(answer.status == 200, "attack {name}: {answer:?}");
        serde_json::from_value(answer.body).with_context(|| format!("read the report of attack {name}"))
    }

    /// Orders every attack of these rooms, and returns the reports in the order of the catalogue.
    ///
    /// # Errors
    /// As [`Hostile::attack`].
    pub fn attack_all(&self, rooms: &[Room]) -> Result<Vec<Report>> {
        let chosen = self.catalogue()?.into_iter().filter(|entry| rooms.contains(&entry.room));
        let (network, others): (Vec<_>, Vec<_>) = chosen.partition(|entry| entry.room == Room::Network);
        let mut reports = others.iter().map(|entry| self.attack(&entry.name)).collect::<Result<Vec<_>>>()?;
        reports.extend(self.side_by_side(&network)?);
        Ok(reports)
    }

    fn side_by_side(&self, attacks: &[Entry]) -> Result<Vec<Report>> {
        let waiting = Mutex::new(attacks.iter().enumerate());
        // The lock is held for a step of the iterator, not for an attack; nothing can panic meanwhile.
        let next = || waiting.lock().map(|mut attacks| attacks.next()).unwrap_or_default();
        let work = || {
            let mut done = Vec::new();
            while let Some((index, entry)) = next() {
                done.push((index, self.attack(&entry.name)));
            }
            done
        };
        let done = thread::scope(|scope| {
            let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked")));
            joined.collect::<Result<Vec<_>>>()
        })?;
        let in_order: BTreeMap<usize, Result<Report>> = done.into_iter().flatten().collect();
        in_order.into_values().collect()
    }
}

/// Every try of these reports that ended so, as lines for people.
pub fn tries(reports: &[Report], outcome: Outcome) -> Vec<String> {
    let lines = |report: &Report| {
        let name = report.attack.name.clone();
        let tries = report.tries.iter().filter(move |tried| tried.outcome == outcome);
        tries.map(|tried| format!("{name}: {}: {}", tried.what, tried.told)).collect::<Vec<_>>()
    };
    reports.iter().flat_map(lines).collect()
}
