//! Nobody's volume fills the host, and the host's disk never lets a volume down.

use std::fs;
use std::io::{ErrorKind, Write as _};

use launchpad_agent::execute::volume::door::Machine;
use launchpad_agent::execute::volume::space::RESERVE_BYTES;
use launchpad_agent::plan::strain::strain;
use launchpad_protocol::report::VOLUME_FULL;
use nix::sys::statvfs::statvfs;

use crate::doors::{Meddle, Meddling};
use crate::ground::{GIB, Ground, MIB, OWNER, SMALL, bot, numbered, on_the_disk, run, sight};

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-m", "0"];

#[tokio::test]
async fn a_full_volume_gives_the_bot_enospc_and_takes_nothing_more_of_the_host() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let image = ground.home(bot()).image();
    let before = on_the_disk(&image);
    let mut file = fs::File::create(ground.data().join("all of it")).unwrap();
    let block = vec![7; 1 << 20];
    let error = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.sync_all().unwrap();
    let seen = sight(&volumes).await;
    assert!(seen.used_bytes > SMALL - 32 * MIB && seen.used_bytes <= SMALL, "{} bytes", seen.used_bytes);
    // What the filesystem itself takes is not the bot's to fill.
    assert_eq!(strain(None, Some(&seen), None).map(|reason| reason.code).as_deref(), Some(VOLUME_FULL), "{seen:#?}");
    // A write of the host's own bookkeeping aside.
    assert!(on_the_disk(&image) <= before + MIB, "{before} before, {} after", on_the_disk(&image));
}

#[tokio::test]
async fn a_host_keeps_its_reserve_and_says_what_is_in_the_way() {
    let ground = Ground::on_disk(4 * GIB, EXT4);
    let volumes = ground.with_volume(GIB).await;
    let reason = volumes.prepare(numbered(2), GIB, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "disk-full");
    assert!(reason.mend.is_some(), "{reason}");
    let reason = volumes.prepare(bot(), 2 * GIB, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "disk-full", "nor does one grow into it");
    let disk = statvfs(&ground.path("host")).unwrap();
    assert!(disk.blocks_available() * disk.fragment_size() >= RESERVE_BYTES);
    let seen = volumes.all().await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[&bot()].bytes, GIB);
    volumes.remove(bot()).await.unwrap();
    ground.assert_nothing_is_left(&volumes).await;
}

#[tokio::test]
async fn a_disk_that_fills_half_way_leaves_no_half_volume_and_a_later_try_succeeds() {
    let ground = Ground::on_disk(4 * GIB, EXT4);
    let ballast = ground.path("host").join("ballast");
    let meddle = Meddle::default();
    let volumes = ground
        .volumes_behind(|places| Meddling::before("volume_allocate", Machine::new(places.at_work()), &meddle))
        .await;
    // Asked for room, the disk had it; then somebody else takes it.
    let (bytes, path) = ((3 * GIB + GIB / 2).to_string(), ballast.display().to_string());
    *meddle.lock().unwrap() = Some(Box::new(move || drop(run("fallocate", ["-l", &bytes, &path]))));
    let reason = volumes.prepare(bot(), GIB, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "volume-failed");
    assert!(reason.to_string().contains("reserve space for") && reason.mend.is_some(), "{reason}");
    ground.assert_nothing_is_left(&volumes).await;
    fs::remove_file(ballast).unwrap();
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    assert!(sight(&volumes).await.mounted);
}
