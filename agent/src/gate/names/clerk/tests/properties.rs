//! Whatever happens in whatever order: nothing inside is told, nothing is told before the kernel has it,
//! nothing that is denied is handed on, and no time is out of bounds.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use launchpad_protocol::egress::{Destination, denied_address};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::super::super::lifetime::{TTL_MAX, TTL_MIN};
use super::world::{World, deployment, policy, told};
use crate::gate::policy::GatePolicy;

const NAMES: [&str; 6] = [
    "a.example.com",
    "b.example.com",
    "c.b.example.com",
    "example.com",
    "a.evil.example",
    "a.example.com.evil.example",
];
const RULES: [&str; 5] =
    ["a.example.com", "*.example.com:8443", "*.b.example.com", "example.com:80,443", "*.evil.example"];
const WISHES: [RecordType; 5] = [RecordType::A, RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::ANY];

#[derive(Debug, Clone)]
enum Step {
    Ask { bot: u8, name: usize, wish: usize },
    Pass(u64),
    Lead { name: usize, ttl: u32, to: Vec<Ipv4Addr> },
    Allow { two: Vec<usize>, three: Vec<usize>, never: Option<Ipv4Addr> },
    Refuse(bool),
    Flush,
}

fn some_address() -> impl Strategy<Value = Ipv4Addr> {
    let few = (1_u8..6).prop_map(|last| Ipv4Addr::new(203, 0, 113, last));
    prop_oneof![few, any::<u32>().prop_map(Ipv4Addr::from), Just(Ipv4Addr::new(10, 0, 0, 1))]
}

fn step() -> impl Strategy<Value = Step> {
    let rules = || vec(0..RULES.len(), 0..4);
    prop_oneof![
        8 => (1_u8..4, 0..NAMES.len(), 0..WISHES.len()).prop_map(|(bot, name, wish)| Step::Ask { bot, name, wish }),
        3 => prop_oneof![0_u64..90, 0_u64..5000].prop_map(Step::Pass),
        3 => (0..NAMES.len(), any::<u32>().prop_map(|ttl| ttl % 7200), vec(some_address(), 0..20))
            .prop_map(|(name, ttl, to)| Step::Lead { name, ttl, to }),
        1 => (rules(), rules(), proptest::option::of(some_address()))
            .prop_map(|(two, three, never)| Step::Allow { two, three, never }),
        1 => any::<bool>().prop_map(Step::Refuse),
        1 => Just(Step::Flush),
    ]
}

fn allowing(two: &[usize], three: &[usize], never: Option<Ipv4Addr>) -> GatePolicy {
    let rules = |of: &[usize]| of.iter().map(|rule| RULES[*rule]).collect::<Vec<_>>();
    let mut policy = policy(&[(2, &rules(two)), (3, &rules(three))]);
    policy.never.extend(never);
    policy
}

/// The ports that the rules open for that name: reckoned here once more, in another way.
fn ports(policy: &GatePolicy, bot: u8, name: &str) -> Vec<u16> {
    let Some(instance) = policy.instances.get(&deployment(bot)) else { return Vec::new() };
    let mut ports = Vec::new();
    for rule in &instance.egress.rules {
        if matches!(&rule.to, Destination::Domain(pattern) if pattern.matches(name)) {
            ports.extend(&rule.ports);
        }
    }
    ports
}

async fn ask(world: &World, policy: &GatePolicy, bot: u8, name: &str, wish: RecordType) -> Result<(), TestCaseError> {
    let asked_before = world.internet.asked.lock().unwrap().len();
    let witnessed_before = world.witness.0.lock().unwrap().len();
    let reply = world.ask(bot, name, wish).await;
    let (to, ttl) = told(&reply);
    let ports = ports(policy, bot, name);
    let handed_on = world.internet.asked.lock().unwrap()[asked_before..].to_vec();

    if bot == 1 {
        prop_assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "a stranger");
    } else if ports.is_empty() {
        prop_assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{}", name);
        prop_assert_eq!(world.witness.0.lock().unwrap().len(), witnessed_before + 1);
    }
    if ports.is_empty() || wish != RecordType::A {
        prop_assert!(handed_on.is_empty() && to.is_empty(), "{} {:?}", name, handed_on);
    }
    prop_assert!(handed_on.len() <= 1 && handed_on.iter().all(|asked| asked == name));
    for to in &to {
        prop_assert!(denied_address(*to).is_none() && !policy.never.contains(to), "{} is inside", to);
        for port in &ports {
            prop_assert!(world.kernel.holds(bot, *to, *port, Instant::now() + ttl), "{}:{} is not open", to, port);
        }
    }
    prop_assert!(to.is_empty() || (TTL_MIN..=TTL_MAX).contains(&ttl), "{:?}", ttl);
    Ok(())
}

async fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut now = allowing(&[0, 1], &[3], None);
    let world = World::new(now.clone());
    for step in steps {
        match step {
            Step::Ask { bot, name, wish } => ask(&world, &now, bot, NAMES[name], WISHES[wish]).await?,
            Step::Pass(seconds) => advance(Duration::from_secs(seconds)).await,
            Step::Lead { name, ttl, to } => {
                world.internet.zone.lock().unwrap().insert(NAMES[name].to_owned(), (ttl, to));
            }
            Step::Allow { two, three, never } => {
                now = allowing(&two, &three, never);
                world.policy.send_replace(Arc::new(now.clone()));
            }
            Step::Refuse(refuses) => world.kernel.refuses.store(refuses, Ordering::SeqCst),
            Step::Flush => world.kernel.flush(),
        }
    }
    prop_assert_eq!(world.clerk.tally().2, 0, "nobody waits any more");
    Ok(())
}

proptest! {
    #[test]
    fn nothing_inside_nothing_early_nothing_denied_nothing_out_of_bounds(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(live(steps))?;
    }
}
