//! Journeys of a tenant's bot: deployed, restarted and purged; first and last of its tenant; tampered with; stopped on the
//! host; given secrets; deleted and reaped; looked at by staff.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use launchpad_coordinator::domain::actor::Role;
use launchpad_tests::accounts::sign_up;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use launchpad_tests::process::run;
use serde_json::{Value, json};

use super::remains::assert_nothing_of;
use super::site::{Site, id, name_of};
use super::terminal::Line;

/// The default Starter plan, whose data nobody keeps.
const NO_RETENTION: &str = "[starter]\ncpu_millis = 500\nmemory_gb = 1\nstorage_mb = 64\nretention_days = 0\n";
/// What somebody sets behind the agent's back; Starter has 1 GB.
const TAMPERED_MEMORY: &str = "536870912";
/// Starter's.
const STARTER_MEMORY: &str = "1073741824";

/// Deploys, restarts and purges a bot named after the point.
pub(crate) fn deploy_restart_purge(site: &mut Site, point: &str) -> Result<()> {
    site.arm(point)?;
    let name = name_of(point);
    let running = site.deploy(&name)?;
    let (id, started) = (id(&running)?, running["instance"]["started_at_us"].clone());
    site.order(&format!("/deployments/{id}/restart"), &json!({}), &format!("{name}-restart"))?;
    site.until_deployment(&id, "running anew", |now| {
        now["state"] == "running" && now["instance"]["started_at_us"] != started
    })?;
    purge(site, &running)?;
    site.settle()
}

/// The same on a host that has no image, no network and no other bot.
pub(crate) fn first_and_last(site: &mut Site, point: &str) -> Result<()> {
    let image = site.lab.image("echo")?;
    let engine = &site.lab.host(0)?.engine;
    if !engine.docker(&["images", "--quiet"])?.is_empty() {
        engine.docker(&["rmi", "--force", &image])?;
    }
    deploy_restart_purge(site, point)
}

/// Somebody gives the neighbour less memory than its plan has: it gets it back, in the same process.
pub(crate) fn tampered_with(site: &mut Site, point: &str) -> Result<()> {
    let (_, neighbour) = site.neighbour.clone().context("a neighbour to tamper with")?;
    site.arm(point)?;
    let memory = ["--memory", TAMPERED_MEMORY, "--memory-swap", TAMPERED_MEMORY];
    let tamper = [&["update"][..], &memory, &[&neighbour.container]].concat();
    site.lab.host(0)?.engine.docker(&tamper)?;
    site.until("the plan's limits to be back", |lab| {
        let told = lab.host(0)?.engine.inspect(&neighbour.container)?["HostConfig"]["Memory"].to_string();
        ensure!(told == STARTER_MEMORY, "it has {told} bytes");
        Ok(Some(()))
    })?;
    site.settle()
}

/// A bot's volume is copied, put back and the copy deleted: three orders, and a start after each of the first two.
pub(crate) fn copied_and_put_back(site: &mut Site, point: &str) -> Result<()> {
    site.arm(point)?;
    let name = name_of(point);
    let running = site.deploy(&name)?;
    let id = id(&running)?;
    let copies = format!("/deployments/{id}/snapshots");
    site.order(&copies, &json!({ "name": "kept" }), &format!("{name}-copy"))?;
    let copied = site.until_deployment(&id, "copied, and running", |now| {
        now["state"] == "running" && now["instance"]["volume"]["snapshots"]["kept"].is_object()
    })?;
    site.order(&format!("{copies}/kept/restore"), &json!({}), &format!("{name}-restore"))?;
    site.until_deployment(&id, "put back, and running", |now| {
        now["state"] == "running" && now["instance"]["started_at_us"] != copied["instance"]["started_at_us"]
    })?;
    site.until("an answer to DELETE", |lab| {
        let answer = lab.api()?.delete(&format!("{copies}/kept"))?;
        ensure!(answer.status < 500, "status {}", answer.status);
        Ok(Some(()))
    })?;
    site.until_deployment(&id, "without a copy", |now| {
        now["instance"]["volume"]["snapshots"].as_object().is_some_and(serde_json::Map::is_empty)
    })?;
    purge(site, &running)?;
    site.settle()
}

