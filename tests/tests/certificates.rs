//! Certificates in life, in real processes: they run out, clocks are wrong, one CA takes over from another, a host is cut
//! off. Whatever happens to a certificate, the bot's container and its start stay the same.

#[path = "terminal/mod.rs"]
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator;
use launchpad_tests::deployment::{Deployment, Identity, SOON};
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::wait::wait_for;
use serde_json::{Value, json};
use terminal::{Line, Told};

/// What the product promises of a revocation.
const CUT_WITHIN: Duration = Duration::from_secs(1);

/// Hosts ask this often; six times as often while a CA takes over.
const ASKED: (&str, &str) = ("LAUNCHPAD_REHEARSE_TRUST_ASKED_MS", "3000");

/// A certificate's whole life, in which a laboratory's agent enrols and connects.
const SHORT_LIFE: (&str, &str) = ("LAUNCHPAD_REHEARSE_HOST_LIFE_MS", "5000");

/// A certificate counts in seconds, and is in force through its last one.
const LAST_SECOND_US: i64 = 1_000_000;

/// What an agent logs that came back by a signature of its old key.
const CAME_BACK: &str = "the host's certificate was out of date, and was renewed";

/// A laboratory whose coordinator goes by another pace from the first host on.
fn lab_with(pace: &[(&str, &str)], hosts: usize) -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = coordinator::Place::new(lab.dir(), &http_address());
    place.environment = pace.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    lab.start_coordinator_at(place)?;
    for index in 0..hosts {
        lab.add_host()?;
        lab.start_agent(index)?;
    }
    Ok(lab)
}

fn pki(lab: &Lab) -> Result<Value> {
    lab.api()?.get("/pki")?.success()
}

