//! Files of the agent's that lost their end or a bit: set aside, told, made again. No crash loop, and no bot touched.

use std::fs;
use std::path::{Path, PathBuf};

use launchpad_agent::execute::fake::World;
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_protocol::generation::Generation;
use launchpad_protocol::report::Phase;
use launchpad_protocol::spec::{InstanceSpec, Operation, OperationAction};
use launchpad_protocol::time::Clock;

use crate::life::{Life, codes};
use crate::support::{bot, id, spec};

/// Flips sampled in each file, evenly; and the first bytes of each, where formats keep what they are.
const SAMPLES: usize = 12;
const FIRST_BYTES: usize = 6;

/// Lives after the first until nothing is damaged any more.
const LIVES_MAX: usize = 3;

/// What was done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Cut(usize),
    Flip(usize),
}

impl Harm {
    fn all(len: usize) -> Vec<Self> {
        let flips =
            (0..FIRST_BYTES.min(len)).chain((0..SAMPLES).map(|n| n * len / SAMPLES)).chain(len.checked_sub(1));
        let mut at: Vec<usize> = flips.filter(|at| *at < len).collect();
        at.sort_unstable();
        at.dedup();
        let cuts = [0, 1, len / 2, len.saturating_sub(1)];
        at.into_iter().map(Self::Flip).chain(cuts.into_iter().filter(|cut| *cut < len).map(Self::Cut)).collect()
    }

    fn inflict(self, path: &Path) {
        let mut bytes = fs::read(path).expect("a file");
        match self {
            Self::Cut(len) => bytes.truncate(len),
            Self::Flip(at) => bytes[at] ^= 0x10,
        }
        fs::write(path, bytes).expect("harm");
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        fs::copy(&file, target).expect("a copy");
    }
}

fn stopped() -> InstanceSpec {
    InstanceSpec { deployment: id(0xe), ..bot() }
}

/// A wish with an operation that is done: forgotten, it would be done again.
fn wish() -> launchpad_protocol::spec::HostSpec {
    let mut restarted = bot();
    restarted.operations.push(Operation { id: id(0x0b), action: OperationAction::Restart });
    spec(2, [restarted, stopped()])
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_told_and_no_bot_is_touched() {
    let (world, whole) = (World::new(Clock::machine()), tempfile::tempdir().expect("a temporary directory"));
    let mut life = Life::begin(&world, whole.path());
    life.offer(&spec(1, [bot(), stopped()])).await;
    life.until_phase(Phase::Ready).await;
    life.offer(&wish()).await;
    life.until("restarted", |report| report.outcomes.contains_key(&id(0x0b))).await;
    life.order(|reply| LocalRequest::Stop(stopped().deployment, reply)).await.expect("written");
    life.until("stopped", |report| report.instances[&stopped().deployment].phase == Phase::Stopped).await;
    life.until_phase(Phase::Ready).await;
    life.end().await;
    let starts = (world.starts(bot().deployment), world.starts(stopped().deployment));
    let files = files_below(whole.path());
    assert!(files.len() >= 6, "spec, marks, their copies and the book's: {files:?}");
    for file in &files {
        let name = file.strip_prefix(whole.path()).expect("below");
        for harm in Harm::all(fs::read(file).expect("a file").len()) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            copy(whole.path(), dir.path());
            harm.inflict(&dir.path().join(name));
            let mut life = Life::begin(&world, dir.path());
            let report = life.until("adopted", |report| report.applied == Generation(2)).await;
            let told = codes(&report);
            if name == Path::new("spec") || name == Path::new("marks") {
                assert_eq!(told, ["ledger-damaged"], "{name:?} {harm:?}");
            } else {
                assert!(told.is_empty() || told == ["book-damaged"], "{name:?} {harm:?}: {told:?}");
            }
            life.end().await;
            // A flipped setting of the book's library may let one life write what the next cannot read. Then it is over.
            for next in 1..=LIVES_MAX {
                let mut life = Life::begin(&world, dir.path());
                let report = life.until("adopted again", |report| report.applied == Generation(2)).await;
                let told = codes(&report).join(" ");
                life.end().await;
                if told.is_empty() {
                    break;
                }
                assert!(told == "book-damaged" && next < LIVES_MAX, "{name:?} {harm:?}: {told}");
            }
            let now = (world.starts(bot().deployment), world.starts(stopped().deployment));
            assert_eq!(now, starts, "{name:?} {harm:?} has cost a restart");
        }
    }
}
