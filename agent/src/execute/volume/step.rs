//! What can be done to the host for a volume: the words in which `image.rs`, `quota.rs` and `sweep.rs`
//! decide.
//!
//! A decision is a list of steps that can be printed and compared; `door.rs` carries them out, one by one.
//! After each of them the agent may die: every list is written so that what lies on the disk then is either
//! whole, or in the making or in the trash, where `sweep.rs` finds it. Every step is idempotent.

use std::fmt;
use std::path::{Path, PathBuf};

use super::tree::Shift;

/// One change of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a directory, with those above it.
    MakeDir {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// See that a file has that many bytes, and the host's disk the room for each of them.
    Allocate {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Make an empty ext4 in a file.
    Format {
        /// The file.
        image: PathBuf,
    },
    /// Repair an ext4 that is not mounted.
    Check {
        /// The file.
        image: PathBuf,
    },
    /// Let an ext4 that is not mounted fill its file.
    Enlarge {
        /// The file.
        image: PathBuf,
    },
    /// Attach a file to a loop device and mount it.
    MountImage {
        /// The file.
        image: PathBuf,
        /// Where.
        at: PathBuf,
    },
    /// Let a mounted ext4 fill its file.
    EnlargeMounted {
        /// The file.
        image: PathBuf,
    },
    /// Mount a folder, so that it has flags of its own.
    MountTree {
        /// The folder.
        tree: PathBuf,
        /// Where.
        at: PathBuf,
    },
    /// Give a mount its flags again.
    SetFlags {
        /// Where it is mounted.
        at: PathBuf,
    },
    /// Unmount all that is mounted at one place. Never lazily.
    Unmount {
        /// Where.
        at: PathBuf,
    },
    /// Wait for the loop device to let the file go, and have it do so if it does not by itself.
    FreeLoop {
        /// The file.
        image: PathBuf,
    },
    /// See that a directory is there and that user's.
    GiveTo {
        /// The directory.
        path: PathBuf,
        /// The user, as the host counts.
        uid: u32,
        /// The group, as the host counts.
        gid: u32,
    },
    /// Have all that will be in a folder counted under that number.
    SetProject {
        /// The folder, empty.
        tree: PathBuf,
        /// The number.
        project: u32,
    },
    /// Limit what is counted under that number.
    LimitProject {
        /// Where its filesystem is mounted.
        filesystem: PathBuf,
        /// The number.
        project: u32,
        /// Bytes.
        bytes: u64,
        /// Files.
        files: u64,
    },
    /// Copy a large file with holes, onto the disk.
    CopyImage {
        /// From here.
        from: PathBuf,
        /// To a file that is not there.
        to: PathBuf,
    },
    /// Copy a folder with all owners, times and attributes, onto the disk.
    CopyTree {
        /// From here.
        from: PathBuf,
        /// To a folder that is not there.
        to: PathBuf,
    },
    /// Move the owner ids of all that is in a folder.
    ShiftOwners {
        /// The folder.
        root: PathBuf,
        /// How far.
        by: Shift,
    },
    /// Write a state file.
    Note {
        /// In this directory.
        dir: PathBuf,
        /// Under this name.
        name: &'static str,
        /// This.
        content: String,
    },
    /// Rename, durably.
    Rename {
        /// What.
        from: PathBuf,
        /// To what: a file there is replaced, a directory there must be empty.
        to: PathBuf,
    },
    /// Let two directories change places, durably.
    Exchange {
        /// The one.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Delete a file, or a folder with all that is in it.
    Delete {
        /// What.
        path: PathBuf,
    },
}

/// The steps that a host with images passes on the way from a bot's first volume to its removal, with a
/// snapshot and a restore between: where a test can kill the agent.
pub const KILL_POINTS: [&str; 11] = [
    "volume_make_dir",
    "volume_allocate",
    "volume_format",
    "volume_rename",
    "volume_mount_image",
    "volume_give_to",
    "volume_unmount",
    "volume_free_loop",
    "volume_copy_image",
    "volume_note",
    "volume_delete",
];

impl Step {
    /// Its name, for logs and for those who kill an agent there.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MakeDir { .. } => "volume_make_dir",
            Self::Allocate { .. } => "volume_allocate",
            Self::Format { .. } => "volume_format",
            Self::Check { .. } => "volume_check",
            Self::Enlarge { .. } => "volume_enlarge",
            Self::MountImage { .. } => "volume_mount_image",
            Self::EnlargeMounted { .. } => "volume_enlarge_mounted",
            Self::MountTree { .. } => "volume_mount_tree",
            Self::SetFlags { .. } => "volume_set_flags",
            Self::Unmount { .. } => "volume_unmount",
            Self::FreeLoop { .. } => "volume_free_loop",
            Self::GiveTo { .. } => "volume_give_to",
            Self::SetProject { .. } => "volume_set_project",
            Self::LimitProject { .. } => "volume_limit_project",
            Self::CopyImage { .. } => "volume_copy_image",
            Self::CopyTree { .. } => "volume_copy_tree",
            Self::ShiftOwners { .. } => "volume_shift_owners",
            Self::Note { .. } => "volume_note",
            Self::Rename { .. } => "volume_rename",
            Self::Exchange { .. } => "volume_exchange",
            Self::Delete { .. } => "volume_delete",
        }
    }

    /// Whether nobody may use the volume meanwhile.
    #[must_use]
    pub const fn needs_it_unused(&self) -> bool {
        matches!(self, Self::Unmount { .. })
    }

    /// What it is done to.
    #[must_use]
    pub fn subject(&self) -> &Path {
        match self {
            Self::MakeDir { path, .. } | Self::GiveTo { path, .. } | Self::Delete { path } => path,
            Self::Allocate { file, .. } => file,
            Self::Format { image }
            | Self::Check { image }
            | Self::Enlarge { image }
            | Self::EnlargeMounted { image }
            | Self::FreeLoop { image } => image,
            Self::MountImage { at, .. }
            | Self::MountTree { at, .. }
            | Self::SetFlags { at }
            | Self::Unmount { at } => at,
            Self::SetProject { tree, .. } => tree,
            Self::LimitProject { filesystem, .. } => filesystem,
            Self::CopyImage { to, .. } | Self::CopyTree { to, .. } | Self::Rename { to, .. } => to,
            Self::ShiftOwners { root, .. } => root,
            Self::Note { dir, .. } => dir,
            Self::Exchange { other, .. } => other,
        }
    }
}

