//! Upgrades of a small fleet, told as stories and drawn at random.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SOAK: Duration = Duration::from_secs(60);

fn host(n: u128) -> HostId {
    HostId::from(Uuid::from_u128(n))
}

fn at(seconds: i64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn standing(n: u128) -> Standing {
    Standing { name: format!("web-{n}"), version: "0.1.0".to_owned(), speaks: true, outcomes: BTreeMap::new() }
}

/// Hosts 1 and 2 in the ring canary, 3 to 5 in the ring main.
fn fleet() -> BTreeMap<HostId, Standing> {
    (1..=5).map(|n| (host(n), standing(n))).collect()
}

fn upgrade() -> Upgrade {
    let ring = |name: &str, hosts: std::ops::RangeInclusive<u128>| Ring {
        name: name.to_owned(),
        hosts: hosts.map(|n| (host(n), Turn::Waiting)).collect(),
        through_at: None,
    };
    Upgrade {
        id: UpgradeId::from(Uuid::from_u128(9)),
        to: "0.2.0".parse().unwrap(),
        begun_at: at(0),
        state: State::Running,
        rings: vec![ring("canary", 1..=2), ring("main", 3..=5)],
        at_once: 2,
        soak: SOAK,
    }
}

/// An upgrade, its fleet, and how many operations there were.
struct Story {
    upgrade: Upgrade,
    hosts: BTreeMap<HostId, Standing>,
    operations: u128,
    wishes: BTreeMap<HostId, AgentUpgrade>,
}

impl Story {
    fn new() -> Self {
        Self { upgrade: upgrade(), hosts: fleet(), operations: 100, wishes: BTreeMap::new() }
    }

    /// One round; answers who was asked in it.
    fn round(&mut self, seconds: i64) -> Vec<u128> {
        let Self { upgrade, hosts, operations, wishes } = self;
        let asked = upgrade.advance(hosts, at(seconds), || {
            *operations += 1;
            OperationId::from(Uuid::from_u128(*operations))
        });
        let asked = asked.into_iter().map(|(id, wish)| {
            wishes.insert(id, wish.expect("a round takes nothing back"));
            id.uuid().as_u128()
        });
        asked.collect()
    }

    fn answers(&mut self, n: u128, well: bool) {
        let operation = self.wishes[&host(n)].operation;
        let standing = self.hosts.get_mut(&host(n)).unwrap();
        let outcome = if well {
            standing.version = "0.2.0".to_owned();
            Outcome::Done { at: at(1) }
        } else {
            Outcome::Refused { reason: Reason::new("agent-silent", "0.2.0 did not answer") }
        };
        standing.outcomes.insert(operation, outcome);
    }
}

#[test]
fn a_ring_is_asked_few_at_once_and_the_next_after_its_soak() {
    let mut story = Story::new();
    assert_eq!(story.round(0), [1, 2]);
    assert_eq!(story.round(1), [], "two at once, and no more");
    story.answers(1, true);
    story.answers(2, true);
    assert_eq!(story.round(2), [], "the ring soaks");
    assert_eq!(story.round(2 + 59), []);
    assert_eq!(story.round(2 + 60), [3, 4]);
    story.answers(3, true);
    assert_eq!(story.round(70), [5]);
    story.answers(4, true);
    story.answers(5, true);
    assert_eq!(story.round(80), []);
    assert_eq!(story.upgrade.state, State::Running, "the last ring soaks as well");
    story.round(80 + 60);
    assert_eq!(story.upgrade.state, State::Done);
}

#[test]
fn the_first_host_that_does_not_take_it_halts_the_rest_and_says_why() {
    let mut story = Story::new();
    story.round(0);
    story.answers(1, false);
    assert_eq!(story.round(1), []);
    let State::Halted { reason } = &story.upgrade.state else { panic!("{:?}", story.upgrade.state) };
    assert!(reason.paragraph().contains("web-1") && reason.paragraph().contains("did not answer"), "{reason}");
    story.answers(2, true);
    assert_eq!(story.round(1_000), [], "who was asked is heard, and nobody else asked");
    assert!(matches!(story.upgrade.rings[0].hosts[&host(2)], Turn::Done { .. }));
}

#[test]
fn a_host_that_failed_is_asked_again_under_another_operation_when_an_operator_goes_on() {
    let mut story = Story::new();
    story.round(0);
    let first = story.wishes[&host(1)].operation;
    story.answers(1, false);
    story.round(1);
    story.upgrade.steer(Steer::Resume).unwrap();
    assert_eq!(story.round(2), [1]);
    assert_ne!(story.wishes[&host(1)].operation, first, "the agent tries an operation once");
}

#[test]
fn a_silent_host_holds_nobody_up_and_has_its_turn_when_it_is_back() {
    let mut story = Story::new();
    story.hosts.get_mut(&host(2)).unwrap().speaks = false;
    assert_eq!(story.round(0), [1]);
    story.answers(1, true);
    story.round(1);
    assert_eq!(story.round(61), [3, 4]);
    story.hosts.get_mut(&host(2)).unwrap().speaks = true;
    story.answers(3, true);
    assert_eq!(story.round(62), [2]);
}

#[test]
fn a_ring_in_which_everybody_is_silent_shows_nothing_and_is_waited_for() {
    let mut story = Story::new();
    for n in 1..=2 {
        story.hosts.get_mut(&host(n)).unwrap().speaks = false;
    }
    assert_eq!(story.round(0), []);
    assert_eq!(story.round(100_000), []);
}

#[test]
fn a_host_that_has_the_version_is_not_asked() {
    let mut story = Story::new();
    for standing in story.hosts.values_mut() {
        "0.2.0".clone_into(&mut standing.version);
    }
    assert_eq!(story.round(0), []);
    assert_eq!(story.round(60), []);
    story.round(120);
    assert_eq!(story.upgrade.state, State::Done);
}

#[test]
fn a_host_that_speaks_again_at_the_very_end_is_asked_and_waited_for() {
    let mut story = Story::new();
    story.hosts.get_mut(&host(5)).unwrap().speaks = false;
    story.round(0);
    [1, 2].into_iter().for_each(|n| story.answers(n, true));
    story.round(0);
    story.round(60);
    [3, 4].into_iter().for_each(|n| story.answers(n, true));
    story.round(60);
    story.hosts.get_mut(&host(5)).unwrap().speaks = true;
    assert_eq!(story.round(120), [5]);
    assert_eq!(story.upgrade.state, State::Running, "nobody would hear what becomes of it");
    story.answers(5, true);
    story.round(121);
    assert_eq!(story.upgrade.state, State::Done);
}

#[test]
fn a_host_that_never_answers_halts_it_too() {
    let mut story = Story::new();
    story.round(0);
    let patience = i64::try_from(ANSWER_WITHIN.as_secs()).unwrap();
    story.round(patience);
    assert_eq!(story.upgrade.state, State::Running);
    story.round(patience + 1);
    assert!(matches!(story.upgrade.state, State::Halted { .. }));
}

#[test]
fn an_aborted_upgrade_takes_back_what_was_asked_and_asks_nobody() {
    let mut story = Story::new();
    story.round(0);
    assert_eq!(story.upgrade.steer(Steer::Abort).unwrap(), [(host(1), None), (host(2), None)]);
    assert_eq!(story.round(1), []);
    assert_eq!(story.upgrade.steer(Steer::Resume).unwrap_err().code, "upgrade-over");
}

#[derive(Debug, Clone)]
enum Happens {
    Rounds(i64),
    Answers(u128, bool),
    Speaks(u128, bool),
    Leaves(u128),
    Steer(Steer),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0..90_i64).prop_map(Happens::Rounds),
        6 => (1..=5_u128, prop::bool::weighted(0.8)).prop_map(|(n, well)| Happens::Answers(n, well)),
        2 => (1..=5_u128, any::<bool>()).prop_map(|(n, speaks)| Happens::Speaks(n, speaks)),
        1 => (1..=5_u128).prop_map(Happens::Leaves),
        2 => prop_oneof![Just(Steer::Pause), Just(Steer::Resume)].prop_map(Happens::Steer),
    ]
}

