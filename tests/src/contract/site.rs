//! Where the contract is proved: a host with a gate in a world of stand-ins, on it the hostile bot of one
//! tenant, a bot of the same tenant and one of another.
//!
//! Called by the scenario and by the program of the contract. Everything is deployed through the public API,
//! as customers do it.
//!
//! ```text
//!  fabric: stand-ins, DNS, coordinator, registry
//!     ▲ IPv4 and IPv6
//!  host h1 ── gate, agent, Caddy; somebody waits on its own addresses, beside Caddy
//!     ├─ blue: hostile, sibling
//!     └─ red:  stranger, inside whose container somebody waits, too
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use launchpad_agent::gate::ingress::options::DIRECTORY;
use launchpad_coordinator::domain::actor::Role;
use launchpad_hostile::{Bounds, Orders, Report, Room};
use launchpad_protocol::enforcement::Item;
use serde_json::{Value, json};

use super::Evidence;
use super::aftermath::Aftermath;
use super::backend::Backend;
use super::watch::Watch;
use crate::accounts::sign_up;
use crate::api::Api;
use crate::coordinator::Place;
use crate::deployment::{Deployment, Identity};
use crate::hostile::Hostile;
use crate::lab::{Lab, Run, http_address};
use crate::process::run;
use crate::programs;
use crate::stand_in::cast::{Cast, GATEWAY_PORT, INSIDE_PORT, UPSTREAM};
use crate::stand_in::{Port, Sockets, World, open_beside};
use crate::wait::wait_for;

/// The hostile bot's plan, and its neighbours': small, so that a bomb that got through could not fill a host.
const PLANS: &str = "
[starter]\ncpu_millis = 500\nmemory_gb = 1\nstorage_gb = 10\nretention_days = 7\n
[contract]\ncpu_millis = 500\nmemory_mb = 256\nstorage_mb = 268\nretention_days = 7\n";
/// What that is in the hostile bot's terms: MiB, and what the profile and every bot get besides.
const VOLUME_MB: u64 = 256;
const MEMORY_MB: u64 = 256;
const CPU_MILLIS: u64 = 500;
const PIDS: u64 = 64;
const OPEN_FILES: u64 = 16_384;
const TMPFS_MB: [(&str, u64); 2] = [("/tmp", 16), ("/dev/shm", 64)];
/// What its owner adds to the profile's rules.
const EGRESS: [&str; 3] = ["alias.allowed.test", "*.rebind.test", "203.0.113.128/25:8443"];
/// What the other tenant may reach: names that the hostile bot's tenant may not.
const STRANGERS_EGRESS: [&str; 2] = ["evil.test", "xrebind.test"];
/// Below which the coordinator names every bot: so the way in is there, as on a host that customers use.
const INGRESS_DOMAIN: &str = "bots.example";
/// Where Caddy lets visitors in, on every address of the host. A bot is no visitor: the host's own addresses
/// are denied to it whatever the port, so that what trusts the host's network cannot be had by way of them.
const CADDY_PORTS: [u16; 2] = [80, 443];
/// Where Caddy can be ordered about, unless it is told otherwise: the gate has it on a socket of root's.
const CADDY_ADMIN_PORT: u16 = 2019;
/// For a visit to Caddy on the same machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Every kind of attack. What is written last is bombs, which change most.
const ROOMS: [Room; 5] = [Room::Network, Room::Looks, Room::Kernel, Room::Files, Room::Bombs];
/// Texts that only the neighbours know.
const STRANGERS_SECRET: &str = "the stranger's own secret value";
const SIBLINGS_SECRET: &str = "the sibling's own secret value";
const STRANGERS_FILE: &str = "what the stranger keeps on its volume";
/// What the host's report says of a bot reaches the coordinator within a second or two.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// A bot beside the hostile one.
#[derive(Debug)]
struct Neighbour {
    name: &'static str,
    deployment: Deployment,
    before: Identity,
}

/// The whole scene. Dropping it removes everything.
#[derive(Debug)]
pub struct Site {
    /// Declared first: stand-ins that wait inside a host end before the host does.
    world: World,
    /// The laboratory, for more bots beside these.
    pub lab: Lab,
    /// The hostile bot.
    pub hostile: Deployment,
    neighbours: Vec<Neighbour>,
}

