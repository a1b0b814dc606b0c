//! What an owner changes of a running bot reaches it on a real host, and what a host lacks keeps bots away by name.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use launchpad_protocol::capability::SHARED_POOL_NEEDS;
use launchpad_tests::coordinator::{POOLS, Place};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::process::run;
use launchpad_tests::wait::wait_for;
use serde_json::{Map, Value, json};

/// A small disk does for a copy.
const PLANS: &str = "[starter]\ncpu_millis = 500\nmemory_mb = 128\nstorage_mb = 64\nretention_days = 1\n";

/// A pool of hosts that lack nothing.
const STRICT: &str = "[shared]\nkind = \"shared\"\n";

fn lab(pools: &str) -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = Place::new(lab.dir(), &http_address());
    let plans = lab.dir().join("plans.toml");
    std::fs::write(&plans, PLANS)?;
    place.arguments = vec!["--plans".to_owned(), plans.display().to_string()];
    place.pools = pools.to_owned();
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    Ok(lab)
}

/// The bot's config and secrets on its host: which files, by inode, and when each was written.
fn files(lab: &mut Lab, deployment: &Deployment) -> Result<String> {
    let folder = lab.host(0)?.agent()?.place().run.join("files").join(&deployment.id);
    let mut find = Command::new("find");
    run(find.arg(&folder).args(["-type", "f", "-printf", "%P %i %T@\n"]))
}

/// What its host says of one promise.
fn verdict(deployment: &Value, item: &str) -> String {
    deployment["instance"]["enforcement"][item]["verdict"].as_str().unwrap_or("unknown").to_owned()
}

#[test]
fn what_a_bot_may_reach_changes_around_it_and_neither_container_nor_files_are_made_anew() -> Result<()> {
    let mut lab = lab(POOLS)?;
    let bot = Deployment::running(&lab, "widened")?;
    let (before, kept) = (bot.identity(&lab.host(0)?.engine)?, files(&mut lab, &bot)?);
    ensure!(!kept.is_empty(), "a bot has a config");
    let wanted = json!({ "allow": ["api.example.org", "203.0.113.0/24:8443"] });
    let told = lab.api()?.put(&format!("/deployments/{}/egress", bot.id), &wanted)?.success()?;
    assert_eq!((&told["revision"], told["allow"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let now = bot.wait("its second revision to run", |now| {
        now["state"] == "running" && now["revision"] == 2 && verdict(now, "egress") == "enforced"
    })?;
    let causes: Vec<_> =
        now["timeline"].as_array().into_iter().flatten().map(|entry| entry["cause"].clone()).collect();
    assert!(causes.contains(&json!("what it may reach was changed")), "{causes:?}");
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    assert_eq!(files(&mut lab, &bot)?, kept, "no file was written anew");
    lab.close()
}

#[test]
fn a_volume_is_copied_put_back_and_the_copy_deleted_through_the_api() -> Result<()> {
    let lab = lab(POOLS)?;
    let bot = Deployment::running(&lab, "copied")?;
    let (api, path) = (lab.api()?, format!("/deployments/{}/snapshots", bot.id));
    let settled = |asked: &Value| -> Result<Value> {
        let id = asked["operation"].as_str().context("an operation has an id")?.to_owned();
        wait_for("the host's answer", SOON, || {
            let seen = api.get(&path)?.success()?;
            let operations = seen["operations"].as_array().into_iter().flatten();
            let done = operations.into_iter().any(|one| one["operation"] == id.as_str() && one["outcome"] == "done");
            Ok(if done { Ok(seen) } else { Err(seen.to_string()) })
        })
    };
    let taken = settled(&api.post(&path, &json!({ "name": "before" }))?.success()?)?;
    assert_eq!(taken["items"][0]["name"], "before", "{taken}");
    assert!(taken["items"][0]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{taken}");
    settled(&api.post(&format!("{path}/before/restore"), &json!({}))?.success()?)?;
    bot.wait_state("running")?;
    let gone = settled(&api.delete(&format!("{path}/before"))?.success()?)?;
    assert_eq!(gone["items"], json!([]), "{gone}");
    lab.close()
}

#[test]
fn a_host_that_lacks_a_capability_is_refused_by_name_until_the_pool_accepts_it() -> Result<()> {
    let mut lab = lab(STRICT)?;
    let host = wait_for("what the host can do", SOON, || {
        let host = lab.api()?.get("/hosts")?.success()?["items"][0].clone();
        Ok(if host["capabilities"].as_object().is_none_or(Map::is_empty) { Err(host.to_string()) } else { Ok(host) })
    })?;
    let lacks: Vec<_> =
        SHARED_POOL_NEEDS.into_iter().filter(|name| host["capabilities"][name]["is"] != "present").collect();
    let bot = Deployment::create(&lab, "particular", "")?;
    if lacks.is_empty() {
        bot.wait_state("running")?;
        return lab.close();
    }
    let waiting = bot.wait("a reason to wait", |now| now["reason"].is_object())?;
    let reason = &waiting["reason"];
    assert_eq!((&waiting["state"], &reason["code"]), (&json!("requested"), &json!("no-capable-host")));
    for name in &lacks {
        let own = host["capabilities"][name]["reason"]["sentence"].as_str().unwrap_or("nothing");
        let cause = reason["cause"].as_str().unwrap_or_default();
        assert!(cause.contains(name) && cause.contains(own), "{name}: {reason}");
    }
    let accepted = lacks.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let mend = format!("accepts = [{accepted}] under [shared]");
    assert!(reason["mend"].as_str().is_some_and(|told| told.contains(&mend)), "{mend}: {reason}");
    let coordinator = lab.coordinator()?;
    coordinator.place().pools = format!("[shared]\nkind = \"shared\"\naccepts = [{accepted}]\n");
    coordinator.restart()?;
    bot.wait_state("running")?;
    lab.close()
}