fn wait_pki(lab: &Lab, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_for(what, SOON, || {
        Ok(match pki(lab) {
            Ok(seen) if holds(&seen) => Ok(seen),
            Ok(seen) => Err(seen.to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
    })
}

fn all_hosts(seen: &Value, have: &str) -> bool {
    seen["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty() && hosts.iter().all(|host| host[have] == true))
}

fn host<'a>(seen: &'a Value, name: &str) -> &'a Value {
    let mut hosts = seen["hosts"].as_array().into_iter().flatten();
    hosts.find(|host| host["name"] == name).unwrap_or(&Value::Null)
}

/// Begins a rotation on the machine with the root's key; with a path, another root comes with it.
fn begin(lab: &mut Lab, root_key: &Path, new_root_key: Option<&Path>) -> Result<Told> {
    let data = lab.coordinator()?.place().data.clone();
    let mut line = Line::of("launchpad-coordinator")?
        .args(["pki".as_ref(), "rotate".as_ref(), "--data-dir".as_ref(), data.as_os_str()])
        .args(["--root-key".as_ref(), root_key.as_os_str()]);
    if let Some(path) = new_root_key {
        line = line.args(["--new-root-key".as_ref(), path.as_os_str()]);
    }
    line.run()
}

fn launchpad(lab: &mut Lab, words: &[&str]) -> Result<Told> {
    let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
    Line::launchpad(&api, &token)?.args(words).run()
}

/// `init` asks to move the root's key away: so it is moved.
fn root_key(lab: &mut Lab) -> Result<PathBuf> {
    let (made, taken) = (lab.coordinator()?.place().data.join("ca/root.key"), lab.dir().join("safe-root.key"));
    fs::rename(&made, &taken).with_context(|| format!("take {} away", made.display()))?;
    Ok(taken)
}

/// A bot's container and its start, wherever it is.
fn identity(lab: &mut Lab, bot: &Deployment) -> Result<Identity> {
    let on = bot.get()?["host"].clone();
    for index in 0.. {
        let shown = lab.shown(index)?;
        if shown["id"] == on || shown["name"] == on {
            return bot.identity(&lab.host(index)?.engine);
        }
    }
    unreachable!("a host that is not shown is an error")
}

fn identity_file(lab: &mut Lab, index: usize) -> Result<PathBuf> {
    Ok(lab.host(index)?.agent()?.place().data.join("identity/identity"))
}

#[test]
fn a_new_root_takes_over_while_a_host_is_away_and_no_bot_notices() -> Result<()> {
    let mut lab = lab_with(&[ASKED], 2)?;
    let bots = [Deployment::running(&lab, "one")?, Deployment::running(&lab, "two")?];
    let before = [identity(&mut lab, &bots[0])?, identity(&mut lab, &bots[1])?];
    let (old_key, new_key) = (root_key(&mut lab)?, lab.dir().join("new-root.key"));
    let kept = fs::read(identity_file(&mut lab, 0)?)?;

    let wrong = lab.dir().join("wrong.key");
    begin(&mut lab, &wrong, None)?.refused(1, &["root-key-unusable", "--root-key"]);
    launchpad(&mut lab, &["pki", "rotate"])?.refused(1, &["no-ca-rotation", "launchpad-coordinator pki rotate"]);
    begin(&mut lab, &old_key, Some(&new_key))?.done()?;
    ensure!(new_key.is_file(), "the new root's key is the operator's");
    begin(&mut lab, &old_key, None)?.refused(1, &["ca-rotation-under-way", "launchpad pki rotate"]);
    let told = wait_pki(&lab, "both hosts to trust both roots", |seen| {
        seen["roots"].as_array().map(Vec::len) == Some(2) && all_hosts(seen, "has_roots")
    })?;
    ensure!(told["rotation"]["phase"] == "distribute", "{told}");

    // One host misses the phase in which everybody gets another certificate; the coordinator dies in the middle of it.
    lab.host(1)?.agent()?.kill()?;
    launchpad(&mut lab, &["pki", "rotate"])?.done()?;
    wait_pki(&lab, "the other to have a certificate of the new CA", |seen| {
        host(seen, "h1")["has_certificate"] == true
    })?;
    lab.coordinator()?.restart()?;
    launchpad(&mut lab, &["pki", "rotate"])?.refused(1, &["ca-in-use", "h2"]);
    lab.start_agent(1)?;
    wait_pki(&lab, "it to be led after the others", |seen| all_hosts(seen, "has_certificate"))?;
    launchpad(&mut lab, &["pki", "rotate"])?.done()?;
    let over = wait_pki(&lab, "all to forget the old root", |seen| {
        seen["rotation"]["phase"] == "retired"
            && seen["roots"].as_array().map(Vec::len) == Some(1)
            && all_hosts(seen, "has_roots")
            && all_hosts(seen, "has_certificate")
    })?;
    ensure!(over["issuers"][0]["role"] == "ended" && over["issuers"][1]["role"] == "signs", "{over}");
    launchpad(&mut lab, &["pki", "rotate", "--back"])?.refused(1, &["ca-rotation-over"]);

    // A disk from before: the fleet port refuses its certificate, which is in force; the old key brings the host back.
    lab.host(0)?.agent()?.process().stop()?;
    fs::write(identity_file(&mut lab, 0)?, kept)?;
    lab.host(0)?.agent()?.restart()?;
    lab.host(0)?.agent()?.wait_for_log("does not take this host's certificate", SOON)?;
    lab.host(0)?.agent()?.wait_for_log(CAME_BACK, SOON)?;
    wait_pki(&lab, "it to be as it was", |seen| all_hosts(seen, "has_roots") && all_hosts(seen, "has_certificate"))?;

    for (bot, before) in bots.iter().zip(before) {
        ensure!(identity(&mut lab, bot)? == before, "a bot was restarted");
    }
    lab.wait_settled(0)?;
    lab.wait_settled(1)?;
    lab.close()
}

#[test]
fn a_rotation_taken_back_leaves_everything_as_it_was_and_a_revoked_host_is_cut_at_once() -> Result<()> {
    let mut lab = lab_with(&[ASKED], 1)?;
    let bot = Deployment::running(&lab, "steady")?;
    let before = identity(&mut lab, &bot)?;
    let key = root_key(&mut lab)?;
    let first = pki(&lab)?["issuers"][0]["id"].clone();

    begin(&mut lab, &key, None)?.done()?;
    launchpad(&mut lab, &["pki", "rotate"])?.done()?;
    wait_pki(&lab, "a certificate of the new CA", |seen| {
        all_hosts(seen, "has_certificate") && host(seen, "h1")["issuer"] != first
    })?;
    launchpad(&mut lab, &["pki", "rotate", "--back"])?.done()?;
    launchpad(&mut lab, &["pki", "rotate", "--back"])?.refused(1, &["ca-in-use", "h1"]);
    wait_pki(&lab, "a certificate of the old CA", |seen| host(seen, "h1")["issuer"] == first)?;
    launchpad(&mut lab, &["pki", "rotate", "--back"])?.done()?;
    let over = pki(&lab)?;
    ensure!(over["rotation"]["phase"] == "abandoned" && over["issuers"][1]["role"] == "ended", "{over}");
    lab.host(0)?.agent()?.restart()?;
    lab.host(0)?.agent()?.wait_for_log("connected to the coordinator", SOON)?;
    lab.wait_settled(0)?;
    let shown = launchpad(&mut lab, &["pki", "status"])?.done()?;
    ensure!(shown.contains("phase `abandoned`") && shown.contains("h1"), "{shown}");
    ensure!(identity(&mut lab, &bot)? == before, "the bot was restarted");

    let id = lab.shown(0)?["id"].as_str().context("a host has an id")?.to_owned();
    lab.api()?.post(&format!("/hosts/{id}/revoke"), &json!({}))?.success()?;
    let answered = tokio::time::Instant::now();
    lab.host(0)?.agent()?.wait_for_log("not connected to the coordinator", CUT_WITHIN)?;
    ensure!(answered.elapsed() < CUT_WITHIN, "cut after {:?}", answered.elapsed());
    ensure!(bot.identity(&lab.host(0)?.engine)? == before, "what runs on a revoked host runs on");
    lab.close()
}

#[test]
fn a_certificate_that_ran_out_is_renewed_on_return_with_a_right_clock_or_one_an_hour_off() -> Result<()> {
    let mut lab = lab_with(&[ASKED, SHORT_LIFE], 1)?;
    let bot = Deployment::running(&lab, "steady")?;
    let before = bot.identity(&lab.host(0)?.engine)?;
    for clock in [None, Some("-1h"), Some("+1h")] {
        lab.host(0)?.agent()?.process().stop()?;
        wait_pki(&lab, "the certificate to have run out", |seen| {
            host(seen, "h1")["not_after_us"].as_i64().is_some_and(|at| at + LAST_SECOND_US < now_us())
        })?;
        ensure!(bot.identity(&lab.host(0)?.engine)? == before, "the bot runs on meanwhile");
        set_clock(&mut lab, clock)?;
        lab.host(0)?.agent()?.restart()?;
        let agent = lab.host(0)?.agent()?;
        agent.wait_for_log(CAME_BACK, SOON).with_context(|| format!("a clock at {clock:?}"))?;
        agent.wait_for_log("connected to the coordinator", SOON).with_context(|| format!("a clock at {clock:?}"))?;
        lab.wait_settled(0)?;
    }

    // Days ahead nothing of the coordinator's is in force, and after a month the host gives itself up: each says so.
    for (clock, words) in [("+3d", ["clock", "NTP"]), ("+40d", ["30 days", "enroll --replace"])] {
        lab.host(0)?.agent()?.process().stop()?;
        set_clock(&mut lab, Some(clock))?;
        lab.host(0)?.agent()?.restart()?;
        for word in words {
            lab.host(0)?.agent()?.wait_for_log(word, SOON).with_context(|| format!("a clock at {clock}"))?;
        }
    }
    lab.host(0)?.agent()?.process().stop()?;
    set_clock(&mut lab, None)?;
    lab.host(0)?.agent()?.restart()?;
    lab.wait_settled(0)?;
    lab.wait_for_report(0)?;
    ensure!(bot.identity(&lab.host(0)?.engine)? == before, "the bot was restarted");
    lab.close()
}

fn now_us() -> i64 {
    launchpad_protocol::time::Clock::machine().wall().micros()
}

/// The agent's clock from its next start on.
fn set_clock(lab: &mut Lab, clock: Option<&str>) -> Result<()> {
    let library = faketime()?.display().to_string();
    let environment = &mut lab.host(0)?.agent()?.place().environment;
    let settings = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", clock.unwrap_or_default()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    for (name, value) in settings {
        match clock {
            Some(_) => environment.insert(name.to_owned(), value.to_owned()),
            None => environment.remove(name),
        };
    }
    Ok(())
}

/// The library that Debian's `faketime` preloads, wherever this machine keeps it.
fn faketime() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().context("no libfaketime: packaging/setup.sh test installs it")
}
