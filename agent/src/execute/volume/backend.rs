//! What holds a bot's data on this host, and what all ways of holding it have in common.
//!
//! A [`Backend`] only reads and decides: it looks at one volume ([`Look`]) and answers with steps, which
//! others carry out. `image.rs` and `quota.rs` are the two there are; `choice.rs` picks one for a host.
//!
//! ```text
//!             make              mend                    release
//!  (nothing) ──────► unmounted ──────► mounted, as wished ──────► unmounted ──► trash
//!                        ▲                │  ▲ mend
//!                        └── a reboot ────┘  └─ grown, its flags or its quota changed behind our back
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::reason::Reason;

use super::door::{Door, Question};
use super::failure::failed;
use super::loops::{self, LoopDevice};
use super::mounts::{self, Device, Mount};
use super::quota::{self, Usage};
use super::step::Step;
use super::tree::Shift;
use crate::execute::places::Home;

/// Others may pass through to what they own, and may not look.
pub(super) const PASSAGE_MODE: u32 = 0o711;
/// Flags that each volume's mount has.
const FLAGS: [&str; 2] = ["nosuid", "nodev"];
/// The capability without which the kernel lets nobody enlarge a mounted ext4 (capabilities(7):
/// `CAP_SYS_RESOURCE`).
const SYS_RESOURCE_BIT: u32 = 24;

/// A way to hold data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Folders of an XFS, each with a quota of its own.
    XfsQuota,
    /// An ext4 in a file, mounted by a loop device.
    Ext4Image,
}

impl Kind {
    /// The better one first.
    pub const ALL: [Self; 2] = [Self::XfsQuota, Self::Ext4Image];

    /// What it is called, to people and on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XfsQuota => "xfs-quota",
            Self::Ext4Image => "ext4-image",
        }
    }

    /// What a volume of this kind has in its directory.
    #[must_use]
    pub fn content(self, home: &Home) -> PathBuf {
        match self {
            Self::XfsQuota => home.tree(),
            Self::Ext4Image => home.image(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A directory of a filesystem.
pub type Part = (Device, PathBuf);

/// What the kernel shows, read at one moment, for as many volumes as are looked at.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The mounts that the agent sees.
    pub mounts: Vec<Mount>,
    /// Loop devices with files.
    pub loops: Vec<LoopDevice>,
    /// What is counted under each project; empty where nothing is.
    pub quotas: BTreeMap<u32, Usage>,
    /// Whether a mounted ext4 may be enlarged.
    pub may_enlarge_mounted: bool,
}

impl World {
    /// Reads all that volumes of that kind are judged by.
    ///
    /// # Errors
    /// What cannot be read.
    pub async fn read(kind: Kind, volumes: &Path, door: &dyn Door) -> Result<Self, Reason> {
        let mounts = mounts::own()?;
        let (mut loops, mut quotas) = (Vec::new(), BTreeMap::new());
        match kind {
            Kind::Ext4Image => loops = loops::attached()?,
            Kind::XfsQuota => {
                let filesystem = filesystem_of(&mounts, volumes);
                quotas = quota::parse_report(&door.ask(&Question::QuotaReport { filesystem }).await?);
            }
        }
        Ok(Self { mounts, loops, quotas, may_enlarge_mounted: has_sys_resource() })
    }

    /// Of which filesystem a path is, and which directory of it.
    #[must_use]
    pub fn part(&self, path: &Path) -> Option<Part> {
        let mount = mounts::covering(&self.mounts, path)?;
        // Joining nothing would leave a slash behind.
        let below = path.strip_prefix(&mount.point).ok().filter(|below| !below.as_os_str().is_empty());
        Some((mount.device, below.map_or_else(|| mount.root.clone(), |below| mount.root.join(below))))
    }
}

/// Where the filesystem is mounted that a path lies in.
#[must_use]
pub fn filesystem_of(mounts: &[Mount], path: &Path) -> PathBuf {
    mounts::covering(mounts, path).map_or_else(|| path.to_owned(), |mount| mount.point.clone())
}

fn has_sys_resource() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> SYS_RESOURCE_BIT & 1 == 1)
}

/// How a volume is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounted {
    /// Not at all.
    No,
    /// As it must be.
    Right,
    /// With a flag missing, or with one too many.
    WrongFlags,
    /// The filesystem itself takes no writes: the kernel met something that must not be.
    ReadOnly,
    /// Something else is mounted in its place.
    Other(PathBuf),
}

