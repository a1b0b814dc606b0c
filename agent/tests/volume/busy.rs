//! A volume in use is never taken from under its users: they are named, and nothing is touched.

use std::fs;
use std::process::Command;

use launchpad_agent::execute::volume::{Volumes, loops};
use launchpad_protocol::reason::Reason;

use crate::ground::{Alive, Ground, OWNER, SMALL, bot, noon, run, sight};

/// All that needs a volume to be unused.
async fn refusals(volumes: &Volumes) -> Vec<Reason> {
    vec![
        volumes.snapshot(bot(), "two", noon(), OWNER).await.unwrap_err(),
        volumes.restore(bot(), "one", OWNER).await.unwrap_err(),
        volumes.remove(bot()).await.unwrap_err(),
    ]
}

async fn ground_with_snapshot() -> (Ground, Volumes) {
    let ground = Ground::alone();
    let volumes = ground.with_volume(SMALL).await;
    fs::write(ground.data().join("state"), b"precious").unwrap();
    volumes.snapshot(bot(), "one", noon(), OWNER).await.unwrap();
    (ground, volumes)
}

async fn assert_refused(ground: &Ground, volumes: &Volumes, code: &str, names: &str) {
    for reason in refusals(volumes).await {
        assert_eq!(reason.code, code, "{reason}");
        assert!(reason.to_string().contains(names), "{names} is not in: {reason}");
        assert!(reason.mend.is_some(), "{reason}");
    }
    let seen = sight(volumes).await;
    assert!(seen.snapshots.len() == 1 && ground.home(bot()).image().exists());
}

#[tokio::test]
async fn a_container_that_runs_is_named_though_the_hosts_own_mount_could_go() {
    let (ground, volumes) = ground_with_snapshot().await;
    let state = ground.path("state");
    fs::create_dir(&state).unwrap();
    let bind = format!("mount --bind {} {}", ground.data().display(), state.display());
    let container = Alive::apart("private", &bind);
    assert_refused(&ground, &volumes, "volume-busy", &format!("process {}", container.id())).await;
    assert!(sight(&volumes).await.mounted);
    drop(container);
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_process_of_the_host_with_a_file_open_is_named() {
    let (ground, volumes) = ground_with_snapshot().await;
    let script = "exec 3<state; echo ready; exec sleep 600";
    let reader = Alive::ready(Command::new("sh").args(["-c", script]).current_dir(ground.data()));
    assert_refused(&ground, &volumes, "volume-busy", &format!("process {} (", reader.id())).await;
    drop(reader);
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn what_is_mounted_inside_or_over_a_volume_is_in_the_way() {
    let (ground, volumes) = ground_with_snapshot().await;
    let inside = ground.data().join("inside");
    fs::create_dir(&inside).unwrap();
    run("mount", ["-t", "tmpfs", "nothing", &inside.display().to_string()]);
    assert_refused(&ground, &volumes, "volume-busy", &inside.display().to_string()).await;
    run("umount", [&inside]);
    let over = ground.home(bot()).mount();
    run("mount", ["-t", "tmpfs", "somebody's", &over.display().to_string()]);
    assert!(!sight(&volumes).await.mounted);
    assert_eq!(volumes.prepare(bot(), SMALL, OWNER).await.unwrap_err().code, "volume-hidden");
    assert_refused(&ground, &volumes, "volume-hidden", "somebody's").await;
    run("umount", [&over]);
    assert!(sight(&volumes).await.mounted, "ours was below it all the time");
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_volume_that_a_container_still_has_is_mounted_again_from_the_same_device() {
    let (ground, volumes) = ground_with_snapshot().await;
    let state = ground.path("state");
    fs::create_dir(&state).unwrap();
    let bind = format!("mount --bind {} {}", ground.data().display(), state.display());
    let container = Alive::apart("private", &bind);
    run("umount", [ground.home(bot()).mount()]);
    assert!(!sight(&volumes).await.mounted);
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    let attached = loops::attached_to(&ground.home(bot()).image().canonicalize().unwrap()).unwrap();
    assert_eq!(attached.len(), 1, "two caches of one filesystem destroy it: {attached:?}");
    // One filesystem, seen from both sides.
    fs::write(ground.data().join("from the host"), b"yes").unwrap();
    let theirs = format!("/proc/{}/root{}/from the host", container.id(), state.display());
    assert_eq!(fs::read(theirs).unwrap(), b"yes");
    drop(container);
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_device_that_somebody_attached_by_hand_is_used_and_freed() {
    let (ground, volumes) = ground_with_snapshot().await;
    run("umount", [ground.home(bot()).mount()]);
    run("losetup", ["-f", &ground.home(bot()).image().display().to_string()]);
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"precious");
    volumes.snapshot(bot(), "two", noon(), OWNER).await.unwrap();
    // And one that nobody uses is freed by the next agent.
    run("umount", [ground.home(bot()).mount()]);
    run("losetup", ["-f", &ground.home(bot()).image().display().to_string()]);
    drop(volumes);
    let volumes = ground.volumes().await;
    assert_eq!(ground.held(), Vec::<String>::new());
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}
