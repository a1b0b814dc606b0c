//! Canaries: secrets that nothing else could be, planted by every way that leads in, and looked for
//! everywhere.
//!
//! ```text
//!  at creation, by PUT, by the command, in the environment, in requests that are refused
//!      └─► changed, rotated, restarted, removed; all logs at their loudest
//!            └─► files, tables, logs, processes, docker inspect, answers ─► only where each belongs
//! ```
//! A text that is meant to be seen, the control, is planted in every kind of place as well: a search that
//! does not find it there proves nothing.

#[path = "canary/ground.rs"]
mod ground;
#[path = "terminal/mod.rs"]
mod terminal;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ground::{Ground, Place, canary, sha256};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::wait::wait_until;
use serde_json::{Value, json};

/// Whether a place is of one kind.
type IsOfKind = fn(&Place) -> bool;

#[test]
fn a_secret_is_where_it_belongs_and_nowhere_else() -> Result<()> {
    let mut ground = Ground::new()?;
    let (first, second, third) = (canary(), canary(), canary());
    let bot = ground.deploy("keeper", "echo", json!({ "token": first }))?;
    let before = bot.identity(&ground.lab.host(0)?.engine)?;
    assert_eq!(ground.everywhere(&first)?, ground.file_of(&bot, "token")?);
    assert_eq!(ground.core_limits()?, ["0 0", "0 0"]);

    // Replaced under the running bot: the old value is gone, and so it is of a file that is taken away.
    ground.set_by_command(&bot, "token", &second)?;
    ground.set(&bot, "extra", &third)?;
    ground.wait_seen(&bot, "token", &second)?;
    ground.wait_seen(&bot, "extra", &third)?;
    assert_eq!(bot.identity(&ground.lab.host(0)?.engine)?, before, "the bot was started anew");
    assert_eq!(ground.everywhere(&first)?, BTreeSet::new());
    assert_eq!(ground.everywhere(&second)?, ground.file_of(&bot, "token")?);
    assert_eq!(ground.everywhere(&third)?, ground.file_of(&bot, "extra")?);
    ground.remove(&bot, "extra")?;
    assert_eq!(ground.everywhere(&third)?, BTreeSet::new());

    // Another key, another process on either side: everything is opened and sealed once more.
    ground.rotate()?;
    ground.restart_everything(&bot)?;
    ground.wait_seen(&bot, "token", &second)?;
    assert_eq!(ground.everywhere(&second)?, ground.file_of(&bot, "token")?);

    bot.delete(true)?;
    bot.wait_state("terminated")?;
    assert_eq!(ground.everywhere(&second)?, BTreeSet::new());
    ground.close()
}

#[test]
fn a_secret_in_the_environment_shows_where_the_profile_says_and_is_told_as_degraded() -> Result<()> {
    let mut ground = Ground::new()?;
    let (first, second) = (canary(), canary());
    let bot = ground.deploy("shouter", ground::IN_ENVIRONMENT, json!({ "env-key": first }))?;
    let plain = ground.deploy("whisperer", "echo", json!({}))?;
    let verdict = |bot: &Deployment| -> Result<Value> {
        Ok(bot.get()?["instance"]["enforcement"]["process-environment"]["verdict"].clone())
    };
    wait_until("the environment to be judged", SOON, || Ok(verdict(&bot)? == "degraded"))?;
    assert_eq!(verdict(&plain)?, "enforced");
    let before = bot.identity(&ground.lab.host(0)?.engine)?;
    let all_but_the_engines_own = |ground: &mut Ground, value: &str| -> Result<BTreeSet<Place>> {
        let found = ground.everywhere(value)?.into_iter();
        Ok(found.filter(|place| !matches!(place, Place::Engine(_))).collect())
    };
    assert_eq!(all_but_the_engines_own(&mut ground, &first)?, ground.environment_of(&bot, "env-key")?);

    // Docker fixes an environment for good: another value is another container.
    let effect = ground.set(&bot, "env-key", &second)?;
    assert_eq!(effect, "new-container");
    bot.wait("a new container", |now| {
        now["state"] == "running" && now["instance"]["container_id"] != before.container.as_str()
    })?;
    assert_eq!(all_but_the_engines_own(&mut ground, &second)?, ground.environment_of(&bot, "env-key")?);
    assert_eq!(all_but_the_engines_own(&mut ground, &first)?, BTreeSet::new());
    ground.close()
}

#[test]
fn a_secret_that_was_refused_is_nowhere() -> Result<()> {
    let mut ground = Ground::new()?;
    let bot = ground.deploy("keeper", "echo", json!({}))?;
    let (value, path) = (canary(), format!("/deployments/{}/secrets", bot.id));
    let api = ground.lab.api()?;
    let long = value.repeat(70_000 / value.len());
    let refused = [
        api.put(&format!("{path}/KEY"), &json!(value))?,
        api.put(&format!("{path}/KEY"), &json!({ "value": { "of": value } }))?,
        api.put(&format!("{path}/KEY"), &json!({ "value": long }))?,
        api.put(&format!("{path}/KEY"), &json!({ "value": format!("{value}\0") }))?,
        api.put(&format!("{path}/echo.conf"), &json!({ "value": value }))?,
        api.put("/deployments/nobody/secrets/KEY", &json!({ "value": value }))?,
        api.as_caller("lp_made_up").put(&format!("{path}/KEY"), &json!({ "value": value }))?,
        api.post("/deployments", &json!({ "name": "Bad Name", "secrets": { "KEY": value } }))?,
        api.post("/deployments", &json!({ "name": "web", "secrets": value }))?,
    ];
    for answer in refused {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(!answer.body.to_string().contains(&value), "{answer:?}");
    }
    ground.refused_by_command(&bot, &value)?;
    assert_eq!(ground.everywhere(&value)?, BTreeSet::new());
    ground.close()
}

#[test]
fn the_search_finds_what_is_meant_to_be_seen_in_every_kind_of_place() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.deploy("shouter", ground::IN_ENVIRONMENT, json!({}))?;
    let mut shown = ground.show_control()?;
    let found = ground.everywhere(&ground.control.clone())?;
    shown.kill().and_then(|()| shown.wait()).context("end the process that shows it")?;
    let kinds: [(&str, IsOfKind); 8] = [
        ("the coordinator's files", |place| matches!(place, Place::File(path) if path.starts_with("coordinator"))),
        ("the agent's files", |place| matches!(place, Place::File(path) if path.starts_with("h1/agent"))),
        ("the engine's own files", |place| matches!(place, Place::Engine(_))),
        ("a table", |place| matches!(place, Place::Table(_))),
        ("a command line", |place| matches!(place, Place::Process(_, "cmdline"))),
        ("an environment", |place| matches!(place, Place::Process(_, "environ"))),
        ("docker inspect", |place| matches!(place, Place::Container(_))),
        ("an answer", |place| matches!(place, Place::Answer(_))),
    ];
    for (kind, is_of_it) in kinds {
        assert!(found.iter().any(is_of_it), "{kind}: {found:?}");
    }
    // No log holds what the control is; each holds its level.
    let loud = ground.everywhere(" TRACE ")?;
    for log in ["coordinator.log", "h1/agent.log"] {
        assert!(loud.contains(&Place::File(log.into())), "{log}: {loud:?}");
    }
    ground.close()
}

#[test]
fn a_hash_is_told_so_that_a_canary_can_be_proved_without_being_shown() -> Result<()> {
    // FIPS 180-4, the first example.
    assert_eq!(sha256("abc")?, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    Ok(())
}
