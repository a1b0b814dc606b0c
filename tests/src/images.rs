//! The bots' images: built by `packaging/images/*/build.sh` when their inputs changed, else taken from the cache.
//!
//! Called by [`crate::lab`] before it enters a namespace without uplink, and by the demo. A build uses an engine
//! and a registry of its own on a loopback port; what it pushes lies in the shared storage, so that every later
//! registry serves it under that registry's own address.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::engine::{Engine, Network, Users};
use crate::programs;
use crate::registry::Registry;

/// The process group of the build that runs, or 0.
static BUILD_GROUP: AtomicI32 = AtomicI32::new(0);

/// Asks a running build to stop and tidy up: for the handler of an interrupt.
pub fn interrupt_build() {
    let group = BUILD_GROUP.load(Ordering::SeqCst);
    if group > 0 {
        // It may have ended by itself since.
        let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
    }
}

/// An image in the storage, apart from the address of the registry that serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its repository's name: `echo`.
    pub repository: String,
    /// `sha256:…`.
    pub digest: String,
}

impl Image {
    /// The reference to deploy, as served by `registry` (`host:port`).
    pub fn reference(&self, registry: &str) -> String {
        format!("{registry}/{}@{}", self.repository, self.digest)
    }
}

/// Makes sure that the image of `bot` is in the storage. Files of the build lie in `dir` and are removed.
///
/// # Errors
/// When the build fails: its last words are in the error, its progress went to stderr.
pub fn ensure_built(bot: &str, dir: &Path) -> Result<Image> {
    let script = programs::workspace().join("packaging/images").join(bot).join("build.sh");
    ensure!(script.is_file(), "there is no {}: bots are echo, hostile and openclaw", script.display());

    let registry = Registry::start(dir, &free_loopback_address()?)?;
    if let Some(image) = build(&script, &registry, None)? {
        return Ok(image);
    }
    let mut engine = Engine::start(&dir.join("engine"), Network::None, Users::OfHost)?;
    let built = build(&script, &registry, Some(&engine));
    engine.stop()?;
    built?.with_context(|| format!("{} succeeded without a reference", script.display()))
}

/// Runs the script; without an engine it only looks into the cache, and `None` means that there is nothing.
fn build(script: &Path, registry: &Registry, engine: Option<&Engine>) -> Result<Option<Image>> {
    let mut command = Command::new(script);
    command.env("REGISTRY", &registry.address).stdin(Stdio::null()).stderr(Stdio::inherit());
    match engine {
        Some(engine) => command.envs(engine.client_environment()),
        None => command.arg("--cached").env("DOCKER_HOST", "none"),
    };
    // A group of its own, so that whoever interrupts a build can end all of it.
    let child = command.stdout(Stdio::piped()).process_group(0).spawn();
    let child = child.with_context(|| format!("start {}", script.display()))?;
    BUILD_GROUP.store(i32::try_from(child.id())?, Ordering::SeqCst);
    let output = child.wait_with_output().with_context(|| format!("wait for {}", script.display()));
    BUILD_GROUP.store(0, Ordering::SeqCst);
    let output = output?;
    if !output.status.success() {
        if engine.is_none() {
            return Ok(None);
        }
        bail!("{} failed ({}); what it said is above", script.display(), output.status);
    }
    let words = String::from_utf8(output.stdout).context("read the build's reference")?;
    let reference = words.lines().last().unwrap_or_default();
    let parts = reference.strip_prefix(&registry.address).and_then(|rest| rest.strip_prefix('/')?.split_once('@'));
    let (repository, digest) = parts.with_context(|| format!("`{reference}` is no reference by digest"))?;
    Ok(Some(Image { repository: repository.to_owned(), digest: digest.to_owned() }))
}

/// A port that was free a moment ago. Another program may take it first: the registry then fails to start, and
/// says so.
fn free_loopback_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("read the free port")?.to_string())
}
