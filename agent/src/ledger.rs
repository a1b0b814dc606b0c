//! The accepted spec and the marks, on disk before anything is done about them.
//!
//! ```text
//!  offer ──► judge against the floor ──► decode ──► write spec ──► raise marks ──► "held"
//!               └ stale, conflict, another host's, unreadable: refused, and nothing is written
//! ```
//! Two files: `spec`, the bytes as they travelled, and `marks`, as JSON. A crash between the two leaves a spec above the
//! floor, and opening raises the floor again. Each has a copy: nobody else knows which bot was stopped on this host, and
//! which operation has begun. A damaged file is set aside, reported, and made again from its copy; where both are damaged,
//! what the other file knows still counts. Writing is synchronous, a few milliseconds at worst, and called by `reconcile` alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use launchpad_protocol::generation::{Accepted, Generation, Revision, Verdict, judge};
use launchpad_protocol::id::{DeploymentId, HostId, OperationId, TombstoneId};
use launchpad_protocol::killpoint::{self, Side};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::{HostSpec, InstanceSpec, Operation, OperationAction, SpecOffer, TombstoneScope};
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire;

use crate::disk::{Disk, DiskError, Found};
use crate::link::ports::{Floor, Judged};
use crate::plan::marks::{Eviction, Marks, OperationMark};

const SPEC: &str = "spec";
const MARKS: &str = "marks";

/// A durable step of the ledger. The tests kill the agent on either side of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The bytes of a newer spec.
    Spec,
    /// The floors that it raises.
    Floors,
    /// An order given on the host: a stop, its end, a restart, an eviction.
    LocalStop,
    /// Which start an operation is about to end.
    BeginOperation,
    /// What became of an operation.
    FinishOperation,
    /// A tombstone carried out.
    Bury,
}

impl Commit {
    /// Every durable step.
    pub const ALL: [Self; 6] =
        [Self::Spec, Self::Floors, Self::LocalStop, Self::BeginOperation, Self::FinishOperation, Self::Bury];

    /// Its name among the kill points: `agent:ledger-floors:after`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spec => "ledger-spec",
            Self::Floors => "ledger-floors",
            Self::LocalStop => "ledger-local-stop",
            Self::BeginOperation => "ledger-begin-operation",
            Self::FinishOperation => "ledger-finish-operation",
            Self::Bury => "ledger-bury",
        }
    }
}

/// The accepted spec and the marks.
#[derive(Debug)]
pub struct Ledger {
    disk: Disk,
    host: HostId,
    held: Option<(Accepted, Arc<HostSpec>)>,
    /// The held spec, with the restarts among its operations that were asked for on this host.
    wished: Option<Arc<HostSpec>>,
    marks: Marks,
    troubles: Vec<Reason>,
}

impl Ledger {
    /// Opens the ledger of this host. What is damaged is set aside and told by [`Ledger::troubles`].
    ///
    /// # Errors
    /// [`DiskError`] when the operating system will not read or move a file.
    pub fn open(disk: Disk, host: HostId) -> Result<Self, DiskError> {
        let mut ledger = Self { disk, host, held: None, wished: None, marks: Marks::default(), troubles: Vec::new() };
        if let Some(marks) = ledger.recall(MARKS, |_, bytes| {
            serde_json::from_slice(bytes).map_err(|error| Reason::new("marks-unreadable", error.to_string()))
        })? {
            ledger.marks = marks;
        }
        ledger.leave_another_hosts()?;
        if let Some((accepted, spec)) = ledger.recall(SPEC, Self::reread)? {
            if ledger.marks.floor != Some(accepted) {
                ledger.raise_floors(accepted, &spec)?;
            }
            ledger.held = Some((accepted, Arc::new(spec)));
        }
        ledger.wish();
        Ok(ledger)
    }

