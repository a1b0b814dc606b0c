//! What a question waits for: where its name leads, and the kernel.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use launchpad_protocol::reason::Reason;
use tokio::time::{Instant, timeout};

use super::super::answer::{Answer, Found};
use super::super::grants::ELEMENTS_PER_BOT_MAX;
use super::super::inside::Inside;
use super::super::lifetime;
use super::super::question::Question;
use super::super::verdict::Caller;
use super::Clerk;
use crate::gate::policy::GatePolicy;
use crate::gate::ports::Admission;

/// How long the keeper has to let addresses pass: a batch takes milliseconds, and the client waits.
const ADMIT_WITHIN: Duration = Duration::from_secs(2);

impl Clerk {
    /// Where the name leads, and for how long that is so: remembered, or asked for, once for all who want it.
    pub(super) async fn resolve(&self, caller: &Caller, question: &Question) -> (Arc<Found>, Duration) {
        let Some(host) = question.host.as_deref() else {
            return (Arc::new(Found::Nothing { exists: false }), Duration::ZERO);
        };
        let flight = {
            let (now, mut memory) = (Instant::now(), self.memory());
            if let Some(known) = memory.cache.get(host, now) {
                return known;
            }
            match memory.flights.get(host).map(Arc::clone) {
                Some(flight) => flight,
                None if !memory.pace.allows(caller.bot, now) => {
                    return (Arc::new(Found::Failed(too_fast())), Duration::ZERO);
                }
                None => Arc::clone(memory.flights.entry(host.to_owned()).or_default()),
            }
        };
        // Whoever is first hands it on; should he be dropped, the next does.
        let answer = flight.get_or_init(|| self.hand_on(host, question.query.name())).await.clone();
        self.memory().land(host, &flight);
        (Arc::new(answer.found), answer.kept)
    }

    async fn hand_on(&self, host: &str, name: &Name) -> Answer {
        self.memory().tally.handed_on += 1;
        // In lower case, whatever the bot wrote: letters would carry a message to who serves the name.
        let name = name.to_lowercase();
        let said = self.upstream.ask(&name).await;
        let policy = self.policy();
        let inside = Inside::now(&policy.never);
        let answer = said.map_or_else(Answer::failed, |message| Answer::read(&name, &message, |to| inside.has(to)));
        self.memory().cache.put(host, answer.clone(), Instant::now());
        answer
    }

    /// Has the kernel let the bot through, unless it does so for long enough already.
    ///
    /// # Errors
    /// When it does not: then nothing is told.
    pub(super) async fn admit(
        &self,
        policy: &Arc<GatePolicy>,
        caller: &Caller,
        question: &Question,
        to: &[Ipv4Addr],
        told: Duration,
    ) -> Result<(), Reason> {
        // Both from before the kernel is asked: what is lost meanwhile counts as lost, and we never believe
        // anything to last longer than it does.
        let (losses, now) = (self.admits.losses(caller.deployment), Instant::now());
        let ways = caller.ways(to, losses);
        {
            let mut memory = self.memory();
            if memory.grants.cover(ways, now + told) {
                return Ok(());
            }
            if !memory.grants.fit(ways, now) {
                return Err(too_many());
            }
        }
        let lifetime = lifetime::held(told);
        let admission = Admission {
            deployment: caller.deployment,
            bot: caller.bot,
            name: question.host.clone().unwrap_or_default(),
            to: to.to_vec(),
            ports: caller.ports.iter().copied().collect(),
            lifetime,
        };
        timeout(ADMIT_WITHIN, self.admits.admit(admission)).await.map_err(|_| keeper_silent())??;
        let mut memory = self.memory();
        if memory.is_under(policy) {
            memory.grants.note(ways, now + lifetime);
        }
        Ok(())
    }
}

fn too_fast() -> Reason {
    Reason::new("names-too-fast", "a bot asks for new names faster than they are handed on")
        .mend("have the bot resolve fewer new names in a second")
}

fn too_many() -> Reason {
    let sentence = format!("a bot has {ELEMENTS_PER_BOT_MAX} addresses and ports open already");
    Reason::new("names-too-many", sentence).mend("wait some minutes, or allow the bot fewer ports or names")
}

fn keeper_silent() -> Reason {
    Reason::new("names-kernel-silent", "the kernel was not told in time to let a bot's addresses pass")
        .because(format!("nft took longer than {ADMIT_WITHIN:?}"))
}
