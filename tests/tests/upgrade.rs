//! Agents and coordinators of different versions, as real processes with a real bot beside them: which of them talk, and how
//! an agent becomes another version of itself, or comes back.

#[path = "upgrade/ground.rs"]
mod ground;
mod terminal;

use anyhow::{Result, ensure};
use ground::Ground;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::Lab;

/// In which a test has a process pose as one of another release: what it speaks, lowest and highest.
const SPEAKS: &str = "LAUNCHPAD_SPEAKS";

#[test]
fn an_agent_becomes_another_version_and_comes_back_from_one_that_does_not_start_while_its_bot_runs_on() -> Result<()>
{
    let mut lab = Lab::with_hosts(1)?;
    let bot = Deployment::running(&lab, "steady")?;
    let before = bot.identity(&lab.host(0)?.engine)?;
    let mut ground = Ground::on(&mut lab)?;
    ground.package("0.2.0", true)?;
    ground.package("0.3.0", false)?;

    ground.order(&mut lab, &["--to", "0.2.0", "--ring", "main", "--soak", "0"])?;
    ground.wait_upgrade(&lab, "done")?;
    lab.wait_shown(0, "of the new version", |host| host["agent_version"] == "0.2.0")?;
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);

    ground.order(&mut lab, &["--to", "0.3.0", "--hosts", "h1", "--soak", "0"])?;
    ground.wait_upgrade(&lab, "halted")?;
    lab.wait_shown(0, "of the version before", |host| host["agent_version"] == "0.2.0" && host["connected"] == true)?;
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    let told = ground.order(&mut lab, &["--status"])?;
    for part in ["halted", "h1", "0.3.0 was not well within", "--resume"] {
        ensure!(told.contains(part), "`{part}` is missing in:\n{told}");
    }

    // The package is mended, and the same upgrade goes on.
    ground.package("0.3.0", true)?;
    ground.order(&mut lab, &["--resume"])?;
    ground.wait_upgrade(&lab, "done")?;
    lab.wait_shown(0, "of the newest version", |host| host["agent_version"] == "0.3.0")?;
    let after = bot.wait_state("running")?;
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    assert_eq!(after["instance"]["restarts"], 0, "{after}");
    ground.stop()?;
    lab.close()
}

#[test]
fn a_runner_killed_in_the_middle_is_begun_anew_by_the_agent_that_finds_its_log() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let bot = Deployment::running(&lab, "steady")?;
    let before = bot.identity(&lab.host(0)?.engine)?;
    let mut ground = Ground::on(&mut lab)?;
    ground.package("0.2.0", true)?;
    ground.runner_dies_while_it_installs()?;
    ground.order(&mut lab, &["--to", "0.2.0", "--ring", "main", "--soak", "0"])?;
    ground.runner_died()?;
    ground.wait_upgrade(&lab, "done")?;
    lab.wait_shown(0, "of the new version", |host| host["agent_version"] == "0.2.0")?;
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    ground.stop()?;
    lab.close()
}

#[test]
fn versions_too_far_apart_part_with_a_word_about_who_is_to_be_upgraded_and_the_bot_runs_on() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let bot = Deployment::running(&lab, "steady")?;
    let before = bot.identity(&lab.host(0)?.engine)?;

    // One release apart, either way round: all is well.
    for (agent, coordinator) in [(Some("1-2"), None), (None, Some("1-2"))] {
        pose(&mut lab, agent, coordinator)?;
        lab.wait_settled(0)?;
        lab.wait_for_report(0)?;
    }
    // Two: each says which is the older one.
    for (agent, coordinator, word) in [
        (Some("3-4"), None, "upgrade launchpad-coordinator to"),
        (None, Some("3-4"), "upgrade launchpad-agent on that host to"),
    ] {
        pose(&mut lab, agent, coordinator)?;
        lab.host(0)?.agent()?.wait_for_log(word, SOON)?;
        assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    }
    pose(&mut lab, None, None)?;
    lab.wait_settled(0)?;
    lab.wait_for_report(0)?;
    assert_eq!(bot.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

/// Both anew, as what they pose for.
fn pose(lab: &mut Lab, agent: Option<&str>, coordinator: Option<&str>) -> Result<()> {
    let set = |environment: &mut std::collections::BTreeMap<String, String>, range: Option<&str>| match range {
        Some(range) => drop(environment.insert(SPEAKS.to_owned(), range.to_owned())),
        None => drop(environment.remove(SPEAKS)),
    };
    set(&mut lab.coordinator()?.place().environment, coordinator);
    set(&mut lab.host(0)?.agent()?.place().environment, agent);
    lab.host(0)?.agent()?.kill()?;
    lab.coordinator()?.restart()?;
    lab.host(0)?.agent()?.restart()
}
