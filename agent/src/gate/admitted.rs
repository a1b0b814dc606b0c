//! Addresses that bots may reach because a name led there: what the kernel's timed sets should hold. Pure.
//!
//! `keeper.rs` asks [`Admitted::with`] what an admission changes, has the kernel make it so, and only then keeps it. After
//! a flush everything is put back with what is left of its time. Time is an argument.
//!
//! An address may be admitted on several grounds (two allowed names that share it): it stays until the last of them ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::egress::Destination;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use tokio::time::Instant;

use super::policy::GatePolicy;
use super::ports::Admission;
use super::state::State;

/// Addresses with their ports that one bot may hold at once: what a busy one was seen to use, ten times.
pub const ELEMENTS_PER_BOT_MAX: usize = 1024;

/// How far the kernel's clock for an element may be from ours: it counts in seconds, and begins after we asked.
pub const CLOCKS_APART: Duration = Duration::from_secs(5);

/// Where a bot may go: an address and a TCP port.
pub type Target = (Ipv4Addr, u16);

/// One element of a tenant's timed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Who may go.
    pub bot: Ipv4Addr,
    /// Where to.
    pub target: Target,
    /// The number that its connections bear.
    pub number: u32,
    /// Until when.
    pub until: Instant,
}

/// An element that the kernel is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// As it is to be.
    pub element: Element,
    /// Under which number the kernel has it now, if it does.
    pub before: u32,
}

/// What every bot may reach because of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Shared, because what counts is copied for every change, and a change is about one bot.
    bots: BTreeMap<DeploymentId, Arc<Bot>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bot {
    address: Ipv4Addr,
    held: BTreeMap<Target, Held>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    /// The number that the kernel has for it.
    number: u32,
    /// Under which numbers it is admitted, and until when.
    grounds: BTreeMap<u32, Instant>,
}

impl Held {
    fn until(&self) -> Option<Instant> {
        self.grounds.values().max().copied()
    }
}

impl Admitted {
    /// What is held once an admission counts, and what the kernel has to be told for it.
    ///
    /// # Errors
    /// When the policy does not, or no longer, allow it, or the bot holds too much already.
    pub fn with(&self, admission: &Admission, state: &State, now: Instant) -> Result<(Self, Vec<Renewal>), Reason> {
        let (deployment, name) = (admission.deployment, admission.name.as_str());
        let allowed =
            || Reason::new("name-not-allowed", format!("`{name}` is not among what {deployment} may reach"));
        let gate = state.policy.instances.get(&deployment).filter(|gate| gate.address == admission.bot);
        let gate = gate.ok_or_else(allowed)?;
        let mut next = self.clone();
        let bot = next.bot(deployment, gate.address);
        bot.forget_ended(now);
        let until = now + admission.lifetime;
        let mut renewals = Vec::new();
        for port in &admission.ports {
            let number = state.numbers.named(deployment, name, *port).ok_or_else(allowed)?;
            for address in &admission.to {
                renewals.extend(bot.admit((*address, *port), number, until, now));
            }
        }
        if bot.held.len() > ELEMENTS_PER_BOT_MAX {
            return Err(Reason::new(
                "too-many-addresses",
                format!("{deployment} holds as many addresses as one bot may"),
            )
            .because(format!("{ELEMENTS_PER_BOT_MAX} of names that it asked for are not out of date yet")));
        }
        Ok((next, renewals))
    }

    /// What is left under a policy, and whose bots have lost something.
    #[must_use]
    pub fn under(&self, state: &State, now: Instant) -> (Self, BTreeSet<DeploymentId>) {
        let (mut next, mut lost) = (self.clone(), BTreeSet::new());
        next.bots.retain(|deployment, bot| {
            let bot = Arc::make_mut(bot);
            bot.forget_ended(now);
            let before = bot.held.len();
            let stays = state.policy.instances.get(deployment).is_some_and(|gate| gate.address == bot.address);
            let numbers: BTreeSet<u32> = state.numbers.of(*deployment).map(|(_, _, number)| number).collect();
            bot.held.retain(|_, held| {
                held.grounds.retain(|number, _| stays && numbers.contains(number));
                if !held.grounds.contains_key(&held.number) {
                    held.number = held.grounds.keys().next().copied().unwrap_or_default();
                }
                !held.grounds.is_empty()
            });
            if bot.held.len() < before {
                lost.insert(*deployment);
            }
            stays
        });
        (next, lost)
    }

    /// Takes over what an earlier gate had admitted, as the kernel shows it. An element that no rule of the policy could
    /// have brought about is not believed.
    pub fn adopt(&mut self, element: Element, state: &State) {
        let Some((deployment, gate)) = state.policy.at(element.bot) else { return };
        let brings = |(to, port, number): (&Destination, u16, u32)| {
            let by_name = matches!(to, Destination::Domain(_));
            by_name && (port, number) == (element.target.1, element.number)
        };
        if !state.numbers.of(deployment).any(brings) {
            return;
        }
        let bot = self.bot(deployment, gate.address);
        if bot.held.len() < ELEMENTS_PER_BOT_MAX {
            let grounds = BTreeMap::from([(element.number, element.until)]);
            bot.held.insert(element.target, Held { number: element.number, grounds });
        }
    }

    fn bot(&mut self, deployment: DeploymentId, address: Ipv4Addr) -> &mut Bot {
        Arc::make_mut(self.bots.entry(deployment).or_insert_with(|| Arc::new(Bot { address, held: BTreeMap::new() })))
    }

    /// What the kernel should hold now for the bots that are asked about.
    pub fn elements<'a>(
        &'a self,
        policy: &'a GatePolicy,
        of: impl Fn(DeploymentId) -> bool + 'a,
        now: Instant,
    ) -> impl Iterator<Item = Element> + 'a {
        let bots = self.bots.iter().filter(move |(deployment, _)| of(**deployment));
        let bots = bots.filter(|(deployment, _)| policy.instances.contains_key(*deployment));
        bots.flat_map(move |(_, bot)| {
            let element = move |(target, held): (&Target, &Held)| {
                let until = held.until().filter(|until| *until > now)?;
                Some(Element { bot: bot.address, target: *target, number: held.number, until })
            };
            bot.held.iter().filter_map(element)
        })
    }

    /// How many addresses, ports apart, names have opened for a bot.
    #[must_use]
    pub fn count(&self, deployment: DeploymentId, now: Instant) -> usize {
        let held = self.bots.get(&deployment).into_iter().flat_map(|bot| &bot.held);
        let live = held.filter(|(_, held)| held.until().is_some_and(|until| until > now));
        live.map(|((address, _), _)| *address).collect::<BTreeSet<_>>().len()
    }
}

impl Bot {
    fn admit(&mut self, target: Target, number: u32, until: Instant, now: Instant) -> Option<Renewal> {
        let held = self.held.entry(target).or_default();
        let known = held.until().is_some();
        let was_until = held.until().filter(|was| *was > now);
        let ground = held.grounds.entry(number).or_insert(until);
        *ground = until.max(*ground);
        let before = if known { held.number } else { number };
        // One that is out of date may still be in the kernel, under the number that it had.
        if was_until.is_none() {
            held.number = number;
        }
        let until = held.until().unwrap_or(until);
        let element = Element { bot: self.address, target, number: held.number, until };
        (was_until != Some(until)).then_some(Renewal { element, before })
    }

    /// Only after a while: the kernel may still have what ends now.
    fn forget_ended(&mut self, now: Instant) {
        self.held.retain(|_, held| {
            held.grounds.retain(|_, until| *until + CLOCKS_APART > now);
            !held.grounds.is_empty()
        });
    }
}
