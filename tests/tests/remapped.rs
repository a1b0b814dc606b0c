//! An engine that gives containers user ids of their own, as shared hosts must: a bot runs, reads and writes there as
//! anywhere else, and nothing of it belongs to a user of the host.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::engine::Users;
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::wait::wait_until;
use serde_json::json;

/// A pool that insists on remapping. It goes without what is the machine's to have.
const POOLS: &str = "[shared]\nkind = \"shared\"\naccepts = [\"apparmor\", \"cgroup-v2\"]\n";

/// The user of echo's process, in its container.
const BOT_UID: u32 = 1000;

fn lab() -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = Place::new(lab.dir(), &http_address());
    place.pools = POOLS.to_owned();
    lab.start_coordinator_at(place)?;
    lab.add_host_with(Users::Remapped)?;
    lab.start_agent(0)?;
    Ok(lab)
}

#[test]
fn a_bot_on_an_engine_that_remaps_users_reads_its_secret_keeps_its_volume_and_is_nobody_on_the_host() -> Result<()> {
    let mut lab = lab()?;
    let body = json!({
        "name": "remapped", "profile": "echo", "plan": "starter", "image": lab.image("echo")?,
        "secrets": { "token": "for one's own eyes" },
    });
    let bot = Deployment::order(&lab.api()?, &body)?;
    bot.wait_state("running")?;
    let judged = bot.wait("its user namespace to be judged", |now| {
        now["instance"]["enforcement"]["user-namespace"]["verdict"] == "enforced"
    })?;
    for item in ["volume-mount", "volume-quota", "files", "root-filesystem", "capabilities", "seccomp"] {
        assert_eq!(judged["instance"]["enforcement"][item]["verdict"], "enforced", "{item}: {judged}");
    }

    let address = bot.address()?;
    let host = lab.host(0)?;
    let pid = bot.identity(&host.engine)?.pid;
    let (uid, gid) = owner(&format!("/proc/{pid}"))?;
    ensure!(uid > BOT_UID && gid > BOT_UID, "its process is user {uid}, group {gid} of the host");
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).context("read its user ids")?;
    let first: u32 = map.split_whitespace().nth(1).and_then(|word| word.parse().ok()).context("a first user id")?;
    assert_eq!(uid, first + BOT_UID, "{map}");

    let inside = host.bot(&address);
    let told = inside.get("/whoami")?.body;
    assert_eq!((&told["uid"], &told["writable"]["state"]), (&json!(BOT_UID.to_string()), &json!(true)), "{told}");
    assert_eq!(inside.get("/secret?name=token")?.status, 200);

    // A copy is put back as the bot's own, whoever it belongs to on the host.
    let path = format!("/deployments/{}/snapshots", bot.id);
    let api = lab.api()?;
    let done = |asked: serde_json::Value| -> Result<()> {
        wait_until("the host's answer", SOON, || {
            let seen = api.get(&path)?.success()?;
            let mut operations = seen["operations"].as_array().into_iter().flatten();
            Ok(operations.any(|one| one["operation"] == asked["operation"] && one["outcome"] == "done"))
        })
    };
    done(api.post(&path, &json!({ "name": "before" }))?.success()?)?;
    done(api.post(&format!("{path}/before/restore"), &json!({}))?.success()?)?;
    bot.wait_state("running")?;
    let (pid, address) = (bot.identity(&lab.host(0)?.engine)?.pid, bot.address()?);
    assert_eq!(owner(&format!("/proc/{pid}/root/state"))?, (first + BOT_UID, first + BOT_UID));
    assert_eq!(lab.host(0)?.bot(&address).get("/whoami")?.body["writable"]["state"], true);

    bot.delete(true)?;
    bot.wait_state("terminated")?;
    lab.close()
}

/// Whose a file is on the host.
fn owner(path: &str) -> Result<(u32, u32)> {
    let told = fs::metadata(path).with_context(|| format!("look at {path}"))?;
    Ok((told.uid(), told.gid()))
}
