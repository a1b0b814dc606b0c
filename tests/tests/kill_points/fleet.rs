//! Journeys of a host: it joins and is thrown out, its certificate is renewed, it falls silent and comes back.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::agent::{self, Agent, Place};
use serde_json::{Value, json};

use super::site::{Site, name_of};

/// Half of a certificate's day is over, give or take a tenth, and the server's own is still in force.
const CLOCK_AHEAD: &str = "+14h";

/// What the agent logs.
const RENEWED: &str = "the host's certificate was renewed";

/// A token is made, a machine enrols with it, connects, and is revoked.
pub(crate) fn joined_and_revoked(site: &mut Site, point: &str) -> Result<()> {
    site.arm(point)?;
    let name = name_of(point);
    let (dir, docker, namespace) = {
        let (dir, host) = (site.lab.dir().join(&name), site.lab.host(0)?);
        (dir, host.engine.socket(), host.net.path())
    };
    fs::create_dir_all(&dir)?;
    let place = Place::new(&name, &dir, &docker, &namespace);
    let made = site.order("/hosts/tokens", &json!({ "name": name }), &format!("{name}-token"))?;
    let token = made["token"].as_str().context("an answer holds a token")?.to_owned();
    // The same token again, whatever became of the first answer.
    site.until("the machine to have joined", |_| agent::enroll(&place, &token).map(Some))?;
    let mut agent = Agent::run(place)?;
    let host = until_host(site, &name, "connected", |host| host["connected"] == true)?;
    let id = host["id"].as_str().context("a host has an id")?.to_owned();
    site.until("it to have said which roots it trusts", |lab| {
        let seen = lab.api()?.get("/pki")?.success()?;
        let told = seen["hosts"].as_array().into_iter().flatten().find(|host| host["name"] == name.as_str());
        Ok(told.filter(|host| host["has_roots"] == true).map(drop))
    })?;
    site.order(&format!("/hosts/{id}/cordon"), &json!({}), &format!("{name}-cordon"))?;
    until_host(site, &name, "cordoned", |host| host["state"] == "cordoned")?;
    site.order(&format!("/hosts/{id}/revoke"), &json!({}), &format!("{name}-revoke"))?;
    until_host(site, &name, "revoked and cut off", |host| host["state"] == "retired" && host["connected"] == false)?;
    agent.kill()?;
    site.settle()
}

/// The host's clock goes ahead, so that its certificate is due; it keeps its connection and its bot throughout.
pub(crate) fn renewed(site: &mut Site, point: &str) -> Result<()> {
    let preload = faketime()?.display().to_string();
    let ahead = [("LD_PRELOAD", preload.as_str()), ("FAKETIME", CLOCK_AHEAD), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    site.arm(point)?;
    let agent = site.lab.host(0)?.agent()?;
    for (name, value) in ahead {
        agent.place().environment.insert(name.to_owned(), value.to_owned());
    }
    agent.restart()?;
    site.until("the certificate to be renewed", |lab| {
        let said = lab.host(0)?.agent()?.log_since_start();
        ensure!(said.contains(RENEWED), "not yet");
        Ok(Some(()))
    })?;
    // The new certificate is due as well, to that clock: it is not renewed over and over for that.
    site.lab.wait_for_report(0)?;
    let agent = site.lab.host(0)?.agent()?;
    let times = agent.log_since_start().matches(RENEWED).count();
    ensure!(times == 1, "renewed {times} times");
    for (name, _) in ahead {
        agent.place().environment.remove(name);
    }
    // On time again, with the certificate that it has now.
    agent.restart()?;
    site.until("the host to be let in with its new certificate", |lab| {
        let said = lab.host(0)?.agent()?.log_since_start();
        ensure!(said.contains("connected to the coordinator"), "not yet");
        Ok(Some(()))
    })?;
    site.settle()
}

/// An upgrade to the version that the host has: begun, found to be so, and over.
pub(crate) fn upgraded(site: &mut Site, point: &str) -> Result<()> {
    site.arm(point)?;
    let wish = json!({ "to": env!("CARGO_PKG_VERSION"), "rings": ["main"], "soak_s": 0 });
    let begun = site.order("/upgrades", &wish, &format!("{}-upgrade", name_of(point)))?;
    site.until("the upgrade to be over", |lab| {
        let told = lab.api()?.get("/upgrades")?.success()?;
        ensure!(told["upgrade"]["id"] == begun["id"] && told["upgrade"]["state"] == "done", "{told}");
        Ok(Some(()))
    })?;
    site.settle()
}

/// The agent is away for longer than a host may say nothing; its bot runs on.
pub(crate) fn fallen_silent(site: &mut Site, point: &str) -> Result<()> {
    site.arm(point)?;
    site.lab.host(0)?.agent()?.kill()?;
    until_host(site, "h1", "silent", |host| host["state"] == "silent")?;
    site.lab.host(0)?.agent()?.restart()?;
    until_host(site, "h1", "back", |host| host["state"] == "active" && host["connected"] == true)?;
    site.settle()
}

fn until_host(site: &mut Site, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    site.until(&format!("host {name} to be {what}"), |lab| {
        let hosts = lab.api()?.get("/hosts")?.success()?;
        let mut named = hosts["items"].as_array().into_iter().flatten().filter(|host| host["name"] == name);
        let host = named.next().with_context(|| format!("no host named {name}"))?;
        ensure!(named.next().is_none(), "two hosts came of one token: {hosts}");
        ensure!(holds(host), "{host}");
        Ok(Some(host.clone()))
    })
}

/// The library that Debian's `faketime` preloads, wherever this machine keeps it.
fn faketime() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().context("no libfaketime: packaging/setup.sh test installs it")
}
