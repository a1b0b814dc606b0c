//! Public names from the order to the page: the coordinator names a bot, the gate tells Caddy where it is,
//! and Caddy away holds up the named alone.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::process::run;
use launchpad_tests::wait::wait_for;
use serde_json::Value;

/// Below which the coordinator names bots.
const DOMAIN: &str = "bots.example";

/// Two small bots on one small disk.
const PLANS: &str = "[starter]\ncpu_millis = 500\nmemory_mb = 128\nstorage_mb = 64\nretention_days = 1\n";

/// A host with a Caddy, of a coordinator that names bots or does not.
fn lab(domain: Option<&str>) -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = Place::new(lab.dir(), &http_address());
    let plans = lab.dir().join("plans.toml");
    fs::write(&plans, PLANS)?;
    let plans = plans.display().to_string();
    let named = domain.iter().flat_map(|domain| ["--ingress-domain", domain]);
    place.arguments = ["--plans", &plans].into_iter().chain(named).map(str::to_owned).collect();
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    lab.host(0)?.start_caddy()?;
    Ok(lab)
}

/// A page of the deployment as the internet would see it, over a verified certificate.
fn page(lab: &mut Lab, deployment: &Deployment, path: &str) -> Result<String> {
    let told = deployment.get()?;
    let url = told["url"].as_str().with_context(|| format!("no url in {told}"))?.to_owned();
    let host = lab.host(0)?;
    let (root, address) = (host.caddy()?.root(), host.net.address());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--noproxy", "*", "--resolve", &format!("*:443:{address}"), "--cacert"]);
    run(curl.arg(root).arg(format!("{}{path}", url.trim_end_matches('/'))))
}

fn wait_for_page(lab: &mut Lab, deployment: &Deployment) -> Result<String> {
    wait_for("the bot's page", SOON, || Ok(page(lab, deployment, "/").map_err(|error| format!("{error:#}"))))
}

/// How the API says that its public names stand.
fn ingress(deployment: &Value) -> &str {
    deployment["instance"]["enforcement"]["ingress"]["verdict"].as_str().unwrap_or("unknown")
}

#[test]
fn a_bot_is_reached_at_its_name_and_a_caddy_that_is_away_stops_no_running_bot() -> Result<()> {
    let mut lab = lab(Some(DOMAIN))?;
    let one = Deployment::running(&lab, "one")?;
    assert_eq!(wait_for_page(&mut lab, &one)?, r#"{"label":"default"}"#);
    let before = one.identity(&lab.host(0)?.engine)?;

    lab.host(0)?.caddy()?.kill()?;
    one.wait("the loss to be told", |told| ingress(told) == "failed")?;
    let two = Deployment::create(&lab, "two", "")?;
    two.wait("it to be held up by its name", |told| told.to_string().contains("caddy-away"))?;
    assert_eq!(one.identity(&lab.host(0)?.engine)?, before);

    lab.host(0)?.caddy()?.restart()?;
    two.wait_state("running")?;
    wait_for_page(&mut lab, &two)?;
    one.wait("the mend to be told", |told| ingress(told) == "enforced")?;
    assert_eq!(one.identity(&lab.host(0)?.engine)?, before);
    lab.close()
}

#[test]
fn a_bot_without_a_public_name_needs_no_caddy() -> Result<()> {
    let mut lab = lab(None)?;
    lab.host(0)?.caddy()?.kill()?;
    let nameless = Deployment::running(&lab, "nameless")?;
    let told = nameless.wait("its promises to be judged", |told| ingress(told) != "unknown")?;
    assert_eq!((ingress(&told), &told["url"]), ("enforced", &Value::Null));
    lab.close()
}