proptest! {
    /// Whatever happens: never more at once than allowed, nobody of a later ring before the earlier one has shown the
    /// version and soaked, nobody while it does not run, and a second round changes nothing.
    #[test]
    fn no_host_is_ever_asked_out_of_its_turn(course in prop::collection::vec(happens(), 1..60)) {
        let mut story = Story::new();
        let mut now = 0;
        for event in course {
            match event {
                Happens::Rounds(seconds) => {
                    now += seconds;
                    let asked = story.round(now);
                    let before = story.upgrade.clone();
                    if !asked.is_empty() {
                        prop_assert!(matches!(story.upgrade.state, State::Running));
                    }
                    if asked.iter().any(|n| *n > 2) {
                        let canary = &story.upgrade.rings[0];
                        let soaked = canary.through_at.is_some_and(|through| at(now).since(through) >= SOAK);
                        prop_assert!(soaked, "{:?}", canary);
                    }
                    let at_once = before.rings.iter().flat_map(|ring| ring.hosts.values()).filter(|turn| turn.is_asked());
                    prop_assert!(at_once.count() <= 2);
                    prop_assert_eq!(story.round(now), Vec::<u128>::new());
                    prop_assert_eq!(&story.upgrade, &before);
                }
                Happens::Answers(n, well) => {
                    let asked = story.upgrade.rings.iter().filter_map(|ring| ring.hosts.get(&host(n)));
                    if asked.clone().any(Turn::is_asked) && story.hosts.contains_key(&host(n)) {
                        story.answers(n, well);
                    }
                }
                Happens::Speaks(n, speaks) => {
                    if let Some(standing) = story.hosts.get_mut(&host(n)) {
                        standing.speaks = speaks;
                    }
                }
                Happens::Leaves(n) => drop(story.hosts.remove(&host(n))),
                Happens::Steer(steer) => drop(story.upgrade.steer(steer)),
            }
        }
    }
}
