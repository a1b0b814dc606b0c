//! What this host is and can enforce, and what would mend what it cannot.
//!
//! `launchpad-agent doctor` prints it, and the report carries it ([`LiveFacts`]). Gathering ([`examine`]) and
//! judging (`doctor/checks.rs`) are apart: the second is pure. Nothing is changed here.
//!
//! ```text
//! sockets, /proc, statvfs ──examine──► Examination ──► text for people   (doctor)
//!                                          └─────────► Capability by name (report)
//! ```

mod checks;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_protocol::capability::{LIMITS, LIVE_RESTORE, SECCOMP, SHARED_POOL_NEEDS};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{Capability, Capacity};
use nix::sys::statvfs::statvfs;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tokio_util::task::AbortOnDropHandle;

use self::checks::ENGINE;
use crate::execute::cgroup::MILLIS_PER_CORE;
use crate::execute::engine::Engine;
use crate::execute::facts::EngineFacts;
use crate::execute::gate::GateClient;
use crate::execute::places::Places;
use crate::execute::volume::{Volumes, reach};
use crate::gate::nft;
use crate::reconcile::facts::HostFacts;

/// Bytes of memory that no tenant gets: dockerd and containerd were measured at 51 MB, the agent at 12 MB,
/// and each container's shim at 8 MB; the rest is the host's own.
pub const MEMORY_RESERVE_BYTES: u64 = 512 * 1024 * 1024;

/// The share of the data directory's filesystem that no tenant gets, in percent: images, logs and the
/// journal.
pub const STORAGE_RESERVE_PERCENT: u64 = 10;

/// Between two examinations of a running host: somebody may upgrade Docker or switch live-restore on.
const EXAMINE_EVERY: Duration = Duration::from_secs(600);

/// The same while the engine or the gate is away.
const EXAMINE_AGAIN: Duration = Duration::from_secs(5);

/// Without these a host should not run bots.
const REQUIRED: [&str; 5] = [ENGINE, LIMITS, LIVE_RESTORE, "nftables", SECCOMP];

/// What was found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Its size, or why that is unknown.
    pub capacity: Result<Capacity, Reason>,
    /// What it can enforce.
    pub capabilities: BTreeMap<String, Capability>,
    /// The engine, if it answers.
    pub engine: Option<EngineFacts>,
    /// Whether the gate answers, or need not.
    pub gate_answers: bool,
}

/// What the agent was told that decides where its host is looked at.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// Docker's socket.
    pub docker: PathBuf,
    /// The agent's data.
    pub data_dir: PathBuf,
    /// Where the gate answers; none: the host has not joined, and needs no gate yet.
    pub gate: Option<PathBuf>,
}

/// Looks at the host.
pub async fn examine(at: &Whereabouts) -> Examination {
    let engine = EngineFacts::read(&Engine::behind(&at.docker)).await.map_err(|error| error.reason().clone());
    let places = Places::under(&at.data_dir, &at.data_dir);
    // A volume that the engine does not see is none.
    let volumes = match Volumes::foresee(&places).await {
        Ok(kind) => reach::reaches(&places.volumes(), &at.docker).await.map(|()| kind),
        Err(reason) => Err(reason),
    };
    let gate = match &at.gate {
        Some(run_dir) => GateClient::at(run_dir).look().await.map(drop),
        None => Ok(()),
    };
    let gate_answers = gate.is_ok();
    let capabilities = checks::capabilities(engine.as_ref(), nft::usable().await, volumes, gate);
    Examination { capacity: capacity(&at.data_dir), capabilities, engine: engine.ok(), gate_answers }
}

impl Examination {
    /// What a host must be able to do, and this one cannot. What only the engine could tell is not counted
    /// beside an engine that does not answer: it is one thing to mend.
    #[must_use]
    pub fn missing(&self) -> Vec<&Reason> {
        let known = REQUIRED.iter().filter(|name| !self.is_unchecked(name));
        known.filter_map(|name| self.capabilities.get(*name).and_then(reason)).collect()
    }

    /// Whether somebody does not answer who will soon: both are started with the host.
    const fn awaits_somebody(&self) -> bool {
        self.engine.is_none() || !self.gate_answers
    }