impl Site {
    /// Sets the scene, with volumes held by that backend. The images of `bots` are there as well.
    ///
    /// # Errors
    /// As each step: nothing has been attacked then.
    pub fn open(life: Run, backend: Backend, bots: &[&str]) -> Result<Self> {
        let mut lab = Lab::enter_as(life, &[&["echo", "hostile"], bots].concat())?;
        let world = lab.world()?;
        let mut cast = Cast::on(&world)?;
        start_coordinator(&mut lab)?;
        backend.prepare(&lab.dir().join("h1"))?;
        let host = lab.add_host()?;
        host.net.add_ipv6()?;
        host.outside.resolver = format!("{UPSTREAM}:53");
        lab.start_agent(0)?;
        lab.host(0)?.start_caddy()?;

        let operator = lab.api()?;
        let blue = operator.as_caller(&sign_up(&mut lab, "blue", &[Role::Owner])?[0]);
        let red = operator.as_caller(&sign_up(&mut lab, "red", &[Role::Owner])?[0]);
        let neighbours = vec![
            neighbour(&mut lab, &red, "stranger", STRANGERS_SECRET, &STRANGERS_EGRESS)?,
            neighbour(&mut lab, &blue, "sibling", SIBLINGS_SECRET, &[])?,
        ];
        wait_inside(&mut lab, &world, &mut cast, &neighbours[0])?;
        let hostile = deploy_hostile(&lab, &blue, &cast, &neighbours)?;
        Ok(Self { world, lab, hostile, neighbours })
    }

    /// Tries every attack, with a control before and after, and gathers what was seen.
    ///
    /// # Errors
    /// When the bot cannot be ordered about, as when an attack ended it.
    pub fn attack(&mut self) -> Result<Evidence> {
        let address = self.hostile.address()?;
        self.world.forget()?;
        let watch = self.watch()?;
        let hostile = Hostile::new(self.lab.host(0)?.bot(&address));
        let controls =
            || Cast::controls().iter().map(|visit| hostile.attack(&visit.name)).collect::<Result<Vec<_>>>();
        let mut allowed = controls()?;
        let reports = hostile.attack_all(&ROOMS)?;
        allowed.extend(controls()?);
        let is_control = |report: &Report| Cast::controls().iter().any(|visit| visit.name == report.attack.name);
        let (again, attacks): (Vec<_>, Vec<_>) = reports.into_iter().partition(is_control);
        allowed.extend(again);
        let harm = [watch.end(), self.harm()?, self.untold()].concat();
        Ok(Evidence { attacks, controls: allowed, harm, ..self.recorded()? })
    }

    /// Tries these attacks alone, without controls; `meanwhile` is what else befalls the host.
    ///
    /// # Errors
    /// As [`Site::attack`], and as `meanwhile`.
    pub fn attack_by(
        &mut self,
        names: &[&str],
        meanwhile: impl FnOnce(&mut Lab, &Watch) -> Result<()>,
    ) -> Result<Evidence> {
        let address = self.hostile.address()?;
        self.world.forget()?;
        let watch = self.watch()?;
        let hostile = Hostile::new(self.lab.host(0)?.bot(&address));
        let attacks = names.iter().map(|name| hostile.attack(name)).collect::<Result<_>>()?;
        meanwhile(&mut self.lab, &watch)?;
        let harm = [watch.end(), self.harm()?].concat();
        Ok(Evidence { attacks, harm, ..self.recorded()? })
    }

    /// The first process of the other tenant's bot, in the machine's own counting.
    pub fn pid_of_stranger(&self) -> u64 {
        self.neighbours[0].before.pid
    }

    /// Begins to ask the neighbours.
    fn watch(&mut self) -> Result<Watch> {
        let addresses = self.neighbours.iter().map(|neighbour| Ok((neighbour.name, neighbour.deployment.address()?)));
        let addresses = addresses.collect::<Result<Vec<_>>>()?;
        Watch::over(&self.lab.host(0)?.net.path(), &addresses)
    }

    /// Who came, and for what.
    fn recorded(&self) -> Result<Evidence> {
        let (arrivals, flows) = (self.world.record().arrivals(), self.world.wire().flows()?);
        Ok(Evidence { arrivals, flows, ..Evidence::default() })
    }

