//! An agent's loop around the real plan and the real hands, with a clock of the test's own: what the tests of broken
//! promises look, judge and mend with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use launchpad_agent::doctor::{Whereabouts, examine};
use launchpad_agent::enforce::{self, Finding};
use launchpad_agent::execute::docker::DockerHost;
use launchpad_agent::execute::{Eyes as _, Hands as _};
use launchpad_agent::observe::{Container, Observed};
use launchpad_agent::plan::action::Action;
use launchpad_agent::plan::drift::{CONFIRMED_AFTER, RESTART_PAUSE};
use launchpad_agent::plan::instance::current_container;
use launchpad_agent::plan::marks::Marks;
use launchpad_agent::plan::record::Record;
use launchpad_agent::plan::{Context, Health, Knowledge, Plan, plan};
use launchpad_protocol::enforcement::{Item, Verdict};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capability;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Power};
use launchpad_protocol::time::{BootMoment, Moment};

use crate::ground::{self, Ground};

/// Looks after which a host must be as it should be.
const TURNS_MAX: usize = 8;

/// The agent of one bot.
pub(crate) struct Keeper {
    ground: Arc<Ground>,
    host: DockerHost,
    desired: HostSpec,
    pub(crate) capabilities: BTreeMap<String, Capability>,
    pub(crate) record: Record,
    now: u64,
}

impl Keeper {
    /// A bot that runs as it should.
    pub(crate) async fn with_a_bot(ground: &Arc<Ground>) -> Self {
        Self::of(ground, &ground.bot("")).await
    }

    /// That bot, running as it should.
    pub(crate) async fn of(ground: &Arc<Ground>, bot: &InstanceSpec) -> Self {
        let desired = ground::desired(bot);
        let whereabouts =
            Whereabouts { docker: ground.docker.clone(), data_dir: ground.dir.path().join("data"), gate: None };
        let mut keeper = Self {
            ground: Arc::clone(ground),
            host: ground.host().await,
            desired,
            capabilities: examine(&whereabouts).await.capabilities,
            record: Record::default(),
            now: 1_000_000_000,
        };
        keeper.settle().await;
        keeper
    }

    pub(crate) fn bot(&self) -> &InstanceSpec {
        self.desired.instances.values().next().expect("one bot")
    }

    /// Everything on the host as it is now, as an agent sees it that has just begun and believes nothing.
    pub(crate) async fn observe(&mut self) -> Observed {
        self.host = self.ground.host().await;
        let images = BTreeSet::from([self.bot().image.clone()]);
        self.host.observe(&images).await.expect("an observation")
    }

    pub(crate) fn judge(&self, observed: &Observed) -> BTreeMap<Item, Finding> {
        let host = enforce::Host { desired: &self.desired, observed, capabilities: &self.capabilities };
        enforce::judge(self.bot(), current_container(self.bot(), observed), host)
    }

    /// What of the bot's promises should hold and does not.
    pub(crate) async fn broken(&mut self) -> BTreeSet<Item> {
        let failed = |finding: &Finding| matches!(finding.enforcement.verdict, Verdict::Failed { .. });
        let observed = self.observe().await;
        self.judge(&observed).into_iter().filter(|(_, found)| failed(found)).map(|(item, _)| item).collect()
    }

    /// What its host says that it cannot hold, and why.
    pub(crate) async fn lacked(&mut self) -> BTreeMap<Item, Reason> {
        let observed = self.observe().await;
        let lacked = self.judge(&observed).into_iter().filter_map(|(item, found)| match found.enforcement.verdict {
            Verdict::Degraded { reason } => Some((item, reason)),
            Verdict::Enforced | Verdict::Failed { .. } => None,
        });
        lacked.collect()
    }

    /// Has its bot switched on or off from the next turn on.
    pub(crate) fn switch(&mut self, power: Power) {
        self.desired.instances.values_mut().for_each(|bot| bot.power = power);
    }

    /// One turn of the agent: look, judge, plan.
    pub(crate) async fn turn(&mut self) -> Plan {
        let observed = self.observe().await;
        self.now += u64::try_from(CONFIRMED_AFTER.as_micros()).expect("a short time");
        let now = BootMoment::from_micros(self.now);
        let wall = Moment::from_micros(i64::try_from(self.now).expect("a moment"));
        let context = Context { now, wall, boot_id: "one".to_owned() };
        let bot = self.desired.instances.values().next().expect("one bot");
        let container = current_container(bot, &observed);
        let well = Health { started: true, ready: true, ..Health::default() };
        let health: BTreeMap<_, _> = container.map(|container| (container.id.clone(), well)).into_iter().collect();
        let findings = BTreeMap::from([(bot.deployment, self.judge(&observed))]);
        let marks = Marks::default();
        self.record.absorb(bot, container, health.values().next(), &marks, &context);
        self.record.absorb_findings(&findings[&bot.deployment], now);
        let records = BTreeMap::from([(bot.deployment, self.record.clone())]);
        let known =
            Knowledge { marks: &marks, records: &records, health: &health, findings: &findings, renewed_at: None };
        plan(&self.desired, &observed, known, &context)
    }

    /// Plans and carries out until nothing is left to do; what was done.
    pub(crate) async fn settle(&mut self) -> Vec<&'static str> {
        let mut done = Vec::new();
        for _ in 0..TURNS_MAX {
            let plan = self.turn().await;
            let actions: Vec<Action> = plan.work.into_values().flatten().collect();
            if actions.is_empty() && plan.wake_at.is_none() {
                return done;
            }
            for action in actions {
                if let Action::StopContainer { container, why, .. } = &action {
                    self.record.expect_stop(container, why, BootMoment::from_micros(self.now));
                }
                self.host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
                if let Action::UpdateResources { .. } = action {
                    self.record.limits_were_set();
                }
                done.push(action.kind());
            }
        }
        panic!("not at rest after {TURNS_MAX} turns: {done:?}");
    }

    /// The pause between two restarts goes by.
    pub(crate) fn wait_out_the_pause(&mut self) {
        self.now += u64::try_from(RESTART_PAUSE.as_micros()).expect("a short time");
    }

    pub(crate) async fn container(&mut self) -> Container {
        let observed = self.observe().await;
        current_container(self.bot(), &observed).expect("a container").clone()
    }

    pub(crate) async fn process(&mut self) -> i64 {
        self.container().await.process_id.expect("it runs")
    }
}
