//! A host with a gate, tenants' bridges, bots behind them, and a world outside: each a network namespace.
//!
//! ```text
//! bot ── eth0 ─┐                    ┌ 198.51.100.1/24 ── up ── 198.51.100.9 …   outside: every address that a test
//! bot ── eth0 ─┴ lp0000000000aN ── host                                         has it carry
//!                172.29.N.1/26      └ lo
//! ```
//! All of it goes when the lab is dropped.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use launchpad_agent::disk::Disk;
use launchpad_agent::execute::gate::GateClient;
use launchpad_agent::gate::keeper::Keeper;
use launchpad_agent::gate::kernel::Kernel;
use launchpad_agent::gate::policy::{Change, InstanceGate, TenantGate};
use launchpad_agent::gate::state::State;
use launchpad_agent::gate::talk::Look;
use launchpad_agent::gate::watch::{Own, Watch};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use launchpad_protocol::time::Clock;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a condition may take to come true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long an attempt that is to be refused may take: a refusal is an answer, not a silence.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(2);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// The world's ordinary address.
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// The host's own address towards it.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Labs of this process, so that their namespaces' names differ.
static LABS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lab {
    name: String,
    pub(crate) dir: TempDir,
    gate: Option<Child>,
    bots: Vec<String>,
}

/// A tenant with its bridge, by a small number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant(pub(crate) u8);

/// One of a tenant's bots.
#[derive(Debug, Clone)]
pub(crate) struct Bot {
    pub(crate) tenant: Tenant,
    pub(crate) number: u8,
    pub(crate) namespace: String,
}

impl Tenant {
    pub(crate) fn account(self) -> AccountId {
        format!("acct_{:032x}", 0xa00 + u128::from(self.0)).parse().unwrap()
    }

    pub(crate) fn told(self) -> TenantGate {
        TenantGate {
            bridge: format!("lp{:012x}", 0xa00 + u32::from(self.0)),
            subnet: format!("172.29.{}.0/26", self.0).parse().unwrap(),
        }
    }
}

impl Bot {
    pub(crate) fn deployment(&self) -> DeploymentId {
        format!("dep_{:032x}", u128::from(self.tenant.0) * 256 + u128::from(self.number)).parse().unwrap()
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 29, self.tenant.0, self.number)
    }

    pub(crate) fn may(&self, rules: &[&str]) -> Change {
        let instance = InstanceGate {
            account: self.tenant.account(),
            address: self.address(),
            egress: EgressPolicy { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect() },
            ingress: Ingress { port: 80, hostnames: BTreeSet::new() },
        };
        Change::PutInstance { deployment: self.deployment(), instance }
    }

    /// Connects, from where the bot is.
    pub(crate) fn reaches(&self, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let to = to.into();
        within(&self.namespace, move || TcpStream::connect_timeout(&to, AT_ONCE))
    }
}

