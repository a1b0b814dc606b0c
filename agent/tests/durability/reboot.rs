//! The machine boots while no coordinator answers: the ledger alone says what runs.

use launchpad_agent::execute::fake::World;
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{InstanceSpec, Power};
use launchpad_protocol::time::Clock;

use crate::life::Life;
use crate::support::{bot, id, spec};

#[tokio::test]
async fn after_a_reboot_without_a_coordinator_all_bots_that_are_kept_are_back_and_no_others() {
    let (world, dir) = (World::new(Clock::machine()), tempfile::tempdir().expect("a temporary directory"));
    let kept: Vec<InstanceSpec> = (1..=3).map(|n| InstanceSpec { deployment: id(n), ..bot() }).collect();
    let stopped = InstanceSpec { deployment: id(4), ..bot() };
    let off = InstanceSpec { deployment: id(5), power: Power::Off, ..bot() };
    let mut life = Life::begin(&world, dir.path());
    life.offer(&spec(1, kept.iter().cloned().chain([stopped.clone(), off.clone()]))).await;
    life.until("applied", |report| report.applied == Generation(1)).await;
    life.order(|reply| LocalRequest::Stop(stopped.deployment, reply)).await.expect("written");
    let before = life.until("stopped", |report| report.instances[&stopped.deployment].phase == Phase::Stopped).await;
    life.end().await;

    world.reboot();
    let down = world.truth();
    assert!(down.containers.values().all(|container| container.running_since().is_none()));
    assert!(down.files.is_empty() && down.volumes.values().all(|volume| !volume.mounted), "{down:#?}");

    let mut life = Life::in_boot("two", &world, Clock::machine(), dir.path());
    let after = life.until("back", |report| report.applied == Generation(1) && report.boot_id == "two").await;
    for wish in &kept {
        let (was, is) = (&before.instances[&wish.deployment], &after.instances[&wish.deployment]);
        assert_eq!(is.phase, Phase::Ready, "{is:#?}");
        let container = |report: &launchpad_protocol::report::InstanceReport| {
            report.container.as_ref().map(|container| container.id.clone())
        };
        assert_eq!(container(is), container(was), "the same container");
        assert_eq!(is.restarts, was.restarts + 1, "one start, and no crash on the way");
        assert_eq!(world.starts(wish.deployment), 2);
    }
    assert_eq!(after.instances[&stopped.deployment].phase, Phase::Stopped, "a stop holds across boots");
    assert_eq!((world.starts(stopped.deployment), world.starts(off.deployment)), (1, 0));
    let up = world.truth();
    for wish in &kept {
        assert!(up.volumes[&wish.deployment].mounted, "its volume is mounted before it starts");
        assert!(up.files.contains_key(&wish.deployment), "its files are unsealed");
    }
    assert!(up.networks.contains(&bot().account));
}