    /// Whether that could not be looked at, because the engine does not answer.
    fn is_unchecked(&self, name: &str) -> bool {
        self.engine.is_none() && checks::needs_engine(name)
    }

    /// For a terminal: what is well on a line, what is not with its mend.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        if let Some(engine) = &self.engine {
            line(&format!("Docker {}, API {}", engine.version, engine.api));
        }
        match &self.capacity {
            Ok(size) => line(&format!(
                "for tenants: {} cores, {} MiB of memory, {} GiB of storage",
                f64::from(size.cpu_millis) / f64::from(MILLIS_PER_CORE),
                size.memory_bytes >> 20,
                size.storage_bytes >> 30
            )),
            Err(reason) => line(&reason.paragraph()),
        }
        for (name, capability) in self.capabilities.iter().filter(|(name, _)| !self.is_unchecked(name)) {
            let need = if REQUIRED.contains(&name.as_str()) { "MISSING" } else { "absent" };
            match reason(capability) {
                None => line(&format!("ok       {name}")),
                Some(reason) => line(&format!("{need:8} {}", reason.paragraph())),
            }
        }
        let unchecked: Vec<&str> = self.capabilities.keys().map(String::as_str).collect();
        let unchecked: Vec<&str> = unchecked.into_iter().filter(|name| self.is_unchecked(name)).collect();
        if !unchecked.is_empty() {
            line(&format!("unknown  {}: only the engine can tell", unchecked.join(", ")));
        }
        let missing = self.missing().len();
        let verdict =
            if missing == 0 { "this host can run bots".to_owned() } else { format!("{missing} to mend first") };
        let _ = writeln!(text, "{verdict}");
        let _ = writeln!(text, "{}", self.shared_pool());
        text
    }

    /// Whether a pool whose tenants share hosts would take this one: the coordinator judges by the same list.
    fn shared_pool(&self) -> String {
        if self.engine.is_none() {
            return "whether a shared pool takes it, only the engine can tell".to_owned();
        }
        let holds = |name: &&str| matches!(self.capabilities.get(*name), Some(Capability::Present));
        let lacks: Vec<&str> = SHARED_POOL_NEEDS.into_iter().filter(|name| !holds(name)).collect();
        if lacks.is_empty() {
            return "a shared pool takes it".to_owned();
        }
        let accepts: Vec<String> = lacks.iter().map(|name| format!("\"{name}\"")).collect();
        format!(
            "a shared pool refuses it for {}: mend that, or have the pool say `accepts = [{}]`",
            lacks.join(", "),
            accepts.join(", ")
        )
    }
}

/// The kernel's boot id; the text is empty where `/proc` is not what it should be.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// What tenants may be given of this host, storage being that of the data directory's filesystem.
///
/// # Errors
/// When that filesystem cannot be asked.
pub fn capacity(data_dir: &Path) -> Result<Capacity, Reason> {
    // Before the agent has run for the first time, its directory's future parent is as good.
    let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = statvfs(there).map_err(|errno| {
        Reason::new("storage-unknown", format!("cannot ask how large {} is", there.display()))
            .because(errno.to_string())
    })?;
    let storage = found.blocks().saturating_mul(found.fragment_size());
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let memory = System::new_with_specifics(memory).map_err(|error| {
        Reason::new("memory-unknown", "cannot ask how much memory the host has").because(error.to_string())
    })?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    Ok(Capacity {
        cpu_millis: cores.saturating_mul(MILLIS_PER_CORE),
        memory_bytes: memory.total_memory().saturating_sub(MEMORY_RESERVE_BYTES),
        storage_bytes: storage / 100 * (100 - STORAGE_RESERVE_PERCENT),
    })
}

const fn reason(capability: &Capability) -> Option<&Reason> {
    match capability {
        Capability::Present => None,
        Capability::Absent { reason } => Some(reason),
    }
}

/// The facts of a host that an agent runs on: examined now and then, in a task of their own.
#[derive(Debug)]
pub struct LiveFacts {
    boot_id: String,
    found: Arc<Mutex<Examination>>,
    _task: AbortOnDropHandle<()>,
}

