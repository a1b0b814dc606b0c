//! What lies beyond a bot's network: the world outside, and addresses of the host's own.
//!
//! `network.rs` uses these. All of it is inside the network namespace that the tests run in, bears the test process's
//! id, and goes when it is dropped; what a killed run has left is cleared away by the next.

use std::fs;
use std::process::{Command, id};

/// The host's end of the link to the outside.
pub(crate) const HERE: &str = "198.51.100.1";
/// The outside's end.
pub(crate) const THERE: &str = "198.51.100.2";

/// What the names of outsides begin with; the process that made one follows.
const PREFIX: &str = "lp-test-outside-";

/// A network namespace beyond the host's, which has no way back to a tenant's addresses.
pub(crate) struct Outside {
    name: String,
}

impl Outside {
    pub(crate) fn new() -> Self {
        clear_leftovers();
        let outside = Self { name: format!("{PREFIX}{}", id()) };
        let name = &outside.name;
        // Interfaces' names have 15 characters; a process id has seven at most.
        let (here, there) = (format!("lpo-a{}", id()), format!("lpo-b{}", id()));
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add {here} type veth peer name {there} netns {name}"));
        run(&format!("ip addr add {HERE}/30 dev {here}"));
        run(&format!("ip link set {here} up"));
        run(&format!("ip -n {name} addr add {THERE}/30 dev {there}"));
        run(&format!("ip -n {name} link set {there} up"));
        outside
    }

    pub(crate) fn namespace(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Gives it another address, to which the host knows the way.
    pub(crate) fn answers_also_at(&self, address: &str) {
        run(&format!("ip -n {} addr add {address}/32 dev lpo-b{}", self.name, id()));
        run(&format!("ip route add {address}/32 via {THERE}"));
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its end of the link goes with it, ours with that, and the routes over it.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Of runs that were killed: those whose process is gone.
fn clear_leftovers() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let gone = |process: &str| !fs::exists(format!("/proc/{process}")).unwrap_or(true);
        if name.strip_prefix(PREFIX).is_some_and(gone) {
            run(&format!("ip netns delete {name}"));
        }
    }
}

/// Does something inside a namespace of any kind, on a thread of its own.
pub(crate) fn within<T: Send>(namespace: &str, what: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(namespace).unwrap();
    std::thread::scope(|scope| {
        let done = scope.spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::empty()).unwrap();
            what()
        });
        done.join().unwrap()
    })
}

/// Runs a command that has to succeed; its words are parted by blanks.
pub(crate) fn run(command: &str) {
    let mut words = command.split(' ');
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
}
