//! Volumes as ext4 in a file, mounted by a loop device: works on every host.
//!
//! The file has all its blocks from the start, so what a bot was promised is there when it wants it, and the
//! file's length is its quota. Snapshots are copies of the file that leave out what is empty; never clones,
//! because the bot's own writes would then need new blocks, and the host might have none. Decisions only:
//! `door/` does the work.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use launchpad_protocol::digest::Digest;
use launchpad_protocol::reason::Reason;
use nix::sys::statvfs::statvfs;

use super::backend::{Backend, Kind, Look, Mounted, PASSAGE_MODE, Part, Wish, World, cannot, owner_of};
use super::loops::LoopDevice;
use super::program::Program;
use super::step::Step;
use super::tree::Shift;
use super::{content, ext4};
use crate::execute::places::Home;

/// What this needs of the system.
const PROGRAMS: [Program; 6] =
    [Program::Mount, Program::Losetup, Program::MkfsExt4, Program::Resize2fs, Program::E2fsck, Program::Rm];
/// Bytes of holes in an image that are nobody's concern: ext4 makes small ones itself, where it zeroes a
/// block before its first use. Those of a hundred volumes fit into the host's reserve; an `fstrim` of the
/// host makes larger ones.
const HOLES_MAX_BYTES: u64 = 16 << 20;
/// What gives out loop devices.
const LOOP_CONTROL: &str = "/dev/loop-control";
/// Bytes of the unit in which `stat` counts blocks.
const STAT_BLOCK_BYTES: u64 = 512;

/// Whether this host has what it takes, as far as can be told without trying.
///
/// # Errors
/// What is missing.
pub fn probe() -> Result<(), Reason> {
    PROGRAMS.iter().try_for_each(|program| program.present())?;
    let control = Path::new(LOOP_CONTROL);
    fs::metadata(control).map(drop).map_err(|error| {
        Reason::new("no-loop-devices", format!("{LOOP_CONTROL} is not there"))
            .because(error.to_string())
            .mend("load the loop module on the host: `modprobe loop`")
    })
}

/// The way of images.
#[derive(Debug, Clone, Copy, Default)]
pub struct Images;

impl Backend for Images {
    fn kind(&self) -> Kind {
        Kind::Ext4Image
    }

    fn parts(&self, home: &Home, world: &World) -> Vec<Part> {
        attached(&home.image(), world).map(|device| (device.device, PathBuf::from("/"))).collect()
    }

    fn look(&self, home: &Home, world: &World) -> Result<Look, Reason> {
        let image = home.image();
        let file = fs::metadata(&image).map_err(cannot("look at", &image))?;
        let devices: Vec<&LoopDevice> = attached(&image, world).collect();
        let parts = self.parts(home, world);
        // The device first: what the kernel has not written back yet is seen there.
        let node = devices.first().map(|device| device.node()).filter(|node| node.exists());
        let superblock = ext4::superblock(node.as_deref().unwrap_or(&image)).map_err(cannot("read", &image))?;
        let point = home.mount();
        let mounted = Mounted::at(&point, &parts, world);
        let held = file.blocks().saturating_mul(STAT_BLOCK_BYTES);
        let (used, free, owner) = if mounted.is_ours() {
            let (used, free) = fill(&point)?;
            (used, Some(free), owner_of(&home.data()))
        } else {
            (0, None, None)
        };
        Ok(Look {
            bytes: superblock.bytes,
            promised: file.len(),
            floor: superblock.bytes,
            held,
            has_holes: held.saturating_add(HOLES_MAX_BYTES) < superblock.bytes,
            used,
            free,
            mounted,
            attached: !devices.is_empty(),
            damaged: superblock.damaged,
            owner,
        })
    }

    fn make(&self, making: &Home, bytes: u64) -> Result<Vec<Step>, Reason> {
        let image = making.image();
        Ok(vec![
            Step::MakeDir { path: making.root().to_owned(), mode: PASSAGE_MODE },
            Step::Allocate { file: image.clone(), bytes },
            Step::Format { image },
        ])
    }

