//! Around a clerk: a kernel that forgets in time, servers that answer what they are told, and a witness who
//! counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{EgressPolicy, Ingress};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::super::reply::Way;
use super::super::super::upstream::Upstream;
use super::super::super::verdict::Sender;
use super::super::{Clerk, Heard, Pending};
use crate::gate::policy::{GatePolicy, InstanceGate};
use crate::gate::ports::{Admission, Admits, Witnesses};

/// The tenant of all bots here.
pub(super) fn tenant() -> AccountId {
    Uuid::from_u128(1).into()
}

pub(super) fn deployment(bot: u8) -> DeploymentId {
    Uuid::from_u128(u128::from(bot)).into()
}

pub(super) fn address(bot: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, bot)
}

/// A policy of bots and their rules.
pub(super) fn policy(bots: &[(u8, &[&str])]) -> GatePolicy {
    let instance = |bot: u8, rules: &[&str]| InstanceGate {
        account: tenant(),
        address: address(bot),
        egress: EgressPolicy { rules: rules.iter().map(|rule| rule.parse().expect("a rule")).collect() },
        ingress: Ingress { port: 8080, hostnames: BTreeSet::new() },
    };
    let instances = bots.iter().map(|(bot, rules)| (deployment(*bot), instance(*bot, rules))).collect();
    GatePolicy { instances, ..GatePolicy::default() }
}

/// The kernel's sets, whose elements end.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) elements: Mutex<BTreeMap<(DeploymentId, Ipv4Addr, u16), Instant>>,
    pub(super) admissions: Mutex<Vec<Admission>>,
    pub(super) refuses: AtomicBool,
    pub(super) hangs: AtomicBool,
    losses: AtomicU64,
}

impl Kernel {
    /// Loses everything, and says so.
    pub(super) fn flush(&self) {
        self.elements.lock().unwrap().clear();
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn holds(&self, bot: u8, to: Ipv4Addr, port: u16, until: Instant) -> bool {
        self.elements.lock().unwrap().get(&(deployment(bot), to, port)).is_some_and(|end| *end >= until)
    }

    pub(super) fn asked(&self) -> usize {
        self.admissions.lock().unwrap().len()
    }
}

#[async_trait]
impl Admits for Kernel {
    async fn admit(&self, admission: Admission) -> Result<(), Reason> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.admissions.lock().unwrap().push(admission.clone());
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Reason::new("nft-failed", "nft says no"));
        }
        let mut elements = self.elements.lock().unwrap();
        for to in &admission.to {
            for port in &admission.ports {
                let end = elements.entry((admission.deployment, *to, *port)).or_insert_with(Instant::now);
                *end = (*end).max(Instant::now() + admission.lifetime);
            }
        }
        Ok(())
    }

    fn losses(&self, _: DeploymentId) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }
}

/// Counts who was refused what.
#[derive(Default)]
pub(super) struct Witness(pub(super) Mutex<Vec<(DeploymentId, String)>>);

impl Witnesses for Witness {
    fn name_refused(&self, _: AccountId, deployment: DeploymentId, name: &str) {
        self.0.lock().unwrap().push((deployment, name.to_owned()));
    }
}

/// Servers that know some names, and write down which were asked for.
pub(super) struct Internet {
    /// Name → TTL in seconds, addresses.
    pub(super) zone: Mutex<BTreeMap<String, (u32, Vec<Ipv4Addr>)>>,
    pub(super) asked: Mutex<Vec<String>>,
    /// Answers that may be given now.
    pub(super) answers: Semaphore,
    pub(super) waiting: AtomicUsize,
}

#[async_trait]
impl Upstream for Internet {
    async fn ask(&self, name: &Name) -> Result<Message, Reason> {
        let host = name.to_ascii().trim_end_matches('.').to_owned();
        self.asked.lock().unwrap().push(host.clone());
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.expect("open").forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let zone = self.zone.lock().unwrap();
        let Some((ttl, addresses)) = zone.get(&host) else {
            return Err(Reason::new("name-server-silent", "nobody knows that name here"));
        };
        let mut message = Message::response(1, OpCode::Query);
        message.add_answers(addresses.iter().map(|to| Record::from_rdata(name.clone(), *ttl, RData::A(A(*to)))));
        Ok(message)
    }

    fn troubles(&self) -> BTreeMap<SocketAddr, Option<Reason>> {
        BTreeMap::new()
    }
}

/// A clerk and all around it.
pub(super) struct World {
    pub(super) clerk: Arc<Clerk>,
    pub(super) kernel: Arc<Kernel>,
    pub(super) witness: Arc<Witness>,
    pub(super) internet: Arc<Internet>,
    pub(super) policy: watch::Sender<Arc<GatePolicy>>,
}

impl World {
    pub(super) fn new(policy: GatePolicy) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(policy));
        let (kernel, witness) = (Arc::new(Kernel::default()), Arc::new(Witness::default()));
        let internet = Arc::new(Internet {
            zone: Mutex::default(),
            asked: Mutex::default(),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
            waiting: AtomicUsize::new(0),
        });
        let clerk =
            Clerk::new(receiver, Arc::clone(&kernel) as _, Arc::clone(&witness) as _, Arc::clone(&internet) as _);
        Self { clerk: Arc::new(clerk), kernel, witness, internet, policy: sender }
    }

    /// Has a name lead to addresses of a documentation range, given by their last bytes.
    pub(super) fn leads(&self, name: &str, ttl: u32, last: &[u8]) {
        let to = last.iter().map(|last| Ipv4Addr::new(203, 0, 113, *last)).collect();
        self.internet.zone.lock().unwrap().insert(name.to_owned(), (ttl, to));
    }

    pub(super) fn hear(&self, bot: u8, name: &str, wanted: RecordType) -> Heard {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), wanted));
        let sender = Sender { tenant: tenant(), address: address(bot) };
        self.clerk.hear(sender, &message.to_vec().expect("bytes"), Way::Udp)
    }

    /// A question of which the answer has to be waited for.
    pub(super) fn pending(&self, bot: u8, name: &str) -> Pending {
        match self.hear(bot, name, RecordType::A) {
            Heard::Pending(pending) => pending,
            Heard::Reply(bytes) => panic!("answered at once: {}", read(&bytes)),
            Heard::Silence => panic!("not answered"),
        }
    }

    pub(super) async fn ask(&self, bot: u8, name: &str, wanted: RecordType) -> Message {
        match self.hear(bot, name, wanted) {
            Heard::Reply(bytes) => read(&bytes),
            Heard::Pending(pending) => read(&self.clerk.finish(pending).await),
            Heard::Silence => panic!("not answered"),
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("a message")
}

/// The addresses of a reply, and the shortest time that it gives them.
pub(super) fn told(reply: &Message) -> (Vec<Ipv4Addr>, Duration) {
    let address = |record: &Record| {
        let RData::A(to) = &record.data else { panic!("a record of another type: {record}") };
        to.0
    };
    let ttl = reply.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
    (reply.answers.iter().map(address).collect(), Duration::from_secs(u64::from(ttl)))
}
