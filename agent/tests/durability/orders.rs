//! Orders given on the host, with nobody but its root to ask: a restart that happens once, an eviction that is finished
//! whatever dies, and what undoes either.

use std::collections::BTreeSet;

use launchpad_agent::execute::ExecuteError;
use launchpad_agent::execute::fake::World;
use launchpad_agent::reconcile::request::{Evict, LocalRequest, Shown, Windows};
use launchpad_protocol::generation::{Generation, Revision};
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{HostReport, Phase};
use launchpad_protocol::spec::{InstanceSpec, Operation, OperationAction};
use launchpad_protocol::time::Clock;

use crate::life::{Life, one};
use crate::support::{bot, id, spec};

struct Ground {
    world: World,
    dir: tempfile::TempDir,
    life: Life,
}

impl Ground {
    /// A host with one ready bot.
    async fn ready() -> Self {
        let (world, dir) = (World::new(Clock::machine()), tempfile::tempdir().expect("a temporary directory"));
        let mut life = Life::begin(&world, dir.path());
        life.offer(&spec(1, [bot()])).await;
        life.until_phase(Phase::Ready).await;
        Self { world, dir, life }
    }

    /// The agent dies, and another one begins.
    async fn die(self) -> Self {
        let Self { world, dir, life } = self;
        life.end().await;
        let life = Life::begin(&world, dir.path());
        Self { world, dir, life }
    }

    fn starts(&self) -> u32 {
        self.world.starts(bot().deployment)
    }

    async fn evict(&self, data: bool) -> Result<BTreeSet<DeploymentId>, Reason> {
        let evict = Evict { deployments: BTreeSet::new(), data };
        self.life.order(|reply| LocalRequest::Evict(evict, reply)).await
    }

    /// Asks until nothing is left, as the command does.
    async fn evicted(&self, data: bool) {
        while !self.evict(data).await.expect("written").is_empty() {
            tokio::task::yield_now().await;
        }
    }

    async fn shown(&self) -> Shown {
        let answered: Result<Windows, Reason> = self
            .life
            .order(|reply| {
                let (windows, asked) = tokio::sync::oneshot::channel();
                tokio::spawn(async move { drop(reply.send(Ok(asked.await.expect("a window")))) });
                LocalRequest::Watch(windows)
            })
            .await;
        answered.expect("a window").shown.borrow().clone()
    }
}

fn reason_code(report: &HostReport) -> Option<&str> {
    one(report).and_then(|bot| bot.reason.as_ref()).map(|reason| reason.code.as_str())
}

#[tokio::test]
async fn a_restart_asked_for_on_the_host_happens_once_whoever_dies() {
    let mut ground = Ground::ready().await;
    let deployment = bot().deployment;
    ground.life.order(|reply| LocalRequest::Restart(deployment, reply)).await.expect("written");
    // Written down, and dead before anything came of it, or while it did.
    ground = ground.die().await;
    ground.life.until("started again", |report| one(report).is_some_and(|bot| bot.restarts == 1)).await;
    ground.life.until_phase(Phase::Ready).await;
    ground = ground.die().await;
    let report = ground.life.until("adopted", |report| report.applied == Generation(1)).await;
    assert_eq!(ground.starts(), 2);
    assert!(report.outcomes.is_empty(), "nobody but this host has asked: {:?}", report.outcomes);
    ground.life.order(|reply| LocalRequest::Restart(deployment, reply)).await.expect("written");
    ground.life.until("started once more", |report| one(report).is_some_and(|bot| bot.restarts == 2)).await;
}

#[tokio::test]
async fn a_restart_that_was_stopped_half_way_goes_on_and_does_not_begin_anew() {
    let mut ground = Ground::ready().await;
    let passing = ExecuteError::Passing(Reason::new("engine-error", "not now"));
    ground.world.fail("start_container", passing);
    ground.life.order(|reply| LocalRequest::Restart(bot().deployment, reply)).await.expect("written");
    ground.life.until("troubled", |report| reason_code(report) == Some("engine-error")).await;
    ground = ground.die().await;
    ground.world.heal();
    ground.life.until_phase(Phase::Ready).await;
    ground = ground.die().await;
    ground.life.until("adopted", |report| report.applied == Generation(1)).await;
    assert_eq!(ground.starts(), 2);
}

#[tokio::test]
async fn a_restart_of_what_does_not_run_is_refused_with_what_would_let_it() {
    let ground = Ground::ready().await;
    let deployment = bot().deployment;
    ground.life.order(|reply| LocalRequest::Stop(deployment, reply)).await.expect("written");
    let refused = ground.life.order(|reply| LocalRequest::Restart(deployment, reply)).await.unwrap_err();
    assert!(refused.code == "instance-off" && refused.to_string().contains("start"), "{refused}");
    let unknown = ground.life.order(|reply| LocalRequest::Restart(id(7), reply)).await.unwrap_err();
    assert_eq!(unknown.code, "instance-unknown");
}

