//! Network namespaces: the fabric that a test lives in, and one namespace for each simulated host.
//!
//! Called by [`crate::lab`]. Addresses come from 198.18.0.0/15, which RFC 2544 sets aside for tests of networks, so
//! that they meet no real one. There is no uplink: nothing in a laboratory can reach the world.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::run;

/// Where the coordinator and the registry listen, for every host to reach.
pub const FABRIC_ADDRESS: &str = "198.18.0.1";

/// Moves the calling thread, and so what it starts from now on, into a new and empty namespace: the fabric.
///
/// # Errors
/// Without root, or when `ip` is missing.
pub fn enter_fabric() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (root is needed)")?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", &format!("{FABRIC_ADDRESS}/32"), "dev", "lo"])
}

/// A simulated host's namespace and its link to the fabric. Dropping it removes both.
#[derive(Debug)]
pub struct HostNet {
    name: String,
    link: String,
    index: u8,
}

impl HostNet {
    /// Makes host `index` (from 1) of the run, linked to the namespace that the calling thread is in.
    /// With `carries_fabric`, the fabric's address goes on this link's near end: the demo has no namespace of its
    /// own to keep it in.
    ///
    /// # Errors
    /// When `ip` refuses: the error says at which step.
    pub fn create(run_id: &str, index: u8, carries_fabric: bool) -> Result<Self> {
        let host = Self { name: namespace_name(run_id, index), link: link_name(run_id, index), index };
        let (near, far) = (host.gateway(), host.address());
        ip(&["netns", "add", &host.name])?;
        let veth = ["link", "add", &host.link, "type", "veth", "peer", "name", "eth0", "netns", &host.name];
        ip(&veth)?;
        ip(&["address", "add", &format!("{near}/30"), "dev", &host.link])?;
        if carries_fabric {
            ip(&["address", "add", &format!("{FABRIC_ADDRESS}/32"), "dev", &host.link])?;
        }
        ip(&["link", "set", &host.link, "up"])?;
        ip(&["-n", &host.name, "link", "set", "lo", "up"])?;
        ip(&["-n", &host.name, "address", "add", &format!("{far}/30"), "dev", "eth0"])?;
        ip(&["-n", &host.name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &host.name, "route", "add", "default", "via", &near])?;
        Ok(host)
    }

    /// The host's own address on its link.
    pub fn address(&self) -> String {
        format!("198.18.{}.2", self.index)
    }

    /// The fabric's address on that link, the host's gateway.
    pub fn gateway(&self) -> String {
        format!("198.18.{}.1", self.index)
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// The name of the link's end in the fabric: take it down to cut the host off.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Cuts the host off from the fabric, or joins it again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn set_connected(&self, connected: bool) -> Result<()> {
        ip(&["link", "set", &self.link, if connected { "up" } else { "down" }])
    }

    /// Runs `work` on a thread inside the namespace and returns what it returns.
    ///
    /// # Errors
    /// When the namespace is gone, or `work` fails or panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("open namespace {}", self.name))?;
        inside(file, work).with_context(|| format!("inside namespace {}", self.name))
    }

    /// Gives the host IPv6 as well, by way of the fabric, which answers for every address that it carries.
    ///
    /// # Errors
    /// When `ip` refuses, as on a kernel without IPv6.
    pub fn add_ipv6(&self) -> Result<()> {
        // 2001:db8::/32 is for documentation (RFC 3849).
        let (near, far) = (format!("2001:db8:{}::1", self.index), format!("2001:db8:{}::2", self.index));
        // Without the search for duplicates, during which an address cannot be used yet.
        ip(&["address", "add", &format!("{near}/64"), "dev", &self.link, "nodad"])?;
        ip(&["-n", &self.name, "address", "add", &format!("{far}/64"), "dev", "eth0", "nodad"])?;
        ip(&["-n", &self.name, "-6", "route", "add", "default", "via", &near])
    }
}

impl Drop for HostNet {
    fn drop(&mut self) {
        // The link first: a process that still holds the namespace would keep it alive, and the link with it.
        let _ = ip(&["link", "delete", &self.link]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Runs `work` on a thread inside a network namespace and returns what it returns.
///
/// # Errors
/// When it cannot be entered, or `work` fails or panics.
pub fn inside<T: Send>(namespace: File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let outcome = thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
            work()
        });
        inside.join()
    });
    outcome.map_err(|_| anyhow!("work inside a namespace panicked"))?
}

/// The namespace of host `index` of a run.
pub fn namespace_name(run_id: &str, index: u8) -> String {
    format!("lp-{run_id}-h{index}")
}

/// The near end of that host's link. Linux takes at most 15 characters; a run id has 6.
pub fn link_name(run_id: &str, index: u8) -> String {
    format!("lp{run_id}h{index}")
}

/// Runs `ip` with these arguments in the calling thread's namespace.
///
/// # Errors
/// When it refuses: the error repeats its words.
pub fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments)).map(drop)
}
