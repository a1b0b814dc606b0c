//! Steps that mount, unmount and have to do with loop devices.
//!
//! A loop device is attached by `mount` itself, in one go and so that it frees itself: a crash leaves both or
//! neither. One file is never attached twice, because two caches of one filesystem destroy it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use launchpad_protocol::reason::Reason;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::time::Instant;

use super::super::failure::failed;
use super::super::loops::{self, LoopDevice};
use super::super::program::{Program, Programs};

/// Flags of a volume's mount: nothing in it becomes root or a device. Access times would cost a write for
/// every read.
const FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOATIME);
/// The same for `mount`. The kernel must not write the inode tables' zeros after the fact: they read as zeros
/// already, and it would do so by punching holes into the room that is kept. One damaged block stops the
/// bot's writes, rather than spreading.
const OPTIONS: &str = "nosuid,nodev,noatime,noinit_itable,errors=remount-ro";
/// How long a loop device may take to let its file go: the kernel is done in milliseconds, unless udev looks
/// at it.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// How long a mount may be held by somebody who was not there when it was looked at.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at either.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Mounts at one place, on top of each other, that are taken away: more than any confusion makes.
const STACKED_MAX: usize = 32;

pub(super) async fn mount_image(programs: &Programs, image: &Path, at: &Path) -> Result<(), Reason> {
    let devices = present(image)?;
    let (source, options) = match devices.as_slice() {
        [] => (image.to_owned(), format!("loop,{OPTIONS}")),
        [device] => (device.node(), OPTIONS.to_owned()),
        [..] => return Err(attached_twice(image, &devices)),
    };
    let arguments: [&OsStr; 6] =
        ["-t".as_ref(), "ext4".as_ref(), "-o".as_ref(), options.as_ref(), source.as_ref(), at.as_ref()];
    programs.run(Program::Mount, &arguments).await.map(drop).map_err(|reason| {
        let no_device = reason.cause.as_deref().is_some_and(|cause| cause.contains("loop"));
        let mend = if no_device {
            "see with `losetup --list` who has the loop devices, and load the loop module with a larger max_loop"
        } else {
            "see the kernel's log for the cause"
        };
        if reason.mend.is_some() { reason } else { reason.mend(mend) }
    })
}

pub(super) async fn enlarge(programs: &Programs, image: &Path) -> Result<(), Reason> {
    let devices = present(image)?;
    let [device] = devices.as_slice() else { return Err(attached_twice(image, &devices)) };
    programs.run(Program::Losetup, &["--set-capacity".as_ref(), device.node().as_ref()]).await?;
    programs.run(Program::Resize2fs, &[device.node().as_ref()]).await.map(drop)
}

pub(super) fn mount_tree(tree: &Path, at: &Path) -> Result<(), Reason> {
    let none = None::<&str>;
    mount(Some(tree), at, none, MsFlags::MS_BIND, none).map_err(|errno| failed("mount", at, &errno.into()))?;
    // A bind takes its flags in a second call; `sight` sees when only the first was made.
    set_flags(at)
}

pub(super) fn set_flags(at: &Path) -> Result<(), Reason> {
    let none = None::<&str>;
    let flags = FLAGS | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(none, at, none, flags, none).map_err(|errno| failed("set the flags of the mount at", at, &errno.into()))
}

/// A program that asks every mount for its size, as monitoring does, holds each for a moment.
pub(super) async fn unmount(at: &Path) -> Result<(), Reason> {
    let end = Instant::now() + UNMOUNT_WITHIN;
    for _ in 0..STACKED_MAX {
        loop {
            match umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => break,
                // Nothing is mounted there, or there is no such place.
                Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
                Err(Errno::EBUSY) if Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
                Err(Errno::EBUSY) => return Err(busy(at)),
                Err(errno) => return Err(failed("unmount", at, &errno.into())),
            }
        }
    }
    Err(failed("unmount", at, &io::Error::other(format!("still mounted after {STACKED_MAX} times"))))
}

/// Somebody has come since it was looked at, or maps a file without having it open.
fn busy(at: &Path) -> Reason {
    Reason::new("volume-busy", format!("{} is in use", at.display()))
        .because("the kernel does not unmount it")
        .mend(format!("see with `fuser -vm {}` who uses it, and stop that", at.display()))
}

pub(super) async fn free_loop(programs: &Programs, image: &Path) -> Result<(), Reason> {
    let end = Instant::now() + FREE_WITHIN;
    loop {
        let devices = loops::attached_to(image)?;
        if devices.is_empty() {
            return Ok(());
        }
        if let Some(stays) = devices.iter().find(|device| !device.frees_itself) {
            // It goes at once, or with its last user: from now on it frees itself.
            programs.run(Program::Losetup, &["--detach".as_ref(), stays.node().as_ref()]).await?;
        }
        if Instant::now() > end {
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            return Err(Reason::new(
                "volume-busy",
                format!("{} does not let {} go", names.join(", "), image.display()),
            )
            .because("something else than the agent has it mounted or open")
            .mend(format!("see with `grep {} /proc/*/mountinfo` and `fuser -v /dev/{0}`", names.join(" "))));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The devices of the file that is there now.
fn present(image: &Path) -> Result<Vec<LoopDevice>, Reason> {
    Ok(loops::attached_to(image)?.into_iter().filter(|device| !device.deleted).collect())
}

fn attached_twice(image: &Path, devices: &[LoopDevice]) -> Reason {
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    Reason::new("volume-attached-twice", format!("{} has {} loop devices", image.display(), names.len()))
        .because(format!("{}: two mounts of one image destroy it", names.join(", ")))
        .mend("stop what uses them, then detach them with `losetup --detach`")
}
