//! Disks that are full, that fail, and that are slow: nobody is told what they may not have kept, and no bot is touched.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use launchpad_agent::disk::{Disk, DiskError, Files, FreshFile};
use launchpad_agent::execute::fake::World;
use launchpad_agent::ledger::Ledger;
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_protocol::generation::{Generation, Revision};
use launchpad_protocol::report::Phase;
use launchpad_protocol::time::Clock;

use crate::life::{FIRST_BOOT, Life, one};
use crate::support::{bot, id, spec};

/// A step of a durable write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Create,
    Write,
    Sync,
    Rename,
    SyncDirectory,
}

/// The machine's files, behind a disk that fails when it is told to.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    /// Which step fails, at which of its turns from now, and how.
    fails: Option<(At, u32, i32)>,
    slow: Duration,
    /// Files whose sync has failed: the kernel calls their pages clean, and keeps nothing of them.
    lying: BTreeSet<u64>,
    /// A file of those was given a name that counts.
    believed: bool,
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

impl Failing {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().expect("nobody panics in here")
    }

    fn fail(&self, at: At, turn: u32, errno: i32) {
        self.plan().fails = Some((at, turn, errno));
    }

    fn heal(&self) {
        self.plan().fails = None;
    }

    fn pass(&self, at: At) -> io::Result<()> {
        let mut plan = self.plan();
        match &mut plan.fails {
            Some((failing, turn, errno)) if *failing == at => {
                if *turn == 0 {
                    return Err(io::Error::from_raw_os_error(*errno));
                }
                *turn -= 1;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }
}

struct FailingFile {
    file: std::fs::File,
    disk: Failing,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.pass(At::Write)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FreshFile for FailingFile {
    fn sync(&self) -> io::Result<()> {
        let slow = self.disk.plan().slow;
        std::thread::sleep(slow);
        let passed = self.disk.pass(At::Sync);
        if passed.is_err() {
            self.disk.plan().lying.insert(self.file.metadata()?.ino());
        }
        passed.and_then(|()| self.file.sync_all())
    }
}

impl Files for Failing {
    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn create(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn FreshFile>> {
        self.pass(At::Create)?;
        let fresh = !path.exists();
        let file = std::fs::File::create(path)?;
        if fresh {
            // A number may come again; the pages do not.
            self.plan().lying.remove(&file.metadata()?.ino());
        }
        Ok(Box::new(FailingFile { file, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(At::Rename)?;
        let inode = std::fs::metadata(from)?.ino();
        let mut plan = self.plan();
        plan.believed |= plan.lying.contains(&inode);
        std::fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.pass(At::SyncDirectory)?;
        std::fs::File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A host with one ready bot, on a disk that does as it is told.
async fn ready(dir: &Path) -> (World, Failing, Life) {
    let (world, failing) = (World::new(Clock::machine()), Failing::default());
    let disk = Disk::open_on(Arc::new(failing.clone()), dir).expect("a disk");
    let mut life = Life::with(FIRST_BOOT, &world, Clock::machine(), disk, dir).expect("a ledger");
    life.offer(&spec(1, [bot()])).await;
    life.until_phase(Phase::Ready).await;
    (world, failing, life)
}

/// Writes of one order: a copy, then the file. Of a spec: twice that, for the floors.
const WRITES_MAX: u32 = 4;

#[tokio::test]
async fn a_step_that_fails_is_a_refusal_with_its_mend_and_what_was_held_is_held() {
    for (at, errno, code) in [
        (At::Create, libc_erofs(), "read-only"),
        (At::Write, libc_enospc(), "free some space"),
        (At::Sync, libc_eio(), "Input/output"),
        (At::Rename, libc_eio(), "Input/output"),
        (At::SyncDirectory, libc_eio(), "Input/output"),
    ] {
        for turn in 0..WRITES_MAX {
            let dir = temporary();
            let (world, failing, mut life) = ready(dir.path()).await;
            failing.fail(at, turn, errno);
            let judged = life.offer(&spec(2, [bot()])).await;
            let refusal = judged.refusal.unwrap_or_else(|| panic!("{at:?} {turn} was not told"));
            assert!(refusal.code == "state-unwritable" && refusal.to_string().contains(code), "{refusal}");
            assert_eq!(judged.held.map(|held| held.generation), Some(Generation(1)), "{at:?} {turn}");
            failing.fail(at, turn % 2, errno);
            let stop = life.order(|reply| LocalRequest::Stop(bot().deployment, reply)).await;
            assert_eq!(stop.map_err(|reason| reason.code), Err("state-unwritable".to_owned()), "{at:?} {turn}");
            let report =
                life.until("as before", |report| one(report).is_some_and(|bot| bot.phase == Phase::Ready)).await;
            assert_eq!(report.accepted.map(|held| held.generation), Some(Generation(1)));

            failing.heal();
            life.order(|reply| LocalRequest::Stop(bot().deployment, reply)).await.expect("it is well again");
            assert_eq!(life.offer(&spec(2, [bot()])).await.refusal, None, "{at:?} {turn}");
            life.until_phase(Phase::Stopped).await;
            life.end().await;
            assert!(!failing.plan().believed, "{at:?} {turn}: a file whose sync had failed was written once more");
            let ledger = Ledger::open(Disk::open(dir.path()).expect("a disk"), id(0xf)).expect("a ledger");
            assert!(ledger.troubles().is_empty());
            assert_eq!(ledger.floor().accepted.map(|held| held.generation), Some(Generation(2)));
            assert!(ledger.marks().is_stopped_here(bot().deployment, Revision(1)), "{at:?} {turn}");
            assert_eq!(world.starts(bot().deployment), 1);
        }
    }
}

#[tokio::test]
async fn a_slow_sync_delays_the_answer_and_nothing_is_said_before_it() {
    let dir = temporary();
    let (world, failing, mut life) = ready(dir.path()).await;
    let slow = Duration::from_millis(150);
    failing.plan().slow = slow;
    let began = tokio::time::Instant::now();
    life.order(|reply| LocalRequest::Stop(bot().deployment, reply)).await.expect("written");
    assert!(began.elapsed() >= 2 * slow, "{:?}: both files are synced before the answer", began.elapsed());
    life.until_phase(Phase::Stopped).await;
    assert_eq!(world.starts(bot().deployment), 1);
}

/// A filesystem of that size on memory, unmounted with this.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn of(bytes: u64) -> Self {
        let dir = temporary();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], dir.path());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let done = Command::new(program).args(arguments).arg(path).output().expect("it is installed");
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for block in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![0; block]).is_ok() {}
    }
}

#[tokio::test]
async fn a_disk_without_room_refuses_what_it_cannot_keep_and_goes_on_when_there_is_some() {
    let disk = Tiny::of(4 << 20);
    let (world, dir) = (World::new(Clock::machine()), disk.path().join("agent"));
    let mut life = Life::begin(&world, &dir);
    life.offer(&spec(1, [bot()])).await;
    life.until_phase(Phase::Ready).await;
    fill(&disk.path().join("filler"));
    let refusal = life.order(|reply| LocalRequest::Stop(bot().deployment, reply)).await.unwrap_err();
    assert!(refusal.code == "state-unwritable" && refusal.to_string().contains("free some space"), "{refusal}");
    assert!(life.offer(&spec(2, [bot()])).await.refusal.is_some());
    life.until_phase(Phase::Ready).await;
    // An agent that is started on a full disk adopts what runs, too.
    life.end().await;
    let mut life = Life::begin(&world, &dir);
    life.until("adopted", |report| report.applied == Generation(1)).await;
    std::fs::remove_file(disk.path().join("filler")).expect("room");
    life.order(|reply| LocalRequest::Stop(bot().deployment, reply)).await.expect("there is room again");
    life.until_phase(Phase::Stopped).await;
    assert_eq!(life.offer(&spec(2, [bot()])).await.refusal, None);
    life.until("applied", |report| report.applied == Generation(2)).await;
    assert_eq!(world.starts(bot().deployment), 1);
}

/// A disk that has promised more than there is: writing succeeds, and the sync fails, as on thin storage.
#[test]
fn a_sync_that_really_fails_is_told_and_what_was_held_survives_the_filesystem() {
    let thin = Tiny::of(6 << 20);
    let image = thin.path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
    run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1"], &image);
    let mounted = temporary();
    run("mount", &["-o", "loop", image.to_str().expect("a path")], mounted.path());
    let unmount = || run("umount", &[], mounted.path());
    let open = || Ledger::open(Disk::open(mounted.path()).expect("a disk"), id(0xf)).expect("a ledger");
    let mut ledger = open();
    let offer = |generation| launchpad_protocol::wire::encode_spec(&spec(generation, [bot()]));
    ledger.offer(&offer(1)).expect("written");
    fill(&thin.path().join("filler"));
    let failed =
        (2..200).find_map(|generation| ledger.offer(&offer(generation)).err().map(|error| (generation, error)));
    let (generation, DiskError::Io { step, .. }) = failed.expect("the room beneath it is gone");
    println!("generation {generation} failed at `{step}`");
    let held = ledger.floor().accepted;
    assert_eq!(held.map(|held| held.generation), Some(Generation(generation - 1)));
    drop(ledger);
    std::fs::remove_file(thin.path().join("filler")).expect("room");
    unmount();
    run("mount", &["-o", "loop", image.to_str().expect("a path")], mounted.path());
    let found = open().floor().accepted.map(|held| held.generation);
    unmount();
    assert!(found >= Some(Generation(generation - 1)), "{found:?} is less than what was said to be held");
}

fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}

fn libc_enospc() -> i32 {
    nix::errno::Errno::ENOSPC as i32
}

fn libc_erofs() -> i32 {
    nix::errno::Errno::EROFS as i32
}