    /// A host that has joined anew begins at generation 1 again: the floors of its former life would refuse every spec.
    fn leave_another_hosts(&mut self) -> Result<(), DiskError> {
        let Some(former) = self.marks.host.filter(|former| *former != self.host) else { return Ok(()) };
        for name in [MARKS, SPEC] {
            self.disk.set_both_aside(name)?;
        }
        self.marks = Marks::default();
        self.troubles.push(
            Reason::new("joined-anew", format!("this host was {former} before it joined anew as {}", self.host))
                .because("its ledger of that time is set aside; bots of that time run on, and belong to nobody here")
                .mend(
                    "find them with docker ps --filter label=launchpad.host, and remove those that run elsewhere now",
                ),
        );
        Ok(())
    }

    /// Where it is: what else outlives the agent lies beside it.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The accepted spec, if one is held. A restart that was asked for on this host stands in it like any other.
    #[must_use]
    pub const fn spec(&self) -> Option<&Arc<HostSpec>> {
        self.wished.as_ref()
    }

    /// The accepted spec as it was accepted.
    #[must_use]
    pub fn accepted_spec(&self) -> Option<&Arc<HostSpec>> {
        self.held.as_ref().map(|(_, spec)| spec)
    }

    /// The marks.
    #[must_use]
    pub const fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What was damaged when the ledger was opened.
    #[must_use]
    pub fn troubles(&self) -> &[Reason] {
        &self.troubles
    }

    /// What the next Hello says. A lost spec is not claimed to be held, so that the coordinator sends it again.
    #[must_use]
    pub fn floor(&self) -> Floor {
        Floor { incarnation: self.marks.incarnation, accepted: self.held.as_ref().map(|(accepted, _)| *accepted) }
    }

    /// Judges an offered spec, and holds it durably if it is newer.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: the old spec counts. If the newer one is on disk already, the next start
    /// finds it.
    pub fn offer(&mut self, offer: &SpecOffer) -> Result<Judged, DiskError> {
        let refusal = match judge_offer(self.host, &self.marks, self.held.is_some(), offer) {
            Ok(None) => None,
            Ok(Some(spec)) => {
                self.hold(offer, spec)?;
                None
            }
            Err(reason) => Some(reason),
        };
        // With a refusal goes the floor that it rests on, also when the spec itself was lost.
        let held = if refusal.is_some() { self.marks.floor } else { self.floor().accepted };
        Ok(Judged { held, refusal })
    }

    /// Writes down that somebody on the host stopped an instance (under that revision), or took it back (`None`).
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed.
    pub fn local_stop(&mut self, deployment: DeploymentId, revision: Option<Revision>) -> Result<(), DiskError> {
        self.change(Commit::LocalStop, |marks| match revision {
            Some(revision) => drop(marks.local_stops.insert(deployment, revision)),
            None => {
                marks.local_stops.remove(&deployment);
                marks.evicted.remove(&deployment);
            }
        })
    }

    /// Writes down that somebody on the host wants an instance restarted. One that is not done yet is not asked for twice.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed.
    pub fn local_restart(&mut self, deployment: DeploymentId, operation: OperationId) -> Result<(), DiskError> {
        self.change(Commit::LocalStop, |marks| {
            marks.local_restarts.entry(deployment).or_insert(operation);
        })
    }

    /// Writes down what somebody on the host wants gone from it.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed.
    pub fn evict(&mut self, evictions: &BTreeMap<DeploymentId, Eviction>) -> Result<(), DiskError> {
        self.change(Commit::LocalStop, |marks| {
            for (deployment, eviction) in evictions {
                marks.evicted.insert(*deployment, eviction.clone());
                marks.local_restarts.remove(deployment);
            }
        })
    }

    /// Writes down which start an operation is about to end.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed, and the operation must not go on.
    pub fn begin_operation(&mut self, operation: OperationId, ends: BTreeSet<Moment>) -> Result<(), DiskError> {
        self.change(Commit::BeginOperation, |marks| {
            marks.operations.insert(operation, OperationMark::Begun { ends });
        })
    }