    fn grows_in_use(&self, world: &World) -> bool {
        world.may_enlarge_mounted
    }

    fn mend(&self, home: &Home, look: &Look, wish: Wish, world: &World) -> Result<Vec<Step>, Reason> {
        let (image, at) = (home.image(), home.mount());
        let grows = wish.bytes > look.bytes;
        let in_use = look.mounted.is_ours() || look.attached;
        let must_stop =
            look.damaged || look.mounted == Mounted::ReadOnly || grows && !self.grows_in_use(world) && in_use;
        let mut steps = if in_use && must_stop { self.release(home) } else { Vec::new() };
        let (free, stays) = (!in_use || must_stop, look.mounted.is_ours() && !must_stop);
        if free && look.damaged {
            steps.push(Step::Check { image: image.clone() });
        }
        let room = Step::Allocate { file: image.clone(), bytes: wish.bytes };
        if grows || look.has_holes || !stays && look.held < wish.bytes {
            steps.push(room.clone());
        }
        if free && grows {
            steps.push(Step::Enlarge { image: image.clone() });
        }
        if stays && look.mounted == Mounted::WrongFlags {
            steps.push(Step::SetFlags { at: at.clone() });
        }
        if !stays {
            steps.push(Step::MakeDir { path: at.clone(), mode: PASSAGE_MODE });
            steps.push(Step::MountImage { image: image.clone(), at });
        }
        if !free && grows {
            // The kernel zeroes new inode tables by punching holes into the file.
            steps.extend([Step::EnlargeMounted { image }, room]);
        }
        if !stays || look.owner != Some((wish.uid, wish.gid)) {
            steps.push(Step::GiveTo { path: home.data(), uid: wish.uid, gid: wish.gid });
        }
        Ok(steps)
    }

    fn release(&self, home: &Home) -> Vec<Step> {
        vec![Step::Unmount { at: home.mount() }, Step::FreeLoop { image: home.image() }]
    }

    fn settle(&self, home: &Home) -> Vec<Step> {
        self.release(home)
    }

    fn copy_out(&self, home: &Home, copy: &Home, by: Shift) -> Vec<Step> {
        let mut steps = vec![
            Step::MakeDir { path: copy.root().to_owned(), mode: PASSAGE_MODE },
            Step::CopyImage { from: home.image(), to: copy.image() },
        ];
        if !by.is_none() {
            // Only a mounted filesystem tells whose its files are.
            steps.extend([
                Step::MakeDir { path: copy.mount(), mode: PASSAGE_MODE },
                Step::MountImage { image: copy.image(), at: copy.mount() },
                Step::ShiftOwners { root: copy.data(), by },
            ]);
            steps.extend(self.release(copy));
            steps.push(Step::Delete { path: copy.mount() });
        }
        steps
    }

    /// It is made large enough where it is put in place: then the old one's room is free.
    fn copy_in(&self, copy: &Home, making: &Home, _bytes: u64, by: Shift) -> Result<Vec<Step>, Reason> {
        Ok(self.copy_out(copy, making, by))
    }

    fn replace(&self, making: &Home, home: &Home) -> Vec<Step> {
        vec![
            Step::MakeDir { path: home.root().to_owned(), mode: PASSAGE_MODE },
            Step::Rename { from: making.image(), to: home.image() },
            Step::Delete { path: making.root().to_owned() },
        ]
    }

    fn data_bytes(&self, home: &Home, _look: &Look) -> Result<u64, Reason> {
        let image = home.image();
        content::data_bytes(&image).map_err(cannot("measure", &image))
    }

    fn digest(&self, copy: &Home) -> Result<Digest, Reason> {
        let image = copy.image();
        content::digest(&image).map_err(cannot("read", &image))
    }

    fn owed_to_snapshots(&self, _bytes: u64) -> u64 {
        0
    }
}

fn attached<'a>(image: &'a Path, world: &'a World) -> impl Iterator<Item = &'a LoopDevice> {
    world.loops.iter().filter(move |device| device.file == image && !device.deleted)
}

