//! An agent that dies at any step of anything leaves no mount, no device, and nothing half that looks whole.
//!
//! Every operation is cut off at its first step, its second, and so on to its last: once before the step,
//! once in the middle of it where a program does it. Then an agent starts again, and everything must be as if
//! the operation had not been, or had been.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use launchpad_agent::execute::volume::door::Machine;
use launchpad_agent::execute::volume::step::Step;
use launchpad_agent::execute::volume::{Owner, Volumes};
use launchpad_protocol::reason::Reason;

use crate::doors::{Death, Dying, Noting, is_by_program};
use crate::ground::{Ground, OWNER, SMALL, bot, noon, sight};

/// Its user ids are moved by snapshot and restore, which is the longer way.
const REMAPPED: Owner = Owner { offset_uid: 200_000, offset_gid: 200_000, ..OWNER };

/// What is done to the bot's volume.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Prepare,
    Grow,
    Snapshot,
    Restore,
    Drop,
    Remove,
}

impl Operation {
    async fn carry_out(self, volumes: &Volumes) -> Result<(), Reason> {
        match self {
            Self::Prepare => volumes.prepare(bot(), SMALL, REMAPPED).await,
            Self::Grow => volumes.prepare(bot(), 2 * SMALL, REMAPPED).await,
            Self::Snapshot => volumes.snapshot(bot(), "two", noon(), REMAPPED).await,
            Self::Restore => volumes.restore(bot(), "one", REMAPPED).await,
            Self::Drop => volumes.drop_snapshot(bot(), "one").await,
            Self::Remove => volumes.remove(bot()).await,
        }
    }

    /// What was there before it.
    async fn set_up(self, ground: &Ground) {
        let volumes = ground.volumes().await;
        if !matches!(self, Self::Prepare) {
            volumes.prepare(bot(), SMALL, REMAPPED).await.unwrap();
            fs::write(ground.data().join("state"), b"old").unwrap();
            volumes.snapshot(bot(), "one", noon(), REMAPPED).await.unwrap();
            fs::write(ground.data().join("state"), b"new").unwrap();
        }
    }

    /// That everything is as before it, or as after it.
    async fn assert_before_or_after(self, ground: &Ground, volumes: &Volumes) {
        let all = volumes.all().await.unwrap();
        let Some(seen) = all.get(&bot()) else {
            assert!(matches!(self, Self::Prepare | Self::Remove), "the volume is gone after {self:?}");
            return;
        };
        let grown = matches!(self, Self::Grow) && seen.bytes == 2 * SMALL;
        assert!(seen.bytes == SMALL || grown, "{seen:#?}");
        for name in seen.snapshots.keys() {
            let expected = name == "one" || name == "two" && matches!(self, Self::Snapshot);
            assert!(expected, "{seen:#?}");
        }
        assert!(seen.snapshots.contains_key("one") || matches!(self, Self::Prepare | Self::Drop), "{seen:#?}");
        volumes.prepare(bot(), SMALL.max(seen.bytes), REMAPPED).await.unwrap();
        let seen = sight(volumes).await;
        assert!(seen.mounted && seen.flags_right, "{seen:#?}");
        assert_eq!(fs::metadata(ground.data()).unwrap().uid(), 201_000);
        if !matches!(self, Self::Prepare) {
            let state = fs::read(ground.data().join("state")).unwrap();
            assert!(state == b"new" || state == b"old" && matches!(self, Self::Restore), "{state:?}");
        }
    }

    async fn assert_done(self, ground: &Ground, volumes: &Volumes) {
        let seen = volumes.all().await.unwrap().remove(&bot());
        match self {
            Self::Prepare => assert!(seen.unwrap().mounted),
            Self::Grow => assert_eq!(seen.unwrap().bytes, 2 * SMALL),
            Self::Snapshot => {
                // Whole: its digest is what was noted.
                volumes.restore(bot(), "two", REMAPPED).await.unwrap();
                assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"new");
            }
            Self::Restore => assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"old"),
            Self::Drop => assert!(seen.unwrap().snapshots.is_empty()),
            Self::Remove => assert_eq!(seen, None),
        }
    }
}

/// Every step of an operation, from an agent that lives.
async fn steps_of(operation: Operation) -> Vec<Step> {
    let ground = Ground::new();
    operation.set_up(&ground).await;
    let mut done = None;
    let volumes = ground
        .volumes_behind(|places| {
            let door = Noting::before(Machine::new(places.at_work()));
            done = Some(door.done.clone());
            door
        })
        .await;
    let done = done.unwrap();
    done.lock().unwrap().clear();
    operation.carry_out(&volumes).await.unwrap();
    std::mem::take(&mut *done.lock().unwrap())
}

/// Has an agent die at that step, and another one start.
async fn dies_at(operation: Operation, step: usize, death: Death) {
    let ground = Ground::new();
    operation.set_up(&ground).await;
    let mut dead = None;
    let dying = ground
        .volumes_behind(|places| {
            let door = Dying::before(death, Machine::new(places.at_work()));
            dead = Some((door.dead.clone(), door.left.clone()));
            door
        })
        .await;
    // The steps of its start are not those that it dies at.
    let (dead, left) = dead.unwrap();
    left.store(step, std::sync::atomic::Ordering::SeqCst);
    let cut = operation.carry_out(&dying).await;
    drop(dying);
    let at = dead.lock().unwrap().clone().unwrap_or_else(|| panic!("{operation:?} has no step {step}"));
    // The trash is also emptied beside it.
    let is_late = matches!(&at, Step::Delete { path } if path.starts_with(ground.places().trash()));
    assert!(cut.is_err() || is_late, "{operation:?} goes on after its agent's death at `{at}`");
    let volumes = ground.volumes().await;
    let held = ground.held();
    let unfinished = |line: &String| line.contains("/.making/") || line.contains("/trash/");
    assert!(!held.iter().any(unfinished), "{operation:?}, dead at `{at}`, leaves {held:?}");
    operation.assert_before_or_after(&ground, &volumes).await;
    operation.carry_out(&volumes).await.unwrap_or_else(|reason| panic!("{operation:?} after `{at}`: {reason}"));
    operation.assert_done(&ground, &volumes).await;
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

async fn dies_everywhere(operations: &[Operation]) {
    for operation in operations {
        let steps = steps_of(*operation).await;
        assert!(steps.len() > 1, "{operation:?} has {} steps", steps.len());
        for (n, step) in steps.iter().enumerate() {
            dies_at(*operation, n, Death::Before).await;
            if is_by_program(step) {
                dies_at(*operation, n, Death::Amidst).await;
            }
        }
    }
}

#[tokio::test]
async fn an_agent_that_dies_while_it_makes_or_enlarges_a_volume_leaves_nothing_half() {
    dies_everywhere(&[Operation::Prepare, Operation::Grow]).await;
}

#[tokio::test]
async fn an_agent_that_dies_over_a_snapshot_leaves_a_whole_one_or_none() {
    dies_everywhere(&[Operation::Snapshot, Operation::Drop]).await;
}

#[tokio::test]
async fn an_agent_that_dies_while_it_restores_or_destroys_leaves_the_old_or_the_new() {
    dies_everywhere(&[Operation::Restore, Operation::Remove]).await;
}
