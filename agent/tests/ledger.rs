//! What the ledger promises: floors never fall, nothing accepted is lost, and damage is told and survived.

use std::fs;
use std::path::Path;

use launchpad_agent::disk::Disk;
use launchpad_agent::ledger::Ledger;
use launchpad_agent::plan::marks::OperationMark;
use launchpad_protocol::generation::{Epoch, Generation, Revision};
use launchpad_protocol::id::{DeploymentId, HostId, OperationId};
use launchpad_protocol::report::Outcome;
use launchpad_protocol::spec::{Operation, OperationAction, SpecOffer, Tombstone, TombstoneScope};
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::encode_spec;

mod support;

use support::{bot, id, spec};

fn host() -> HostId {
    id(0xf)
}

fn offer(generation: u64) -> SpecOffer {
    encode_spec(&spec(generation, [bot()]))
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(Disk::open(dir).expect("a directory"), host()).expect("a ledger")
}

fn codes(ledger: &Ledger) -> Vec<&str> {
    ledger.troubles().iter().map(|reason| reason.code.as_str()).collect()
}

/// A ledger that holds generation 5, closed.
fn holding_five() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let judged = open(dir.path()).offer(&offer(5)).expect("written");
    assert_eq!((judged.held, judged.refusal), (Some(offer(5).accepted()), None));
    dir
}

