//! What is mounted where a bot looks: what it can write to, how much, and what of it is a program or a device.

use std::collections::BTreeSet;

use launchpad_protocol::enforcement::Item;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::Tmpfs;

use super::{Case, Finding, Mend, NO_VOLUME, PAGE_MAX_BYTES, differs};
use crate::observe::files_digest;
use crate::observe::kernel::MountView;

/// Below these the engine mounts what the kernel makes up: devices, processes. What is writable there belongs to root,
/// or is a terminal, a message queue or the shared memory, which is judged by itself.
const KERNELS_OWN: [&str; 3] = ["/dev/", "/proc/", "/sys/"];

impl Case<'_> {
    fn mount(&self, point: &str) -> Option<&MountView> {
        self.kernel.mounts.get(point)
    }

    /// Nothing but the volume, the tmpfs mounts and what is the kernel's own can be written to.
    pub(super) fn root_filesystem(&self) -> Finding {
        if let Some(shared) = self.shares(Item::RootFilesystem, "mnt") {
            return shared;
        }
        let writable = self.writable_elsewhere();
        let root = self.mount("/").map_or_else(|| "no root".to_owned(), ToString::to_string);
        let seen = if writable.is_empty() { root } else { format!("{root}, writable: {}", writable.join(" ")) };
        let is_read_only = self.mount("/").is_some_and(|root| root.read_only);
        let is_right = is_read_only && writable.is_empty() || !self.spec.isolation.read_only_root;
        Finding::compare(Item::RootFilesystem, is_right, seen, "read-only", Mend::Start)
    }

    /// Where it could write besides what is judged as a promise of its own.
    fn writable_elsewhere(&self) -> Vec<&str> {
        let spec = self.spec;
        let tmpfs = spec.isolation.tmpfs.iter().map(|tmpfs| tmpfs.path.as_str());
        let files = spec.files.iter().map(|file| file.dir.as_str());
        let volume = spec.volume.as_ref().map(|volume| volume.path.as_str());
        let judged: BTreeSet<&str> = tmpfs.chain(files).chain(volume).chain(["/"]).collect();
        let is_the_kernels =
            |point: &str| KERNELS_OWN.iter().any(|own| point.starts_with(own) || point == own.trim_end_matches('/'));
        let writable =
            self.kernel.mounts.iter().filter(|(_, mount)| !mount.read_only).map(|(point, _)| point.as_str());
        writable.filter(|point| !judged.contains(point) && !is_the_kernels(point)).collect()
    }

    pub(super) fn shared_memory(&self) -> Finding {
        if let Some(shared) = self.shares(Item::SharedMemory, "ipc") {
            return shared;
        }
        let asked = self.spec.isolation.shm_bytes;
        let found = self.mount("/dev/shm");
        let is_right = found.is_some_and(|shm| is_plain(shm) && is_size(shm, asked));
        let seen = shown(found);
        Finding::compare(Item::SharedMemory, is_right, seen, format!("tmpfs of {asked} bytes"), Mend::Start)
    }

    pub(super) fn tmpfs(&self) -> Finding {
        let is_right = |asked: &Tmpfs| {
            self.mount(&asked.path).is_some_and(|found| {
                is_plain(found) && !found.read_only && found.noexec != asked.exec && is_size(found, asked.bytes)
            })
        };
        let asked = &self.spec.isolation.tmpfs;
        let seen: Vec<String> =
            asked.iter().map(|asked| format!("{} {}", asked.path, shown(self.mount(&asked.path)))).collect();
        let wanted = asked.iter().map(|asked| {
            let exec = if asked.exec { "" } else { ",noexec" };
            format!("{} tmpfs rw,nosuid,nodev{exec},size={}", asked.path, asked.bytes)
        });
        let wanted: Vec<String> = wanted.collect();
        let seen = if seen.is_empty() { "none asked for".to_owned() } else { seen.join("; ") };
        Finding::compare(Item::Tmpfs, asked.iter().all(is_right), seen, wanted.join("; "), Mend::Start)
    }

    /// The volume as the host has it mounted, which the next start takes over, and as this one sees it.
    pub(super) fn volume_mount(&self) -> Finding {
        const ASKED: &str = "rw,nosuid,nodev";
        let Some(asked) = &self.spec.volume else { return Finding::holds(NO_VOLUME) };
        let host = self.host.observed.volumes.get(&self.spec.deployment);
        if !host.is_some_and(|volume| volume.mounted && volume.flags_right) {
            let seen =
                host.map_or("no volume", |volume| if volume.mounted { "mounted otherwise" } else { "not mounted" });
            let seen = format!("on the host: {seen}");
            let reason = differs(Item::VolumeMount, &seen, ASKED);
            return Finding::broken(seen, reason, Mend::Around);
        }
        let found = self.mount(&asked.path);
        let is_right = found.is_some_and(|volume| volume.nosuid && volume.nodev && !volume.read_only);
        Finding::compare(Item::VolumeMount, is_right, shown(found), ASKED, Mend::Start)
    }

    pub(super) fn files(&self) -> Finding {
        let dirs: BTreeSet<&str> = self.spec.files.iter().map(|file| file.dir.as_str()).collect();
        let seen: Vec<String> = dirs.iter().map(|dir| format!("{dir} {}", shown(self.mount(dir)))).collect();
        let seen = if seen.is_empty() { "none asked for".to_owned() } else { seen.join("; ") };
        let written = self.host.observed.files.get(&self.spec.deployment);
        if !dirs.is_empty() && written != Some(&files_digest(&self.spec.files)) {
            let reason =
                Reason::new("files-differ", "its files are not those of its spec").mend("the agent writes them anew");
            return Finding::broken(seen, reason, Mend::Around);
        }
        if let Some(reason) = self.dumps_core() {
            return Finding::broken(seen, reason, Mend::Start);
        }
        let is_right =
            |dir: &&str| self.mount(dir).is_some_and(|found| found.read_only && found.filesystem == "tmpfs");
        Finding::compare(Item::Files, dirs.iter().all(is_right), seen, "tmpfs ro", Mend::Start)
    }
}

/// A tmpfs without programs of other users and without devices.
fn is_plain(mount: &MountView) -> bool {
    mount.filesystem == "tmpfs" && mount.nosuid && mount.nodev
}

/// Whether it holds that much, rounded up to whole pages.
fn is_size(mount: &MountView, asked: u64) -> bool {
    mount.bytes.is_some_and(|bytes| bytes >= asked && bytes - asked < PAGE_MAX_BYTES)
}

fn shown(mount: Option<&MountView>) -> String {
    mount.map_or_else(|| "not mounted".to_owned(), ToString::to_string)
}
