//! What the bots' name server adds to a name that it remembers: its answer, against the same question put
//! straight to the server that it asks. Both on loopback, one question after the other.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use async_trait::async_trait;
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use launchpad_agent::gate::names::{Names, Setting};
use launchpad_agent::gate::policy::{GatePolicy, InstanceGate, TenantGate};
use launchpad_agent::gate::ports::{Admission, Admits, Witnesses};
use launchpad_protocol::egress::Cidr;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use launchpad_protocol::time::Clock;
use launchpad_tests::wait::{Stopwatch, wait_until};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::figure::Figure;

/// Of each side, in turns: two hundred of them lie beyond the 99th hundredth.
const QUESTIONS: usize = 20_000;
/// Questions in a row to one side.
const TURN: usize = 100;
/// Milliseconds that ours may take longer.
const TARGET_MS: f64 = 1.0;
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is asked for.
const NAME: &str = "api.example.com.";
/// Where ours listens: 53 would need root.
const PORT: u16 = 5300;
/// Bots beside the one that asks, and rules of each: a full host's.
const BOTS: u32 = 200;
/// See [`BOTS`].
const RULES: usize = 16;

/// Measures: the middle, and the 99th hundredth.
pub(crate) fn remembered() -> Result<Vec<Figure>> {
    let stub = stub()?;
    let network = Ipv4Addr::new(127, 63, 0, 0);
    let subnet = Cidr::new(network, 16).context("a network")?;
    let tenant = TenantGate { bridge: "lp1".to_owned(), subnet };
    let ours = SocketAddr::from((tenant.gateway(), PORT));
    let server = OurServer::start(stub, policy(tenant, network)?)?;

    let bot = UdpSocket::bind((Ipv4Addr::from(u32::from(network) + 2), 0)).context("bind a bot's address")?;
    bot.set_read_timeout(Some(PATIENCE)).context("set a time-out")?;
    let question = question()?;
    let (mut with_us, mut without) = (Vec::new(), Vec::new());
    for _ in 0..QUESTIONS / TURN {
        for (server, times) in [(ours, &mut with_us), (stub, &mut without)] {
            for _ in 0..TURN {
                let clock = Stopwatch::start();
                ensure!(ask(&bot, server, &question)? == 1, "{server} gave no address");
                times.push(clock.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    server.end()?;
    let mut figure = |name, hundredths, target| Figure {
        name,
        unit: "ms",
        ours: at(&mut with_us, hundredths),
        peer: Some("asked directly"),
        theirs: Some(at(&mut without, hundredths)),
        target,
    };
    Ok(vec![figure("a remembered name, p50", 50, None), figure("a remembered name, p99", 99, Some(TARGET_MS))])
}

/// The value below which so many hundredths of them lie.
fn at(values: &mut [f64], hundredths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * hundredths / 100).copied().unwrap_or(f64::NAN)
}

fn question() -> Result<Vec<u8>> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(NAME)?, RecordType::A));
    Ok(message.to_vec()?)
}

/// How many addresses come back.
fn ask(bot: &UdpSocket, server: SocketAddr, question: &[u8]) -> Result<u16> {
    bot.send_to(question, server).context("ask")?;
    let mut buffer = [0; 512];
    let (length, from) = bot.recv_from(&mut buffer).context("hear")?;
    ensure!(from == server && length > 8 && buffer[..2] == question[..2], "another's answer");
    Ok(u16::from_be_bytes([buffer[6], buffer[7]]))
}

/// A server that answers every question at once with the same address.
fn stub() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the stub")?;
    let address = socket.local_addr().context("the stub's address")?;
    // It ends with the program.
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = Message::from_vec(&buffer[..length]) else { continue };
            let mut reply = Message::response(asked.metadata.id, OpCode::Query);
            for query in asked.queries {
                let to = RData::A(A(Ipv4Addr::new(203, 0, 113, 7)));
                reply.add_answer(Record::from_rdata(query.name().clone(), 3600, to));
                reply.add_query(query);
            }
            if let Ok(bytes) = reply.to_vec() {
                let _ = socket.send_to(&bytes, from);
            }
        }
    });
    Ok(address)
}

fn policy(tenant: TenantGate, network: Ipv4Addr) -> Result<GatePolicy> {
    let (entropy, now) = (Entropy::system(), Clock::machine().wall());
    let account: AccountId = entropy.id(now);
    let mut rules = BTreeSet::new();
    for n in 1..RULES {
        rules.insert(format!("*.service-{n}.example.net:443").parse()?);
    }
    rules.insert("*.example.com".parse()?);
    let instance = |n: u32| InstanceGate {
        account,
        address: Ipv4Addr::from(u32::from(network) + 2 + n),
        egress: EgressPolicy { rules: rules.clone() },
        ingress: Ingress { port: 8080, hostnames: BTreeSet::new() },
    };
    let instances = (0..=BOTS).map(|n| (entropy.id::<DeploymentId>(now), instance(n)));
    Ok(GatePolicy { tenants: [(account, tenant)].into(), instances: instances.collect(), ..GatePolicy::default() })
}

/// Our name server on a thread of its own, as the gate runs it.
struct OurServer {
    stop: CancellationToken,
    thread: thread::JoinHandle<()>,
}

impl OurServer {
    /// Returns once it listens.
    fn start(stub: SocketAddr, policy: GatePolicy) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let (_sender, policy) = watch::channel(Arc::new(policy));
        let names = Names::new(Setting { upstreams: vec![stub], port: PORT }, policy, Arc::new(Open), Arc::new(Open));
        let stop = CancellationToken::new();
        let serving = names.clone().serve(stop.clone());
        let thread = thread::spawn(move || runtime.block_on(serving));
        wait_until("our name server", PATIENCE, || Ok(names.look().tenants.values().any(Option::is_none)))?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow!("our name server panicked"))
    }
}

/// A kernel that lets everybody through, and a witness who looks away.
struct Open;

#[async_trait]
impl Admits for Open {
    async fn admit(&self, _: Admission) -> Result<(), Reason> {
        Ok(())
    }
}

impl Witnesses for Open {
    fn name_refused(&self, _: AccountId, _: DeploymentId, _: &str) {}
}
