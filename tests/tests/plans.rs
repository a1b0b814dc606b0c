//! Another plan reaches a running bot on a real host: limits at once, the volume at once or with the next restart.

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::kernel;
use launchpad_tests::lab::{Lab, http_address};
use serde_json::{Value, json};

/// Volumes are made in whole grains of 128 MiB: the larger one needs a second.
const PLANS: &str = "\
[starter]\ncpu_millis = 500\nmemory_mb = 128\nstorage_mb = 64\nretention_days = 1\n\
[pro]\ncpu_millis = 800\nmemory_mb = 192\nstorage_mb = 200\nretention_days = 1\n\
[huge]\ncpu_millis = 800\nmemory_gb = 4000\nstorage_mb = 200\nretention_days = 1\n";

/// What the larger plan grants.
const PRO_MEMORY_BYTES: u64 = 192 << 20;
const PRO_CPU_MILLIS: u64 = 800;
const PRO_STORAGE_BYTES: u64 = 200_000_000;

fn lab() -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = Place::new(lab.dir(), &http_address());
    place.plans = Some(PLANS.to_owned());
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    Ok(lab)
}

/// Promises that do not hold although they should.
fn failed(deployment: &Value) -> Vec<&str> {
    let items = deployment["instance"]["enforcement"].as_object().into_iter().flatten();
    items.filter(|(_, one)| one["verdict"] == "failed").map(|(name, _)| name.as_str()).collect()
}

fn volume_bytes(deployment: &Value) -> u64 {
    deployment["instance"]["volume"]["bytes"].as_u64().unwrap_or_default()
}

fn is_enforced(deployment: &Value, item: &str) -> bool {
    deployment["instance"]["enforcement"][item]["verdict"] == "enforced"
}

/// The larger plan is applied as far as it can be without a stop.
fn has_new_limits(now: &Value) -> bool {
    now["state"] == "running"
        && now["plan"] == "pro"
        && now["revision"] == 2
        && is_enforced(now, "memory")
        && is_enforced(now, "cpu")
        && failed(now).iter().all(|item| *item == "volume-quota")
        && (volume_bytes(now) >= PRO_STORAGE_BYTES || now["instance"]["reason"]["code"] == "volume-grows-stopped")
}

#[test]
fn a_larger_plan_widens_a_running_bots_limits_and_its_volume_now_or_with_its_next_restart() -> Result<()> {
    let mut lab = lab()?;
    let bot = Deployment::running(&lab, "growing")?;
    let path = format!("/deployments/{}/plan", bot.id);
    let before = bot.identity(&lab.host(0)?.engine)?;
    let told = lab.api()?.put(&path, &json!({ "plan": "pro" }))?.success()?;
    assert_eq!((&told["plan"], &told["revision"]), (&json!("pro"), &json!(2)));
    let now = bot.wait("its new limits to hold", has_new_limits)?;
    let causes: Vec<_> = now["timeline"].as_array().into_iter().flatten().map(|entry| &entry["cause"]).collect();
    assert!(causes.contains(&&json!("another plan was chosen")), "{causes:?}");
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before, "it runs on");
    let limits = kernel::limits(before.pid)?;
    assert_eq!((limits.memory_bytes, limits.cpu_millis), (Some(PRO_MEMORY_BYTES), Some(PRO_CPU_MILLIS)));

    if volume_bytes(&now) < PRO_STORAGE_BYTES {
        let reason = &now["instance"]["reason"];
        let mend = reason["mend"].as_str().context("a reason says what mends it")?;
        ensure!(mend.contains("launchpad restart"), "{reason}");
        bot.restart()?;
    }
    let grown = bot.wait("its volume to be as large as its plan", |now| {
        now["state"] == "running" && is_enforced(now, "volume-quota") && failed(now).is_empty()
    })?;
    assert!(volume_bytes(&grown) >= PRO_STORAGE_BYTES, "{}", grown["instance"]["volume"]);
    assert!(grown["instance"]["reason"].is_null(), "{}", grown["instance"]["reason"]);
    assert_eq!(bot.identity(&lab.host(0)?.engine)?.container, before.container, "its container is no other");
    lab.close()
}

#[test]
fn a_plan_that_is_smaller_unknown_or_larger_than_the_host_is_refused_and_the_bot_runs_on_as_it_was() -> Result<()> {
    let mut lab = lab()?;
    let body = json!({ "name": "settled", "profile": "echo", "plan": "pro", "image": lab.image("echo")? });
    let bot = Deployment::order(&lab.api()?, &body)?;
    bot.wait_state("running")?;
    let before = bot.identity(&lab.host(0)?.engine)?;
    let choose = |plan: &str| lab.api()?.put(&format!("/deployments/{}/plan", bot.id), &json!({ "plan": plan }));
    let smaller = choose("starter")?;
    assert_eq!(smaller.status, 422, "{}", smaller.body);
    assert_eq!(smaller.body["type"], "urn:launchpad:plan-shrinks-volume", "{}", smaller.body);
    assert!(smaller.body["mend"].is_string(), "{}", smaller.body);
    let unknown = choose("enormous")?;
    assert_eq!(unknown.status, 422, "{}", unknown.body);
    assert!(unknown.body.to_string().contains("huge, pro, starter"), "{}", unknown.body);
    let large = choose("huge")?;
    assert_eq!((large.status, &large.body["type"]), (503, &json!("urn:launchpad:memory-full")), "{}", large.body);
    let now = bot.get()?;
    assert_eq!((&now["plan"], &now["revision"], &now["state"]), (&json!("pro"), &json!(1), &json!("running")));
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}
