//! A coordinator whose store is an older copy: it freezes, hosts run on, nothing is stopped, and an operator decides.
//!
//! ```text
//!   deploy ─► copy ─► deploy, delete, restart ─► copy put back ─► frozen ─► looked at ─► confirmed ─► goes on
//! ```

mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use launchpad_tests::deployment::{Deployment, Identity, SOON, identity};
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::wait_for;
use serde_json::Value;
use terminal::Line;

/// What SQLite keeps beside a database.
const SIDES: [&str; 2] = ["-wal", "-shm"];

fn database(lab: &mut Lab) -> Result<PathBuf> {
    Ok(lab.coordinator()?.place().data.join("coordinator.db"))
}

fn beside(database: &Path, side: &str) -> PathBuf {
    PathBuf::from(format!("{}{side}", database.display()))
}

/// An operator's copy: the coordinator is stopped, its file copied, and it goes on.
fn copy_store(lab: &mut Lab) -> Result<PathBuf> {
    let copy = lab.dir().join("copy.db");
    let database = database(lab)?;
    lab.coordinator()?.process().stop()?;
    assert!(!beside(&database, "-wal").exists(), "a stopped coordinator leaves all of its store in one file");
    fs::copy(&database, &copy)?;
    lab.coordinator()?.restart()?;
    Ok(copy)
}

/// Restores the copy as an operator does, and answers what the command said.
fn restore(lab: &mut Lab, copy: &Path) -> Result<String> {
    let data = lab.coordinator()?.place().data.clone();
    lab.coordinator()?.process().stop()?;
    let restore = ["restore".as_ref(), "--data-dir".as_ref(), data.as_os_str(), "--from".as_ref(), copy.as_os_str()];
    let told = Line::of("launchpad-coordinator")?.args(restore).run()?.done()?;
    lab.coordinator()?.restart()?;
    Ok(told)
}

fn wait_frozen(lab: &Lab, code: &str) -> Result<Value> {
    let api = lab.api()?;
    wait_for("publishing to be frozen, and the host to be back", SOON, || {
        let seen = api.get("/recovery")?.success()?;
        let so = seen["frozen"] == true && seen["reason"]["code"] == code && seen["hosts"][0]["connected"] == true;
        Ok(if so { Ok(seen) } else { Err(seen.to_string()) })
    })
}

fn recover(lab: &mut Lab, verb: &str) -> Result<String> {
    let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
    Line::launchpad(&api, &token)?.args(["recover", verb]).run()?.done()
}

/// Everything that runs on the host, with what must not change of it.
fn running(lab: &mut Lab) -> Result<Vec<Identity>> {
    let engine = &lab.host(0)?.engine;
    let mut found =
        engine.running()?.iter().map(|container| identity(engine, container)).collect::<Result<Vec<_>>>()?;
    found.sort_by(|one, other| one.container.cmp(&other.container));
    Ok(found)
}

