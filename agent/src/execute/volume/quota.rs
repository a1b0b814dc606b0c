//! Volumes as folders of an XFS, each with a project quota: grown at once, copied by sharing blocks.
//!
//! All that a bot writes is counted under a number of its own ([`FIRST_PROJECT`] and up), and limited in
//! bytes and in files, because inodes take room that no quota of bytes counts. The number and the promised
//! size stand in the folder itself, beside the bot's data, so that the two change places together. Decisions
//! only: `door/` does the work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::reason::Reason;
use nix::sys::statfs::{XFS_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use super::backend::{
    Backend, Kind, Look, Mounted, PASSAGE_MODE, Part, Wish, World, cannot, filesystem_of, owner_of,
};
use super::door::{Door, Question};
use super::mounts;
use super::program::Program;
use super::step::Step;
use super::tree::{self, Shift};
use crate::disk::{Disk, Found};
use crate::execute::places::{Home, Places};

/// The lowest number of ours: far above those that people and Docker give out, which count from 1.
pub const FIRST_PROJECT: u32 = 1_280_000_000;
/// Bytes for each file that a bot may have: as many files as an ext4 of that size would hold.
const BYTES_PER_FILE: u64 = 16 * 1024;
/// Bytes of the unit in which `xfs_quota` reports.
const REPORT_UNIT_BYTES: u64 = 1024;
/// The bot's data below the folder.
const DATA: &str = "data";
/// The folder's own note, beside it.
const RECORD: &str = "record";
/// What this needs of the system.
const PROGRAMS: [Program; 4] = [Program::XfsIo, Program::XfsQuota, Program::Cp, Program::Rm];

/// What is counted under one number, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// What is taken.
    pub used: u64,
    /// What may be; 0: there is no limit.
    pub limit: u64,
}

/// What a folder says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    project: u32,
    bytes: u64,
}

/// Whether this host has what it takes.
///
/// # Errors
/// What is missing, and how the data directory would have to be mounted.
pub async fn probe(volumes: &Path, door: &dyn Door) -> Result<(), Reason> {
    let absent = |sentence: String| {
        Reason::new("no-xfs-quota", sentence)
            .mend("put the agent's data directory on an XFS that is mounted with `prjquota`")
    };
    let found = statfs(volumes).map_err(|errno| cannot("look at", volumes)(errno.into()))?;
    if found.filesystem_type() != XFS_SUPER_MAGIC {
        return Err(absent(format!("{} is not on an XFS", volumes.display())));
    }
    PROGRAMS.iter().try_for_each(|program| program.present())?;
    let filesystem = filesystem_of(&mounts::own()?, volumes);
    let state = door.ask(&Question::QuotaState { filesystem: filesystem.clone() }).await;
    match state {
        Ok(state) if is_enforced(&state) => Ok(()),
        Ok(_) => Err(absent(format!("the XFS at {} enforces no project quotas", filesystem.display()))),
        Err(reason) => {
            Err(absent(format!("the XFS at {} has no quotas", filesystem.display())).because(reason.to_string()))
        }
    }
}

/// What `xfs_quota -c 'state -p'` says: nothing at all where the filesystem was mounted without.
fn is_enforced(state: &str) -> bool {
    state.lines().any(|line| line.trim() == "Enforcement: ON")
}

/// What `xfs_quota -c 'report -p -n -N -b'` says: `#7001  512  0  10240  00 [--------]` a line.
#[must_use]
pub fn parse_report(report: &str) -> BTreeMap<u32, Usage> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let project = words.next()?.strip_prefix('#')?.parse().ok()?;
        let mut bytes = || words.next()?.parse::<u64>().ok()?.checked_mul(REPORT_UNIT_BYTES);
        let (used, _soft, limit) = (bytes()?, bytes()?, bytes()?);
        Some((project, Usage { used, limit }))
    };
    report.lines().filter_map(line).collect()
}

/// The way of folders.
#[derive(Debug, Clone)]
pub struct Folders {
    places: Places,
}

impl Folders {
    /// Under those places.
    #[must_use]
    pub const fn under(places: Places) -> Self {
        Self { places }
    }

