//! What the plan does about promises that held and do not any more: limits are set again, a start is made anew where
//! nothing less helps, and neither is done over and over.

mod support;

use std::collections::BTreeMap;

use launchpad_agent::enforce::{self, Finding};
use launchpad_agent::observe::Observed;
use launchpad_agent::observe::kernel::{Ceiling, KernelView};
use launchpad_agent::plan::action::{Action, StopCause};
use launchpad_agent::plan::drift::{CONFIRMED_AFTER, RESTART_PAUSE};
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::model::Model;
use launchpad_agent::plan::record::Record;
use launchpad_agent::plan::{Context, Health, Knowledge, Plan, plan};
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::{BootMoment, Moment};

const SECOND_US: i64 = 1_000_000;

/// A bot that runs and is ready, and the agent's memory of it.
struct Story {
    spec: HostSpec,
    model: Model,
    record: Record,
    now: i64,
}

impl Story {
    fn new() -> Self {
        let spec = support::spec(1, [support::bot()]);
        let model = Model::of(Observed::default(), Marks::default());
        let mut story = Self { spec, model, record: Record::default(), now: 1_000 * SECOND_US };
        story.carry_out();
        story
    }

    fn look(&mut self) -> Plan {
        self.now += SECOND_US;
        let now = BootMoment::from_micros(u64::try_from(self.now).expect("after boot"));
        let context = Context { now, wall: Moment::from_micros(self.now), boot_id: "one".to_owned() };
        let observed = &self.model.observed;
        let bot = self.spec.instances.values().next().expect("one bot");
        let container = current_container(bot, observed);
        let well = Health { started: true, ready: true, ..Health::default() };
        let running = container.filter(|container| container.running_since().is_some());
        let health: BTreeMap<_, _> = running.map(|container| (container.id.clone(), well)).into_iter().collect();
        let findings = self.findings();
        let said = container.and_then(|container| health.get(&container.id));
        self.record.absorb(bot, container, said, &self.model.marks, &context);
        self.record.absorb_findings(&findings[&bot.deployment], now);
        let records = BTreeMap::from([(bot.deployment, self.record.clone())]);
        let known = Knowledge {
            marks: &self.model.marks,
            records: &records,
            health: &health,
            findings: &findings,
            renewed_at: None,
        };
        plan(&self.spec, observed, known, &context)
    }

    fn findings(&self) -> BTreeMap<DeploymentId, BTreeMap<Item, Finding>> {
        let (desired, observed) = (&self.spec, &self.model.observed);
        let host = enforce::Host { desired, observed, capabilities: &BTreeMap::new() };
        let bot = desired.instances.values().next().expect("one bot");
        BTreeMap::from([(bot.deployment, enforce::judge(bot, current_container(bot, observed), host))])
    }

    fn broken(&self) -> Vec<Item> {
        let found = self.findings().into_values().flatten();
        found.filter(|(_, finding)| finding.enforcement.reason().is_some()).map(|(item, _)| item).collect()
    }

    fn carry_out(&mut self) -> Vec<&'static str> {
        let actions: Vec<Action> = self.look().work.into_values().flatten().collect();
        for action in &actions {
            self.now += SECOND_US;
            if let Action::StopContainer { container, why, .. } = action {
                let now = BootMoment::from_micros(u64::try_from(self.now).expect("after boot"));
                self.record.expect_stop(container, why, now);
            }
            self.model.apply(action, Moment::from_micros(self.now));
            if let Action::UpdateResources { .. } = action {
                self.record.limits_were_set();
            }
        }
        actions.iter().map(Action::kind).collect()
    }

    fn kernel(&mut self) -> &mut KernelView {
        let container = self.model.observed.containers.values_mut().next().expect("one container");
        container.kernel.as_deref_mut().expect("it runs")
    }

    fn pass(&mut self, span: std::time::Duration) {
        self.now += i64::try_from(span.as_micros()).expect("a short time");
    }
}

#[test]
fn limits_that_somebody_changed_in_the_kernel_are_set_again() {
    let mut story = Story::new();
    assert_eq!(story.carry_out(), [""; 0], "a bot that is as it should be is left alone");
    story.kernel().group.memory_bytes = Ceiling::Open;
    assert_eq!(story.broken(), [Item::Memory]);
    assert_eq!(story.carry_out(), ["update_resources"]);
    assert_eq!(story.broken(), []);
    assert_eq!(story.carry_out(), [""; 0]);
}