#[test]
fn a_restored_coordinator_stops_and_starts_nothing_until_an_operator_confirms() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let kept = Deployment::running(&lab, "kept")?;
    let restarted = Deployment::running(&lab, "restarted")?;
    let (deleted_again, forgotten) = (Deployment::running(&lab, "doomed")?, Deployment::running(&lab, "forgotten")?);
    lab.wait_settled(0)?;
    let copy = copy_store(&mut lab)?;

    // A life that the copy knows nothing of.
    let late = Deployment::running(&lab, "late")?;
    let first = restarted.identity(&lab.host(0)?.engine)?;
    restarted.restart()?;
    let engine = &lab.host(0)?.engine;
    restarted.wait("a new process", |now| {
        now["state"] == "running" && restarted.identity(engine).is_ok_and(|now| now.started_at != first.started_at)
    })?;
    for gone in [&deleted_again, &forgotten] {
        gone.delete(true)?;
        gone.wait_state("terminated")?;
    }
    let floor = lab.wait_settled(0)?["generation"]["accepted"].as_u64().context("the host holds a spec")?;
    let (before, late_container) = (running(&mut lab)?, late.identity(&lab.host(0)?.engine)?.container);
    assert_eq!(before.len(), 3);

    let told = restore(&mut lab, &copy)?;
    assert!(told.contains("frozen") && told.contains("launchpad recover confirm"), "{told}");
    let kept_aside =
        told.lines().last().and_then(|line| line.split(" kept as ").nth(1)).context("the store before")?;
    assert!(Path::new(kept_aside).is_file(), "{told}");
    let seen = wait_frozen(&lab, "restored")?;
    let published = seen["hosts"][0]["published"].as_u64().context("the copy knows a spec")?;
    assert!(published < floor && seen["hosts"][0]["floor"] == floor, "{seen}");
    let told = recover(&mut lab, "status")?;
    assert!(told.contains("frozen") && told.contains(&copy.display().to_string()), "{told}");
    let new = Deployment::create(&lab, "new", "")?;
    // What was deleted after the copy is back in the list: the operator deletes one of the two again.
    deleted_again.delete(true)?;
    lab.wait_for_report(0)?;
    assert_eq!(running(&mut lab)?, before);
    assert_eq!(lab.shown(0)?["generation"]["published"], published);
    let waiting = new.get()?;
    assert!(waiting["state"] == "requested" && waiting["instance"].is_null(), "{waiting}");
    assert!(waiting["reason"].to_string().contains("launchpad recover confirm"), "why it waits: {waiting}");

    let told = recover(&mut lab, "confirm")?;
    assert!(told.contains("goes on"), "{told}");
    new.wait_state("running")?;
    deleted_again.wait_state("terminated")?;
    // The other is what the copy says it is: a bot that should run. The reason of the restore said so.
    forgotten.wait_state("running")?;
    let after = lab.wait_settled(0)?;
    assert!(after["generation"]["published"].as_u64() > Some(floor), "{after}");
    let now = running(&mut lab)?;
    for untouched in &before {
        assert!(now.contains(untouched), "{untouched:?} is not in {now:?}");
    }
    assert_eq!(now.len(), 5, "kept, restarted, late, new and forgotten: {now:?}");
    for deployment in [&kept, &restarted] {
        deployment.wait_state("running")?;
        assert!(before.contains(&deployment.identity(&lab.host(0)?.engine)?));
    }
    // Nobody named the late one: it runs on, and the host tells of it.
    assert_eq!(lab.api()?.get(&format!("/deployments/{}", late.id))?.status, 404);
    let orphans = after["orphans"].as_array().context("a host lists its orphans")?;
    assert_eq!(orphans.len(), 1, "{after}");
    assert_eq!((&orphans[0]["container_id"], &orphans[0]["running"]), (&late_container.into(), &true.into()));
    assert_eq!(orphans[0]["deployment"], late.id.as_str());
    lab.close()
}

#[test]
fn a_wish_of_the_copy_that_was_carried_out_since_is_not_carried_out_again() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let steady = Deployment::running(&lab, "steady")?;
    let first = steady.identity(&lab.host(0)?.engine)?;
    // The host is away: the copy holds a restart and a deployment that nobody has carried out yet.
    lab.host(0)?.agent()?.kill()?;
    steady.restart()?;
    let placed_later = Deployment::create(&lab, "placed-later", "")?;
    let copy = copy_store(&mut lab)?;
    lab.start_agent(0)?;
    placed_later.wait_state("running")?;
    let engine = &lab.host(0)?.engine;
    steady.wait("a new process", |now| {
        now["state"] == "running" && steady.identity(engine).is_ok_and(|now| now.started_at != first.started_at)
    })?;
    lab.wait_settled(0)?;
    let before = running(&mut lab)?;
    assert_eq!(before.len(), 2);

    restore(&mut lab, &copy)?;
    wait_frozen(&lab, "restored")?;
    lab.wait_for_report(0)?;
    recover(&mut lab, "confirm")?;
    lab.wait_settled(0)?;
    for deployment in [&steady, &placed_later] {
        deployment.wait_state("running")?;
    }
    assert_eq!(running(&mut lab)?, before);
    lab.close()
}

#[test]
fn a_copy_that_was_put_back_by_hand_freezes_when_a_host_shows_what_it_holds() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let kept = Deployment::running(&lab, "kept")?;
    let copy = copy_store(&mut lab)?;
    let late = Deployment::running(&lab, "late")?;
    let floor = lab.wait_settled(0)?["generation"]["accepted"].as_u64();
    let before = running(&mut lab)?;

    let database = database(&mut lab)?;
    lab.coordinator()?.process().stop()?;
    for side in SIDES {
        assert!(!beside(&database, side).exists());
    }
    fs::copy(&copy, &database)?;
    lab.coordinator()?.restart()?;
    let seen = wait_frozen(&lab, "host-above-store")?;
    assert!(seen["reason"]["sentence"].as_str().is_some_and(|told| told.contains("h1")), "{seen}");
    assert!(seen["reason"]["mend"].as_str().is_some_and(|told| told.contains("recover confirm")), "{seen}");
    let new = Deployment::create(&lab, "new", "")?;
    lab.wait_for_report(0)?;
    assert_eq!(running(&mut lab)?, before);

    recover(&mut lab, "confirm")?;
    new.wait_state("running")?;
    kept.wait_state("running")?;
    let after = lab.wait_settled(0)?;
    assert!(after["generation"]["published"].as_u64() > floor, "{after}");
    let now = running(&mut lab)?;
    assert!(before.iter().all(|untouched| now.contains(untouched)) && now.len() == 3, "{now:?}");
    assert_eq!(after["orphans"][0]["deployment"], late.id.as_str());
    lab.close()
}
