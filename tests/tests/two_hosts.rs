//! Two hosts, each with its own engine: who gets what, what a full pool says, and one host that falls silent.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::deployment::{Deployment, SOON, identity};
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

/// Three report intervals, the transport's own patience, and a busy machine.
const SILENT_WITHIN: Duration = Duration::from_secs(90);

/// All hosts, by name.
fn hosts(lab: &Lab) -> Result<Vec<Value>> {
    let mut hosts = lab.api()?.get("/hosts")?.success()?["items"].as_array().context("a list")?.clone();
    hosts.sort_by_key(|host| host["name"].to_string());
    Ok(hosts)
}

/// Plans cut to these hosts: two of `half` do not fit on one, a `whole` fits on none.
fn write_plans(lab: &mut Lab) -> Result<()> {
    let bytes = hosts(lab)?[0]["capacity"]["memory_bytes"].as_u64().context("a host reports its memory")?;
    let mb = bytes >> 20;
    let plan = |name: &str, memory_mb: u64| {
        format!("[{name}]\ncpu_millis = 100\nmemory_mb = {memory_mb}\nstorage_mb = 100\nretention_days = 1\n")
    };
    let file = lab.dir().join("plans.toml");
    fs::write(&file, [plan("small", 64), plan("half", mb * 6 / 10), plan("whole", mb + 1)].concat())?;
    let coordinator = lab.coordinator()?;
    coordinator.place().arguments = vec!["--plans".to_owned(), file.display().to_string()];
    coordinator.restart()?;
    wait_until("both hosts to be back", SOON, || Ok(hosts(lab)?.iter().all(|host| host["connected"] == true)))
}

fn order(lab: &Lab, name: &str, plan: &str) -> Result<Value> {
    Ok(json!({ "name": name, "profile": "echo", "plan": plan, "image": lab.image("echo")? }))
}

fn deploy(lab: &Lab, name: &str, plan: &str) -> Result<Deployment> {
    Deployment::order(&lab.api()?, &order(lab, name, plan)?)
}

#[test]
fn bots_go_where_there_is_room_and_a_full_pool_says_so_until_there_is_some() -> Result<()> {
    let mut lab = Lab::with_hosts(2)?;
    write_plans(&mut lab)?;
    let refused = lab.api()?.post("/deployments", &order(&lab, "giant", "whole")?)?;
    assert_eq!((refused.status, &refused.body["type"]), (422, &json!("urn:launchpad:plan-larger-than-any-host")));
    assert!(refused.body["detail"].as_str().is_some_and(|told| told.contains("MiB of memory")), "{}", refused.body);
    assert!(refused.body["mend"].as_str().is_some_and(|told| told.contains("smaller plan")), "{}", refused.body);

    let (first, second) = (deploy(&lab, "first", "half")?, deploy(&lab, "second", "half")?);
    let place = |deployment: &Deployment| Ok::<_, anyhow::Error>(deployment.wait_state("running")?["host"].clone());
    let (of_first, of_second) = (place(&first)?, place(&second)?);
    assert_ne!(of_first, of_second, "the second went where more was free");
    for host in hosts(&lab)? {
        assert!(host["allocated"]["memory_bytes"].as_u64() > Some(0), "{host}");
        assert_eq!(host["instances"].as_array().map(Vec::len), Some(1), "{host}");
    }
    // Each engine runs its own, and nothing of the other's.
    for index in 0..2 {
        assert_eq!(lab.host(index)?.engine.running()?.len(), 1);
    }

    let third = deploy(&lab, "third", "half")?;
    let waiting = third.wait("a reason", |now| now["reason"].is_object())?;
    assert_eq!(waiting["state"], "requested", "{waiting}");
    assert_eq!(waiting["reason"]["code"], "pool-full", "{waiting}");
    let told = waiting["reason"].to_string();
    for name in ["h1", "h2"] {
        assert!(told.contains(&format!("host {name} has")), "why {name} refuses it is not in {told}");
    }
    assert!(told.contains("MiB of memory free") && waiting["reason"]["mend"].is_string(), "{told}");
    // What is small still fits beside it: one that waits is not in the others' way.
    deploy(&lab, "small", "small")?.wait_state("running")?;

    first.delete(true)?;
    let placed = third.wait_state("running")?;
    assert_eq!(placed["host"], of_first, "{placed}");
    assert!(placed["reason"].is_null(), "an old reason stays: {placed}");
    lab.close()
}

#[test]
fn a_host_that_falls_silent_keeps_its_bots_and_says_so_while_the_other_works() -> Result<()> {
    let mut lab = Lab::with_hosts(2)?;
    let (one, two) = (Deployment::running(&lab, "one")?, Deployment::running(&lab, "two")?);
    let (of_one, of_two) = (one.get()?["host"].clone(), two.get()?["host"].clone());
    assert_ne!(of_one, of_two);
    let names: Vec<Value> = hosts(&lab)?.iter().map(|host| host["id"].clone()).collect();
    let cut = names.iter().position(|id| *id == of_one).context("the first bot has a host")?;
    let (engine, address) = (&lab.host(cut)?.engine, one.address()?);
    let before = one.identity(engine)?;
    lab.host(cut)?.net.set_connected(false)?;

    // The other host does what it is told, meanwhile and afterwards.
    let third = Deployment::create(&lab, "third", "")?;
    let silent = wait_for("the host to be silent", SILENT_WITHIN, || {
        let host = hosts(&lab)?[cut].clone();
        let so = host["connected"] == false && host["state"] == "silent";
        Ok(if so { Ok(host) } else { Err(host.to_string()) })
    })?;
    let fourth = Deployment::running(&lab, "fourth")?;
    assert_eq!(fourth.get()?["host"], of_two, "nothing new goes to a silent host");
    two.restart()?;
    two.wait("restarted", |now| now["state"] == "running" && now["timeline"].to_string().contains("restart"))?;

    // Its bot is still its bot: told, not moved.
    let shown = one.get()?;
    assert_eq!(shown["host"], of_one, "{shown}");
    assert!(silent["last_seen_us"].is_i64() && shown["instance"].is_object(), "{silent} {shown}");
    assert_eq!(shown["reason"]["code"], "host-silent", "{shown}");
    let other = &lab.host(1 - cut)?.engine;
    assert!(identity(other, &before.container).is_err(), "the bot was started on the other host");
    let host = lab.host(cut)?;
    assert_eq!(host.bot(&address).get("/healthz")?.status, 200);
    assert_eq!(identity(&host.engine, &before.container)?, before);

    host.net.set_connected(true)?;
    wait_until("the host to be active again", SOON, || {
        let host = hosts(&lab)?[cut].clone();
        Ok(host["connected"] == true && host["state"] == "active")
    })?;
    let healed = one.wait("no reason any more", |now| now["state"] == "running" && now["reason"].is_null())?;
    assert_eq!(one.identity(&lab.host(cut)?.engine)?, before, "{healed}");
    third.wait_state("running")?;
    lab.close()
}
