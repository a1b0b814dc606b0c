//! An upgrade of the agent, from the wish in a spec to the outcome in the report, on a package manager that is a list and a
//! host that is a few fields: interrupted at every step, and every step failing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use launchpad_agent::VERSION;
use launchpad_agent::link::ports::LinkStatus;
use launchpad_agent::local::{Response, Status};
use launchpad_agent::reconcile::facts::{FixedFacts, HostFacts as _};
use launchpad_agent::upgrade::{Before, Log, Place, Seen, Stage, Upgrading, Verdict, Works, carry_out, verdict};
use launchpad_protocol::arbitrary::host_report;
use launchpad_protocol::id::OperationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::AgentUpgrade;
use launchpad_protocol::time::{Clock, Moment};
use launchpad_protocol::version::Version;
use proptest::prelude::*;

/// More deeds than any upgrade takes, with every interruption that a test makes.
const DEEDS_MAX: u32 = 64;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn operation(number: u128) -> OperationId {
    OperationId::from(uuid::Uuid::from_u128(number))
}

fn begun(place: &Place) -> Log {
    let log = Log {
        operation: operation(1),
        from: version("1.0.0"),
        to: version("1.1.0"),
        data_dir: "/nowhere".into(),
        run_dir: "/nowhere".into(),
        stage: Stage::Fetching,
    };
    place.write(&log).unwrap();
    fs::write(place.program(), "a copy").unwrap();
    log
}

/// A host: which version is installed, and what goes wrong there.
#[derive(Debug, Default)]
struct Ground {
    installed: String,
    /// Which versions do not start.
    dead: Vec<&'static str>,
    /// Which packages there are none of.
    missing: Vec<&'static str>,
    /// Which deed, counted from one over all lives, is the last of its life: the power goes in the middle of it.
    dies_in: Option<u32>,
    deeds: u32,
    tidied: bool,
}

/// The end of a life, unwound to the test like a kill.
struct PowerLoss;

impl Ground {
    fn at(version: &str) -> Self {
        Self { installed: version.to_owned(), ..Self::default() }
    }

    fn deed(&mut self) {
        self.deeds += 1;
        assert!(self.deeds < DEEDS_MAX, "it never ends");
        if self.dies_in == Some(self.deeds) {
            std::panic::resume_unwind(Box::new(PowerLoss));
        }
    }
}

impl Works for Ground {
    fn fetch(&mut self, log: &Log) -> Result<(), Reason> {
        self.deed();
        match self
            .missing
            .iter()
            .find(|missing| [&log.from, &log.to].iter().any(|wanted| wanted.as_str() == **missing))
        {
            Some(missing) => Err(Reason::new("package-not-found", format!("no {missing}"))),
            None => Ok(()),
        }
    }

    fn note(&mut self) -> Result<Before, Reason> {
        self.deed();
        Ok(Before { boot_id: "boot".to_owned(), ready: BTreeMap::new() })
    }

    fn install(&mut self, version: &Version, _bare: bool) -> Result<(), Reason> {
        // Half of it is there when the power goes.
        "half".clone_into(&mut self.installed);
        self.deed();
        version.as_str().clone_into(&mut self.installed);
        Ok(())
    }

    fn judge(&mut self, version: &Version, _before: &Before) -> Result<(), Reason> {
        self.deed();
        if self.installed != version.as_str() || self.dead.contains(&version.as_str()) {
            return Err(Reason::new("agent-silent", format!("{version} does not answer")));
        }
        Ok(())
    }

    fn tidy(&mut self, _log: &Log) {
        self.tidied = true;
    }

    fn now(&self) -> Moment {
        Moment::from_micros(7)
    }
}

/// Runs one life after the other until one ends by itself.
fn lives(dir: &Path, ground: &mut Ground) -> Log {
    loop {
        let place = Place::at(dir);
        let life = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| carry_out(&place, ground)));
        match life {
            Ok(ended) => return ended.unwrap().expect("there is a log"),
            Err(end) if end.is::<PowerLoss>() => {}
            Err(failed) => std::panic::resume_unwind(failed),
        }
    }
}

#[test]
fn a_good_version_is_installed_and_nothing_is_left_to_start_at_the_next_boot() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir.path());
    begun(&place);
    let mut ground = Ground::at("1.0.0");
    let log = lives(dir.path(), &mut ground);
    assert_eq!((log.stage, ground.installed.as_str()), (Stage::Done { at: Moment::from_micros(7) }, "1.1.0"));
    assert!(ground.tidied && !place.program().exists());
}

#[test]
fn power_lost_in_any_step_ends_with_the_new_version_all_the_same() {
    for dies_in in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        begun(&Place::at(dir.path()));
        let mut ground = Ground { dies_in: Some(dies_in), ..Ground::at("1.0.0") };
        let log = lives(dir.path(), &mut ground);
        assert!(matches!(log.stage, Stage::Done { .. }), "{dies_in}: {log:?}");
        assert_eq!(ground.installed, "1.1.0", "{dies_in}");
    }
}