    /// A folder for a bot's data, empty, and counted under a number that nobody has.
    fn folder(&self, making: &Home, bytes: u64) -> Result<Vec<Step>, Reason> {
        let (tree, project) = (making.tree(), self.free_project()?);
        Ok(vec![
            Step::MakeDir { path: making.root().to_owned(), mode: PASSAGE_MODE },
            Step::MakeDir { path: tree.clone(), mode: PASSAGE_MODE },
            Step::SetProject { tree: tree.clone(), project },
            self.limit(project, bytes)?,
            note(tree, Record { project, bytes }),
        ])
    }

    fn limit(&self, project: u32, bytes: u64) -> Result<Step, Reason> {
        let filesystem = filesystem_of(&mounts::own()?, &self.places.volumes());
        Ok(Step::LimitProject { filesystem, project, bytes, files: bytes / BYTES_PER_FILE })
    }

    /// Counting what is half made and half destroyed too: a number is one folder's alone.
    fn free_project(&self) -> Result<u32, Reason> {
        let mut taken = BTreeSet::new();
        for parent in [self.places.volumes(), self.places.making(), self.places.trash()] {
            for entry in fs::read_dir(&parent).map_err(cannot("list", &parent))? {
                let tree = entry.map_err(cannot("list", &parent))?.path().join("tree");
                taken.extend(record(&tree).ok().flatten().map(|record| record.project));
            }
        }
        Ok(taken.last().map_or(FIRST_PROJECT, |last| last.saturating_add(1)))
    }
}

