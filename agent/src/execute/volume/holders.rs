//! Who uses a volume: containers and other mount namespaces, other mounts, processes with a file open.
//!
//! Asked before a volume is unmounted, copied or destroyed, because success of `umount` proves little: a
//! container has a mount of its own, and the filesystem lives on in it. A volume in use is refused by the
//! names of its users; it is never taken from under them.
//!
//! ```text
//! our mount at volumes/<dep>/mount
//!   ├─ the same filesystem mounted elsewhere, here or in another namespace ─► a user
//!   │    └─ ... that hears of our unmounting (same group of mounts) ────────► none
//!   ├─ something mounted inside of it ──────────────────────────────────────► a user
//!   └─ a process of our namespace with a path in it ────────────────────────► a user
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use launchpad_protocol::reason::Reason;

use super::mounts::{self, Device, Mount};

/// Users that a reason names: the first ones are enough to find the rest.
const NAMED_MAX: usize = 3;

/// A volume, as its users may hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is mounted for the bot.
    pub point: PathBuf,
    /// Where its content can also be reached, if anywhere.
    pub other_path: Option<PathBuf>,
    /// Which directories of which filesystems it is.
    pub parts: Vec<(Device, PathBuf)>,
}

/// That nobody uses a volume.
///
/// # Errors
/// Who does.
pub fn none(volume: &Volume) -> Result<(), Reason> {
    let mut users = of(volume)?;
    if users.is_empty() {
        return Ok(());
    }
    let more = users.len().saturating_sub(NAMED_MAX);
    users.truncate(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    Err(Reason::new("volume-busy", format!("the volume at {} is in use", volume.point.display()))
        .because(users.join(", ") + &more)
        .mend("stop them first; a bot is stopped with `launchpad stop`"))
}

fn of(volume: &Volume) -> Result<Vec<String>, Reason> {
    let own = mounts::own()?;
    let mut users: Vec<String> = other_mounts(volume, &own, &own)
        .map(|mount| format!("it is also mounted at {}", mount.point.display()))
        .chain(inside(volume, &own).map(|mount| format!("{} is mounted inside of it", mount.point.display())))
        .collect();
    let our_space = space_of("self");
    let mut seen: BTreeSet<PathBuf> = our_space.iter().cloned().collect();
    for pid in processes() {
        let space = space_of(&pid.to_string());
        if space.is_none() || space == our_space {
            users.extend(opens(volume, pid).map(|path| format!("{} has {} open", named(pid), path.display())));
        } else if let Some(space) = space
            && seen.insert(space)
        {
            let theirs = mounts::of(pid).unwrap_or_default();
            let held = other_mounts(volume, &own, &theirs).next();
            users.extend(held.map(|mount| format!("{} has it mounted at {}", named(pid), mount.point.display())));
        }
    }
    Ok(users)
}

/// Mounts of the volume in a table, apart from ours and from those that go with it.
fn other_mounts<'a>(volume: &'a Volume, own: &'a [Mount], table: &'a [Mount]) -> impl Iterator<Item = &'a Mount> {
    let groups: BTreeSet<u32> = mounts::at(own, &volume.point).filter_map(|mount| mount.shared).collect();
    let same_table = std::ptr::eq(own, table);
    table.iter().filter(move |mount| {
        let is_part =
            volume.parts.iter().any(|(device, root)| mount.device == *device && mount.root.starts_with(root));
        let is_ours = same_table && mount.point == volume.point;
        let follows = [mount.shared, mount.master].into_iter().flatten().any(|group| groups.contains(&group));
        is_part && !is_ours && !follows
    })
}

fn inside<'a>(volume: &'a Volume, own: &'a [Mount]) -> impl Iterator<Item = &'a Mount> {
    own.iter().filter(|mount| mount.point != volume.point && mount.point.starts_with(&volume.point))
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The mount namespace that a process is in; none where it is gone, or not ours to look at.
fn space_of(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/mnt")).ok()
}

/// A path in the volume that a process stands in, runs or has open.
fn opens(volume: &Volume, pid: i32) -> Option<PathBuf> {
    let of_process = Path::new("/proc").join(pid.to_string());
    let open = fs::read_dir(of_process.join("fd")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let links = ["cwd", "root", "exe"].into_iter().map(|name| of_process.join(name)).chain(open);
    let mut paths = links.filter_map(|link| fs::read_link(link).ok());
    paths.find(|path| {
        path.starts_with(&volume.point) || volume.other_path.as_ref().is_some_and(|other| path.starts_with(other))
    })
}

fn named(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Volume {
        Volume {
            point: PathBuf::from("/v/mount"),
            other_path: None,
            parts: vec![("7:3".parse().unwrap(), PathBuf::from("/"))],
        }
    }

    fn users(own: &str, theirs: &str) -> Vec<PathBuf> {
        let (own, theirs) = (mounts::parse(own.as_bytes()), mounts::parse(theirs.as_bytes()));
        other_mounts(&volume(), &own, &theirs).map(|mount| mount.point.clone()).collect()
    }

    #[test]
    fn a_container_that_has_the_data_is_a_user_and_a_copy_that_goes_with_ours_is_none() {
        let ours = "9 1 7:3 / /v/mount rw shared:5 - ext4 /dev/loop3 rw\n";
        assert_eq!(users(ours, "1 1 7:3 /data /state rw - ext4 /dev/loop3 rw\n"), [PathBuf::from("/state")]);
        assert_eq!(users(ours, "1 1 7:3 / /v/mount rw master:5 - ext4 /dev/loop3 rw\n"), Vec::<PathBuf>::new());
        assert_eq!(users(ours, "1 1 7:3 / /v/mount rw - ext4 /dev/loop3 rw\n"), [PathBuf::from("/v/mount")]);
        assert_eq!(users(ours, "1 1 7:4 / /state rw - ext4 /dev/loop4 rw\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn of_a_shared_filesystem_only_the_volumes_own_folder_counts() {
        let tree = Volume { parts: vec![("8:1".parse().unwrap(), PathBuf::from("/v/tree"))], ..volume() };
        let own = mounts::parse(b"1 0 8:1 / / rw - xfs /dev/sda rw\n2 1 8:1 /v/tree /v/mount rw - xfs /dev/sda rw\n");
        assert_eq!(other_mounts(&tree, &own, &own).count(), 0);
        let theirs =
            mounts::parse(b"1 0 8:1 /v/tree2 /x rw - xfs /dev/sda rw\n2 1 8:1 /v/tree/data /y rw - xfs x rw\n");
        let found: Vec<&Mount> = other_mounts(&tree, &own, &theirs).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].point, Path::new("/y"));
    }

    #[test]
    fn what_is_mounted_inside_is_in_the_way() {
        let own = mounts::parse(b"9 1 7:3 / /v/mount rw - ext4 x rw\n10 9 0:44 / /v/mount/data/x rw - tmpfs x rw\n");
        assert_eq!(inside(&volume(), &own).count(), 1);
    }

    #[test]
    fn a_process_is_found_by_what_it_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let volume = Volume { point: path.clone(), other_path: None, parts: vec![] };
        none(&volume).unwrap();
        let open = fs::File::create(path.join("file")).unwrap();
        let reason = none(&volume).unwrap_err();
        assert!(reason.cause.as_ref().unwrap().contains(&format!("process {}", std::process::id())), "{reason}");
        drop(open);
        none(&volume).unwrap();
    }
}