    /// Writes down what became of an operation.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed.
    pub fn finish_operation(&mut self, operation: OperationId, outcome: Outcome) -> Result<(), DiskError> {
        let clears = self.spec().and_then(|spec| {
            let clears = |found: &&InstanceSpec| {
                let clears =
                    |listed: &Operation| listed.id == operation && listed.action == OperationAction::ClearLocalStop;
                found.operations.iter().any(clears)
            };
            spec.instances.values().find(clears).map(|instance| instance.deployment)
        });
        self.change(Commit::FinishOperation, |marks| {
            if let (Some(deployment), Outcome::Done { .. }) = (clears, &outcome) {
                marks.local_stops.remove(&deployment);
                marks.evicted.remove(&deployment);
            }
            let before = marks.local_restarts.len();
            marks.local_restarts.retain(|_, asked| *asked != operation);
            if marks.local_restarts.len() < before {
                // Nobody but this host has asked, so nobody else waits for the outcome.
                marks.operations.remove(&operation);
            } else {
                marks.operations.insert(operation, OperationMark::Ended(outcome));
            }
        })
    }

    /// Writes down that a tombstone is carried out.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be written: nothing has changed.
    pub fn bury(&mut self, tombstone: TombstoneId) -> Result<(), DiskError> {
        let named = self.spec().and_then(|spec| spec.tombstones.get(&tombstone));
        let destroyed = named.filter(|named| named.scope == TombstoneScope::Data).map(|named| named.deployment);
        self.change(Commit::Bury, |marks| {
            marks.buried.insert(tombstone);
            // Nothing of it is left that could be started, so its lease needs no floor.
            if let Some(deployment) = destroyed {
                marks.epochs.remove(&deployment);
            }
        })
    }

    fn hold(&mut self, offer: &SpecOffer, spec: HostSpec) -> Result<(), DiskError> {
        killpoint::visit("agent", Commit::Spec.name(), Side::Before);
        self.disk.write_twice(SPEC, &offer.bytes)?;
        killpoint::visit("agent", Commit::Spec.name(), Side::After);
        self.raise_floors(offer.accepted(), &spec)?;
        self.held = Some((offer.accepted(), Arc::new(spec)));
        self.wish();
        // Whatever was damaged before has been replaced.
        self.troubles.clear();
        Ok(())
    }

    fn raise_floors(&mut self, accepted: Accepted, spec: &HostSpec) -> Result<(), DiskError> {
        let host = self.host;
        self.change(Commit::Floors, |marks| {
            marks.host = Some(host);
            marks.raise(accepted, spec);
        })
    }

    /// Changes the marks on disk first, then in memory.
    fn change(&mut self, commit: Commit, change: impl FnOnce(&mut Marks)) -> Result<(), DiskError> {
        let mut marks = self.marks.clone();
        change(&mut marks);
        let text = serde_json::to_vec_pretty(&marks).map_err(|error| DiskError::Io {
            step: "encode",
            path: self.disk.path(MARKS),
            source: error.into(),
        })?;
        killpoint::visit("agent", commit.name(), Side::Before);
        self.disk.write_twice(MARKS, &text)?;
        killpoint::visit("agent", commit.name(), Side::After);
        let asked_before = std::mem::replace(&mut self.marks, marks).local_restarts;
        if self.marks.local_restarts != asked_before {
            self.wish();
        }
        Ok(())
    }

    /// Puts together what is held and what was asked for on the host.
    fn wish(&mut self) {
        let restarts = &self.marks.local_restarts;
        self.wished = self.held.as_ref().map(|(_, held)| {
            let mut spec = Arc::clone(held);
            for (deployment, operation) in restarts {
                if let Some(instance) = Arc::make_mut(&mut spec).instances.get_mut(deployment) {
                    instance.operations.push(Operation { id: *operation, action: OperationAction::Restart });
                }
            }
            spec
        });
    }

