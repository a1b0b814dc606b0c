//! A volume's plain life: made, mounted, met again after a reboot, destroyed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use launchpad_agent::execute::volume::door::Machine;
use launchpad_agent::execute::volume::mounts;

use crate::doors::Noting;
use crate::ground::{GIB, Ground, OWNER, SMALL, bot, numbered, on_the_disk, run, sight};

#[tokio::test]
async fn a_volume_is_mounted_without_devices_and_setuid_and_is_its_users_alone() {
    let ground = Ground::new();
    let volumes = ground.with_volume(GIB).await;
    let found = fs::metadata(ground.data()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o700, 1000, 1001));
    assert_eq!(fs::read_dir(ground.data()).unwrap().count(), 0, "not even lost+found");
    let table = mounts::own().unwrap();
    let mount = mounts::covering(&table, &ground.data()).unwrap();
    assert_eq!((mount.kind.as_str(), mount.point.as_path()), ("ext4", ground.home(bot()).mount().as_path()));
    for flag in ["nosuid", "nodev", "noatime"] {
        assert!(mount.flags.contains(flag), "{:?}", mount.flags);
    }
    let seen = sight(&volumes).await;
    assert_eq!((seen.backend.as_str(), seen.bytes, seen.mounted, seen.flags_right), ("ext4-image", GIB, true, true));
    assert!(seen.used_bytes < GIB / 100, "{} bytes", seen.used_bytes);
    assert_eq!(volumes.capability(), Ok("ext4-image"));
    assert!(on_the_disk(&ground.home(bot()).image()) >= GIB, "all of it is there from the start");
}

#[tokio::test]
async fn prepared_again_nothing_is_done_also_by_an_agent_that_has_started_again() {
    let ground = Ground::new();
    drop(ground.with_volume(SMALL).await);
    fs::write(ground.data().join("state"), b"precious").unwrap();
    let mut done = None;
    let again = ground
        .volumes_behind(|places| {
            let door = Noting::before(Machine::new(places.at_work()));
            done = Some(door.done.clone());
            door
        })
        .await;
    let done = done.unwrap();
    let starting = Noting::taken(&done);
    assert!(starting.iter().all(|step| step.starts_with("make_dir ")), "{starting:?}");
    again.prepare(bot(), SMALL, OWNER).await.unwrap();
    assert_eq!(Noting::taken(&done), Vec::<String>::new());
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"precious");
}

#[tokio::test]
async fn after_a_reboot_a_volume_is_there_unmounted_and_mounted_again_with_what_was_in_it() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    fs::write(ground.data().join("state"), b"precious").unwrap();
    run("umount", [ground.home(bot()).mount()]);
    let seen = sight(&volumes).await;
    assert_eq!((seen.mounted, seen.flags_right, seen.bytes), (false, false, SMALL));
    assert!(!ground.data().exists(), "nothing is ever written into the host's own filesystem");
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"precious");
    assert!(sight(&volumes).await.mounted);
}

#[tokio::test]
async fn removal_takes_all_and_follows_no_link_and_may_be_repeated() {
    let ground = Ground::new();
    let outside = ground.path("somebody elses");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"keep me").unwrap();
    let volumes = ground.with_volume(SMALL).await;
    symlink(&outside, ground.data().join("link")).unwrap();
    volumes.snapshot(bot(), "one", crate::ground::noon(), OWNER).await.unwrap();
    volumes.remove(bot()).await.unwrap();
    volumes.remove(bot()).await.unwrap();
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"keep me");
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn more_volumes_than_there_were_loop_devices_are_made_at_once() {
    let ground = Ground::new();
    let volumes = ground.volumes().await;
    let prepared: Vec<_> = (0..12)
        .map(|n| {
            let volumes = volumes.clone();
            tokio::spawn(async move { volumes.prepare(numbered(n), SMALL, OWNER).await })
        })
        .collect();
    for one in prepared {
        one.await.unwrap().unwrap();
    }
    let seen = volumes.all().await.unwrap();
    assert_eq!(seen.len(), 12);
    assert!(seen.values().all(|one| one.mounted && one.flags_right && one.bytes == SMALL), "{seen:#?}");
    for n in 0..12 {
        volumes.remove(numbered(n)).await.unwrap();
    }
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn no_empty_volume_takes_the_place_of_one_that_was_lost() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    fs::write(ground.data().join("state"), b"precious").unwrap();
    volumes.snapshot(bot(), "one", crate::ground::noon(), OWNER).await.unwrap();
    run("umount", [ground.home(bot()).mount()]);
    fs::remove_file(ground.home(bot()).image()).unwrap();
    let reason = volumes.prepare(bot(), SMALL, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "volume-lost");
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"precious");
}

#[tokio::test]
async fn a_size_that_no_disk_has_is_refused() {
    let ground = Ground::new();
    let volumes = ground.volumes().await;
    for (bytes, code) in [(0, "volume-size"), (u64::MAX, "volume-size"), (1 << 60, "disk-full")] {
        assert_eq!(volumes.prepare(bot(), bytes, OWNER).await.unwrap_err().code, code);
    }
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn on_a_filesystem_that_copies_on_write_an_image_keeps_its_place() {
    let ground = Ground::on_disk(8 * GIB, &["mkfs.btrfs", "-q"]);
    let volumes = ground.with_volume(SMALL).await;
    let image = ground.home(bot()).image();
    let attributes = |image: &Path| {
        let said = run("lsattr", [image]);
        said.split(' ').next().unwrap().to_owned()
    };
    assert!(attributes(&image).contains('C'), "{}", attributes(&image));
    fs::write(ground.data().join("state"), vec![7; 32 << 20]).unwrap();
    volumes.snapshot(bot(), "one", crate::ground::noon(), OWNER).await.unwrap();
    fs::write(ground.data().join("state"), b"other").unwrap();
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), vec![7; 32 << 20]);
    assert!(attributes(&image).contains('C'), "the restored one too");
    let seen = sight(&volumes).await;
    assert!(seen.mounted && seen.flags_right, "{seen:#?}");
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}
