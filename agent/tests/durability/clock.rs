//! A wall clock that is an hour off, or jumps while the agent runs: backoff counts on the boot clock, and nobody restarts.

use std::time::Duration;

use launchpad_agent::execute::fake::{Script, ScriptedExit, World};
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{Operation, OperationAction};
use launchpad_protocol::time::Clock;

use crate::life::{FIRST_BOOT, Life, one};
use crate::support::{bot, id, spec};

const HOUR_MICROS: i64 = 3_600_000_000;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[tokio::test]
async fn an_agent_whose_clock_is_an_hour_off_either_way_adopts_and_restarts_as_ever() {
    for skew in [-HOUR_MICROS, HOUR_MICROS] {
        let (world, dir) = (World::new(Clock::machine()), dir());
        let mut life = Life::begin(&world, dir.path());
        life.offer(&spec(1, [bot()])).await;
        life.until_phase(Phase::Ready).await;
        life.end().await;
        // The engine's clock stays, the agent's is off: as after somebody has set it back under a running engine.
        let mut life = Life::in_boot(FIRST_BOOT, &world, Clock::skewed(skew), dir.path());
        life.until("adopted", |report| report.applied == Generation(1)).await;
        assert_eq!(world.starts(bot().deployment), 1);
        let mut wish = bot();
        wish.operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
        life.offer(&spec(2, [wish])).await;
        life.until("restarted", |report| report.outcomes.contains_key(&id(0x0b))).await;
        life.until_phase(Phase::Ready).await;
        assert_eq!(world.starts(bot().deployment), 2, "an hour of {skew} µs");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_while_the_agent_runs_restarts_nobody_and_no_report_falls_silent() {
    for step in [-HOUR_MICROS, HOUR_MICROS] {
        let (clock, dir) = (Clock::stepped(), dir());
        let world = World::new(clock.clone());
        let mut life = Life::in_boot(FIRST_BOOT, &world, clock.clone(), dir.path());
        life.offer(&spec(1, [bot()])).await;
        let before = life.until_phase(Phase::Ready).await;
        clock.jump(step);
        // Nothing has changed but the clock: whatever wakes the loop has it told.
        let unknown = life.order(|reply| LocalRequest::Start(id(0xbad), reply)).await;
        assert!(unknown.is_err());
        let after = life
            .until("a report by the new clock", |report| report.wall.apart(before.wall) > Duration::from_secs(1800))
            .await;
        assert_eq!(one(&after).map(|bot| bot.phase), Some(Phase::Ready));
        assert_eq!(world.starts(bot().deployment), 1);
    }
}

#[tokio::test]
async fn a_backoff_is_as_long_as_it_was_when_the_clock_jumps_meanwhile() {
    for step in [-HOUR_MICROS, HOUR_MICROS] {
        let (clock, dir) = (Clock::stepped(), dir());
        let world = World::new(clock.clone());
        let mut life = Life::in_boot(FIRST_BOOT, &world, clock.clone(), dir.path());
        let crash =
            ScriptedExit { after: Duration::ZERO, code: 3, out_of_memory: false, last_words: "boom".to_owned() };
        world.script(bot().deployment, Script { exits: [crash].into(), ..Script::default() });
        let mut wish = bot();
        wish.restart.backoff_initial = Duration::from_millis(1500);
        life.offer(&spec(1, [wish])).await;
        life.until_phase(Phase::Backoff).await;
        let began = Clock::machine().boot();
        clock.jump(step);
        life.until_phase(Phase::Ready).await;
        let waited = Clock::machine().boot().since(began);
        assert!(waited > Duration::from_millis(1000), "{waited:?}: cut short by {step} µs");
        assert_eq!(world.starts(bot().deployment), 2);
    }
}