    fn reread(&self, bytes: &[u8]) -> Result<(Accepted, HostSpec), Reason> {
        let (offer, spec) =
            wire::ledgered_spec(bytes.to_vec()).map_err(|error| Reason::new("spec-unreadable", error.to_string()))?;
        if spec.host != self.host {
            return Err(Reason::new("spec-foreign", format!("it is for {}", spec.host)));
        }
        match judge(self.marks.floor, offer.accepted()) {
            Verdict::Accept | Verdict::Duplicate => Ok((offer.accepted(), spec)),
            Verdict::Stale | Verdict::Conflict => Err(below_floor(&self.marks, &offer, "not")),
        }
    }

    /// What a file says, or its copy, if the file is damaged: then the file is made again.
    fn recall<T>(
        &mut self,
        name: &str,
        understand: impl Fn(&Self, &[u8]) -> Result<T, Reason>,
    ) -> Result<Option<T>, DiskError> {
        let (aside, problem) = match self.disk.read(name)? {
            Found::Nothing => return Ok(None),
            Found::SetAside(aside) => (aside, "its checksum does not match".to_owned()),
            Found::Whole(bytes) => match understand(self, &bytes) {
                Ok(understood) => return Ok(Some(understood)),
                Err(reason) => (self.disk.set_aside(name)?, reason.sentence),
            },
        };
        let copied = match self.disk.read_copy(name)? {
            Found::Whole(bytes) => understand(self, &bytes).ok().map(|understood| (understood, bytes)),
            Found::Nothing | Found::SetAside(_) => None,
        };
        self.troubles.push(damaged(name, &aside, &problem, copied.is_some()));
        let Some((understood, bytes)) = copied else { return Ok(None) };
        self.disk.write(name, &bytes)?;
        Ok(Some(understood))
    }
}

/// Judges an offer to this host against its floor: the spec to hold, nothing to do, or why not. Pure.
///
/// # Errors
/// The refusal, in words for the coordinator.
pub fn judge_offer(
    host: HostId,
    marks: &Marks,
    holds_spec: bool,
    offer: &SpecOffer,
) -> Result<Option<HostSpec>, Reason> {
    match judge(marks.floor, offer.accepted()) {
        Verdict::Duplicate if holds_spec => return Ok(None),
        // The floor remembers a spec that was damaged since: the same bytes are welcome again.
        Verdict::Accept | Verdict::Duplicate => {}
        Verdict::Stale => return Err(below_floor(marks, offer, "older than")),
        Verdict::Conflict => return Err(below_floor(marks, offer, "different from, though numbered like,")),
    }
    let spec = wire::decode_spec(offer).map_err(|error| {
        Reason::new("spec-unreadable", format!("the spec of generation {} cannot be read", offer.generation))
            .because(error.to_string())
            .mend("upgrade the agent on this host")
    })?;
    if spec.host != host {
        return Err(Reason::new("spec-foreign", format!("the spec is for {}, this host is {host}", spec.host))
            .mend("report this: nothing was changed"));
    }
    Ok(Some(spec))
}

fn below_floor(marks: &Marks, offer: &SpecOffer, how: &str) -> Reason {
    let floor = marks.floor.map_or(Generation(0), |floor| floor.generation);
    Reason::new(
        "spec-below-floor",
        format!(
            "the offered spec of generation {} is {how} generation {floor}, which this host holds",
            offer.generation
        ),
    )
    .because("the coordinator's store is older than the fleet, or two stores serve it")
    .mend("confirm the recovery: launchpad recover confirm")
}

fn damaged(name: &str, aside: &std::path::Path, problem: &str, is_whole_again: bool) -> Reason {
    let mend = if is_whole_again {
        "nothing to do: it is made again from its copy; check the disk if it repeats"
    } else {
        "nothing to do: bots run on, and the coordinator sends the spec again; check the disk if it repeats"
    };
    Reason::new("ledger-damaged", format!("the ledger's file `{name}` was damaged and is now {}", aside.display()))
        .because(problem.to_owned())
        .mend(mend)
}
