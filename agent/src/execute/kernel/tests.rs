//! A whole container read from recorded files, and what is missing from them one at a time.

use std::os::unix::fs::symlink;

use super::*;
use crate::observe::kernel::Ceiling;

/// A `/proc` and a `/sys/fs/cgroup` with one container's process in them, and the host's first.
struct World {
    dir: tempfile::TempDir,
    kernel: Kernel,
}

const CONTAINER: &str = "c0ffee";

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel::at(&dir.path().join("proc"), &dir.path().join("cg"), None);
        let world = Self { dir, kernel };
        for (name, text) in [
            ("stat", include_str!("recorded/stat.txt")),
            ("status", include_str!("recorded/status.txt")),
            ("limits", include_str!("recorded/limits.txt")),
            ("mountinfo", include_str!("recorded/mountinfo.txt")),
            ("uid_map", "0 0 4294967295\n"),
            ("gid_map", "0 0 4294967295\n"),
            ("cgroup", "0::/launchpad/acct_1/c0ffee\n"),
        ] {
            world.write(&format!("proc/7/{name}"), text);
        }
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            for process in ["self", "7"] {
                let ns = world.dir.path().join("proc").join(process).join("ns");
                fs::create_dir_all(&ns).unwrap();
                let number = if kind == "user" { "0" } else { process };
                symlink(format!("{kind}:[{number}]"), ns.join(kind)).unwrap();
            }
        }
        world.write("cg/launchpad/acct_1/c0ffee/memory.max", "67108864\n");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn view(&self) -> Option<KernelView> {
        self.kernel.view(7, CONTAINER)
    }
}

#[test]
fn a_container_is_seen_whole() {
    let view = World::new().view().unwrap();
    assert_eq!(view.process.users, [1000].into());
    assert_eq!(view.process.open_files, Ceiling::At(1024));
    assert_eq!(view.process.shared_namespaces, ["user".to_owned()].into());
    assert_eq!(view.process.confinement, None);
    assert!(view.mounts["/"].read_only);
    assert_eq!(view.group.memory_bytes, Ceiling::At(64 << 20));
}

#[test]
fn what_confines_it_is_read_where_the_kernel_says() {
    let world = World::new();
    world.write("proc/7/attr/current", "docker-default (enforce)\n");
    assert_eq!(world.view().unwrap().process.confinement.as_deref(), Some("docker-default (enforce)"));
}

#[test]
fn a_process_of_which_anything_is_gone_is_not_seen_at_all() {
    for name in ["stat", "status", "limits", "mountinfo", "uid_map", "gid_map", "cgroup", "ns/net"] {
        let world = World::new();
        fs::remove_file(world.path(&format!("proc/7/{name}"))).unwrap();
        assert_eq!(world.view(), None, "without {name}");
    }
}

#[test]
fn somebody_elses_process_with_the_same_id_is_not_the_containers() {
    let world = World::new();
    world.write("proc/7/cgroup", "0::/user.slice/session-1.scope\n");
    assert_eq!(world.view(), None);
}

#[test]
fn a_tenants_group_is_looked_for_where_the_engine_makes_it() {
    let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
    let world = World::new();
    world.write("cg/cgroup.controllers", "cpu io memory pids\n");
    assert_eq!(world.kernel.tenant(account, CgroupDriver::Cgroupfs), None);
    world.write(&format!("cg/launchpad/{account}/cpu.weight"), "100\n");
    let seen = world.kernel.tenant(account, CgroupDriver::Cgroupfs).unwrap();
    assert_eq!(seen.cpu_weight, Ceiling::At(100));
    world.write(&format!("cg/launchpad.slice/launchpad-{account}.slice/cpu.weight"), "7\n");
    let seen = world.kernel.tenant(account, CgroupDriver::Systemd).unwrap();
    assert_eq!(seen.cpu_weight, Ceiling::At(7));
    assert_eq!(world.kernel.tenant(account, CgroupDriver::None), None);
}
