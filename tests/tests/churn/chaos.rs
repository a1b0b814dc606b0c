//! Who is killed, and when they come back.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use launchpad_tests::lab::Lab;
use rand::Rng as _;
use rand::rngs::StdRng;

/// The programs of a host that die here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Agent,
    Gate,
    Dockerd,
    Caddy,
}

const VICTIMS: [Victim; 4] = [Victim::Agent, Victim::Gate, Victim::Dockerd, Victim::Caddy];

/// Who lies dead, and how often each has died.
#[derive(Debug, Default)]
pub(crate) struct Chaos {
    dead: BTreeSet<Victim>,
    deaths: [usize; VICTIMS.len()],
}

impl Chaos {
    /// Kills somebody, brings somebody back, or lets all be.
    pub(crate) fn strike(&mut self, lab: &mut Lab, random: &mut StdRng) -> Result<()> {
        let at = random.random_range(0..VICTIMS.len());
        let victim = VICTIMS[at];
        if self.dead.contains(&victim) {
            return self.revive(lab, victim);
        }
        if random.random_bool(0.6) {
            kill(lab, victim)?;
            self.dead.insert(victim);
            self.deaths[at] += 1;
        }
        Ok(())
    }

    /// Brings everybody back.
    pub(crate) fn revive_all(&mut self, lab: &mut Lab) -> Result<()> {
        for victim in std::mem::take(&mut self.dead) {
            revive(lab, victim)?;
        }
        Ok(())
    }

    /// How often who died.
    pub(crate) fn told(&self) -> String {
        let mut text = "deaths:".to_owned();
        for (victim, deaths) in VICTIMS.iter().zip(self.deaths) {
            // A text takes whatever is written to it.
            let _ = write!(text, " {victim:?} {deaths}");
        }
        text
    }

    fn revive(&mut self, lab: &mut Lab, victim: Victim) -> Result<()> {
        revive(lab, victim)?;
        self.dead.remove(&victim);
        Ok(())
    }
}

fn kill(lab: &mut Lab, victim: Victim) -> Result<()> {
    let host = lab.host(0)?;
    match victim {
        Victim::Agent => host.agent()?.kill(),
        Victim::Gate => host.gate()?.process().kill(),
        Victim::Dockerd => host.engine.kill_dockerd(),
        Victim::Caddy => host.caddy()?.kill(),
    }
}

fn revive(lab: &mut Lab, victim: Victim) -> Result<()> {
    let host = lab.host(0)?;
    match victim {
        Victim::Agent => host.agent()?.restart(),
        Victim::Gate => host.bounce_gate(),
        Victim::Dockerd => host.engine.restart_dockerd(),
        Victim::Caddy => host.caddy()?.restart(),
    }
}