    /// Tears down what the gate holds up around the bots, and the gate with it: for the proof that it would
    /// be seen.
    ///
    /// # Errors
    /// When something resists.
    pub fn tear_down_the_network_walls(&mut self) -> Result<()> {
        let host = self.lab.host(0)?;
        host.gate()?.process().kill()?;
        host.net.inside(|| {
            run(Command::new("nft").args(["flush", "ruleset"]))?;
            let rules = run(Command::new("ip").args(["rule", "show"]))?;
            for rule in rules.lines() {
                let words: Vec<&str> = rule.split_ascii_whitespace().collect();
                if let [priority, "from", "all", "iif", bridge, ..] = words[..] {
                    let priority = priority.trim_end_matches(':');
                    run(Command::new("ip").args(["rule", "delete", "priority", priority, "iif", bridge]))?;
                }
            }
            Ok(())
        })
    }

    /// How each promise to a bot stands, once all have been judged.
    ///
    /// # Errors
    /// When they are not judged soon.
    pub fn enforcement(&self, deployment: &Deployment) -> Result<BTreeMap<String, Value>> {
        let judged = deployment.wait("its walls to be judged", |now| {
            now["instance"]["enforcement"].as_object().is_some_and(|items| items.len() == Item::ALL.len())
        })?;
        serde_json::from_value(judged["instance"]["enforcement"].clone()).context("read the enforcement")
    }

    /// Removes everything and says what resisted.
    ///
    /// # Errors
    /// When something could not be removed.
    pub fn close(self) -> Result<()> {
        drop(self.world);
        self.lab.close()
    }

    /// What is not as it was before the attacks.
    fn harm(&mut self) -> Result<Vec<String>> {
        let mut harm = Vec::new();
        self.lab.wait_for_report(0)?;
        for Neighbour { name, deployment, before } in &self.neighbours {
            let now = deployment.get()?;
            if now["state"] != "running" || now["instance"]["phase"] != "ready" {
                harm.push(format!("{name} is {} and {}", now["state"], now["instance"]["phase"]));
                continue;
            }
            match deployment.identity(&self.lab.host(0)?.engine) {
                Ok(identity) if identity == *before => {}
                Ok(_) => harm.push(format!("{name} was started again: {}", now["instance"])),
                Err(error) => harm.push(format!("{name} cannot be looked at: {error:#}")),
            }
        }
        harm.extend(Aftermath::look(self.lab.host(0)?)?.harm());
        Ok(harm)
    }

    /// What the owner should have been told of the attacks, and was not: what the bot was kept from, and that
    /// something of it was killed.
    fn untold(&self) -> Vec<String> {
        let path = format!("/deployments/{}/denials", self.hostile.id);
        let denials = wait_for("what the bot was kept from to be told", TOLD_WITHIN, || {
            let told = self.hostile.api.get(&path)?.success()?;
            let some = told["items"].as_array().is_some_and(|items| !items.is_empty());
            Ok(if some && told["count"] != json!(0) { Ok(()) } else { Err(told.to_string()) })
        });
        let kills = self.hostile.wait("a kill for memory to be counted", |now| {
            now["instance"]["oom_kills"].as_u64().is_some_and(|kills| kills > 0)
        });
        [denials.err(), kills.err()].into_iter().flatten().map(|error| format!("{error:#}")).collect()
    }
}

fn start_coordinator(lab: &mut Lab) -> Result<()> {
    let mut place = Place::new(lab.dir(), &http_address());
    place.plans = Some(PLANS.to_owned());
    let profiles = programs::test_profiles().display().to_string();
    let arguments = ["--profiles", &profiles, "--ingress-domain", INGRESS_DOMAIN];
    place.arguments.extend(arguments.map(str::to_owned));
    lab.start_coordinator_at(place).map(drop)
}

/// Deploys an echo bot with a secret of its own, and waits until it runs.
fn neighbour(lab: &mut Lab, owner: &Api, name: &'static str, secret: &str, egress: &[&str]) -> Result<Neighbour> {
    let body = json!({
        "name": name, "profile": "echo", "plan": "contract", "image": lab.image("echo")?,
        "secrets": { "token": secret }, "egress": egress,
    });
    let deployment = Deployment::order(owner, &body)?;
    deployment.wait_state("running")?;
    let before = deployment.identity(&lab.host(0)?.engine)?;
    Ok(Neighbour { name, deployment, before })
}

