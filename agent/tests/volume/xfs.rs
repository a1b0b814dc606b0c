//! Folders of an XFS: everything for real, apart from the limits, on a kernel without project quotas.
//!
//! `WithQuotas` keeps the limits and reports them as `xfs_quota` does. Numbers, inheritance, mounts, shared
//! blocks and changes of place are the kernel's own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

use launchpad_agent::execute::volume::door::Machine;
use launchpad_agent::execute::volume::quota::{self, FIRST_PROJECT};
use launchpad_agent::execute::volume::{Owner, Volumes, mounts};

use crate::doors::{Quotas, WithQuotas};
use crate::ground::{Alive, GIB, Ground, MIB, OWNER, SMALL, bot, noon, numbered, run, sight};

const REMAPPED: Owner = Owner { offset_uid: 200_000, offset_gid: 200_000, ..OWNER };

const MKFS: &[&str] = &["mkfs.xfs", "-q"];

struct Host {
    ground: Ground,
    kernel: Arc<Mutex<Quotas>>,
}

impl Host {
    fn new() -> Self {
        Self { ground: Ground::on_disk(8 * GIB, MKFS), kernel: Arc::default() }
    }

    fn alone() -> Self {
        let ground = Ground::alone().with_disk("loop", 8 * GIB, MKFS).unwrap();
        Self { ground, kernel: Arc::default() }
    }

    async fn volumes(&self) -> Volumes {
        let door = |at_work| WithQuotas::before(Machine::new(at_work), &self.kernel);
        self.ground.volumes_behind(|places| door(places.at_work())).await
    }

    fn limit(&self, project: u32) -> u64 {
        self.kernel.lock().unwrap().limits[&project]
    }
}

#[tokio::test]
async fn a_folder_is_counted_limited_mounted_and_its_users_alone() {
    let host = Host::new();
    let volumes = host.volumes().await;
    assert_eq!(volumes.capability(), Ok("xfs-quota"));
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    volumes.prepare(numbered(2), SMALL, OWNER).await.unwrap();
    assert_eq!((host.limit(FIRST_PROJECT), host.limit(FIRST_PROJECT + 1)), (GIB, SMALL));
    let data = host.ground.data();
    fs::write(data.join("state"), b"x").unwrap();
    assert_eq!(host_project(&data.join("state")), FIRST_PROJECT);
    let found = fs::metadata(&data).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o700, 1000, 1001));
    let table = mounts::own().unwrap();
    let flags = &mounts::covering(&table, &data).unwrap().flags;
    assert!(flags.contains("nosuid") && flags.contains("nodev"), "{flags:?}");
    let seen = sight(&volumes).await;
    assert_eq!((seen.backend.as_str(), seen.bytes, seen.mounted, seen.flags_right), ("xfs-quota", GIB, true, true));
    run("mount", ["-o", "remount,bind,suid", &host.ground.home(bot()).mount().display().to_string()]);
    assert!(!sight(&volumes).await.flags_right);
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    assert!(sight(&volumes).await.flags_right);
    volumes.remove(bot()).await.unwrap();
    volumes.remove(numbered(2)).await.unwrap();
    host.ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_limit_grows_under_a_running_bot_never_shrinks_and_is_put_back_when_somebody_changes_it() {
    let host = Host::new();
    let volumes = host.volumes().await;
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    let open = fs::File::create(host.ground.data().join("open")).unwrap();
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    drop(open);
    assert_eq!(sight(&volumes).await.bytes, GIB);
    assert_eq!(volumes.prepare(bot(), SMALL, OWNER).await.unwrap_err().code, "volume-shrinks");
    for wrong in [0, SMALL, 4 * GIB] {
        host.kernel.lock().unwrap().limits.insert(FIRST_PROJECT, wrong);
        assert_eq!(sight(&volumes).await.bytes, wrong, "the kernel's word, not our own");
        volumes.prepare(bot(), GIB, OWNER).await.unwrap();
        assert_eq!(host.limit(FIRST_PROJECT), GIB);
    }
}

