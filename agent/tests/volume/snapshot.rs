//! Copies: taken, put back, found damaged, counted, and free of this host's user ids.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use launchpad_agent::execute::volume::{Owner, Volumes};
use launchpad_protocol::limits::SNAPSHOTS_PER_VOLUME_MAX;

use crate::ground::{GIB, Ground, MIB, OWNER, SMALL, bot, noon, on_the_disk, run, sight};

/// A bot on an engine that remaps user ids.
const REMAPPED: Owner = Owner { offset_uid: 200_000, offset_gid: 300_000, ..OWNER };

fn write(ground: &Ground, name: &str, content: &str) {
    fs::write(ground.data().join(name), content).unwrap();
}

fn read(ground: &Ground, name: &str) -> String {
    fs::read_to_string(ground.data().join(name)).unwrap()
}

async fn take(volumes: &Volumes, name: &str) {
    volumes.snapshot(bot(), name, noon(), OWNER).await.unwrap();
}

#[tokio::test]
async fn a_restored_volume_is_what_it_was_when_the_snapshot_was_taken() {
    let ground = Ground::new();
    let volumes = ground.with_volume(GIB).await;
    write(&ground, "state", "version 1");
    take(&volumes, "before-upgrade").await;
    assert!(sight(&volumes).await.mounted, "as it was before");
    write(&ground, "state", "version 2, of another schema");
    write(&ground, "migrated", "yes");
    volumes.restore(bot(), "before-upgrade", OWNER).await.unwrap();
    assert_eq!(read(&ground, "state"), "version 1");
    assert!(!ground.data().join("migrated").exists());
    let seen = sight(&volumes).await;
    assert_eq!((seen.bytes, seen.mounted, seen.flags_right), (GIB, true, true));
    assert!(on_the_disk(&ground.home(bot()).image()) >= GIB, "its room is kept as before");
    let snapshot = &seen.snapshots["before-upgrade"];
    assert_eq!(snapshot.taken_at, noon());
    assert!(snapshot.bytes < 32 * MIB, "{} bytes", snapshot.bytes);
    // And again: a snapshot is not used up.
    write(&ground, "state", "version 3");
    volumes.restore(bot(), "before-upgrade", OWNER).await.unwrap();
    assert_eq!(read(&ground, "state"), "version 1");
}

#[tokio::test]
async fn an_unmounted_volume_is_copied_and_stays_unmounted() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    run("umount", [ground.home(bot()).mount()]);
    take(&volumes, "one").await;
    let seen = sight(&volumes).await;
    assert!(!seen.mounted && seen.snapshots.contains_key("one"));
    assert_eq!(ground.held(), Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_the_volume_untouched() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    write(&ground, "state", "old");
    take(&volumes, "one").await;
    write(&ground, "state", "new");
    let image = ground.home(bot()).snapshot("one").image();
    let file = fs::OpenOptions::new().read(true).write(true).open(&image).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
    let reason = volumes.restore(bot(), "one", OWNER).await.unwrap_err();
    assert_eq!(reason.code, "snapshot-damaged");
    assert!(reason.mend.as_ref().unwrap().contains("untouched"));
    assert_eq!(read(&ground, "state"), "new");
    assert!(sight(&volumes).await.mounted);
    // A note that cannot be read is no note.
    fs::write(ground.home(bot()).snapshot("one").root().join("meta"), b"torn").unwrap();
    assert!(sight(&volumes).await.snapshots.is_empty());
    assert_eq!(volumes.restore(bot(), "one", OWNER).await.unwrap_err().code, "no-snapshot");
    volumes.drop_snapshot(bot(), "one").await.unwrap();
    assert_eq!(fs::read_dir(ground.home(bot()).snapshots()).unwrap().count(), 0);
}

#[tokio::test]
async fn snapshots_are_bounded_in_number_taken_once_and_dropped() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    for n in 0..SNAPSHOTS_PER_VOLUME_MAX {
        take(&volumes, &format!("number-{n}")).await;
    }
    let before = sight(&volumes).await.snapshots;
    assert_eq!(before.len(), SNAPSHOTS_PER_VOLUME_MAX);
    write(&ground, "state", "later");
    take(&volumes, "number-0").await;
    assert_eq!(sight(&volumes).await.snapshots, before, "the one that has the name stays");
    let reason = volumes.snapshot(bot(), "one-more", noon(), OWNER).await.unwrap_err();
    assert_eq!(reason.code, "too-many-snapshots");
    assert!(reason.cause.as_ref().unwrap().contains("number-3"), "{reason}");
    volumes.drop_snapshot(bot(), "number-1").await.unwrap();
    volumes.drop_snapshot(bot(), "number-1").await.unwrap();
    take(&volumes, "one-more").await;
    let names: Vec<String> = sight(&volumes).await.snapshots.into_keys().collect();
    assert_eq!(names, ["number-0", "number-2", "number-3", "one-more"]);
    for name in ["../escape", "", "."] {
        assert_eq!(volumes.snapshot(bot(), name, noon(), OWNER).await.unwrap_err().code, "snapshot-name");
        assert!(volumes.restore(bot(), name, OWNER).await.is_err());
        assert!(volumes.drop_snapshot(bot(), name).await.is_err());
    }
    assert_eq!(volumes.restore(bot(), "number-1", OWNER).await.unwrap_err().code, "no-snapshot");
}