#[test]
fn a_version_that_does_not_start_is_taken_back_wherever_the_power_goes_meanwhile() {
    for dies_in in [None, Some(1), Some(2), Some(3), Some(4), Some(5), Some(6)] {
        let dir = tempfile::tempdir().unwrap();
        begun(&Place::at(dir.path()));
        let mut ground = Ground { dead: vec!["1.1.0"], dies_in, ..Ground::at("1.0.0") };
        let log = lives(dir.path(), &mut ground);
        let Stage::RolledBack { why } = log.stage else { panic!("{dies_in:?}: {log:?}") };
        assert_eq!((why.code.as_str(), ground.installed.as_str()), ("agent-silent", "1.0.0"), "{dies_in:?}");
    }
}

#[test]
fn without_the_package_of_the_way_back_nothing_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    begun(&Place::at(dir.path()));
    let mut ground = Ground { missing: vec!["1.0.0"], ..Ground::at("1.0.0") };
    let log = lives(dir.path(), &mut ground);
    assert!(matches!(log.stage, Stage::Refused { .. }), "{log:?}");
    assert_eq!(ground.installed, "1.0.0");
}

#[test]
fn a_host_on_which_neither_version_starts_says_so_and_how_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    begun(&Place::at(dir.path()));
    let mut ground = Ground { dead: vec!["1.0.0", "1.1.0"], ..Ground::at("1.0.0") };
    let Stage::Stuck { why } = lives(dir.path(), &mut ground).stage else { panic!("it cannot be well") };
    assert!(why.mend.is_some_and(|mend| mend.contains("/var/lib/launchpad-agent/packages")));
}

fn upgrading(dir: &Path) -> Upgrading<FixedFacts> {
    let nowhere = Path::new("/nowhere");
    Upgrading::around(FixedFacts::default(), Place::at(dir), nowhere, nowhere, Clock::machine())
}

#[test]
fn a_wish_for_the_version_that_runs_is_fulfilled_and_nothing_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let wish = AgentUpgrade { operation: operation(2), version: version(&format!("{VERSION}-1")) };
    let told = upgrading(dir.path()).upgrade(Some(&wish));
    assert!(matches!(told, Some((told, Outcome::Done { .. })) if told == operation(2)), "{told:?}");
    assert_eq!(Place::at(dir.path()).log().unwrap(), None);
}

#[test]
fn an_upgrade_that_came_to_nothing_is_told_and_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir.path());
    let why = Reason::new("agent-silent", "it did not answer");
    let log = Log { stage: Stage::RolledBack { why: why.clone() }, ..begun(&place) };
    place.write(&log).unwrap();
    let mut agent = upgrading(dir.path());
    let wish = AgentUpgrade { operation: operation(1), version: version("1.1.0") };
    for _ in 0..2 {
        assert_eq!(agent.upgrade(Some(&wish)), Some((operation(1), Outcome::Refused { reason: why.clone() })));
    }
    assert_eq!(place.log().unwrap(), Some(log), "nothing was begun");
}

#[test]
fn an_upgrade_that_is_under_way_is_not_answered_yet_and_no_other_begins() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::at(dir.path());
    let log = begun(&place);
    let mut agent = upgrading(dir.path());
    let other = AgentUpgrade { operation: operation(9), version: version("2.0.0") };
    assert_eq!(agent.upgrade(Some(&other)), None);
    assert_eq!(place.log().unwrap(), Some(log));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The judge reads no type of ours, because it is of another version than the judged: this keeps the socket's words.
    #[test]
    fn the_judge_finds_every_ready_bot_in_what_the_agent_says(report in host_report(4)) {
        let ready: Vec<_> = report
            .instances
            .iter()
            .filter(|(_, instance)| instance.phase == Phase::Ready && instance.container.is_some())
            .map(|(id, _)| id.to_string())
            .collect();
        let says = Response::Status(Box::new(Status {
            pid: 7,
            agent_version: VERSION.to_owned(),
            host: uuid::Uuid::from_u128(3).into(),
            name: "web-1".to_owned(),
            link: LinkStatus::Disconnected { reason: Reason::new("a", "b"), since: Moment::from_micros(1) },
            certificate_expires: None,
            report: Some(Box::new(report)),
        }));
        let seen: Seen = serde_json::from_slice(&serde_json::to_vec(&says).unwrap()).unwrap();
        let before = Before::of(&seen).unwrap();
        prop_assert_eq!(before.ready.keys().cloned().collect::<Vec<_>>(), ready);
        prop_assert_eq!(verdict(&before, &Version::ours(), &seen), Verdict::Well);
    }
}
