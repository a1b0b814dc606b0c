//! Journeys of an installation: made by `init`, put back by `restore` or by hand, and confirmed; its keys rotated.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::lab::Lab;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::site::{KILL_AT, Site, id, name_of};
use super::terminal::{Line, Told};

/// Before its commit `init` is run again; after it nobody saw the token, and `init` says what to do instead.
pub(crate) fn initialised(point: &str) -> Result<()> {
    let root = std::env::temp_dir().join(format!("launchpad-init-{}-{}", std::process::id(), name_of(point)));
    fs::create_dir_all(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
    let init = |dir: &str| Ok::<_, anyhow::Error>(coordinator("init", &root.join(dir))?.args(["--output", "json"]));
    let outcome = (|| {
        killed(&init("one")?.env(KILL_AT, point).run()?)?;
        let again = init("one")?.run()?;
        if point.ends_with(":before") {
            return again.done().map(drop);
        }
        again.refused(1, &["already-initialised", "--data-dir"]);
        init("another")?.run()?.done().map(drop)
    })();
    fs::remove_dir_all(&root)?;
    outcome
}

/// `restore` is killed and run again, or the operator's word after it is.
pub(crate) fn restored(site: &mut Site, point: &str) -> Result<()> {
    let copy = copy_store(&mut site.lab, point)?;
    let after = outlive(site, point)?;
    let data = site.lab.coordinator()?.place().data.clone();
    let from = ["--from".as_ref(), copy.as_os_str()];
    let restore = || Ok::<_, anyhow::Error>(coordinator("restore", &data)?.args(from));
    site.lab.coordinator()?.process().stop()?;
    if point.contains(":restamp:") {
        killed(&restore()?.env(KILL_AT, point).run()?)?;
        restore()?.run()?.done()?;
        site.lab.coordinator()?.restart()?;
        go_on(site, "restored", &after)
    } else {
        restore()?.run()?.done()?;
        site.arm(point)?;
        go_on(site, "restored", &after)?;
        site.settle()
    }
}

/// The copy is put in place without a word; the host shows that it holds more.
pub(crate) fn put_back(site: &mut Site, point: &str) -> Result<()> {
    let copy = copy_store(&mut site.lab, point)?;
    let after = outlive(site, point)?;
    let database = database(&mut site.lab)?;
    site.lab.coordinator()?.process().stop()?;
    fs::copy(copy, database)?;
    site.arm(point)?;
    go_on(site, "host-above-store", &after)?;
    site.settle()
}

/// Another key wraps everything, the old one is gone, and what was wrapped still opens.
pub(crate) fn rotated(site: &mut Site, point: &str) -> Result<()> {
    let name = name_of(point);
    let running = site.deploy(&name)?;
    let path = format!("/deployments/{}/secrets/extra", id(&running)?);
    let set = |site: &mut Site| {
        site.until("the secret to be set", |lab| {
            let set = lab.api()?.put(&path, &json!({ "value": point }))?.success()?;
            Ok(Some(set["effect"].clone()))
        })
    };
    set(site)?;
    let before = site.lab.api()?.get("/keys")?.success()?;
    site.arm(point)?;
    site.order("/keys/rotate", &json!({}), &format!("{name}-rotate"))?;
    site.until("the rotation to be done", |lab| {
        let keys = lab.api()?.get("/keys")?.success()?;
        let one_is_left = keys["wraps"].as_object().is_some_and(|wraps| wraps.len() == 1);
        ensure!(keys["current"] != before["current"] && one_is_left, "{keys}");
        Ok(keys["rotation"]["done_at_us"].is_i64().then_some(()))
    })?;
    // Who finds the same value has opened what is stored.
    let again = set(site)?;
    ensure!(again == "unchanged", "the secret does not open any more: {again}");
    site.delete(&running, true)?;
    site.until_deployment(&id(&running)?, "terminated", |now| now["state"] == "terminated")?;
    site.settle()
}

/// Another issuing CA is made where the root's key is, and given up before anybody has a certificate of it.
pub(crate) fn ca_changed(site: &mut Site, point: &str) -> Result<()> {
    let data = site.lab.coordinator()?.place().data.clone();
    let key = data.join("ca/root.key");
    let begin = || {
        let line = Line::of("launchpad-coordinator")?.args(["pki", "rotate"]);
        let line = line.args(["--data-dir".as_ref(), data.as_os_str()]);
        Ok::<_, anyhow::Error>(line.args(["--root-key".as_ref(), key.as_os_str()]))
    };
    let is_of_the_command = point.contains(":begin-ca-rotation:");
    if is_of_the_command {
        killed(&begin()?.env(KILL_AT, point).run()?)?;
    }
    if point.ends_with(":begin-ca-rotation:after") {
        begin()?.run()?.refused(1, &["ca-rotation-under-way", "--back"]);
    } else {
        begin()?.run()?.done()?;
    }
    if !is_of_the_command {
        site.arm(point)?;
    }
    let back = json!({ "from": "distribute", "back": true });
    site.order("/pki/rotate", &back, &format!("{}-back", name_of(point)))?;
    site.until("the rotation to be given up", |lab| {
        let seen = lab.api()?.get("/pki")?.success()?;
        ensure!(seen["rotation"]["phase"] == "abandoned" && seen["issuers"][0]["role"] == "signs", "{seen}");
        Ok(Some(()))
    })?;
    if is_of_the_command { Ok(()) } else { site.settle() }
}

fn coordinator(verb: &str, data: &Path) -> Result<Line> {
    Ok(Line::of("launchpad-coordinator")?.args([verb.as_ref(), "--data-dir".as_ref(), data.as_os_str()]))
}

fn killed(told: &Told) -> Result<()> {
    ensure!(told.signal == Some(Signal::SIGKILL as i32), "it was not killed: {told:?}");
    Ok(())
}

fn database(lab: &mut Lab) -> Result<PathBuf> {
    Ok(lab.coordinator()?.place().data.join("coordinator.db"))
}

/// An operator's copy: the coordinator is stopped, its file copied, and it goes on.
fn copy_store(lab: &mut Lab, point: &str) -> Result<PathBuf> {
    let copy = lab.dir().join(format!("{}.db", name_of(point)));
    let database = database(lab)?;
    lab.wait_settled(0)?;
    lab.coordinator()?.process().stop()?;
    fs::copy(database, &copy)?;
    lab.coordinator()?.restart()?;
    lab.wait_connected(0)?;
    Ok(copy)
}

/// A life that the copy knows nothing of: a bot, of which the host holds a newer spec than the copy ever made.
fn outlive(site: &mut Site, point: &str) -> Result<Value> {
    let late = site.deploy(&format!("{}-late", name_of(point)))?;
    site.lab.wait_settled(0)?;
    Ok(late)
}

/// Publishing is frozen for that reason, is confirmed, and goes on. Nobody stops what the copy knows nothing of.
fn go_on(site: &mut Site, code: &str, late: &Value) -> Result<()> {
    site.until("publishing to be frozen", |lab| {
        let seen = lab.api()?.get("/recovery")?.success()?;
        ensure!(seen["frozen"] == true && seen["reason"]["code"] == code, "{seen}");
        Ok(Some(()))
    })?;
    // Refused until every host has spoken. Once more after an answer that was lost: it changes nothing then.
    site.until("the recovery to be confirmed", |lab| {
        let seen = lab.api()?.post("/recovery/confirm", &json!({}))?.success()?;
        ensure!(seen["frozen"] == false, "{seen}");
        Ok(Some(()))
    })?;
    let container = late["instance"]["container_id"].as_str().context("a running bot has a container")?.to_owned();
    let name = format!("{}-new", late["name"].as_str().unwrap_or_default());
    let new = site.deploy(&name)?;
    let engine = &site.lab.host(0)?.engine;
    ensure!(engine.running()?.contains(&container), "the bot that no store knows was stopped");
    // As its host's owner would, who alone can decide that it is nobody's.
    engine.docker(&["rm", "--force", &container])?;
    site.delete(&new, true)?;
    Ok(())
}