/// Bytes that are filled, and that can still be: without what the kernel keeps back, which fills nobody's volume.
fn fill(point: &Path) -> Result<(u64, u64), Reason> {
    let filesystem = statvfs(point).map_err(|errno| cannot("look at", point)(errno.into()))?;
    let filled = filesystem.blocks().saturating_sub(filesystem.blocks_free());
    let bytes = |blocks: u64| blocks.saturating_mul(filesystem.fragment_size());
    Ok((bytes(filled), bytes(filesystem.blocks_available())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::places::Places;

    const SIZE: u64 = 1 << 30;

    /// A volume that needs nothing.
    fn well() -> Look {
        Look {
            bytes: SIZE,
            promised: SIZE,
            floor: SIZE,
            held: SIZE,
            has_holes: false,
            used: 0,
            free: Some(SIZE),
            mounted: Mounted::Right,
            attached: true,
            damaged: false,
            owner: Some((1000, 1000)),
        }
    }

    fn unmounted() -> Look {
        Look { mounted: Mounted::No, attached: false, owner: None, ..well() }
    }

    fn steps(look: &Look, bytes: u64, may_enlarge_mounted: bool) -> Vec<&'static str> {
        let places = Places::under(Path::new("/d"), Path::new("/r"));
        let home = places.volume("dep_00000000000000000000000000000001".parse().unwrap());
        let world = World { may_enlarge_mounted, ..World::default() };
        let wish = Wish { bytes, uid: 1000, gid: 1000 };
        let steps = Images.mend(&home, look, wish, &world).unwrap();
        steps.iter().map(|step| step.kind().trim_start_matches("volume_")).collect()
    }

    #[test]
    fn a_volume_that_is_as_it_should_be_is_left_alone() {
        assert_eq!(steps(&well(), SIZE, true), [""; 0]);
        assert_eq!(steps(&Look { held: SIZE - 4096, ..well() }, SIZE, true), [""; 0], "nor for a small hole");
    }

    #[test]
    fn it_is_mounted_again_repaired_first_where_it_is_damaged() {
        assert_eq!(steps(&unmounted(), SIZE, true), ["make_dir", "mount_image", "give_to"]);
        let damaged = Look { damaged: true, ..unmounted() };
        assert_eq!(steps(&damaged, SIZE, true), ["check", "make_dir", "mount_image", "give_to"]);
        let read_only = Look { mounted: Mounted::ReadOnly, ..well() };
        assert_eq!(steps(&read_only, SIZE, true), ["unmount", "free_loop", "make_dir", "mount_image", "give_to"]);
    }

    #[test]
    fn it_grows_in_use_where_the_kernel_lets_us_and_else_only_unmounted() {
        assert_eq!(steps(&well(), 2 * SIZE, true), ["allocate", "enlarge_mounted", "allocate"]);
        let stopped = ["unmount", "free_loop", "allocate", "enlarge", "make_dir", "mount_image", "give_to"];
        assert_eq!(steps(&well(), 2 * SIZE, false), stopped);
        assert_eq!(steps(&unmounted(), 2 * SIZE, false), stopped[2..]);
        // Mounted for somebody else, who uses it meanwhile.
        let elsewhere = Look { attached: true, ..unmounted() };
        let joined = ["allocate", "make_dir", "mount_image", "enlarge_mounted", "allocate", "give_to"];
        assert_eq!(steps(&elsewhere, 2 * SIZE, true), joined);
    }

    #[test]
    fn what_somebody_changed_is_put_right_under_the_running_bot() {
        assert_eq!(steps(&Look { mounted: Mounted::WrongFlags, ..well() }, SIZE, false), ["set_flags"]);
        assert_eq!(steps(&Look { has_holes: true, held: SIZE / 2, ..well() }, SIZE, false), ["allocate"]);
        assert_eq!(steps(&Look { owner: Some((0, 0)), ..well() }, SIZE, false), ["give_to"]);
    }
}