/// Has somebody wait on the host's own addresses and inside the stranger's container, and sends the bot
/// there.
fn wait_inside(lab: &mut Lab, world: &World, cast: &mut Cast, stranger: &Neighbour) -> Result<()> {
    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let inside = [Port::Tcp(INSIDE_PORT), Port::Udp(INSIDE_PORT)];
    let of_host = [&inside[..], &[Port::Tcp(GATEWAY_PORT)]].concat();
    let host = lab.host(0)?;
    let own: IpAddr = host.net.address().parse()?;
    world.listen("host", host.net.inside(|| Sockets::open(anywhere, &of_host))?)?;
    // Nobody can wait there beside a directory, or a Caddy, that listens on more than it should: so this proves
    // that they do not, and that a bot could not go there if they did.
    let directory = DIRECTORY.parse::<SocketAddrV4>().context("the directory's place")?.port();
    let doors = [Port::Tcp(directory), Port::Tcp(CADDY_ADMIN_PORT)];
    world.listen("host", host.net.inside(|| Sockets::open(own, &doors))?)?;
    world.listen("stranger", open_beside(stranger.before.pid, anywhere, &inside)?)?;
    let kept = format!("/proc/{}/root/state/kept", stranger.before.pid);
    fs::write(&kept, STRANGERS_FILE).with_context(|| format!("write {kept}"))?;

    let shown = host.engine.inspect(&stranger.before.container)?;
    let networks = shown["NetworkSettings"]["Networks"].as_object().context("the stranger has networks")?.clone();
    let network = networks.values().next().context("the stranger has a network")?.clone();
    let address = |field: &str| -> Result<IpAddr> {
        let text = network[field].as_str().with_context(|| format!("the stranger's network tells no {field}"))?;
        text.parse().with_context(|| format!("`{text}` is no address"))
    };
    let gateway = address("Gateway")?;
    for (address, port) in [own, gateway].into_iter().flat_map(|address| CADDY_PORTS.map(|port| (address, port))) {
        let at = SocketAddr::new(address, port);
        let visit = host.net.inside(|| Ok(TcpStream::connect_timeout(&at, CONNECT_WITHIN)?));
        visit.with_context(|| format!("visit Caddy on {at}, from the host itself"))?;
    }
    let everywhere = [&[GATEWAY_PORT][..], &CADDY_PORTS].concat();
    cast.visit_inside("host", own, &[&everywhere[..], &[directory, CADDY_ADMIN_PORT]].concat());
    cast.visit_inside("strangers-gateway", gateway, &everywhere);
    cast.visit_inside("stranger", address("IPAddress")?, &[8080]);
    Ok(())
}

fn deploy_hostile(lab: &Lab, owner: &Api, cast: &Cast, neighbours: &[Neighbour]) -> Result<Deployment> {
    let bounds = Bounds {
        volume_mb: VOLUME_MB,
        volume_full_for_ms: 0,
        memory_mb: MEMORY_MB,
        pids: PIDS,
        open_files: OPEN_FILES,
        cpu_millis: CPU_MILLIS,
        tmpfs_mb: TMPFS_MB.iter().map(|(folder, megabytes)| ((*folder).to_owned(), *megabytes)).collect(),
    };
    let visits = cast.visits().into_iter().chain(Cast::controls()).collect();
    let mut orders = Orders { canaries_hex: Vec::new(), bounds, visits };
    [STRANGERS_SECRET, SIBLINGS_SECRET, STRANGERS_FILE].iter().for_each(|text| orders.hunt(text));
    for neighbour in neighbours {
        orders.hunt(&neighbour.deployment.id);
        orders.hunt(&neighbour.before.container);
    }
    let body = json!({
        "name": "hostile", "profile": "hostile", "plan": "contract", "image": lab.image("hostile")?,
        "config": serde_json::to_string(&orders)?, "egress": EGRESS,
    });
    let deployment = Deployment::order(owner, &body)?;
    deployment.wait("the hostile bot to run", |now| now["state"] == "running")?;
    Ok(deployment)
}