/// What a folder says of itself; none where it says nothing.
fn record(tree: &Path) -> Result<Option<Record>, Reason> {
    if !tree.is_dir() {
        return Ok(None);
    }
    let found = Disk::open(tree).and_then(|disk| disk.read(RECORD));
    match found.map_err(|error| Reason::new("volume-failed", error.to_string()))? {
        Found::Nothing | Found::SetAside(_) => Ok(None),
        Found::Whole(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
    }
}

fn note(tree: PathBuf, record: Record) -> Step {
    let content = format!(r#"{{"project":{},"bytes":{}}}"#, record.project, record.bytes);
    Step::Note { dir: tree, name: RECORD, content }
}

fn damaged(tree: &Path) -> Reason {
    Reason::new("volume-damaged", format!("{} does not say which project it is", tree.join(RECORD).display()))
        .mend("restore the volume from a snapshot")
}

impl Backend for Folders {
    fn kind(&self) -> Kind {
        Kind::XfsQuota
    }

    fn parts(&self, home: &Home, world: &World) -> Vec<Part> {
        world.part(&home.tree()).into_iter().collect()
    }

    fn look(&self, home: &Home, world: &World) -> Result<Look, Reason> {
        let tree = home.tree();
        let record = record(&tree)?.ok_or_else(|| damaged(&tree))?;
        let usage = world.quotas.get(&record.project).copied().unwrap_or_default();
        let mounted = Mounted::at(&home.mount(), &self.parts(home, world), world);
        Ok(Look {
            bytes: usage.limit,
            promised: record.bytes,
            floor: record.bytes,
            held: usage.used,
            has_holes: false,
            used: usage.used,
            free: (usage.limit > 0).then(|| usage.limit.saturating_sub(usage.used)),
            owner: if mounted.is_ours() { owner_of(&home.data()) } else { None },
            mounted,
            attached: false,
            damaged: false,
        })
    }

    fn make(&self, making: &Home, bytes: u64) -> Result<Vec<Step>, Reason> {
        self.folder(making, bytes)
    }

    fn grows_in_use(&self, _world: &World) -> bool {
        true
    }

    fn mend(&self, home: &Home, look: &Look, wish: Wish, _world: &World) -> Result<Vec<Step>, Reason> {
        let (tree, at) = (home.tree(), home.mount());
        let record = record(&tree)?.ok_or_else(|| damaged(&tree))?;
        let mut steps = Vec::new();
        if look.bytes != wish.bytes {
            steps.push(self.limit(record.project, wish.bytes)?);
        }
        if record.bytes != wish.bytes {
            steps.push(note(tree.clone(), Record { bytes: wish.bytes, ..record }));
        }
        let stays = look.mounted.is_ours();
        if !stays {
            steps.push(Step::MakeDir { path: at.clone(), mode: PASSAGE_MODE });
            steps.push(Step::MountTree { tree, at });
        } else if look.mounted != Mounted::Right {
            steps.push(Step::SetFlags { at });
        }
        if !stays || look.owner != Some((wish.uid, wish.gid)) {
            steps.push(Step::GiveTo { path: home.data(), uid: wish.uid, gid: wish.gid });
        }
        Ok(steps)
    }

    fn release(&self, home: &Home) -> Vec<Step> {
        vec![Step::Unmount { at: home.mount() }]
    }

    fn settle(&self, _home: &Home) -> Vec<Step> {
        Vec::new()
    }

    fn copy_out(&self, home: &Home, copy: &Home, by: Shift) -> Vec<Step> {
        let mut steps = vec![
            Step::MakeDir { path: copy.root().to_owned(), mode: PASSAGE_MODE },
            Step::MakeDir { path: copy.tree(), mode: PASSAGE_MODE },
        ];
        steps.extend(copied(home, copy, by));
        steps
    }

    fn copy_in(&self, copy: &Home, making: &Home, bytes: u64, by: Shift) -> Result<Vec<Step>, Reason> {
        let mut steps = self.folder(making, bytes)?;
        steps.extend(copied(copy, making, by));
        Ok(steps)
    }

    fn replace(&self, making: &Home, home: &Home) -> Vec<Step> {
        let (fresh, place) = (making.tree(), home.tree());
        let swap = if place.exists() {
            Step::Exchange { one: fresh, other: place }
        } else {
            Step::Rename { from: fresh, to: place }
        };
        let make = Step::MakeDir { path: home.root().to_owned(), mode: PASSAGE_MODE };
        vec![make, swap, Step::Delete { path: making.root().to_owned() }]
    }

    fn data_bytes(&self, _home: &Home, look: &Look) -> Result<u64, Reason> {
        Ok(look.used)
    }

    fn digest(&self, copy: &Home) -> Result<Digest, Reason> {
        let data = copy.tree().join(DATA);
        tree::digest(&data).map_err(cannot("read", &data))
    }

    /// All that they share with the volume may become their own.
    fn owed_to_snapshots(&self, bytes: u64) -> u64 {
        bytes
    }
}

fn copied(from: &Home, to: &Home, by: Shift) -> Vec<Step> {
    let copy = to.tree().join(DATA);
    let mut steps = vec![Step::CopyTree { from: from.tree().join(DATA), to: copy.clone() }];
    if !by.is_none() {
        steps.push(Step::ShiftOwners { root: copy, by });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_xfs_quota_is_read_in_bytes() {
        let report = "#0                   4          0          0     00 [--------]\n\
                      #1280000000      51200          0     131072     00 [--------]\n\
                      #1280000001          4          0          0     00 [--none--]\n\n";
        let found = parse_report(report);
        assert_eq!(found[&FIRST_PROJECT], Usage { used: 50 << 20, limit: 128 << 20 });
        assert_eq!(found[&(FIRST_PROJECT + 1)], Usage { used: 4096, limit: 0 });
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn quotas_that_are_counted_and_not_enforced_are_none() {
        let state = |enforcement: &str| {
            format!("Project quota state on /srv (/dev/sdb)\n  Accounting: ON\n  Enforcement: {enforcement}\n")
        };
        assert!(is_enforced(&state("ON")));
        assert!(!is_enforced(&state("OFF")) && !is_enforced(""));
    }

    #[tokio::test]
    async fn a_host_whose_data_is_on_another_filesystem_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let door = super::super::door::Machine::new(dir.path().join(".at-work"));
        let found = statfs(dir.path()).unwrap().filesystem_type();
        let reason = probe(dir.path(), &door).await.unwrap_err();
        assert_eq!(reason.code, "no-xfs-quota");
        assert!(found == XFS_SUPER_MAGIC || reason.sentence.contains("is not on an XFS"), "{reason}");
        assert!(reason.mend.as_ref().unwrap().contains("prjquota"));
    }
}
