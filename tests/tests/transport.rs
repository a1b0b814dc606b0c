//! The link on a real network: UDP that goes nowhere, a coordinator that comes back, a host that is cut off for good.

mod terminal;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::Lab;
use launchpad_tests::process::run;
use launchpad_tests::wait::{Stopwatch, wait_for, wait_until};
use serde_json::Value;
use terminal::{Line, Told};

/// The agent gives UDP three seconds before TCP joins the race. QUIC's own patience is thirty: less than that shows
/// that it was not waited for, on however busy a machine.
const BY_TCP_WITHIN: Duration = Duration::from_secs(25);
/// QUIC gives a silent connection up after 30 s; then as above, after a pause of some seconds.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(60);
/// The design promises a second after the command's answer, and a quiet machine keeps it. A busy one gets ten: still far
/// less than the thirty after which either side would give a silent connection up.
const CUT_WITHIN: Duration = Duration::from_secs(10);

/// Drops every UDP packet that leaves the host, as a strict firewall does: without a word.
fn drop_udp(lab: &mut Lab) -> Result<()> {
    let rules = "add table inet strict\n\
                 add chain inet strict out { type filter hook output priority 0; }\n\
                 add rule inet strict out meta l4proto udp counter drop\n";
    let file = lab.dir().join("strict.nft");
    std::fs::write(&file, rules)?;
    lab.host(0)?.net.inside(|| run(Command::new("nft").arg("-f").arg(&file))).map(drop)
}

fn launchpad(lab: &mut Lab, arguments: &[&str]) -> Result<Told> {
    let (api, token) = (lab.api()?, lab.coordinator()?.token().to_owned());
    Line::launchpad(&api, &token)?.args(arguments).run()
}

fn agent_status(lab: &mut Lab) -> Result<String> {
    let run_dir = lab.host(0)?.agent()?.place().run.clone();
    let status = Line::of("launchpad-agent")?.args(["status".as_ref(), "--run-dir".as_ref(), run_dir.as_os_str()]);
    status.run()?.done()
}

/// Waits until the agent tells the host's owner that it was revoked, and what mends it.
fn wait_for_why(lab: &mut Lab) -> Result<()> {
    wait_for("the agent to know why it is not let in", SOON, || {
        // An agent that has just been started does not listen yet.
        let status = agent_status(lab).unwrap_or_else(|error| error.to_string());
        Ok(if status.contains("revoked") && status.contains("enroll --replace") { Ok(()) } else { Err(status) })
    })
}

#[test]
fn a_host_that_may_not_send_udp_is_connected_by_tcp_in_seconds_and_works() -> Result<()> {
    let mut lab = Lab::enter(&["echo"])?;
    lab.start_coordinator()?;
    lab.add_host()?;
    drop_udp(&mut lab)?;
    let begun = Stopwatch::start();
    lab.start_agent(0)?;
    let took = begun.elapsed();
    assert!(took < BY_TCP_WITHIN, "{took:?}");
    let dropped = lab.host(0)?.net.inside(|| run(Command::new("nft").args(["list", "table", "inet", "strict"])))?;
    assert!(!dropped.contains("packets 0 "), "UDP was never tried: {dropped}");

    assert_eq!(lab.shown(0)?["transport"], "tcp");
    let table = launchpad(&mut lab, &["hosts"])?.done()?;
    let row = table.lines().find(|row| row.starts_with("h1 ")).context("a row for the host")?;
    assert!(row.split_whitespace().any(|cell| cell == "tcp"), "{table}");
    assert!(agent_status(&mut lab)?.contains("tcp"));
    // All of it goes that way: the spec, the reports, and the answers' own streams.
    let deployment = Deployment::running(&lab, "roundabout")?;
    let logs = launchpad(&mut lab, &["logs", "roundabout"])?.done()?;
    assert!(logs.contains("echo: listening"), "{logs}");
    deployment.delete(true)?;
    deployment.wait_state("terminated")?;
    lab.close()
}

