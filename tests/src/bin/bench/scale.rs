//! How long a full host's rules take: a hundred tenants with a bot each, all put back in one go after a flush.
//!
//! The gate has a network of its own, without an engine or a bridge: rules name bridges and do not ask for them. What is
//! reported is what the gate itself counts, from hearing of the flush to the kernel holding everything again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use launchpad_agent::execute::gate::GateClient;
use launchpad_agent::gate::policy::{Change, InstanceGate, TenantGate};
use launchpad_protocol::egress::Cidr;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use launchpad_protocol::time::Clock;
use launchpad_tests::agent::Place;
use launchpad_tests::gate::{Gate, Outside};
use launchpad_tests::netns::enter_fabric;
use launchpad_tests::process::run;
use launchpad_tests::wait::wait_until;
use tokio::runtime::Runtime;

use crate::figure::Figure;

/// Of a full host.
const TENANTS: u8 = 100;
/// For the gate to have every rule back.
const PATIENCE: Duration = Duration::from_secs(30);
/// What each bot may reach: names, whose addresses are not known yet, and ranges, whose are.
const RULES: [&str; 4] = ["api.example.com", "*.example.org:443,8443", "203.0.113.0/24", "198.51.100.0/24:8080"];
/// The network of the thread that asks, for a program that it starts.
const OWN_NETWORK: &str = "/proc/self/ns/net";

/// Measures, with the gate's files in `dir`.
pub(crate) fn a_hundred_tenants(dir: &Path) -> Result<Figure> {
    // The network goes with the thread and the gate, which ends with the thread.
    let measured = thread::scope(|scope| scope.spawn(|| measure(dir)).join());
    let exposure = measured.map_err(|_| anyhow!("the measurement panicked"))??;
    let took = exposure.as_secs_f64() * 1000.0;
    Ok(Figure::alone("rules for 100 tenants applied in one go", "ms", took, None))
}

fn measure(dir: &Path) -> Result<Duration> {
    enter_fabric()?;
    let place = Place::new("scale", dir, &dir.join("no-docker.sock"), Path::new(OWN_NETWORK));
    // Nobody listens there, and nobody asks.
    let outside = Outside { resolver: "127.0.0.1:9".to_owned(), arguments: Vec::new() };
    let _gate = Gate::start(&place, &outside)?;
    let client = GateClient::at(&place.run);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    for tenant in 0..TENANTS {
        for change in told(tenant)? {
            runtime.block_on(client.change(change)).with_context(|| format!("tell of tenant {tenant}"))?;
        }
    }
    ensure!(whole(&runtime, &client)?, "not every tenant's rules stand");
    run(Command::new("nft").args(["flush", "ruleset"]))?;
    wait_until("the gate to have put its rules back", PATIENCE, || {
        Ok(runtime.block_on(client.look())?.report.flushes > 0 && whole(&runtime, &client)?)
    })?;
    Ok(runtime.block_on(client.look())?.report.longest_exposure)
}

/// Whether all of it is in the kernel.
fn whole(runtime: &Runtime, client: &GateClient) -> Result<bool> {
    let look = runtime.block_on(client.look())?;
    let all = look.tenants.len() == usize::from(TENANTS) && look.instances.len() == usize::from(TENANTS);
    Ok(all && look.tenants.values().all(|tenant| tenant.fault.is_none()))
}

/// A tenant's network, and its bot.
fn told(number: u8) -> Result<[Change; 2]> {
    let (entropy, now) = (Entropy::system(), Clock::machine().wall());
    let (account, deployment): (AccountId, DeploymentId) = (entropy.id(now), entropy.id(now));
    let subnet = Cidr::new(Ipv4Addr::new(172, 29, number, 0), 26).context("a network")?;
    let tenant = TenantGate { bridge: format!("lp{number:012x}"), subnet };
    let rules = RULES.iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
    let instance = InstanceGate {
        account,
        address: Ipv4Addr::new(172, 29, number, 2),
        egress: EgressPolicy { rules },
        ingress: Ingress { port: 80, hostnames: BTreeSet::new() },
    };
    Ok([Change::PutTenant { account, tenant }, Change::PutInstance { deployment, instance }])
}
