//! The fake keeps what the real host promises. What only a real engine can show is in `tests/docker.rs`.

use launchpad_protocol::arbitrary;
use launchpad_protocol::spec::InstanceSpec;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use launchpad_protocol::time::Moment;

use super::state::passing;
use super::*;
use crate::observe::{Container, ContainerState};

fn clock() -> Clock {
    Clock::manual(Moment::from_micros(1_000_000))
}

fn spec() -> InstanceSpec {
    let drawn = arbitrary::host_spec(4).prop_filter_map("one instance", |spec| spec.instances.into_values().next());
    drawn.new_tree(&mut TestRunner::deterministic()).expect("a spec").current()
}

fn steps(spec: &InstanceSpec) -> Vec<Action> {
    let boxed = || Box::new(spec.clone());
    vec![
        Action::PullImage { image: spec.image.clone() },
        Action::EnsureNetwork { account: spec.account },
        Action::PrepareVolume { spec: boxed() },
        Action::WriteFiles { spec: boxed() },
        Action::CreateContainer { spec: boxed() },
        Action::StartContainer { deployment: spec.deployment, container: None },
    ]
}

async fn deploy(host: &FakeHost, spec: &InstanceSpec) -> Container {
    for action in steps(spec) {
        host.execute(&action).await.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
    host.world.truth().containers.into_values().next().expect("a container")
}

#[tokio::test]
async fn the_world_outlives_the_agent_and_doing_it_again_changes_nothing() {
    let (clock, spec) = (clock(), spec());
    let world = World::new(clock.clone());
    let before = deploy(&FakeHost::on(world.clone()), &spec).await;
    clock.advance(Duration::from_secs(5));
    let after = deploy(&FakeHost::on(world.clone()), &spec).await;
    assert_eq!(after, before);
    assert_eq!(world.starts(spec.deployment), 1);
}

#[tokio::test]
async fn nothing_is_made_before_what_it_stands_on() {
    let spec = spec();
    let host = FakeHost::on(World::new(clock()));
    let mut missing = steps(&spec);
    let start = missing.pop().expect("a start");
    let create = missing.pop().expect("a creation");
    for left_out in 0..missing.len() {
        let host = FakeHost::on(World::new(clock()));
        for (index, action) in missing.iter().enumerate() {
            if index != left_out {
                host.execute(action).await.unwrap();
            }
        }
        assert!(host.execute(&create).await.is_err(), "without {}", missing[left_out]);
    }
    assert!(host.execute(&start).await.is_err(), "nothing to start");
}

#[tokio::test]
async fn a_script_decides_readiness_and_each_start_in_turn() {
    let (clock, spec) = (clock(), spec());
    let world = World::new(clock.clone());
    let host = FakeHost::on(world.clone());
    let last_words = "the lease is held".to_owned();
    let exit = ScriptedExit { after: Duration::from_secs(9), code: 1, out_of_memory: false, last_words };
    let script = Script { ready_after: Duration::from_secs(3), exits: [exit].into(), ..Script::default() };
    world.script(spec.deployment, script);
    let container = deploy(&host, &spec).await;
    let address = container.address.expect("an address");
    let probe = &spec.probes.readiness;
    assert!(host.probe(address, 1, probe).await.is_err());
    clock.advance(Duration::from_secs(3));
    assert_eq!(host.probe(address, 1, probe).await, Ok(()));
    clock.advance(Duration::from_secs(7));
    assert!(host.probe(address, 1, probe).await.is_err());
    let ContainerState::Exited(exit) = &world.truth().containers[&container.id].state else { panic!("it has ended") };
    assert_eq!((exit.code, exit.output_tail.as_str()), (1, "the lease is held"));
    assert_eq!(exit.at.since(exit.started_at), Duration::from_secs(9), "when it was due, not when somebody looked");

    let again = Action::StartContainer { deployment: spec.deployment, container: Some(container.id.clone()) };
    host.execute(&again).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    assert!(world.truth().containers[&container.id].running_since().is_some(), "a start without an end runs on");
}

#[tokio::test]
async fn an_engine_that_is_away_says_nothing_and_bots_run_on() {
    let spec = spec();
    let world = World::new(clock());
    let host = FakeHost::on(world.clone());
    let before = deploy(&host, &spec).await;
    world.set_away(Some(Reason::new("engine-away", "killed by a test")));
    assert!(matches!(host.observe(&BTreeSet::new()).await, Err(ExecuteError::EngineAway(_))));
    let stop = Action::RemoveContainer { container: before.id.clone() };
    assert!(matches!(host.execute(&stop).await, Err(ExecuteError::EngineAway(_))));
    assert_eq!(world.truth().containers[&before.id], before);
    world.set_away(None);
    assert!(host.execute(&stop).await.is_err(), "it runs");
}

#[tokio::test]
async fn a_failure_on_demand_happens_once() {
    let spec = spec();
    let world = World::new(clock());
    let host = FakeHost::on(world.clone());
    world.fail_next("pull_image", passing("image-pull-failed", "the registry is away"));
    let pull = Action::PullImage { image: spec.image.clone() };
    assert!(host.execute(&pull).await.is_err());
    host.execute(&pull).await.unwrap();
    assert_eq!(world.carried_out(), [pull]);
}