#[test]
fn a_session_whose_udp_dries_up_goes_on_over_tcp_and_nothing_is_lost() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    assert_eq!(lab.shown(0)?["transport"], "quic");
    drop_udp(&mut lab)?;
    // Ordered into the dead connection: it arrives by the living one.
    let late = Deployment::create(&lab, "late", "")?;
    wait_for("the session to be carried by TCP", GIVEN_UP_WITHIN, || {
        let host = lab.shown(0)?;
        Ok(if host["connected"] == true && host["transport"] == "tcp" { Ok(()) } else { Err(host.to_string()) })
    })?;
    late.wait_state("running")?;
    assert_eq!(deployment.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

#[test]
fn a_restarted_coordinator_goes_on_with_its_host_where_it_was() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "steady")?;
    let identity = deployment.identity(&lab.host(0)?.engine)?;
    let settled = || |host: &Value| host["generation"]["applied"] == host["generation"]["published"];
    wait_until("the host to have settled", SOON, || Ok(settled()(&lab.shown(0)?)))?;
    let (before, story) = (lab.shown(0)?, deployment.get()?["timeline"].clone());
    assert_eq!(before["transport"], "quic");
    let pid = lab.host(0)?.agent()?.process().pid();

    for kind in ["stopped in order", "killed"] {
        if kind == "killed" {
            lab.coordinator()?.kill()?;
        } else {
            lab.coordinator()?.process().stop()?;
        }
        lab.coordinator()?.restart()?;
        let back = lab.wait_connected(0)?;
        assert_eq!(back["transport"], "quic", "{kind}: {back}");
        let seen = back["last_seen_us"].clone();
        wait_until("a report in the new session", SOON, || Ok(lab.shown(0)?["last_seen_us"] != seen))?;
        let after = lab.shown(0)?;
        assert_eq!((&after["id"], &after["generation"]), (&before["id"], &before["generation"]), "{kind}");
        // What was told before is not told again, and the host was asked for nothing new.
        assert_eq!(deployment.get()?["timeline"], story, "{kind}");
        assert_eq!(deployment.identity(&lab.host(0)?.engine)?, identity, "{kind}");
    }
    assert_eq!(lab.host(0)?.agent()?.process().pid(), pid, "the agent is the same process");
    // The link carries orders in both directions again.
    deployment.restart()?;
    let engine = &lab.host(0)?.engine;
    deployment.wait("a new process", |now| {
        now["state"] == "running"
            && deployment.identity(engine).is_ok_and(|now| now.started_at != identity.started_at)
    })?;
    lab.close()
}

#[test]
fn a_revoked_host_is_cut_off_at_once_and_its_bots_run_on() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let deployment = Deployment::running(&lab, "survivor")?;
    let (identity, address) = (deployment.identity(&lab.host(0)?.engine)?, deployment.address()?);
    let begun = Stopwatch::start();
    let told = launchpad(&mut lab, &["host", "revoke", "h1"])?.done()?;
    wait_until("the coordinator to have cut it off", SOON, || Ok(lab.shown(0)?["connected"] == false))?;
    wait_until("the agent to notice", SOON, || Ok(agent_status(&mut lab)?.contains("not connected")))?;
    let took = begun.elapsed();
    assert!(took < CUT_WITHIN, "{took:?}: {told}");
    assert_eq!(lab.shown(0)?["state"], "retired");

    // It is told why, and that only another enrolment mends it; trying again does not let it in, nor does a restart.
    wait_for_why(&mut lab)?;
    lab.host(0)?.agent()?.restart()?;
    wait_for_why(&mut lab)?;
    assert_eq!(lab.shown(0)?["connected"], false);
    let host = lab.host(0)?;
    assert_eq!(host.bot(&address).get("/healthz")?.status, 200);
    assert_eq!(launchpad_tests::deployment::identity(&host.engine, &identity.container)?, identity);
    let shown = deployment.get()?;
    assert_eq!(shown["reason"]["code"], "host-revoked", "{shown}");
    // Nothing is placed there any more, and the next deployment says why it waits.
    let homeless = Deployment::create(&lab, "homeless", "")?;
    let waiting = homeless.wait("a reason", |now| now["reason"].is_object())?;
    assert_eq!(waiting["state"], "requested");
    assert!(waiting["reason"]["mend"].is_string(), "{waiting}");
    lab.close()
}