impl Lab {
    /// A host that reaches the world, without a gate yet. None, with a word about it, where there are no namespaces.
    pub(crate) fn new() -> Option<Self> {
        let name = format!("lpg{}-{}", id(), LABS.fetch_add(1, Ordering::Relaxed));
        if !Command::new("ip").args(["netns", "add", &name]).status().is_ok_and(|ended| ended.success()) {
            eprintln!("not proved: no network namespace can be made; run as root, with iproute2 installed");
            return None;
        }
        let lab = Self { name, dir: tempfile::tempdir().unwrap(), gate: None, bots: Vec::new() };
        let outside = lab.outside();
        run(&format!("ip netns add {outside}"));
        lab.host("ip link set lo up");
        lab.host(&format!("ip link add up0 type veth peer name eth0 netns {outside}"));
        lab.host(&format!("ip addr add {HERE}/24 dev up0"));
        lab.host("ip link set up0 up");
        run(&format!("ip -n {outside} link set lo up"));
        run(&format!("ip -n {outside} addr add {THERE}/24 dev eth0"));
        run(&format!("ip -n {outside} link set eth0 up"));
        lab.host(&format!("ip route add default via {THERE}"));
        within(&lab.name, || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
        Some(lab)
    }

    /// The host's namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The world's namespace.
    pub(crate) fn outside(&self) -> String {
        format!("{}-o", self.name)
    }

    /// Has the world carry another address.
    pub(crate) fn world_has(&self, address: Ipv4Addr) {
        run(&format!("ip -n {} addr replace {address}/32 dev lo", self.outside()));
    }

    /// Runs a command on the host that has to succeed; its words are parted by blanks.
    pub(crate) fn host(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name))
    }

    /// What nftables holds on the host, without handles, counts and what is left of elements' time.
    pub(crate) fn rules(&self) -> String {
        let listing = self.host("nft -s list ruleset");
        let mut words = listing.split_inclusive(char::is_whitespace);
        let mut text = String::new();
        while let Some(word) = words.next() {
            match word.trim_end() {
                "timeout" | "expires" => drop(words.next()),
                _ => text.push_str(word),
            }
        }
        text
    }

    /// Its chains with their rules, and its sets without what is in them.
    pub(crate) fn chains(&self) -> String {
        self.host("nft -s -t list ruleset")
    }

    /// A tenant's bridge, as Docker makes it.
    pub(crate) fn bridge(&self, tenant: Tenant) {
        let TenantGate { bridge, .. } = tenant.told();
        self.host(&format!("ip link add {bridge} type bridge"));
        self.host(&format!("ip addr add {}/26 dev {bridge}", tenant.told().gateway()));
        self.host(&format!("ip link set {bridge} up"));
    }

    /// A bot behind its tenant's bridge.
    pub(crate) fn bot(&mut self, tenant: Tenant, number: u8) -> Bot {
        let namespace = format!("{}-b{}-{number}", self.name, tenant.0);
        let bot = Bot { tenant, number, namespace };
        let (host, there, TenantGate { bridge, .. }) = (&self.name, &bot.namespace, tenant.told());
        run(&format!("ip netns add {there}"));
        let here = format!("v{}x{number}", tenant.0);
        run(&format!("ip -n {host} link add {here} type veth peer name eth0 netns {there}"));
        run(&format!("ip -n {host} link set {here} master {bridge}"));
        run(&format!("ip -n {host} link set {here} up"));
        run(&format!("ip -n {there} link set lo up"));
        run(&format!("ip -n {there} addr add {}/26 dev eth0", bot.address()));
        run(&format!("ip -n {there} link set eth0 up"));
        run(&format!("ip -n {there} route add default via {}", tenant.told().gateway()));
        self.bots.push(bot.namespace.clone());
        bot
    }

    /// A bot of which there is nothing but what the gate is told.
    pub(crate) fn bot_on_paper(&self, tenant: Tenant, number: u8) -> Bot {
        Bot { tenant, number, namespace: String::new() }
    }

    /// A keeper of the host's rules without a gate around it, until the guard is dropped.
    pub(crate) fn keeper(&self) -> (Keeper, DropGuard) {
        let (name, data) = (self.name.clone(), self.data_dir());
        let (tell, told) = std::sync::mpsc::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::spawn(move || {
            inside(&name, async move {
                let own = Arc::new(Own::default());
                let kernel = Kernel::open(Arc::clone(&own)).unwrap();
                let watch = Watch::start(kernel.routes_port()).unwrap();
                let disk = Disk::open(&data).unwrap();
                let (keeper, keeping) = Keeper::new(kernel, own, State::default(), disk, Clock::machine());
                tell.send(keeper).unwrap();
                keeping.run(watch, stopped).await;
            });
        });
        (told.recv().unwrap(), stop.drop_guard())
    }

    /// A tenant with one bot, both told to the gate.
    pub(crate) async fn tenant_with_bot(&mut self, tenant: Tenant, rules: &[&str]) -> Bot {
        self.bridge(tenant);
        let bot = self.bot(tenant, 2);
        self.tell(Change::PutTenant { account: tenant.account(), tenant: tenant.told() }).await;
        self.tell(bot.may(rules)).await;
        bot
    }

    /// Starts the gate, with `nft` and the like found on that path.
    pub(crate) async fn start_gate_on(&mut self, path: &str) {
        let run_dir = self.run_dir();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("gate.log")).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).args(["env", &format!("PATH={path}")]);
        command
            .arg(env!("CARGO_BIN_EXE_launchpad-agent"))
            .arg("gate")
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--run-dir")
            .arg(&run_dir);
        command.args(["--resolver", &format!("{THERE}:53")]);
        command.arg("--caddy-admin").arg(self.dir.path().join("caddy.sock"));
        command.arg("--caddy-config").arg(self.dir.path().join("caddy.json"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.gate = Some(command.spawn().expect("nsenter"));
        until("the gate answers", || std::os::unix::net::UnixStream::connect(run_dir.join("gate.sock")).is_ok());
        // It answers once it has made what it was told before.
        self.look().await;
    }

    /// Starts the gate.
    pub(crate) async fn start_gate(&mut self) {
        let path = std::env::var("PATH").unwrap_or_default();
        self.start_gate_on(&path).await;
    }

    /// SIGKILL.
    pub(crate) fn kill_gate(&mut self) {
        let mut gate = self.gate.take().expect("a gate");
        gate.kill().unwrap();
        gate.wait().unwrap();
    }

    /// SIGTERM, and whether it ended well.
    pub(crate) fn stop_gate(&mut self) -> bool {
        let mut gate = self.gate.take().expect("a gate");
        let process = nix::unistd::Pid::from_raw(i32::try_from(gate.id()).unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
        gate.wait().unwrap().success()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn client(&self) -> GateClient {
        GateClient::at(&self.run_dir())
    }

    /// Tells the gate, which has to take it.
    pub(crate) async fn tell(&self, change: Change) {
        let told = self.client().change(change.clone()).await;
        told.unwrap_or_else(|error| panic!("{change:?}: {error}\n{}", self.log()));
    }

    pub(crate) async fn look(&self) -> Look {
        self.client().look().await.unwrap_or_else(|reason| panic!("{reason}\n{}", self.log()))
    }

    /// What the gate has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("gate.log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut gate) = self.gate.take() {
            let _ = gate.kill();
            let _ = gate.wait();
        }
        if std::thread::panicking() {
            eprintln!("the gate's log:\n{}", self.log());
        }
        for namespace in self.bots.iter().chain([&self.outside(), &self.name.clone()]) {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Does something inside a namespace, on a thread of its own.
pub(crate) fn within<T: Send>(namespace: &str, what: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let done = scope.spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        done.join().unwrap()
    })
}

/// Waits for something inside a namespace, whose programs run there too.
pub(crate) fn inside<T: Send>(namespace: &str, what: impl Future<Output = T> + Send) -> T {
    within(namespace, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(what)
    })
}

/// Runs a command that has to succeed; its words are parted by blanks.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Whether a connection still carries bytes there and back; the other end is [`super::world`]'s echo.
pub(crate) fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(AT_ONCE))?;
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)
}
