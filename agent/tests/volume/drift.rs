//! What somebody changes behind our back is seen, and mended by the next `prepare`.

use std::fs;

use launchpad_agent::execute::volume::mounts;

use crate::ground::{Ground, OWNER, SMALL, bot, on_the_disk, run, sight};

async fn assert_seen_and_mended(ground: &Ground, volumes: &launchpad_agent::execute::volume::Volumes) {
    let seen = sight(volumes).await;
    assert!(seen.mounted && !seen.flags_right, "{seen:#?}");
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    let seen = sight(volumes).await;
    assert!(seen.mounted && seen.flags_right, "{seen:#?}");
    fs::write(ground.data().join("state"), b"still writable").unwrap();
}

fn flags(ground: &Ground) -> Vec<String> {
    let table = mounts::own().unwrap();
    mounts::covering(&table, &ground.data()).unwrap().flags.iter().cloned().collect()
}

#[tokio::test]
async fn a_mount_that_lost_its_flags_or_takes_no_writes_gets_them_back() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let right = flags(&ground);
    let at = ground.home(bot()).mount().display().to_string();
    for wrong in ["suid", "dev", "suid,dev", "ro"] {
        run("mount", ["-o", &format!("remount,bind,{wrong}"), &at]);
        assert_seen_and_mended(&ground, &volumes).await;
        assert_eq!(flags(&ground), right, "after {wrong}");
    }
}

#[tokio::test]
async fn a_filesystem_that_takes_no_writes_is_mounted_anew() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    run("mount", ["-o", "remount,ro", &ground.home(bot()).mount().display().to_string()]);
    assert_seen_and_mended(&ground, &volumes).await;
}

#[tokio::test]
async fn a_volume_that_the_kernel_found_damaged_is_repaired_before_it_is_mounted() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    fs::write(ground.data().join("state"), b"precious").unwrap();
    run("umount", [ground.home(bot()).mount()]);
    // Valid, but with errors seen: what the kernel writes when a block is not what it must be.
    run("debugfs", ["-w", "-R", "ssv state 3", &ground.home(bot()).image().display().to_string()]);
    assert!(!sight(&volumes).await.flags_right);
    volumes.prepare(bot(), SMALL, OWNER).await.unwrap();
    let seen = sight(&volumes).await;
    assert!(seen.mounted && seen.flags_right, "{seen:#?}");
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), b"precious");
}

/// Makes holes where nothing is, as `fstrim` on the host does.
fn trim(ground: &Ground) {
    let file = ground.data().join("file");
    fs::write(&file, vec![7; 64 << 20]).unwrap();
    sync(ground);
    // `   0:        0..   16383:      34816..     51199:  16384:             last,eof`
    let extents = run("filefrag", ["-v", &file.display().to_string()]);
    let extents: Vec<(u64, u64)> = extents
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            let (_, physical) = (parts.nth(1)?, parts.next()?);
            Some((physical.split("..").next()?.trim().parse().ok()?, parts.next()?.trim().parse().ok()?))
        })
        .collect();
    fs::remove_file(&file).unwrap();
    sync(ground);
    let image = ground.home(bot()).image().display().to_string();
    for (first, blocks) in extents {
        let (from, bytes) = ((first * 4096).to_string(), (blocks * 4096).to_string());
        run("fallocate", ["--punch-hole", "--offset", &from, "--length", &bytes, &image]);
    }
}

fn sync(ground: &Ground) {
    nix::unistd::syncfs(fs::File::open(ground.data()).unwrap()).unwrap();
}

#[tokio::test]
async fn room_that_the_host_took_back_is_seen_to_be_gone_and_taken_again_under_the_running_bot() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let image = ground.home(bot()).image();
    let open = fs::File::create(ground.data().join("open")).unwrap();
    trim(&ground);
    assert!(on_the_disk(&image) < SMALL * 3 / 4, "{}", on_the_disk(&image));
    assert_seen_and_mended(&ground, &volumes).await;
    assert!(on_the_disk(&image) >= SMALL);
    drop(open);
    run("umount", [ground.home(bot()).mount()]);
    run("e2fsck", ["-f", "-n", &image.display().to_string()]);
}

#[tokio::test]
async fn another_user_of_the_image_gets_the_bots_directory() {
    use std::os::unix::fs::MetadataExt as _;
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let other = launchpad_agent::execute::volume::Owner { uid: 2000, ..OWNER };
    volumes.prepare(bot(), SMALL, other).await.unwrap();
    assert_eq!(fs::metadata(ground.data()).unwrap().uid(), 2000);
}
