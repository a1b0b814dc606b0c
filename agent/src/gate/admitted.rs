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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::policy::{Change, InstanceGate, TenantGate};
    use launchpad_protocol::spec::{EgressPolicy, Ingress};

    const BOT: Ipv4Addr = Ipv4Addr::new(172, 29, 0, 2);
    const SHARED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

    fn bot() -> DeploymentId {
        "dep_0000000000000000000000000000000d".parse().unwrap()
    }

    fn told(rules: &[&str]) -> State {
        let account = "acct_0000000000000000000000000000000a".parse().unwrap();
        let tenant = TenantGate { bridge: "lp00000000000a".to_owned(), subnet: "172.29.0.0/26".parse().unwrap() };
        let egress = EgressPolicy { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect() };
        let ingress = Ingress { port: 80, hostnames: BTreeSet::new() };
        let instance = InstanceGate { account, address: BOT, egress, ingress };
        let changes = [Change::PutTenant { account, tenant }, Change::PutInstance { deployment: bot(), instance }];
        let policy = changes.iter().try_fold(GatePolicy::default(), |policy, change| policy.after(change)).unwrap();
        State::default().with(policy)
    }

    fn admission(name: &str, to: Ipv4Addr, seconds: u64) -> Admission {
        let lifetime = Duration::from_secs(seconds);
        Admission { deployment: bot(), bot: BOT, name: name.to_owned(), to: vec![to], ports: vec![443], lifetime }
    }

    fn elements(admitted: &Admitted, state: &State, now: Instant) -> Vec<Element> {
        admitted.elements(&state.policy, |_| true, now).collect()
    }

    #[test]
    fn an_address_that_two_names_share_stays_until_the_last_of_them_goes() {
        let (state, now) = (told(&["a.example", "b.example"]), Instant::now());
        let (held, first) = Admitted::default().with(&admission("a.example", SHARED, 60), &state, now).unwrap();
        assert_eq!((first.len(), first[0].before), (1, first[0].element.number));
        let (held, second) = held.with(&admission("b.example", SHARED, 90), &state, now).unwrap();
        assert_eq!(second.len(), 1, "it lasts longer now");
        assert_eq!(second[0].element.number, first[0].element.number, "the kernel's element keeps its number");
        let narrower = state.with(told(&["b.example"]).policy);
        let (left, lost) = held.under(&narrower, now);
        assert_eq!(elements(&left, &narrower, now).len(), 1);
        assert_eq!(
            elements(&left, &narrower, now)[0].number,
            narrower.numbers.named(bot(), "b.example", 443).unwrap()
        );
        assert!(lost.is_empty());
        let (left, lost) = left.under(&state.with(told(&["c.example"]).policy), now);
        assert_eq!((left.count(bot(), now), lost), (0, BTreeSet::from([bot()])));
    }

    #[test]
    fn what_is_asked_for_again_costs_nothing_unless_it_lasts_longer() {
        let (state, now) = (told(&["a.example"]), Instant::now());
        let (held, _) = Admitted::default().with(&admission("a.example", SHARED, 60), &state, now).unwrap();
        for (seconds, costs) in [(60, 0), (30, 0), (61, 1)] {
            let (_, renewals) = held.with(&admission("a.example", SHARED, seconds), &state, now).unwrap();
            assert_eq!(renewals.len(), costs, "{seconds} s");
        }
        let later = now + Duration::from_secs(61);
        assert_eq!((held.count(bot(), now), held.count(bot(), later)), (1, 0));
        // The kernel may still have it: it is told under which number.
        let (_, renewals) = held.with(&admission("a.example", SHARED, 60), &state, later).unwrap();
        assert_eq!(renewals.len(), 1);
    }

    #[test]
    fn a_bot_that_asks_for_too_much_is_stopped() {
        let (state, now) = (told(&["*.a.example"]), Instant::now());
        let many = |first: u32, count: u32| Admission {
            to: (first..first + count).map(|n| Ipv4Addr::from(u32::from(SHARED) + n)).collect(),
            ..admission("b.a.example", SHARED, 60)
        };
        let most = u32::try_from(ELEMENTS_PER_BOT_MAX).unwrap();
        let (held, _) = Admitted::default().with(&many(0, most), &state, now).unwrap();
        assert_eq!(held.with(&many(most, 1), &state, now).unwrap_err().code, "too-many-addresses");
        held.with(&many(most, 1), &state, now + Duration::from_secs(70)).expect("the others are out of date");
    }

    #[test]
    fn an_earlier_gates_element_is_believed_only_if_a_rule_of_a_name_could_have_made_it() {
        let (state, now) = (told(&["a.example:443,8443", "203.0.113.0/24"]), Instant::now());
        let number = state.numbers.named(bot(), "a.example", 443).unwrap();
        let net = state.numbers.of(bot()).find(|(to, _, _)| matches!(to, Destination::Network(_))).unwrap().2;
        let element = |bot, port, number| Element { bot, target: (SHARED, port), number, until: now + CLOCKS_APART };
        for (strange, why) in [
            (element(Ipv4Addr::new(172, 29, 0, 3), 443, number), "nobody's address"),
            (element(BOT, 8443, number), "another port's number"),
            (element(BOT, 443, net), "a range's number"),
            (element(BOT, 443, number + 100), "nobody's number"),
        ] {
            let mut admitted = Admitted::default();
            admitted.adopt(strange, &state);
            assert_eq!(admitted.count(bot(), now), 0, "{why}");
        }
        let mut admitted = Admitted::default();
        admitted.adopt(element(BOT, 443, number), &state);
        assert_eq!(elements(&admitted, &state, now), [element(BOT, 443, number)]);
    }
}