impl LiveFacts {
    /// Examines the host once, and from then on beside everything else.
    pub async fn watch(at: Whereabouts) -> Self {
        let first = examine(&at).await;
        let found = Arc::new(Mutex::new(first));
        let newest = Arc::clone(&found);
        let task = async move {
            loop {
                let away = newest.lock().unwrap_or_else(PoisonError::into_inner).awaits_somebody();
                tokio::time::sleep(if away { EXAMINE_AGAIN } else { EXAMINE_EVERY }).await;
                let examination = examine(&at).await;
                *newest.lock().unwrap_or_else(PoisonError::into_inner) = examination;
            }
        };
        Self { boot_id: boot_id(), found, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    fn read<T>(&self, pick: impl FnOnce(&Examination) -> T) -> T {
        pick(&self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HostFacts for LiveFacts {
    fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn capacity(&self) -> Capacity {
        self.read(|found| found.capacity.clone().unwrap_or_default())
    }

    fn capabilities(&self) -> BTreeMap<String, Capability> {
        self.read(|found| found.capabilities.clone())
    }
}

#[cfg(test)]
mod tests {
    use launchpad_protocol::capability::EGRESS_POLICY;

    use super::*;
    use crate::execute::facts::tests::capable;

    fn examined(engine: Result<&EngineFacts, &Reason>) -> Examination {
        let capacity = Ok(Capacity { cpu_millis: 2500, memory_bytes: 7 << 30, storage_bytes: 90 << 30 });
        let capabilities = checks::capabilities(engine, Ok(()), Ok("ext4-image"), Ok(()));
        Examination { capacity, capabilities, engine: engine.ok().cloned(), gate_answers: true }
    }

    #[test]
    fn a_host_without_live_restore_is_told_so_and_how_to_mend_it() {
        let facts = EngineFacts { live_restore: false, cgroup_v2: false, ..capable() };
        let found = examined(Ok(&facts));
        assert_eq!(
            found.missing().iter().map(|reason| reason.code.as_str()).collect::<Vec<_>>(),
            ["no-live-restore"]
        );
        insta::assert_snapshot!(found.text());
    }

    #[test]
    fn every_absence_of_the_engine_names_a_mend() {
        let away = Reason::new("engine-away", "Docker does not answer").mend("start it");
        let found = examined(Err(&away));
        for name in REQUIRED.iter().filter(|name| **name != "nftables") {
            let Some(Capability::Absent { reason }) = found.capabilities.get(*name) else {
                panic!("{name} is there")
            };
            assert!(reason.mend.is_some(), "{name}");
        }
        assert!(checks::ENGINE_CHECKS.iter().all(|check| !check.mend.is_empty()));
    }

    #[test]
    fn an_engine_that_is_away_is_told_once_with_what_could_not_be_looked_at() {
        let away = Reason::new("engine-away", "Docker does not answer").mend("start it");
        let found = examined(Err(&away));
        assert_eq!(found.missing(), [&away]);
        insta::assert_snapshot!(found.text());
    }

    #[test]
    fn a_capable_host_lacks_nothing_that_it_must_have() {
        assert_eq!(examined(Ok(&capable())).missing(), Vec::<&Reason>::new());
    }

    #[test]
    fn a_host_that_keeps_tenants_apart_is_one_for_a_shared_pool() {
        let facts = EngineFacts { remapped: Some((200_000, 200_000)), ..capable() };
        let found = examined(Ok(&facts)).text();
        assert!(found.ends_with("this host can run bots\na shared pool takes it\n"), "{found}");
    }

    #[tokio::test]
    async fn a_host_that_has_joined_and_has_no_gate_keeps_no_egress_policy() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, data_dir) = (dir.path().join("docker.sock"), dir.path().join("data"));
        let at = Whereabouts { docker, data_dir, gate: Some(dir.path().to_owned()) };
        let found = examine(&at).await;
        let Some(Capability::Absent { reason }) = found.capabilities.get(EGRESS_POLICY) else {
            panic!("{}", found.text())
        };
        assert!(reason.mend.is_some() && !found.gate_answers, "{reason}");
    }

    #[tokio::test]
    async fn no_docker_is_a_finding_and_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, data_dir) = (dir.path().join("docker.sock"), dir.path().join("not yet there"));
        let found = examine(&Whereabouts { docker, data_dir, gate: None }).await;
        assert!(found.missing().iter().any(|reason| reason.code == "engine-away"), "{}", found.text());
        assert!(found.capacity.unwrap().storage_bytes > 0);
    }
}