#[tokio::test]
async fn snapshots_of_folders_share_blocks_keep_ids_of_containers_and_are_compared_before_they_are_put_back() {
    let host = Host::new();
    let volumes = host.volumes().await;
    volumes.prepare(bot(), GIB, REMAPPED).await.unwrap();
    let state = host.ground.data().join("state");
    fs::write(&state, vec![7; 64 << 20]).unwrap();
    chown(&state, Some(201_000), Some(201_001)).unwrap();
    host.kernel.lock().unwrap().used.insert(FIRST_PROJECT, 64 << 20);
    volumes.snapshot(bot(), "one", noon(), REMAPPED).await.unwrap();
    let copy = host.ground.home(bot()).snapshot("one").tree().join("data/state");
    assert_eq!((fs::metadata(&copy).unwrap().uid(), fs::metadata(&copy).unwrap().gid()), (1000, 1001));
    let shared = run("xfs_io", ["-r", "-c", "fiemap -v", &copy.display().to_string()]);
    assert!(shared.contains("0x2"), "no block is shared: {shared}");
    assert_eq!(host_project(&copy), 0, "a copy is not the bot's to pay for");
    fs::write(&state, b"migrated").unwrap();
    volumes.restore(bot(), "one", REMAPPED).await.unwrap();
    assert_eq!(fs::read(&state).unwrap(), vec![7; 64 << 20]);
    assert_eq!(fs::metadata(&state).unwrap().uid(), 201_000);
    assert_eq!(host_project(&state), FIRST_PROJECT + 1, "a number of its own");
    let seen = sight(&volumes).await;
    assert_eq!((seen.bytes, seen.mounted, seen.snapshots["one"].bytes), (GIB, true, 64 << 20));
    fs::write(&copy, b"damaged").unwrap();
    assert_eq!(volumes.restore(bot(), "one", REMAPPED).await.unwrap_err().code, "snapshot-damaged");
    volumes.remove(bot()).await.unwrap();
    host.ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn what_was_promised_and_what_snapshots_share_is_not_given_away_again() {
    let host = Host::new();
    let volumes = host.volumes().await;
    volumes.prepare(bot(), 2 * GIB, OWNER).await.unwrap();
    volumes.prepare(numbered(2), 2 * GIB, OWNER).await.unwrap();
    assert_eq!(volumes.prepare(numbered(3), 3 * GIB, OWNER).await.unwrap_err().code, "disk-full");
    let mut seen = volumes.all().await.unwrap();
    assert!(seen.remove(&numbered(3)).is_none() && seen.len() == 2);
}

#[tokio::test]
async fn a_folder_that_a_container_has_is_not_taken_from_it() {
    let host = Host::alone();
    let volumes = host.volumes().await;
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    let state = host.ground.path("state");
    fs::create_dir(&state).unwrap();
    let bind = format!("mount --bind {} {}", host.ground.data().display(), state.display());
    let container = Alive::apart("private", &bind);
    for refused in [volumes.snapshot(bot(), "one", noon(), OWNER).await, volumes.remove(bot()).await] {
        let reason = refused.unwrap_err();
        assert!(reason.to_string().contains(&format!("process {}", container.id())), "{reason}");
    }
    drop(container);
    volumes.remove(bot()).await.unwrap();
    host.ground.assert_nothing_is_left(&volumes).await;
}

/// On a kernel that has project quotas nothing is made up; on one that has none, the host says so.
#[tokio::test]
async fn a_kernel_with_project_quotas_enforces_them_and_one_without_is_known() {
    let Some(ground) = Ground::new().with_disk("loop,prjquota", 8 * GIB, MKFS) else {
        let ground = Ground::on_disk(8 * GIB, MKFS);
        let reason = quota::probe(&ground.path("host"), &Machine::new(ground.path("at-work"))).await.unwrap_err();
        assert!(reason.sentence.contains("enforces no project quotas"), "{reason}");
        println!("this kernel has no project quotas: their enforcement was not tried");
        return;
    };
    let volumes = ground.with_volume(SMALL).await;
    assert_eq!(volumes.capability(), Ok("xfs-quota"));
    let mut file = fs::File::create(ground.data().join("all of it")).unwrap();
    let block = vec![7; 1 << 20];
    while file.write_all(&block).is_ok() {}
    file.sync_all().unwrap();
    let seen = sight(&volumes).await;
    assert_eq!(seen.bytes, SMALL);
    assert!(seen.used_bytes > SMALL - 4 * MIB && seen.used_bytes <= SMALL, "{seen:#?}");
    // Larger at once, under the same open file; and nobody sees the host's disk as theirs.
    volumes.prepare(bot(), 2 * SMALL, OWNER).await.unwrap();
    file.write_all(&block).unwrap();
    assert_eq!(sight(&volumes).await.bytes, 2 * SMALL);
    let disk = nix::sys::statvfs::statvfs(&ground.data()).unwrap();
    assert_eq!(disk.blocks() * disk.fragment_size(), 2 * SMALL);
    drop(file);
    volumes.snapshot(bot(), "one", noon(), OWNER).await.unwrap();
    fs::write(ground.data().join("all of it"), b"nothing").unwrap();
    volumes.restore(bot(), "one", OWNER).await.unwrap();
    let found = fs::metadata(ground.data().join("all of it")).unwrap();
    assert!(found.len() > SMALL - 4 * MIB, "{}", found.len());
    let seen = sight(&volumes).await;
    assert_eq!((seen.bytes, seen.mounted, seen.flags_right), (2 * SMALL, true, true));
    let project = host_project(&ground.data());
    run(
        "xfs_quota",
        ["-x", "-c", &format!("limit -p bhard=0 {project}"), &ground.path("host").display().to_string()],
    );
    assert_eq!(sight(&volumes).await.bytes, 0, "somebody took the limit away");
    volumes.prepare(bot(), 2 * SMALL, OWNER).await.unwrap();
    assert_eq!(sight(&volumes).await.bytes, 2 * SMALL);
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

fn host_project(path: &Path) -> u32 {
    let said = run("xfs_io", ["-r", "-c", "lsproj", &path.display().to_string()]);
    said.trim().strip_prefix("projid = ").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_xfs_without_quotas_is_told_from_one_with_and_gets_images() {
    let ground = Ground::on_disk(8 * GIB, MKFS);
    let volumes = ground.with_volume(SMALL).await;
    assert_eq!(volumes.capability(), Ok("ext4-image"));
    assert!(sight(&volumes).await.mounted);
    volumes.remove(bot()).await.unwrap();
}

#[tokio::test]
async fn folders_are_left_alone_on_a_kernel_that_lost_its_quotas() {
    let host = Host::new();
    let volumes = host.volumes().await;
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    fs::write(host.ground.data().join("state"), b"precious").unwrap();
    run("umount", [host.ground.home(bot()).mount()]);
    // The same disk, on the kernel that this machine has.
    let without = host.ground.volumes().await;
    let reason = without.capability().unwrap_err();
    assert_eq!(reason.code, "volumes-unavailable");
    assert!(reason.sentence.contains("xfs-quota") && reason.mend.as_ref().unwrap().contains("prjquota"), "{reason}");
    let seen = sight(&without).await;
    assert_eq!((seen.backend.as_str(), seen.mounted), ("xfs-quota", false));
    for refused in [
        without.prepare(bot(), SMALL, OWNER).await,
        without.prepare(numbered(2), SMALL, OWNER).await,
        without.remove(bot()).await,
    ] {
        assert_eq!(refused.unwrap_err().code, "volumes-unavailable");
    }
    let state = host.ground.home(bot()).tree().join("data/state");
    assert_eq!(fs::read(state).unwrap(), b"precious");
}

#[tokio::test]
async fn a_host_that_gets_back_what_it_lacked_goes_on_by_itself() {
    let host = Host::new();
    drop({
        let volumes = host.volumes().await;
        volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
        volumes
    });
    fs::write(host.ground.data().join("state"), b"precious").unwrap();
    run("umount", [host.ground.home(bot()).mount()]);
    host.kernel.lock().unwrap().off = true;
    let volumes = host.volumes().await;
    assert_eq!(volumes.prepare(bot(), SMALL, OWNER).await.unwrap_err().code, "volumes-unavailable");
    host.kernel.lock().unwrap().off = false;
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    assert_eq!(volumes.capability(), Ok("xfs-quota"));
    assert_eq!(fs::read(host.ground.data().join("state")).unwrap(), b"precious");
}
