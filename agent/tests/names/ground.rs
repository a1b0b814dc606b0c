//! Where these tests stand: a network of 127/8 for each, so that they run side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_agent::gate::names::{Names, Setting};
use launchpad_agent::gate::policy::{GatePolicy, InstanceGate, TenantGate};
use launchpad_agent::gate::ports::{Admission, Admits, Witnesses};
use launchpad_protocol::egress::Cidr;
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// No name server of ours listens there: port 53 would need root.
const PORT: u16 = 5300;
/// What happens at once takes no longer, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// A kernel that takes all it is told, unless it is told not to.
#[derive(Default)]
pub(crate) struct Kernel {
    admitted: Mutex<Vec<Admission>>,
    pub(crate) refuses: AtomicBool,
}

impl Kernel {
    pub(crate) fn admitted(&self) -> Vec<Admission> {
        self.admitted.lock().unwrap().clone()
    }
}

#[async_trait]
impl Admits for Kernel {
    async fn admit(&self, admission: Admission) -> Result<(), Reason> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Reason::new("nft-failed", "nft says no"));
        }
        self.admitted.lock().unwrap().push(admission);
        Ok(())
    }
}

/// Counts refusals by name.
#[derive(Default)]
pub(crate) struct Witness(Mutex<BTreeMap<String, u64>>);

impl Witness {
    pub(crate) fn refused(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap().clone()
    }
}

impl Witnesses for Witness {
    fn name_refused(&self, _: AccountId, _: DeploymentId, name: &str) {
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += 1;
    }
}

/// A running name server and what is around it.
pub(crate) struct Ground {
    pub(crate) names: Names,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) policy: watch::Sender<Arc<GatePolicy>>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    network: u32,
}

/// A network of 256 addresses that no other test has.
pub(crate) fn network() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(64) + NEXT.fetch_add(1, Ordering::SeqCst);
    u32::from(Ipv4Addr::new(127, 64, 0, 0)) + (number % (1 << 14)) * 256
}

pub(crate) fn tenant(n: u128) -> AccountId {
    Uuid::from_u128(n).into()
}

impl Ground {
    /// One tenant, whose bots 2, 3 and so on have these rules; it asks those servers.
    pub(crate) async fn new(servers: &[SocketAddr], bots: &[&[&str]]) -> Self {
        let network = network();
        let (policy, told) = watch::channel(Arc::new(policy(network, bots)));
        let (kernel, witness) = (Arc::new(Kernel::default()), Arc::new(Witness::default()));
        let setting = Setting { upstreams: servers.to_vec(), port: PORT };
        let names = Names::new(setting, told, Arc::clone(&kernel) as _, Arc::clone(&witness) as _);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(names.clone().serve(stop.clone()));
        let ground = Self { names, kernel, witness, policy, stop, serving, network };
        soon("the gateway to be listened on", || ground.names.look().tenants.get(&tenant(1)) == Some(&None)).await;
        ground
    }

    /// The same bots with other rules.
    pub(crate) fn allow(&self, bots: &[&[&str]]) {
        self.policy.send_replace(Arc::new(policy(self.network, bots)));
    }

    /// An address of this test's network.
    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::from(self.network + u32::from(last))
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        (self.address(1), PORT).into()
    }
}

fn policy(network: u32, bots: &[&[&str]]) -> GatePolicy {
    let subnet = Cidr::new(network.into(), 24).expect("a network");
    let instance = |n: usize, rules: &[&str]| InstanceGate {
        account: tenant(1),
        address: Ipv4Addr::from(network + 2 + u32::try_from(n).unwrap()),
        egress: EgressPolicy { rules: rules.iter().map(|rule| rule.parse().expect("a rule")).collect() },
        ingress: Ingress { port: 8080, hostnames: BTreeSet::new() },
    };
    let instances = bots.iter().enumerate();
    GatePolicy {
        tenants: [(tenant(1), TenantGate { bridge: "lp1".to_owned(), subnet })].into(),
        instances: instances.map(|(n, rules)| (Uuid::from_u128(n as u128).into(), instance(n, rules))).collect(),
        ..GatePolicy::default()
    }
}

/// Waits until that is so.
pub(crate) async fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        sleep(PAUSE).await;
    }
}

/// Waits for that.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