#[tokio::test]
async fn an_evicted_bot_is_gone_is_reported_and_stays_away_until_somebody_puts_it_back() {
    let mut ground = Ground::ready().await;
    ground.evicted(false).await;
    let left = ground.world.truth();
    assert!(left.containers.is_empty() && left.files.is_empty() && left.gates.is_empty(), "{left:#?}");
    assert!(left.networks.is_empty(), "its tenant has nobody else here");
    assert_eq!(left.volumes.len(), 1, "its data stays");
    let told = |report: &HostReport| {
        one(report).is_some_and(|bot| bot.phase == Phase::Stopped) && reason_code(report) == Some("evicted-from-host")
    };
    ground.life.until("reported", told).await;
    ground = ground.die().await;
    ground.life.until("still so", told).await;
    // A neighbour's change puts nobody back.
    let neighbour = InstanceSpec { deployment: id(0xe), ..bot() };
    ground.life.offer(&spec(2, [bot(), neighbour])).await;
    ground.life.until("applied", |report| report.applied == Generation(2)).await;
    assert_eq!(ground.starts(), 1);
    ground.life.order(|reply| LocalRequest::Start(bot().deployment, reply)).await.expect("written");
    ground.life.until_phase(Phase::Ready).await;
    assert_eq!(ground.starts(), 2);
}

#[tokio::test]
async fn an_operator_or_a_newer_revision_puts_an_evicted_bot_back() {
    for newer in [true, false] {
        let mut ground = Ground::ready().await;
        ground.evicted(true).await;
        assert!(ground.world.truth().volumes.is_empty(), "its data went, too");
        let mut wish = bot();
        if newer {
            wish.revision = Revision(2);
        } else {
            wish.operations.push(Operation { id: id(0x0c), action: OperationAction::ClearLocalStop });
        }
        ground.life.offer(&spec(2, [wish])).await;
        ground.life.until_phase(Phase::Ready).await;
        ground = ground.die().await;
        ground.life.until("adopted", |report| report.applied == Generation(2)).await;
        assert_eq!(ground.starts(), 2);
    }
}

#[tokio::test]
async fn an_eviction_that_fails_half_way_is_finished_by_the_next_agent() {
    for kind in
        ["stop_container", "remove_container", "close_gate", "remove_files", "remove_volume", "remove_network"]
    {
        let mut ground = Ground::ready().await;
        ground.world.fail(kind, ExecuteError::Passing(Reason::new("engine-error", "not now")));
        assert!(!ground.evict(true).await.expect("written").is_empty());
        ground.life.until("in the way", |report| reason_code(report) == Some("engine-error")).await;
        ground = ground.die().await;
        ground.world.heal();
        ground.evicted(true).await;
        ground.life.until("gone", |report| reason_code(report) == Some("evicted-from-host")).await;
        let left = ground.world.truth();
        assert!(
            left.containers.is_empty() && left.volumes.is_empty() && left.networks.is_empty(),
            "{kind}: {left:#?}"
        );
        assert_eq!(ground.starts(), 1, "{kind}");
    }
}

#[tokio::test]
async fn what_no_spec_lists_is_evicted_too_also_on_a_host_that_has_lost_its_spec() {
    let ground = Ground::ready().await;
    let Ground { world, dir, life } = ground;
    life.end().await;
    for name in ["spec", "spec.copy"] {
        std::fs::remove_file(dir.path().join(name)).expect("lost");
    }
    let life = Life::begin(&world, dir.path());
    let ground = Ground { world, dir, life };
    while !ground.shown().await.present.contains(&bot().deployment) {
        tokio::task::yield_now().await;
    }
    ground.evicted(true).await;
    let left = ground.world.truth();
    assert!(left.containers.is_empty() && left.volumes.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn the_way_to_where_a_bot_stands_is_remembered_by_the_next_agent() {
    let mut ground = Ground::ready().await;
    let past = |shown: &Shown| -> Vec<Phase> {
        let inside = shown.insides.get(&bot().deployment).cloned().unwrap_or_default();
        inside.past.iter().map(|past| past.phase).collect()
    };
    let before = past(&ground.shown().await);
    assert_eq!(before.last(), Some(&Phase::Ready), "{before:?}");
    ground = ground.die().await;
    ground.life.until("adopted", |report| report.applied == Generation(1)).await;
    assert_eq!(past(&ground.shown().await), before);
}
