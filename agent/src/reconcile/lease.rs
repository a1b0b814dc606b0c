//! When the host's leases were last renewed, and what of that outlives the agent.
//!
//! A part of [`super::Reconciler`]. The rules are in [`crate::plan::lease`]. The file is no mark of the ledger: what it
//! forgets only ends a lease sooner. So it is written at most four times a term, and a disk that refuses it stops nobody.

use std::time::Duration;

use launchpad_protocol::report::LEASE_ENDED;
use launchpad_protocol::session::Renewal;
use launchpad_protocol::spec::HostSpec;
use launchpad_protocol::time::BootMoment;
use serde::{Deserialize, Serialize};

use super::Reconciler;
use crate::disk::{Disk, Found};
use crate::plan::Standing;
use crate::plan::lease::{renewed, shortest_term};

/// The file's name.
const LEASE: &str = "lease";

/// Into how many parts a term is cut for writing: a restarted agent finds three quarters of a lease at least.
const WRITES_PER_TERM: u32 = 4;

/// The host's leases in this boot.
#[derive(Debug)]
pub(super) struct HostLease {
    disk: Disk,
    boot_id: String,
    renewed_at: Option<BootMoment>,
    /// What the file says.
    written: Option<BootMoment>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    /// The boot whose clock the moment is on.
    boot_id: String,
    /// When the leases were renewed.
    renewed_at_us: u64,
}

impl HostLease {
    /// What the agent's last life has left, if it was in this boot.
    pub(super) fn open(disk: Disk, boot_id: &str) -> Self {
        let page = match disk.read(LEASE) {
            Ok(Found::Whole(bytes)) => serde_json::from_slice::<Page>(&bytes).ok(),
            Ok(Found::Nothing | Found::SetAside(_)) => None,
            Err(error) => {
                tracing::warn!(%error, "the lease cannot be read: failover bots wait for the coordinator");
                None
            }
        };
        let same_boot = page.filter(|page| page.boot_id == boot_id);
        let renewed_at = same_boot.map(|page| BootMoment::from_micros(page.renewed_at_us));
        Self { disk, boot_id: boot_id.to_owned(), renewed_at, written: renewed_at }
    }

    pub(super) const fn renewed_at(&self) -> Option<BootMoment> {
        self.renewed_at
    }

    /// Takes a word of the coordinator in.
    pub(super) fn take(&mut self, word: Renewal, spec: Option<&HostSpec>, now: BootMoment) {
        let shortest = spec.and_then(shortest_term);
        self.renewed_at = renewed(self.renewed_at, word, shortest, now);
        if let (Some(at), Some(term)) = (self.renewed_at, shortest) {
            self.keep(at, term);
        }
    }

    fn keep(&mut self, at: BootMoment, term: Duration) {
        if self.written.is_some_and(|written| at < written + term / WRITES_PER_TERM) {
            return;
        }
        let page = Page { boot_id: self.boot_id.clone(), renewed_at_us: at.micros() };
        let written = serde_json::to_vec(&page).map_err(|error| error.to_string());
        let written = written.and_then(|text| self.disk.write(LEASE, &text).map_err(|error| error.to_string()));
        match written {
            Ok(()) => self.written = Some(at),
            Err(error) => tracing::warn!(%error, "the lease cannot be written: a restart of the agent may end it"),
        }
    }
}

impl Reconciler {
    /// Takes in that the coordinator has heard this host. Whoever waits for that waits no longer.
    pub(super) fn renew(&mut self, word: Renewal) {
        let spec = self.parts.ledger.spec().cloned();
        self.lease.take(word, spec.as_deref(), self.parts.clock.boot());
        let waits = |standing: &Standing| standing.reason.as_ref().is_some_and(|reason| reason.code == LEASE_ENDED);
        if self.plan.standings.values().any(waits) {
            self.look_within(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use launchpad_protocol::generation::Generation;
    use launchpad_protocol::spec::Lease;

    use super::*;

    const TERM: Duration = Duration::from_secs(40);

    fn at(seconds: u64) -> BootMoment {
        BootMoment::from_micros(seconds * 1_000_000)
    }

    fn keep_at(lease: &mut HostLease, seconds: u64) {
        lease.renewed_at = Some(at(seconds));
        lease.keep(at(seconds), TERM);
    }

    #[test]
    fn a_restarted_agent_finds_a_lease_of_this_boot_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        keep_at(&mut HostLease::open(disk.clone(), "one"), 100);
        assert_eq!(HostLease::open(disk.clone(), "one").renewed_at(), Some(at(100)));
        assert_eq!(HostLease::open(disk, "another").renewed_at(), None);
    }

    #[test]
    fn it_is_written_four_times_a_term_and_what_is_found_is_never_newer_than_what_was_granted() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut lease = HostLease::open(disk.clone(), "one");
        let mut found = std::collections::BTreeSet::new();
        for seconds in 100..=140 {
            keep_at(&mut lease, seconds);
            let kept = HostLease::open(disk.clone(), "one").renewed_at().unwrap();
            assert!(kept <= at(seconds) && at(seconds) < kept + TERM / 4);
            found.insert(kept);
        }
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_damaged_lease_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        keep_at(&mut HostLease::open(disk.clone(), "one"), 100);
        std::fs::write(disk.path(LEASE), "half a p").unwrap();
        assert_eq!(HostLease::open(disk, "one").renewed_at(), None);
    }

    #[test]
    fn a_host_without_failover_instances_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut lease = HostLease::open(disk.clone(), "one");
        let uuid = uuid::Uuid::from_u128(1);
        let (host, incarnation) = (uuid.into(), uuid.into());
        let nothing = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        let spec = HostSpec {
            host,
            incarnation,
            generation: Generation(1),
            instances: nothing.0,
            tombstones: nothing.1,
            upgrade: None,
        };
        lease.take(Renewal { from: at(1), grants: true }, Some(&spec), at(2));
        assert_eq!((lease.renewed_at(), disk.path(LEASE).exists()), (Some(at(1)), false));
        assert_eq!(shortest_term(&spec), None, "{:?} needs none", Lease::Keep);
    }
}