/// `launchpad-agent stop` and `start`, each until it is answered; the point dies in one of them.
pub(crate) fn stopped_on_the_host(site: &mut Site, point: &str) -> Result<()> {
    let running = site.deploy(&name_of(point))?;
    let (id, container) = (id(&running)?, running["instance"]["container_id"].clone());
    let container = container.as_str().context("a running bot has a container")?.to_owned();
    site.arm(point)?;
    on_the_host(site, "stop", &id)?;
    site.until("the bot to be stopped", |lab| Ok((!is_running(lab, &container)?).then_some(())))?;
    on_the_host(site, "start", &id)?;
    site.until("the bot to run again", |lab| {
        // The same container or another: what counts is that one of this deployment runs.
        let label = format!("label=launchpad.deployment={id}");
        Ok((!lab.host(0)?.engine.docker(&["ps", "--quiet", "--filter", &label])?.is_empty()).then_some(()))
    })?;
    site.until_deployment(&id, "running", |now| now["state"] == "running")?;
    purge(site, &running)?;
    site.settle()
}

/// A secret is set and taken away under a running bot, each until it is answered; the point dies in one of them.
pub(crate) fn confided(site: &mut Site, point: &str) -> Result<()> {
    let running = site.deploy(&name_of(point))?;
    let (id, started) = (id(&running)?, running["instance"]["started_at_us"].clone());
    let path = format!("/deployments/{id}/secrets/extra");
    let files = site.lab.host(0)?.agent()?.place().run.join("files").join(&id);
    let is_there = || -> Result<bool> {
        Ok(run(Command::new("find").arg(&files))?.lines().any(|path| path.ends_with("/extra")))
    };
    site.arm(point)?;
    site.until("the secret to be set", |lab| {
        let set = lab.api()?.put(&path, &json!({ "value": point }))?.success()?;
        // Its first answer may have been lost.
        Ok((set["version"] == 2).then_some(()))
    })?;
    site.until("its file", |_| Ok(is_there()?.then_some(())))?;
    site.until("the secret to be taken away", |lab| {
        let answer = lab.api()?.delete(&path)?;
        ensure!([202, 404].contains(&answer.status), "status {}", answer.status);
        Ok(Some(()))
    })?;
    site.until("its file to be gone", |_| Ok((!is_there()?).then_some(())))?;
    let now = site.until_deployment(&id, "running", |now| now["state"] == "running")?;
    ensure!(now["instance"]["started_at_us"] == started, "it was started anew: {now}");
    purge(site, &running)?;
    site.settle()
}

/// What a running bot may reach is widened, a larger plan chosen, and a domain claimed for it, looked for and let go, each
/// until it is answered; the point dies in one of them.
pub(crate) fn opened(site: &mut Site, point: &str) -> Result<()> {
    let name = name_of(point);
    let running = site.deploy(&name)?;
    let (id, started) = (id(&running)?, running["instance"]["started_at_us"].clone());
    let (egress, domains) = (format!("/deployments/{id}/egress"), format!("/deployments/{id}/domains"));
    let domain = format!("{name}.example.org");
    site.arm(point)?;
    site.until("what it may reach to be set", |lab| {
        lab.api()?.put(&egress, &json!({ "allow": ["api.example.org"] }))?.success().map(Some)
    })?;
    site.until("its plan to be chosen", |lab| {
        lab.api()?.put(&format!("/deployments/{id}/plan"), &json!({ "plan": "pro" }))?.success().map(Some)
    })?;
    site.order(&domains, &json!({ "name": domain }), &format!("{name}-claim"))?;
    // Nobody answers in a laboratory without an uplink: what counts is that it was tried, and noted.
    site.until("a look for its proof", |lab| {
        let names = lab.api()?.get(&domains)?.success()?;
        let items = names["items"].as_array().into_iter().flatten();
        let claim =
            items.filter(|item| item["name"] == domain.as_str()).find(|item| !item["checked_at_us"].is_null());
        Ok(claim.map(|claim| claim["state"] == "claimed").filter(|claimed| *claimed))
    })?;
    site.until("the domain to be let go", |lab| {
        let answer = lab.api()?.delete(&format!("{domains}/{domain}"))?;
        ensure!([200, 404].contains(&answer.status), "status {}", answer.status);
        Ok(Some(()))
    })?;
    let now = site.until_deployment(&id, "running as its third revision", |now| {
        now["state"] == "running" && now["revision"] == 3
    })?;
    ensure!(now["instance"]["started_at_us"] == started, "it was started anew: {now}");
    purge(site, &running)?;
    site.settle()
}

