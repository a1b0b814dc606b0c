//! Writing outside its own folders: the root, what it was given, `/proc` and `/sys`.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use launchpad_hostile::Try;

use crate::looks::{files_below, folders_below};
use crate::place::Place;
use crate::runner::SELF;

/// The name under which files are tried.
const NAME: &str = ".hostile";
/// Message queues: the kernel keeps them, in a namespace of the container's own and within limits of its own.
const OF_THE_KERNEL: &str = "/dev/mqueue";
/// Settings by which others left their containers, named so that each is seen to be tried.
const SETTINGS: [&str; 12] = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/fs/binfmt_misc/register",
];
/// Likewise in `/sys`.
const SYSTEM_FILES: [&str; 5] = [
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/power/state",
    "/sys/module/kernel/parameters/panic",
    "/sys/class/net/eth0/mtu",
];
/// The trees of `/sys` that are opened file by file: its devices alone are tens of thousands.
const SYSTEM_TREES: [&str; 4] = ["/sys/fs", "/sys/kernel", "/sys/power", "/sys/class/net"];

/// Makes a file in every folder that it sees and that is not its own.
pub(crate) fn every_folder(place: &Place) -> Vec<Try> {
    let own = place.own_folders();
    let folders =
        folders_below(Path::new("/")).into_iter().filter(|folder| !own.iter().any(|own| folder.starts_with(own)));
    let folders: Vec<PathBuf> = folders.collect();
    let (queues, others): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|folder| folder.starts_with(OF_THE_KERNEL));
    let made: Vec<PathBuf> = others.iter().filter(|folder| create(folder).is_ok()).cloned().collect();
    let what = format!("makes a file in each of {} folders", others.len());
    let mut tries = vec![match &made[..] {
        [] => Try::refused(what, "none let it"),
        [first, ..] => Try::reached(what, format!("{} let it, first {}", made.len(), first.display())),
    }];
    tries.extend(queues.first().map(|queue| match create(queue) {
        Ok(()) => Try::contained("makes a message queue", "one of its own, which the kernel bounds"),
        Err(error) => Try::refused("makes a message queue", error),
    }));
    tries
}

/// Makes a file in `folder`, and removes it again.
fn create(folder: &Path) -> io::Result<()> {
    let path = folder.join(NAME);
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    // Made and not removable is still made.
    let _ = fs::remove_file(path);
    Ok(())
}

/// Opens what it was given for writing, and puts files beside it.
pub(crate) fn given(place: &Place) -> Vec<Try> {
    let secrets = fs::read_dir(&place.secrets).into_iter().flatten().flatten().map(|file| file.path());
    let program = fs::read_link(SELF).unwrap_or_else(|_| SELF.into());
    let given =
        [place.config.clone(), program, "/etc/resolv.conf".into(), "/etc/hosts".into(), "/etc/hostname".into()];
    let files = given.into_iter().chain(secrets).filter(|path| path.exists());
    let mut tries: Vec<Try> = files.map(|path| for_writing(&path)).collect();
    for folder in [place.config.parent().unwrap_or(Path::new("/")), &place.secrets] {
        tries.push(match create(folder) {
            Ok(()) => Try::reached(format!("puts a file into {}", folder.display()), "it was made"),
            Err(error) => Try::refused(format!("puts a file into {}", folder.display()), error),
        });
    }
    tries
}

/// Every setting below `/proc/sys`, and some by name.
pub(crate) fn kernel_settings(_: &Place) -> Vec<Try> {
    let named = SETTINGS.map(|path| for_writing(Path::new(path)));
    named.into_iter().chain([all_for_writing(Path::new("/proc/sys"))]).collect()
}

/// Some files of `/sys` by name, and whole trees of it.
pub(crate) fn system_files(_: &Place) -> Vec<Try> {
    let named = SYSTEM_FILES.map(|path| for_writing(Path::new(path)));
    named.into_iter().chain(SYSTEM_TREES.map(|path| all_for_writing(Path::new(path)))).collect()
}

fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn for_writing(path: &Path) -> Try {
    let what = format!("opens {} for writing", path.display());
    match open(path) {
        Ok(_) => Try::reached(what, "it opened"),
        Err(error) => Try::refused(what, error),
    }
}

fn all_for_writing(root: &Path) -> Try {
    let files = files_below(root);
    let what = format!("opens each of {} files below {} for writing", files.len(), root.display());
    let opened: Vec<&PathBuf> = files.iter().filter(|path| path.is_file() && open(path).is_ok()).collect();
    match &opened[..] {
        [] => Try::refused(what, "none opened"),
        [first, ..] => Try::reached(what, format!("{} opened, first {}", opened.len(), first.display())),
    }
}