#[test]
fn a_kernel_that_never_shows_the_limits_is_not_asked_again_and_again() {
    let mut story = Story::new();
    // Before the first look at its running start: nothing of it was ever seen to hold.
    story.kernel().group.cpu_millis = Ceiling::Unseen;
    for _ in 0..3 {
        assert_eq!(story.carry_out(), [""; 0]);
    }
    assert_eq!(story.broken(), [Item::Cpu], "it is told");
}

#[test]
fn a_tenants_group_that_somebody_changed_is_shaped_again() {
    let mut story = Story::new();
    story.model.observed.tenants.values_mut().for_each(|group| group.cpu_weight = Ceiling::At(10_000));
    assert_eq!(story.carry_out(), ["shape_tenant"]);
    story.model.observed.tenants.clear();
    assert_eq!(story.carry_out(), ["shape_tenant"]);
    assert_eq!(story.carry_out(), [""; 0]);
}

#[test]
fn what_only_a_new_start_mends_is_mended_by_one_once_it_is_certain() {
    let mut story = Story::new();
    story.carry_out();
    story.kernel().mounts.get_mut("/").expect("a root").read_only = false;
    let first = story.look();
    assert!(first.work.is_empty(), "not for what one look shows: {first}");
    assert!(first.wake_at.is_some(), "and not forgotten");
    story.pass(CONFIRMED_AFTER);
    let plan = story.look();
    let actions: Vec<&Action> = plan.work.values().flatten().collect();
    let [Action::StopContainer { why: StopCause::Drift(reason), .. }, Action::StartContainer { .. }] = actions[..]
    else {
        panic!("{plan}")
    };
    assert_eq!(reason.code, "root-filesystem-differs");
    story.carry_out();
    assert_eq!(story.broken(), []);
    let after = story.look();
    assert!(after.work.is_empty(), "{after}");
    assert_eq!(after.standings.values().next().map(|standing| standing.phase), Some(Phase::Ready));
    assert_eq!(story.record.crashes, 0, "it is no crash");
}

#[test]
fn what_comes_and_goes_restarts_nothing() {
    let mut story = Story::new();
    story.carry_out();
    for _ in 0..3 {
        story.kernel().process.open_files = Ceiling::At(7);
        assert_eq!(story.carry_out(), [""; 0]);
        story.kernel().process.open_files = Ceiling::At(1024);
        story.pass(CONFIRMED_AFTER);
        assert_eq!(story.carry_out(), [""; 0]);
    }
}

#[test]
fn a_start_that_never_held_it_is_not_ended_for_it() {
    let mut story = Story::new();
    story.kernel().process.open_files = Ceiling::At(7);
    for _ in 0..3 {
        story.pass(CONFIRMED_AFTER);
        assert_eq!(story.carry_out(), [""; 0]);
    }
    assert_eq!(story.broken(), [Item::OpenFiles], "it is told");
}

#[test]
fn somebody_who_breaks_a_wall_again_and_again_does_not_keep_the_bot_from_serving() {
    let mut story = Story::new();
    story.carry_out();
    let mut restarts = Vec::new();
    for second in 0..RESTART_PAUSE.as_secs() * 2 {
        story.kernel().process.open_files = Ceiling::At(7);
        if story.carry_out().contains(&"stop_container") {
            restarts.push(second);
            // The new start is seen whole before it is broken again.
            story.carry_out();
        }
    }
    assert!((2..=3).contains(&restarts.len()), "at these seconds: {restarts:?}");
}

#[test]
fn a_bot_that_lacks_memory_is_told_so_while_it_is_ready() {
    let mut story = Story::new();
    story.carry_out();
    story.kernel().group.oom_kills = 2;
    let plan = story.look();
    let standing = plan.standings.values().next().expect("one bot");
    assert_eq!(standing.phase, Phase::Ready);
    assert_eq!(standing.reason.as_ref().map(|reason| reason.code.as_str()), Some("processes-killed-for-memory"));
    assert!(plan.work.is_empty(), "{plan}");
}
