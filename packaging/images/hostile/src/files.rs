//! What may be written: everything but its volume and its tmpfs mounts should say no.
//!
//! What could be created is removed at once; what could be opened for writing is not written to.

mod escape;
mod outside;

use crate::attack::Attack;

/// The attacks of this room.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "write-root",
        aim: "makes a file in every folder that is not its own",
        run: outside::every_folder,
    },
    Attack { name: "write-given", aim: "changes its config, its secrets and its program", run: outside::given },
    Attack { name: "write-proc", aim: "opens the kernel's settings for writing", run: outside::kernel_settings },
    Attack { name: "write-sys", aim: "opens what /sys has for writing", run: outside::system_files },
    Attack { name: "links-out", aim: "leaves its volume by links, `..` and renames", run: escape::links },
    Attack {
        name: "mount-flags",
        aim: "looks for devices and set-user-id where it may write",
        run: escape::mount_flags,
    },
    Attack {
        name: "traps",
        aim: "leaves links, pipes and odd names for whoever reads its volume",
        run: escape::traps,
    },
];