/// A coordinator that keeps nobody's data, and a host without bots.
pub(crate) fn without_retention() -> Result<Site> {
    let mut site = Site::with_host()?;
    let plans = site.lab.dir().join("plans.toml");
    fs::write(&plans, NO_RETENTION)?;
    let coordinator = site.lab.coordinator()?;
    coordinator.place().arguments = vec!["--plans".to_owned(), plans.display().to_string()];
    coordinator.restart()?;
    site.lab.wait_connected(0)?;
    Ok(site)
}

/// A bot is deleted without a purge; a coordinator looks at once, when it starts, whose retention is over.
pub(crate) fn reaped(site: &mut Site, point: &str) -> Result<()> {
    let running = site.deploy(&name_of(point))?;
    site.delete(&running, false)?;
    site.until("its container to be gone", |lab| {
        Ok(lab.host(0)?.engine.docker(&["ps", "--all", "--quiet"])?.is_empty().then_some(()))
    })?;
    site.arm(point)?;
    site.until_deployment(&id(&running)?, "terminated", |now| now["state"] == "terminated")?;
    assert_nothing_of(site, &running)?;
    site.settle()
}

/// The operator looks at a deployment of an account that is not theirs.
pub(crate) fn looked_at_by_staff(site: &mut Site, point: &str) -> Result<()> {
    let name = name_of(point);
    let tokens = sign_up(&mut site.lab, &name, &[Role::Owner])?;
    let owner = site.lab.api()?.as_caller(&tokens[0]);
    let body = json!({ "name": name, "profile": "echo", "plan": "starter", "image": site.lab.image("echo")? });
    let theirs = Deployment::order(&owner, &body)?.get()?;
    let account = theirs["account"].as_str().context("a deployment has an account")?;
    let path = format!("/deployments/{name}?account={account}");
    site.arm(point)?;
    let shown = site.until("staff to be shown it", |lab| lab.api()?.get(&path)?.success().map(Some))?;
    ensure!(shown["name"] == name.as_str() && shown["state"] == "requested", "{shown}");
    site.settle()
}

/// Purges a bot, and looks whether anything of it is left.
fn purge(site: &mut Site, deployment: &Value) -> Result<()> {
    site.delete(deployment, true)?;
    site.until_deployment(&id(deployment)?, "terminated", |now| now["state"] == "terminated")?;
    assert_nothing_of(site, deployment)
}

/// Asks the agent on its own host, until it answers.
fn on_the_host(site: &mut Site, verb: &str, id: &str) -> Result<()> {
    let run_dir = site.lab.host(0)?.agent()?.place().run.clone();
    site.until(&format!("`launchpad-agent {verb}` to be answered"), |_| {
        let words = [verb.as_ref(), id.as_ref(), "--run-dir".as_ref(), run_dir.as_os_str()];
        Line::of("launchpad-agent")?.args(words).run()?.done().map(Some)
    })?;
    Ok(())
}

fn is_running(lab: &mut Lab, container: &str) -> Result<bool> {
    Ok(lab.host(0)?.engine.running()?.iter().any(|running| running == container))
}
