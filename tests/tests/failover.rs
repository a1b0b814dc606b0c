//! Two hosts, one of them cut off: what may fail over stops there by itself and starts on the other, what is kept runs
//! on untouched, and nothing ever runs twice.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::engine::Engine;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

/// Silent after, lost after, a lease's term and the margin, in seconds: a term outlasts a report's interval (10 s), and
/// no agent dies here that the margin would have to cover.
const PATIENCE: &str = "12,120,14,4";

/// Term, stop grace and margin after the last report, a round of the watcher, a start, and a busy machine.
const MOVED_WITHIN: Duration = Duration::from_secs(90);

/// Echo without a volume: where it writes is a tmpfs.
fn stateless() -> Result<String> {
    let echo = include_str!("../../profiles/echo.toml");
    let text = echo.replace("name = \"echo\"\n", "name = \"stateless\"\n").replace("state_path = \"/state\"\n", "");
    ensure!(!text.contains("state_path"), "the profile has another form now");
    Ok(format!("{text}\n[[tmpfs]]\npath = \"/state\"\nsize_mb = 1\nmode = \"1777\"\n"))
}

fn hosts(lab: &Lab) -> Result<Vec<Value>> {
    let mut hosts = lab.api()?.get("/hosts")?.success()?["items"].as_array().context("a list")?.clone();
    hosts.sort_by_key(|host| host["name"].to_string());
    Ok(hosts)
}

/// Every container of that engine, running or not.
fn containers(engine: &Engine) -> Result<Vec<String>> {
    Ok(engine.docker(&["ps", "--all", "--quiet", "--no-trunc"])?.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn a_bot_that_may_fail_over_leaves_a_host_that_is_cut_off_and_never_runs_twice() -> Result<()> {
    let mut lab = Lab::with_hosts(2)?;
    let profiles = lab.dir().join("profiles");
    fs::create_dir_all(&profiles)?;
    fs::write(profiles.join("stateless.toml"), stateless()?)?;
    let coordinator = lab.coordinator()?;
    let arguments = ["--profiles", &profiles.display().to_string(), "--patience", PATIENCE].map(str::to_owned);
    coordinator.place().arguments = arguments.to_vec();
    coordinator.restart()?;
    wait_until("both hosts to be back", SOON, || Ok(hosts(&lab)?.iter().all(|host| host["connected"] == true)))?;

    let api = lab.api()?;
    let refused = api.post(
        "/deployments",
        &json!({ "name": "no", "profile": "echo", "plan": "starter", "image": lab.image("echo")?, "policy": "failover" }),
    )?;
    assert_eq!((refused.status, &refused.body["type"]), (422, &json!("urn:launchpad:failover-with-volume")));

    // Both go to the first host, because the second takes nothing meanwhile.
    let ids: Vec<String> =
        hosts(&lab)?.iter().map(|host| host["id"].as_str().unwrap_or_default().to_owned()).collect();
    let cordon = |verb: &str| api.post(&format!("/hosts/{}/{verb}", ids[1]), &json!({}))?.success();
    assert_eq!(cordon("cordon")?["state"], "cordoned");
    let keeper = Deployment::create(&lab, "keeper", "")?;
    let order = json!({
        "name": "mover", "profile": "stateless", "plan": "starter", "image": lab.image("echo")?, "policy": "failover"
    });
    let mover = Deployment::order(&api, &order)?;
    for deployment in [&keeper, &mover] {
        assert_eq!(deployment.wait_state("running")?["host"], ids[0].as_str());
    }
    assert_eq!(cordon("uncordon")?["state"], "active");
    let kept = keeper.identity(&lab.host(0)?.engine)?;
    let first = mover.identity(&lab.host(0)?.engine)?;
    let address = keeper.address()?;

    lab.host(0)?.net.set_connected(false)?;
    let mut stopped_first = false;
    let moved = wait_for("the bot to run on the other host", MOVED_WITHIN, || {
        // The new one is looked for first: what runs here then ran beside it.
        let there = !lab.host(1)?.engine.running()?.is_empty();
        let here = lab.host(0)?.engine.running()?;
        ensure!(here.contains(&kept.container), "the kept bot was stopped");
        let still_here = here.contains(&first.container);
        ensure!(!(there && still_here), "it runs on both hosts");
        stopped_first |= !there && !still_here;
        let now = mover.get()?;
        let so = now["state"] == "running" && now["host"] == ids[1].as_str();
        Ok(if so { Ok(now) } else { Err(now.to_string()) })
    })?;
    assert!(stopped_first, "it was stopped by its own host, while nobody had started it elsewhere");
    assert!(moved["timeline"].to_string().contains("moved to another host"), "{moved}");
    let second = mover.identity(&lab.host(1)?.engine)?;
    let shown = keeper.get()?;
    assert_eq!((&shown["host"], &shown["reason"]["code"]), (&json!(ids[0]), &json!("host-silent")), "{shown}");
    let host = lab.host(0)?;
    assert_eq!(host.bot(&address).get("/healthz")?.status, 200);

    lab.host(0)?.net.set_connected(true)?;
    wait_until("the first host to have taken away what left it", SOON, || {
        let here = containers(&lab.host(0)?.engine)?;
        ensure!(!lab.host(0)?.engine.running()?.contains(&first.container), "it was started again beside the other");
        let state = hosts(&lab)?[0]["state"].clone();
        Ok(state == "active" && here == [kept.container.clone()])
    })?;
    keeper.wait("no reason any more", |now| now["state"] == "running" && now["reason"].is_null())?;
    assert_eq!(keeper.identity(&lab.host(0)?.engine)?, kept, "the kept bot is the same");
    assert_eq!(mover.identity(&lab.host(1)?.engine)?, second, "and so is the one that moved");
    lab.close()
}