fn damage(dir: &Path, name: &str) {
    let path = dir.join(name);
    let mut bytes = fs::read(&path).expect("a state file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).expect("damage");
}

fn damage_both(dir: &Path, name: &str) {
    damage(dir, name);
    damage(dir, &format!("{name}.copy"));
}

#[test]
fn what_one_file_has_lost_its_copy_still_knows() {
    let dir = holding_five();
    open(dir.path()).local_stop(bot().deployment, Some(Revision(1))).expect("written");
    for name in ["spec", "marks", "spec.copy", "marks.copy"] {
        damage(dir.path(), name);
        let ledger = open(dir.path());
        assert_eq!(codes(&ledger).len(), usize::from(!name.ends_with(".copy")), "{name}: {:?}", ledger.troubles());
        assert_eq!(ledger.floor().accepted, Some(offer(5).accepted()), "{name}");
        assert!(ledger.marks().is_stopped_here(bot().deployment, Revision(1)), "{name}");
        drop(ledger);
        // Made again, both of them, before the next is damaged.
        let mut ledger = open(dir.path());
        assert!(ledger.troubles().is_empty(), "{name}: {:?}", ledger.troubles());
        ledger.local_stop(bot().deployment, Some(Revision(1))).expect("written");
    }
}

#[test]
fn what_was_accepted_is_held_by_the_next_life() {
    let dir = holding_five();
    let ledger = open(dir.path());
    assert_eq!(ledger.floor().accepted, Some(offer(5).accepted()));
    assert_eq!(ledger.spec().map(|held| held.instances.len()), Some(1));
    assert!(ledger.troubles().is_empty());
}

#[test]
fn what_is_older_or_forked_or_anothers_is_refused_and_changes_nothing() {
    let dir = holding_five();
    let mut ledger = open(dir.path());
    let mut forked = spec(5, [bot()]);
    forked.incarnation = id(0x2);
    let mut foreign = spec(9, [bot()]);
    foreign.host = id(0xbad);
    for (refused, code) in [
        (offer(4), "spec-below-floor"),
        (encode_spec(&forked), "spec-below-floor"),
        (encode_spec(&foreign), "spec-foreign"),
        (SpecOffer { bytes: b"no spec".to_vec(), ..offer(9) }, "spec-unreadable"),
    ] {
        let judged = ledger.offer(&refused).expect("judged");
        assert_eq!(judged.refusal.map(|reason| reason.code).as_deref(), Some(code));
        assert_eq!(judged.held, Some(offer(5).accepted()));
    }
    assert_eq!(open(dir.path()).floor().accepted, Some(offer(5).accepted()));
}

#[test]
fn a_damaged_spec_is_set_aside_and_its_floor_still_stands() {
    let dir = holding_five();
    damage_both(dir.path(), "spec");
    let mut ledger = open(dir.path());
    assert_eq!(codes(&ledger), ["ledger-damaged"]);
    assert!(dir.path().join("spec.damaged-1").exists(), "nothing is thrown away");
    assert_eq!(ledger.floor().accepted, None, "what is lost is asked for again");
    let older = ledger.offer(&offer(4)).expect("judged");
    assert!(older.refusal.is_some());
    assert_eq!(older.held, Some(offer(5).accepted()), "the refusal tells of the floor");
    let same = ledger.offer(&offer(5)).expect("judged");
    assert_eq!(same.refusal, None);
    assert!(ledger.spec().is_some() && ledger.troubles().is_empty());
}

#[test]
fn damaged_marks_are_made_again_from_the_spec() {
    let dir = holding_five();
    damage_both(dir.path(), "marks");
    let mut ledger = open(dir.path());
    assert_eq!(codes(&ledger), ["ledger-damaged"]);
    assert_eq!(ledger.marks().floor, Some(offer(5).accepted()));
    assert_eq!(ledger.marks().epochs.get(&bot().deployment), Some(&Epoch(1)));
    assert!(ledger.offer(&offer(4)).expect("judged").refusal.is_some());
}

#[test]
fn a_death_between_the_two_files_raises_the_floor_at_the_next_start() {
    let dir = holding_five();
    let marks = fs::read(dir.path().join("marks")).expect("marks");
    open(dir.path()).offer(&offer(6)).expect("written");
    fs::write(dir.path().join("marks"), marks).expect("as if the agent had died before");
    let mut ledger = open(dir.path());
    assert_eq!(ledger.marks().floor, Some(offer(6).accepted()));
    assert!(ledger.offer(&offer(5)).expect("judged").refusal.is_some());
}

#[test]
fn a_spec_below_its_own_floor_is_not_believed() {
    let dir = holding_five();
    let old = fs::read(dir.path().join("spec")).expect("a spec");
    open(dir.path()).offer(&offer(6)).expect("written");
    for name in ["spec", "spec.copy"] {
        fs::write(dir.path().join(name), &old).expect("an old one put back");
    }
    let ledger = open(dir.path());
    assert_eq!(ledger.marks().floor, Some(offer(6).accepted()), "a floor never falls");
    assert_eq!((ledger.floor().accepted, codes(&ledger)), (None, vec!["ledger-damaged"]));
}

#[test]
fn a_host_that_joins_anew_begins_its_ledger_anew_and_keeps_the_old_one_aside() {
    let dir = holding_five();
    let disk = Disk::open(dir.path()).expect("a directory");
    let mut ledger = Ledger::open(disk, id(0xf2)).expect("a ledger");
    assert_eq!(codes(&ledger), ["joined-anew"]);
    let mut first = spec(1, [bot()]);
    first.host = id(0xf2);
    assert_eq!(ledger.offer(&encode_spec(&first)).expect("judged").refusal, None);
    assert!(dir.path().join("spec.damaged-1").exists() && dir.path().join("marks.damaged-1").exists());
}

#[test]
fn a_disk_that_refuses_changes_nothing_in_memory() {
    let dir = holding_five();
    let mut ledger = open(dir.path());
    // Not even root writes into a folder that is gone.
    fs::remove_dir_all(dir.path()).expect("removed");
    assert!(ledger.offer(&offer(6)).is_err());
    assert!(ledger.local_stop(bot().deployment, Some(Revision(1))).is_err());
    assert_eq!(ledger.floor().accepted, Some(offer(5).accepted()));
    assert!(!ledger.marks().is_stopped_here(bot().deployment, Revision(1)));
}

#[test]
fn stops_operations_and_burials_outlive_the_agent_and_go_with_what_they_are_about() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (restart, stopped): (OperationId, DeploymentId) = (id(0x0b), bot().deployment);
    let mut wish = bot();
    wish.operations.push(Operation { id: restart, action: OperationAction::Restart });
    let mut first = spec(1, [wish]);
    let stop_grace = bot().stop_grace;
    let scope = TombstoneScope::Data;
    let tombstone = Tombstone { id: id(0x70), deployment: id(0xdead), account: id(0xa), scope, stop_grace };
    first.tombstones.insert(tombstone.id, tombstone);
    let mut ledger = open(dir.path());
    ledger.offer(&encode_spec(&first)).expect("written");
    ledger.local_stop(stopped, Some(Revision(1))).expect("written");
    ledger.begin_operation(restart, [].into()).expect("written");
    ledger.finish_operation(restart, Outcome::Done { at: Moment::from_micros(7) }).expect("written");
    ledger.bury(id(0x70)).expect("written");

    let mut ledger = open(dir.path());
    let marks = ledger.marks();
    assert!(marks.is_stopped_here(stopped, Revision(1)) && !marks.is_stopped_here(stopped, Revision(2)));
    assert!(matches!(marks.operations.get(&restart), Some(OperationMark::Ended(Outcome::Done { .. }))));
    assert!(marks.buried.contains(&id(0x70)));

    // The coordinator has heard of all that, and wishes for a newer revision.
    let mut wish = bot();
    wish.revision = Revision(2);
    ledger.offer(&encode_spec(&spec(2, [wish]))).expect("written");
    let marks = open(dir.path()).marks().clone();
    assert!(marks.operations.is_empty() && marks.buried.is_empty() && marks.local_stops.is_empty());
    assert_eq!(marks.floor.map(|floor| floor.generation), Some(Generation(2)));
}

#[test]
fn an_epoch_floor_goes_only_with_the_data() {
    let dir = holding_five();
    let mut ledger = open(dir.path());
    let stop_grace = bot().stop_grace;
    for (generation, scope, left) in [(6, TombstoneScope::Container, Some(Epoch(1))), (7, TombstoneScope::Data, None)]
    {
        let mut wish = spec(generation, []);
        let tombstone = Tombstone {
            id: id(generation.into()),
            deployment: bot().deployment,
            account: id(0xa),
            scope,
            stop_grace,
        };
        wish.tombstones.insert(tombstone.id, tombstone);
        ledger.offer(&encode_spec(&wish)).expect("written");
        ledger.bury(id(generation.into())).expect("written");
        assert_eq!(ledger.marks().epochs.get(&bot().deployment).copied(), left, "{scope:?}");
    }
}
