//! The rules as they are read by people, and what holds of them whatever the policy is.

use std::time::Duration;

use launchpad_protocol::spec::{EgressPolicy, Ingress};
use proptest::prelude::*;

use super::*;
use crate::gate::policy::{Change, GatePolicy, InstanceGate};
use crate::gate::ports::Admission;

fn account(number: u128) -> AccountId {
    format!("acct_{number:032x}").parse().unwrap()
}

fn deployment(number: u128) -> DeploymentId {
    format!("dep_{number:032x}").parse().unwrap()
}

/// Tenants one after another, each with bots that have those rules.
fn told(tenants: &[Vec<Vec<String>>], never: &[Ipv4Addr]) -> State {
    let mut changes = vec![Change::PutNever { addresses: never.iter().copied().collect() }];
    for (tenant, bots) in (0_u8..).zip(tenants) {
        let id = u128::from(tenant) + 10;
        let subnet = Cidr::new([172, 29, tenant, 0].into(), 26).unwrap();
        let told = TenantGate { bridge: format!("lp{id:012x}"), subnet };
        changes.push(Change::PutTenant { account: account(id), tenant: told });
        for (bot, rules) in (2_u8..).zip(bots) {
            let instance = InstanceGate {
                account: account(id),
                address: [172, 29, tenant, bot].into(),
                egress: EgressPolicy { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect() },
                ingress: Ingress { port: 80, hostnames: BTreeSet::new() },
            };
            changes.push(Change::PutInstance { deployment: deployment(id * 100 + u128::from(bot)), instance });
        }
    }
    let policy = changes.iter().try_fold(GatePolicy::default(), |policy, change| policy.after(change));
    State::default().with(policy.unwrap())
}

fn texts(rules: &[&str]) -> Vec<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

#[test]
fn two_tenants_tables_as_nft_is_told() {
    let rules = texts(&["api.example.com", "*.example.org:443,8443", "203.0.113.0/24", "203.0.113.7/32:443,8080"]);
    let state = told(&[vec![rules, texts(&["198.51.100.0/24:8080"])], vec![]], &[[192, 0, 2, 7].into()]);
    let now = Instant::now();
    let admission = Admission {
        deployment: deployment(1002),
        bot: [172, 29, 0, 2].into(),
        name: "api.example.com".to_owned(),
        to: vec![[203, 0, 114, 5].into()],
        ports: vec![443],
        lifetime: Duration::from_secs(180),
    };
    let (admitted, renewals) = Admitted::default().with(&admission, &state, now).unwrap();
    let wanted = Wanted { state: &state, admitted: &admitted, now };
    insta::assert_snapshot!("whole", wanted.whole());
    insta::assert_snapshot!("one_tenant", wanted.tenant(account(11)));
    insta::assert_snapshot!("renewed", wanted.renew(&renewals));
    insta::assert_snapshot!("without", without(&state.policy.tenants[&account(11)]));
}

#[test]
fn without_tenants_there_is_no_table() {
    let state = State::default();
    let wanted = Wanted { state: &state, admitted: &Admitted::default(), now: Instant::now() };
    assert_eq!(wanted.whole(), "add table inet launchpad\ndelete table inet launchpad\n");
}

/// Any rule that the grammar allows.
fn any_rule() -> impl Strategy<Value = String> {
    let place = prop_oneof![
        "[a-z]{1,8}\\.example\\.(com|org)",
        "\\*\\.[a-z]{1,8}\\.example",
        (any::<u32>(), 0..=32_u8).prop_map(|(address, bits)| {
            let base = u64::from(address) >> (32 - bits) << (32 - bits);
            format!("{}/{bits}", Ipv4Addr::from(u32::try_from(base & u64::from(u32::MAX)).unwrap()))
        }),
    ];
    let rule = (place, prop::collection::btree_set(1..=u16::MAX, 1..4)).prop_map(|(place, ports)| {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        format!("{place}:{}", ports.join(","))
    });
    rule.prop_filter("what may be a rule at all", |text| {
        text.parse::<launchpad_protocol::egress::EgressRule>().is_ok()
    })
}

fn any_state() -> impl Strategy<Value = State> {
    let bots = prop::collection::vec(prop::collection::vec(any_rule(), 0..5), 0..4);
    let never = prop::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..4);
    (prop::collection::vec(bots, 1..4), never).prop_map(|(tenants, never)| told(&tenants, &never))
}

/// The lines of a chain.
fn chain<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let body = text.split(&format!("  chain {name} {{\n")).nth(1).unwrap_or_else(|| panic!("no chain {name}"));
    body.split("  }\n").next().unwrap().lines().map(str::trim).collect()
}

/// The elements of a set.
fn set<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.contains(&format!(" {name} {{"))).unwrap();
    line.split("elements = { ").nth(1).map_or(vec![], |rest| rest.trim_end_matches(" }; }").split(", ").collect())
}

/// Who may go, where to, and on which port.
type Part = (Ipv4Addr, Cidr, u16);

fn part(element: &str) -> Part {
    let mut words = element.split(" : ").next().unwrap().split(" . ");
    let mut word = || words.next().unwrap();
    (word().parse().unwrap(), word().parse().unwrap(), word().parse().unwrap())
}

