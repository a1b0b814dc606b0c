//! A larger plan: under a running bot where the kernel lets us, while it is stopped everywhere; never a
//! smaller one.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use launchpad_agent::execute::volume::door::{Door as _, Machine};
use launchpad_agent::execute::volume::step::Step;
use nix::sys::statvfs::statvfs;

use crate::ground::{Alive, GIB, Ground, MIB, OWNER, SMALL, bot, on_the_disk, run, sight};

/// capabilities(7): without it the kernel enlarges no mounted ext4.
fn may_grow_mounted() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(digits.trim(), 16).unwrap() >> 24 & 1 == 1
}

fn capacity(ground: &Ground) -> u64 {
    let disk = statvfs(&ground.data()).unwrap();
    disk.blocks() * disk.fragment_size()
}

#[tokio::test]
async fn a_stopped_bots_volume_grows_with_what_is_in_it_and_never_shrinks() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    fs::write(ground.data().join("state"), vec![7; 50 << 20]).unwrap();
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    assert_eq!(fs::read(ground.data().join("state")).unwrap(), vec![7; 50 << 20]);
    let seen = sight(&volumes).await;
    assert_eq!((seen.bytes, seen.mounted, seen.flags_right), (GIB, true, true));
    assert!(capacity(&ground) > GIB - 100 * MIB, "the bot can fill it: {}", capacity(&ground));
    assert!(on_the_disk(&ground.home(bot()).image()) >= GIB, "all of it is there");
    let reason = volumes.prepare(bot(), GIB - 1 - SMALL, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "volume-shrinks");
    assert!(reason.mend.is_some());
    assert_eq!(sight(&volumes).await.bytes, GIB);
}

#[tokio::test]
async fn a_size_between_two_grains_is_rounded_up_and_then_it_is_enough() {
    let ground = Ground::new();
    let volumes = ground.with_volume(GIB + 1).await;
    let seen = sight(&volumes).await;
    assert_eq!(seen.bytes, GIB + SMALL);
    volumes.prepare(bot(), GIB + 1, OWNER).await.unwrap();
    volumes.prepare(bot(), 2 * GIB - 5, OWNER).await.unwrap();
    assert_eq!(sight(&volumes).await.bytes, 2 * GIB);
}

#[tokio::test]
async fn a_running_bots_volume_grows_under_its_writes_or_says_that_it_must_stop_and_harms_nothing() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (ground.data().join("log"), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::create(path).unwrap();
        let mut lines = 0_u64;
        while !stopped.load(Ordering::SeqCst) {
            writeln!(file, "{lines:08}").unwrap();
            file.sync_data().unwrap();
            lines += 1;
        }
        lines
    });
    crate::ground::until("the writer to write", || {
        fs::metadata(ground.data().join("log")).is_ok_and(|found| found.len() > 0)
    })
    .await;
    let grown = volumes.prepare(bot(), GIB, OWNER).await;
    stop.store(true, Ordering::SeqCst);
    let lines = writer.join().unwrap();
    if may_grow_mounted() {
        grown.unwrap();
    } else {
        // The machine that runs this test keeps CAP_SYS_RESOURCE from everybody.
        let reason = grown.unwrap_err();
        assert_eq!(reason.code, "volume-grows-stopped");
        for way in ["launchpad restart", "CAP_SYS_RESOURCE"] {
            assert!(reason.mend.as_ref().unwrap().contains(way), "{reason}");
        }
        assert!(!sight(&volumes).await.grows_in_use, "whoever plans knows it beforehand");
        assert!(reason.cause.as_ref().unwrap().contains(&std::process::id().to_string()), "{reason}");
        assert_eq!(sight(&volumes).await.bytes, SMALL);
        volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    }
    let seen = sight(&volumes).await;
    assert_eq!((seen.bytes, seen.mounted), (GIB, true));
    assert!(on_the_disk(&ground.home(bot()).image()) >= GIB, "all of it is there");
    let text = fs::read_to_string(ground.data().join("log")).unwrap();
    let expected: String = (0..lines).map(|line| format!("{line:08}\n")).collect();
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_volume_whose_growth_was_cut_off_is_grown_by_the_next_try() {
    let ground = Ground::new();
    let volumes = ground.with_volume(SMALL).await;
    let image = ground.home(bot()).image();
    // The file has grown; the agent died before the filesystem did.
    let machine = Machine::new(ground.path("at-work"));
    machine.carry_out(&Step::Allocate { file: image, bytes: GIB }).await.unwrap();
    assert_eq!(sight(&volumes).await.bytes, SMALL, "what the kernel enforces, not what the file is long");
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    assert_eq!(sight(&volumes).await.bytes, GIB);
    run("umount", [ground.home(bot()).mount()]);
    run("e2fsck", ["-f", "-n", &ground.home(bot()).image().display().to_string()]);
}

#[tokio::test]
async fn a_container_that_holds_a_volume_keeps_it_from_being_unmounted_to_grow() {
    if may_grow_mounted() {
        // It need not be unmounted here, and the other test shows that it is not.
        return;
    }
    let ground = Ground::alone();
    let volumes = ground.with_volume(SMALL).await;
    let state = ground.path("state");
    fs::create_dir(&state).unwrap();
    let bind = format!("mount --bind {} {}", ground.data().display(), state.display());
    let container = Alive::apart("private", &bind);
    let reason = volumes.prepare(bot(), GIB, OWNER).await.unwrap_err();
    assert_eq!(reason.code, "volume-grows-stopped");
    assert!(reason.cause.as_ref().unwrap().contains(&container.id().to_string()), "{reason}");
    assert!(sight(&volumes).await.mounted, "nothing was touched");
    drop(container);
    volumes.prepare(bot(), GIB, OWNER).await.unwrap();
    assert_eq!(sight(&volumes).await.bytes, GIB);
}