#[tokio::test]
async fn a_snapshot_counts_owners_as_containers_do_and_is_restored_on_a_host_that_counts_otherwise() {
    let ground = Ground::new();
    let volumes = ground.volumes().await;
    volumes.prepare(bot(), SMALL, REMAPPED).await.unwrap();
    let owner = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(owner(&ground.data()), (201_000, 301_001, 0o700));
    // A bot's own file, one of container's root, a link, a program that was set to run as its owner.
    let file = |name: &str, uid: u32, gid: u32, mode: u32| {
        let path = ground.data().join(name);
        fs::write(&path, name).unwrap();
        chown(&path, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("mine", 201_000, 301_001, 0o600);
    file("roots", 200_000, 300_000, 0o4755);
    symlink("/etc/passwd", ground.data().join("link")).unwrap();
    volumes.snapshot(bot(), "one", noon(), REMAPPED).await.unwrap();
    // As it lies on the disk.
    let looked = ground.path("looked");
    fs::create_dir(&looked).unwrap();
    let image = ground.home(bot()).snapshot("one").image();
    run("mount", [Path::new("-o"), Path::new("loop,ro,noload"), &image, &looked]);
    assert_eq!(owner(&looked.join("data")), (1000, 1001, 0o700));
    assert_eq!(owner(&looked.join("data/mine")), (1000, 1001, 0o600));
    assert_eq!(owner(&looked.join("data/roots")), (0, 0, 0o4755));
    run("umount", [&looked]);
    assert_eq!(owner(&ground.data().join("mine")), (201_000, 301_001, 0o600), "the volume's own stay");
    let elsewhere = Owner { offset_uid: 700_000, offset_gid: 700_000, ..OWNER };
    volumes.restore(bot(), "one", elsewhere).await.unwrap();
    assert_eq!(owner(&ground.data()), (701_000, 701_001, 0o700));
    assert_eq!(owner(&ground.data().join("mine")), (701_000, 701_001, 0o600));
    assert_eq!(owner(&ground.data().join("roots")), (700_000, 700_000, 0o4755));
    assert_eq!(owner(Path::new("/etc/passwd")).0, 0);
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_volume_that_has_grown_since_stays_as_large_when_it_is_restored() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    write(&ground, "state", "small");
    take(&volumes, "one").await;
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    assert_eq!(read(&ground, "state"), "small");
    assert_eq!(sight(&volumes).await.bytes, GIB);
    assert!(on_the_disk(&ground.home(bot()).image()) >= GIB);
}

#[tokio::test]
async fn a_volume_that_is_no_filesystem_any_more_is_told_and_restored() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    write(&ground, "state", "precious");
    take(&volumes, "one").await;
    run("umount", [ground.home(bot()).mount()]);
    let file = fs::OpenOptions::new().write(true).open(ground.home(bot()).image()).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    let seen = sight(&volumes).await;
    assert_eq!((seen.mounted, seen.bytes), (false, 0));
    let reason = volumes.prepare(bot(), SMALL, OWNER).await.unwrap_err();
    assert!(reason.to_string().contains("there is no ext4 in it"), "{reason}");
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    assert_eq!(read(&ground, "state"), "precious");
    assert_eq!(sight(&volumes).await.bytes, SMALL);
}

/// Bytes that this process has read so far.
fn bytes_read() -> u64 {
    let counters = fs::read_to_string("/proc/self/io").unwrap();
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_volume_of_ten_gigabytes_is_copied_by_what_is_in_it() {
    let ground = Ground::on_disk(20 * GIB, &["mkfs.ext4", "-q", "-F", "-m", "0"]);
    let volumes = ground.with_volume(10 * GIB).await;
    write(&ground, "state", "little");
    let before = bytes_read();
    take(&volumes, "one").await;
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    // Beside the other tests of this process, which read tens of megabytes.
    assert!(bytes_read() - before < 2 * GIB, "{} bytes were read", bytes_read() - before);
    assert!(on_the_disk(&ground.home(bot()).snapshot("one").image()) < 64 * MIB);
    assert_eq!(read(&ground, "state"), "little");
}