impl Mounted {
    /// What the topmost mount at a volume's place says of a volume that is these parts.
    #[must_use]
    pub fn at(point: &Path, parts: &[Part], world: &World) -> Self {
        let is_ours =
            |mount: &Mount| parts.iter().any(|(device, root)| (*device, root) == (mount.device, &mount.root));
        match mounts::at(&world.mounts, point).last() {
            None => Self::No,
            Some(mount) if !is_ours(mount) => Self::Other(mount.source.clone()),
            Some(mount) if mount.filesystem_flags.contains("ro") => Self::ReadOnly,
            Some(mount) if mount.is_read_only() || FLAGS.iter().any(|flag| !mount.flags.contains(*flag)) => {
                Self::WrongFlags
            }
            Some(_) => Self::Right,
        }
    }

    /// Whether the bot's data can be read at its place.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Right | Self::WrongFlags | Self::ReadOnly)
    }
}

/// One volume, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Bytes that the kernel enforces: the bot gets ENOSPC beyond them.
    pub bytes: u64,
    /// Bytes that were promised: more than are enforced while it grows, or after somebody changed a quota.
    pub promised: u64,
    /// Bytes that it cannot be made smaller than.
    pub floor: u64,
    /// Bytes of the host's disk that it has already.
    pub held: u64,
    /// Whether it should have more of the disk than it has, because somebody gave some back.
    pub has_holes: bool,
    /// Bytes that the bot has filled; none while it is not mounted, because only the kernel knows.
    pub used: u64,
    /// Bytes that the bot can still write, which with those is less than the volume has: a filesystem needs some itself.
    /// None where nobody knows: while it is not mounted, or without a bound.
    pub free: Option<u64>,
    /// How it is mounted.
    pub mounted: Mounted,
    /// Whether a loop device has it, mounted or not.
    pub attached: bool,
    /// Whether the kernel found the filesystem damaged.
    pub damaged: bool,
    /// User and group of the bot's directory, where it can be seen.
    pub owner: Option<(u32, u32)>,
}

/// User and group of a directory; none where there is no directory.
pub(super) fn owner_of(path: &Path) -> Option<(u32, u32)> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((found.uid(), found.gid()))
}

/// How a volume is to be. Ids are those that the host counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its size, rounded, and never less than it has.
    pub bytes: u64,
    /// The bot's user.
    pub uid: u32,
    /// The bot's group.
    pub gid: u32,
}

/// One way to hold data. Reads and decides; changes nothing.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// Which directories of which filesystems a volume is, as far as the kernel knows it; also one that is
    /// damaged.
    fn parts(&self, home: &Home, world: &World) -> Vec<Part>;

    /// Looks at a volume that is there.
    ///
    /// # Errors
    /// What cannot be read, or is damaged.
    fn look(&self, home: &Home, world: &World) -> Result<Look, Reason>;

    /// Makes an empty volume in a directory of its own; it is not mounted there.
    fn make(&self, making: &Home, bytes: u64) -> Result<Vec<Step>, Reason>;

    /// Whether a volume can be made larger while somebody uses it.
    fn grows_in_use(&self, world: &World) -> bool;

    /// Makes a volume that is there as it is wished to be: nothing to do is an empty list.
    ///
    /// # Errors
    /// What cannot be read.
    fn mend(&self, home: &Home, look: &Look, wish: Wish, world: &World) -> Result<Vec<Step>, Reason>;

    /// Sees that the volume is not mounted, and nothing holds it.
    fn release(&self, home: &Home) -> Vec<Step>;

    /// Sees that what is on the disk is what the bot left; a part of [`Backend::release`], or nothing.
    fn settle(&self, home: &Home) -> Vec<Step>;

    /// Copies a settled volume into the directory of a snapshot, its owner ids moved.
    fn copy_out(&self, home: &Home, copy: &Home, by: Shift) -> Vec<Step>;

    /// Makes a volume from a snapshot, its owner ids moved.
    ///
    /// # Errors
    /// What cannot be read.
    fn copy_in(&self, copy: &Home, making: &Home, bytes: u64, by: Shift) -> Result<Vec<Step>, Reason>;

    /// Puts a volume that was made in the place of another, or of none.
    fn replace(&self, making: &Home, home: &Home) -> Vec<Step>;

    /// Bytes that a copy of it takes at most. Blocks.
    ///
    /// # Errors
    /// What the operating system said.
    fn data_bytes(&self, home: &Home, look: &Look) -> Result<u64, Reason>;

    /// The digest of a snapshot's content. Blocks.
    ///
    /// # Errors
    /// What the operating system said.
    fn digest(&self, copy: &Home) -> Result<Digest, Reason>;

    /// Bytes that snapshots of that size may yet take of the disk: those that share blocks with a volume.
    fn owed_to_snapshots(&self, bytes: u64) -> u64;
}

/// A failed call on a path, as a reason.
pub(super) fn cannot<'a>(step: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Reason + 'a {
    move |error| failed(step, path, &error)
}
