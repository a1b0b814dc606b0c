//! Changes of a host's spec while its programs are killed at random: in the end nothing is left over, and nothing denied
//! was reached on the way.
//!
//! ```text
//!  a prober inside a bot ──ten tries a second──► stand-ins that it may not reach, and one that it may
//!  changes: deploy, purge, restart, egress, secrets ──► API       (of two accounts, none waited for)
//!  chaos:   agent, gate, dockerd, Caddy ── SIGKILL, and started again some changes later
//!  rests:   an account without a guest ─► nothing of it on the host
//!  end:     all purged ─► no mount, loop device, network, rule, route or cgroup ─► the stand-ins' record
//! ```
//! A few changes in `make test`, two hundred in `make soak` (`LAUNCHPAD_CHURN_CHANGES`). The seed is told first, and
//! `LAUNCHPAD_CHURN_SEED` brings the same order of changes and deaths again.

mod changes;
mod chaos;
mod prober;

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator::Place;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::remains;
use launchpad_tests::stand_in::{Port, World};
use launchpad_tests::wait::wait_for;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use changes::Changes;
use chaos::Chaos;
use prober::{Prober, Target};

/// Changes unless the variable says otherwise: what fits into a minute.
const CHANGES: usize = 12;
/// Changes after which everything is let come to rest.
const REST_EVERY: usize = 8;
/// Changes after which an account has surely lost its last guest, and the host has come to rest before the next one.
const ENOUGH: usize = 200;
/// For a host with everything to do to come to rest, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The one destination that the prober's policy allows.
const ALLOWED: &str = "203.0.113.10";
/// The port of it that is allowed; the other one is not.
const ALLOWED_PORT: u16 = 443;
const OTHER_PORT: u16 = 80;
/// What the record calls whoever waits there.
const OTHER: &str = "allowed, another port";
/// Where somebody listens on the host itself, beside Caddy.
const HOST_PORT: u16 = 9100;

/// Destinations that no policy allows, or not this one: a name for the record, an address, a port.
const DENIED: [(&str, &str, u16); 6] = [
    ("metadata", "169.254.169.254", 80),
    ("private", "10.1.2.3", 80),
    ("private too", "192.168.7.7", 443),
    ("carrier", "100.64.3.3", 443),
    ("public", "198.51.100.9", 443),
    ("mail", "198.51.100.25", 25),
];

#[test]
fn whoever_is_killed_while_a_spec_changes_nothing_is_left_over_and_nothing_denied_is_reached() -> Result<()> {
    let seed = from_environment("LAUNCHPAD_CHURN_SEED")?.unwrap_or_else(any_seed);
    let count = from_environment("LAUNCHPAD_CHURN_CHANGES")?.map_or(CHANGES, |count| count as usize);
    println!("seed {seed}, {count} changes");
    let mut random = StdRng::seed_from_u64(seed);

    let mut lab = with_public_names()?;
    let world = lab.world()?;
    people(&world, &mut lab)?;
    let bot = prober_bot(&lab)?;
    let identity = bot.identity(&lab.host(0)?.engine)?;
    let prober = Prober::inside(identity.pid, targets(&mut lab)?)?;

    let mut changes = Changes::of(&mut lab)?;
    let mut chaos = Chaos::default();
    for change in 1..=count {
        changes.make_one(&mut random)?;
        chaos.strike(&mut lab, &mut random)?;
        if change % REST_EVERY == 0 {
            chaos.revive_all(&mut lab)?;
            lab.wait_settled_within(PATIENCE, 0)?;
            changes.see_losses(&mut lab)?;
        }
    }
    chaos.revive_all(&mut lab)?;
    lab.wait_settled_within(PATIENCE, 0)?;
    changes.see_losses(&mut lab)?;
    ensure!(bot.identity(&lab.host(0)?.engine)? == identity, "the bot that was left alone is another one");

    let told = prober.end()?;
    ensure!(told.allowed > 0, "the prober never reached what it may: it proves nothing\n{told:?}");
    ensure!(told.denied.is_empty(), "the prober reached what it may not: {:?}", told.denied);
    for (name, ..) in DENIED.into_iter().chain([(OTHER, "", 0), ("host", "", 0)]) {
        let arrivals = world.record().at(name);
        ensure!(arrivals.is_empty(), "somebody came to `{name}`: {arrivals:?}");
    }

    let losses = changes.losses();
    ensure!(count < ENOUGH || losses.seen > 0, "no network was seen to go: {losses}");
    let mut accounts = changes.accounts();
    accounts.insert(bot.account()?);

    changes.purge_all()?;
    bot.delete(true)?;
    bot.wait_state("terminated")?;
    lab.wait_settled_within(PATIENCE, 0)?;
    wait_for("nothing of ours to be left on the host", PATIENCE, || {
        let left = remains::of_anybody(lab.host(0)?, &accounts)?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left.join("\n")) })
    })?;
    println!(
        "{} tries reached what they may, {} were in vain; {}; {}",
        told.allowed,
        told.tries,
        losses,
        chaos.told()
    );
    drop(world);
    lab.close()
}

/// The standard library's own random keys are random enough for this.
fn any_seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// One host, whose bots have public names: nobody of them starts without a Caddy.
fn with_public_names() -> Result<Lab> {
    let mut lab = Lab::enter(&["echo"])?;
    let mut place = Place::new(lab.dir(), &http_address());
    place.arguments = ["--ingress-domain", "bots.example.com"].map(str::to_owned).to_vec();
    lab.start_coordinator_at(place)?;
    lab.add_host()?;
    lab.start_agent(0)?;
    lab.host(0)?.start_caddy()?;
    Ok(lab)
}

fn from_environment(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{variable}=`{text}` is no number"))
}

/// The stand-ins: those that are denied, the one that is allowed, and one inside the host itself.
fn people(world: &World, lab: &mut Lab) -> Result<()> {
    for (name, address, port) in DENIED {
        world.stand_in(name, address, &[Port::Tcp(port)])?;
    }
    world.stand_in("allowed", ALLOWED, &[Port::Tcp(ALLOWED_PORT)])?;
    world.stand_in(OTHER, ALLOWED, &[Port::Tcp(OTHER_PORT)])?;
    let net = &lab.host(0)?.net;
    let (address, port) = (net.address().parse()?, Port::Tcp(HOST_PORT));
    world.listen("host", net.inside(|| launchpad_tests::stand_in::Sockets::open(address, &[port]))?)
}

fn targets(lab: &mut Lab) -> Result<Vec<Target>> {
    let denied = DENIED.map(|(_, address, port)| (address.to_owned(), port)).into_iter();
    let host = lab.host(0)?.net.address();
    let denied = denied.chain([(ALLOWED.to_owned(), OTHER_PORT), (host, HOST_PORT)]);
    let denied = denied.map(|(address, port)| Target { address, port, allowed: false });
    let allowed = Target { address: ALLOWED.to_owned(), port: ALLOWED_PORT, allowed: true };
    Ok(denied.chain([allowed]).collect())
}

fn prober_bot(lab: &Lab) -> Result<Deployment> {
    let body = json!({
        "name": "prober", "profile": "echo", "plan": "starter", "image": lab.image("echo")?,
        "egress": [format!("{ALLOWED}/32:{ALLOWED_PORT}")],
    });
    let bot = Deployment::order(&lab.api()?, &body)?;
    bot.wait_state("running")?;
    Ok(bot)
}
