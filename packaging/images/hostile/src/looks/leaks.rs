//! What leaks into a container: processes, kernel files, devices, sockets and groups of the host.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use launchpad_hostile::Try;

use super::{folders_below, pids};
use crate::place::Place;

/// What the kernel shows of itself and a container has no business with.
const KERNEL_FILES: [&str; 22] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/kmsg",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
    "/proc/pagetypeinfo",
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/pstore",
    "/sys/fs/bpf",
];
/// Where real addresses stand, if they are shown.
const ADDRESSES: [&str; 3] = ["/proc/kallsyms", "/proc/modules", "/proc/iomem"];
/// Of one such file.
const READ_LIMIT_BYTES: u64 = 64 * 1024;
/// Fewer hex digits than this are a size or a number, no address.
const ADDRESS_DIGITS: usize = 8;
/// What a container's `/dev` holds: nothing of the machine.
const OWN_DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "core"];
/// The machine's, by the names that they have.
const DEVICES: [&str; 19] = [
    "mem",
    "kmem",
    "port",
    "kmsg",
    "kvm",
    "fuse",
    "loop-control",
    "loop0",
    "sda",
    "vda",
    "xvda",
    "nvme0n1",
    "dm-0",
    "mapper/control",
    "net/tun",
    "vhost-net",
    "vhost-vsock",
    "hpet",
    "cpu_dma_latency",
];
/// Where the host's daemons listen.
const SOCKETS: [&str; 14] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/launchpad-agent/agent.sock",
    "/run/launchpad-agent/gate.sock",
    "/run/launchpad/agent.sock",
    "/run/launchpad/gate.sock",
    "/run/caddy/admin.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/journal/socket",
];

/// Process 1 is this program in a container of its own, and every process that is seen is one of it.
pub(crate) fn processes(_: &Place) -> Vec<Try> {
    let own = fs::read_link("/proc/self/exe").ok();
    let foreign: Vec<u32> = pids()
        .into_iter()
        .filter(|pid| is_alive(*pid) && fs::read_link(format!("/proc/{pid}/exe")).ok() != own)
        .collect();
    let what = format!("compares the programs of {} processes with its own", pids().len());
    vec![match &foreign[..] {
        [] => Try::refused(what, "all are its own"),
        [first, ..] => Try::reached(what, format!("{} are not, first {first}", foreign.len())),
    }]
}

/// A process that has ended, or is ending beside us, has no program.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Reads each: a mask over a file is empty, and so is one over a folder.
pub(crate) fn kernel_files(_: &Place) -> Vec<Try> {
    KERNEL_FILES.iter().map(|path| readable(Path::new(path))).collect()
}

fn readable(path: &Path) -> Try {
    let what = format!("reads {}", path.display());
    if path.is_dir() {
        return match fs::read_dir(path).map(|entries| entries.flatten().count()) {
            Ok(0) => Try::refused(what, "an empty folder"),
            Ok(count) => Try::reached(what, format!("{count} entries")),
            Err(error) => Try::refused(what, error),
        };
    }
    // Some of them give whole numbers only.
    let mut number = [0_u8; 8];
    // The kernel's log would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    match file.and_then(|mut file| file.read(&mut number)) {
        Ok(0) => Try::refused(what, "empty"),
        Ok(_) => Try::reached(what, "it holds something"),
        Err(error) => Try::refused(what, error),
    }
}

/// Addresses that are shown as zeros are none.
pub(crate) fn kernel_addresses(_: &Place) -> Vec<Try> {
    let each = |path: &str| {
        let what = format!("reads addresses in {path}");
        let mut text = String::new();
        match File::open(path).and_then(|file| file.take(READ_LIMIT_BYTES).read_to_string(&mut text)) {
            Ok(_) => match text.lines().find_map(address) {
                Some(address) => Try::reached(what, format!("an address such as {address}")),
                None => Try::refused(what, "zeros only"),
            },
            Err(error) => Try::refused(what, error),
        }
    };
    ADDRESSES.iter().map(|path| each(path)).collect()
}

/// The last word of a line that is an address other than zero.
fn address(line: &str) -> Option<&str> {
    let mut words = line.split([' ', '-', '\t']).map(|word| word.trim_start_matches("0x"));
    let is_address = |word: &&str| {
        word.len() >= ADDRESS_DIGITS && word.chars().all(|c| c.is_ascii_hexdigit()) && word.chars().any(|c| c != '0')
    };
    words.rfind(is_address)
}

/// Opens the machine's devices by name, and looks for any that a container does not have.
pub(crate) fn devices(_: &Place) -> Vec<Try> {
    let open = |name: &&str| {
        let what = format!("opens /dev/{name}");
        match File::open(Path::new("/dev").join(name)) {
            Ok(_) => Try::reached(what, "it opened"),
            Err(error) => Try::refused(what, error),
        }
    };
    let is_device = |path: &Path| {
        let kind = fs::symlink_metadata(path).map(|about| about.file_type());
        kind.is_ok_and(|kind| kind.is_block_device() || kind.is_char_device())
    };
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let strange: Vec<String> = entries
        .filter(|path| is_device(path))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| !OWN_DEVICES.contains(&name.as_str()))
        .collect();
    let listed = match &strange[..] {
        [] => Try::refused("lists /dev", "what every container has"),
        names => Try::reached("lists /dev", names.join(" ")),
    };
    DEVICES.iter().map(open).chain([listed]).collect()
}

/// Connects to each.
pub(crate) fn host_sockets(_: &Place) -> Vec<Try> {
    let each = |path: &&str| {
        let what = format!("connects to {path}");
        match UnixStream::connect(path) {
            Ok(_) => Try::reached(what, "somebody listens"),
            Err(error) => Try::refused(what, error),
        }
    };
    SOCKETS.iter().map(each).collect()
}

/// Its own group is the root of all that it sees, and no release agent can be set there.
pub(crate) fn cgroups(_: &Place) -> Vec<Try> {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let outside: Vec<&str> = table.lines().filter(|line| line.splitn(3, ':').nth(2) != Some("/")).collect();
    let place = match &outside[..] {
        [] if table.is_empty() => Try::refused("reads its groups", "none are shown"),
        [] => Try::refused("reads its groups", "each is the root of all"),
        lines => Try::reached("reads its groups", lines.join(" ")),
    };
    let root = Path::new("/sys/fs/cgroup");
    let agents = folders_below(root).into_iter().map(|folder| folder.join("release_agent"));
    let opened = agents.filter(|path| OpenOptions::new().write(true).open(path).is_ok()).count();
    let what = "opens every release_agent for writing";
    let made = root.join("hostile");
    let group = match fs::create_dir(&made) {
        Ok(()) => {
            let _ = fs::remove_dir(&made);
            Try::reached("makes a group of its own", "it was made")
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Try::reached("makes a group of its own", error),
        Err(error) => Try::refused("makes a group of its own", error),
    };
    let agents = if opened == 0 { Try::refused(what, "none opened") } else { Try::reached(what, opened) };
    vec![place, agents, group]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_sizes_and_names_are_no_addresses() {
        assert_eq!(address("0000000000000000 T startup_64"), None);
        assert_eq!(address("ffffffff81000000 T startup_64"), Some("ffffffff81000000"));
        assert_eq!(address("loop 40960 2 - Live 0x0000000000000000"), None);
        assert_eq!(address("loop 40960 2 - Live 0xffffffffc0a00000"), Some("ffffffffc0a00000"));
        assert_eq!(address("00000000-00000000 : System RAM"), None);
    }
}