fn ranges(policy: &EgressPolicy) -> Vec<(Cidr, u16)> {
    let of = |rule: &launchpad_protocol::egress::EgressRule| match rule.to {
        Destination::Network(range) => rule.ports.iter().map(|port| (range, *port)).collect(),
        Destination::Domain(_) => vec![],
    };
    policy.rules.iter().flat_map(of).collect()
}

/// What stands in the way of every bot, whatever its rules.
const WALLS: [&str; 5] = [
    "fib daddr type != unicast",
    "ip daddr @subnets",
    "ip daddr @never",
    "meta l4proto != tcp",
    "tcp dport @never_ports",
];

proptest! {
    #[test]
    fn no_policy_lets_a_bot_anywhere_before_what_none_may_reach_is_refused(state in any_state()) {
        let wanted = Wanted { state: &state, admitted: &Admitted::default(), now: Instant::now() };
        let text = wanted.whole();
        for tenant in state.policy.tenants.values() {
            let rules = chain(&text, &format!("from_{}", tenant.bridge));
            let refuse = format!("goto refused_{}", tenant.bridge);
            let at = |wall: &str| rules.iter().position(|rule| *rule == format!("{wall} {refuse}")).unwrap();
            let last_wall = WALLS.iter().map(|wall| at(wall)).max().unwrap();
            let early: Vec<&str> = rules[..last_wall].iter().copied().filter(|rule| rule.ends_with(" accept")).collect();
            // What such a rule has let out before, its name server, an answer to whoever connected to it, a neighbour; the
            // name server alone without a mark.
            prop_assert_eq!(early.len(), 4);
            let to_its_server = format!("ip daddr {} meta l4proto @with_ports th dport 53 accept", tenant.gateway());
            let to_a_neighbour = format!("ip daddr {} meta mark set ", tenant.subnet);
            let goes_on = format!("ct state established ct mark @open_{} meta mark set ", tenant.bridge);
            prop_assert!(early[0].starts_with(&goes_on));
            prop_assert_eq!(early[1], to_its_server);
            prop_assert!(early[2].starts_with("ct direction reply ct state established,related meta mark set "));
            prop_assert!(early[3].starts_with(&to_a_neighbour));
            let place = |rule: &str| rules.iter().position(|other| *other == rule).unwrap();
            prop_assert!(at("ip daddr @coordinators") < place(early[0]));
            prop_assert!(at(WALLS[0]) < place(early[3]));
            prop_assert_eq!(*rules.last().unwrap(), refuse);
            for late in rules[last_wall..].iter().filter(|rule| rule.ends_with(" accept")) {
                prop_assert!(["@names_", "@nets_"].iter().any(|set| late.contains(set)), "{}", late);
            }
            let refused = chain(&text, &format!("refused_{}", tenant.bridge));
            prop_assert_eq!(*refused.last().unwrap(), "reject with icmpx admin-prohibited");
        }
    }

    #[test]
    fn every_denied_range_is_in_the_set_and_no_two_ranges_of_one_set_overlap(state in any_state()) {
        let wanted = Wanted { state: &state, admitted: &Admitted::default(), now: Instant::now() };
        let text = wanted.whole();
        let never: Vec<Cidr> = set(&text, "never").iter().map(|range| range.parse().unwrap()).collect();
        let coordinators: BTreeSet<Ipv4Addr> = set(&text, "coordinators").iter().map(|text| text.parse().unwrap()).collect();
        prop_assert_eq!(&coordinators, &state.policy.never);
        for (denied, _) in RANGES_DENIED {
            let holds = |range: &Cidr| range.bits() <= denied.bits() && range.contains(denied.base());
            prop_assert!(never.iter().any(holds), "{}", denied);
        }
        for (index, one) in never.iter().enumerate() {
            prop_assert!(never[index + 1..].iter().all(|other| !one.overlaps(*other)));
        }
        for tenant in state.policy.tenants.values() {
            let parts: Vec<Part> = set(&text, &format!("nets_{}", tenant.bridge)).iter().map(|text| part(text)).collect();
            for (index, one) in parts.iter().enumerate() {
                let clash = |other: &Part| (other.0, other.2) == (one.0, one.2) && other.1.overlaps(one.1);
                prop_assert!(!parts[index + 1..].iter().any(clash), "{:?}", parts);
            }
            for gate in state.policy.instances.values().filter(|gate| tenant.has_room_for(gate.address)) {
                for (range, port) in ranges(&gate.egress) {
                    let covers = |part: &Part| (part.0, part.2) == (gate.address, port)
                        && part.1.contains(range.base()) && part.1.bits() <= range.bits();
                    prop_assert!(parts.iter().any(covers), "{}:{} of {:?}", range, port, parts);
                }
            }
        }
    }

    #[test]
    fn nothing_but_the_language_of_nft_is_told_to_it(state in any_state()) {
        let wanted = Wanted { state: &state, admitted: &Admitted::default(), now: Instant::now() };
        let text = wanted.whole();
        let plain = |c: char| c.is_ascii_alphanumeric() || " \n{}.,:;/_\"@|&!=".contains(c) || c == '-';
        prop_assert!(text.chars().all(plain), "{:?}", text.chars().find(|c| !plain(*c)));
        prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
        prop_assert!(!text.contains("example"), "a name is never part of a rule");
    }
}