/// One line of a list of steps.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().trim_start_matches("volume_"), self.subject().display())?;
        match self {
            Self::MakeDir { mode, .. } => write!(f, " mode={mode:o}"),
            Self::Allocate { bytes, .. } => write!(f, " bytes={bytes}"),
            Self::MountImage { image: from, .. }
            | Self::MountTree { tree: from, .. }
            | Self::CopyImage { from, .. }
            | Self::CopyTree { from, .. }
            | Self::Rename { from, .. }
            | Self::Exchange { one: from, .. } => write!(f, " from={}", from.display()),
            Self::GiveTo { uid, gid, .. } => write!(f, " owner={uid}:{gid}"),
            Self::SetProject { project, .. } => write!(f, " project={project}"),
            Self::LimitProject { project, bytes, files, .. } => {
                write!(f, " project={project} bytes={bytes} files={files}")
            }
            Self::ShiftOwners { by, .. } => write!(f, " by={:+}:{:+}", by.uid, by.gid),
            Self::Note { name, content, .. } => write!(f, " {name}={content}"),
            Self::Format { .. }
            | Self::Check { .. }
            | Self::Enlarge { .. }
            | Self::EnlargeMounted { .. }
            | Self::SetFlags { .. }
            | Self::Unmount { .. }
            | Self::FreeLoop { .. }
            | Self::Delete { .. } => Ok(()),
        }
    }
}
