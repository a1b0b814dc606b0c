//! The way in: which bot a public name leads to. Caddy carries the traffic; the gate only tells it where to.
//!
//! ```text
//! visitor ─► Caddy ── certificate? which bot? ──► directory (loopback) ─► the policy, as it is this very moment
//!              └──── the request ───────────────► the bot, on its tenant's bridge; no port of it is on the host
//! gate ─► Caddy's admin socket: is its configuration ours?   and the file with which Caddy starts
//! ```
//! `gate` makes one [`Ingress`], spawns [`Ingress::run`], and asks [`Ingress::sight`] when somebody looks. In
//! order: [`options`] · [`config`] · [`directory`], `serve`, [`page`] · [`caddy`].
//!
//! Caddy's configuration names no bot and never changes while Caddy lives, so no change closes a connection.
//! Caddy away harms nobody but visitors: nothing here stops a bot, or the gate.

pub mod caddy;
pub mod config;
pub mod directory;
pub mod options;
pub mod page;
mod serve;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::policy::{GatePolicy, InstanceGate};
use caddy::Standing;
use directory::Directory;
use options::IngressArgs;

/// Between two tries to open the directory's port, if somebody else holds it.
const DOOR_TRIED_EVERY: Duration = Duration::from_secs(1);

/// The way in, shared by whoever looks at it.
#[derive(Debug, Clone)]
pub struct Ingress {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    args: IngressArgs,
    ours: Value,
    policy: watch::Receiver<Arc<GatePolicy>>,
    directory: Mutex<Arc<Directory>>,
    /// Why Caddy cannot ask us; none: it can.
    door: Mutex<Option<String>>,
    caddy: Mutex<Standing>,
    /// Rung when one of the two above has changed.
    news: Notify,
}

/// How the way in to one instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressSight {
    /// What is wrong; none: its public names lead to it, or it has none.
    pub fault: Option<Reason>,
    /// What was seen, for people: `one.bots.example → 172.30.0.2:8080`.
    pub seen: String,
}

impl Ingress {
    /// The way in under a policy that may change at any time. Nothing is touched before [`Ingress::run`].
    #[must_use]
    pub fn new(args: IngressArgs, policy: watch::Receiver<Arc<GatePolicy>>) -> Self {
        let directory = Directory::of(Arc::clone(&policy.borrow()));
        let shared = Shared {
            ours: config::config(&args),
            args,
            policy,
            directory: Mutex::new(Arc::new(directory)),
            door: Mutex::new(Some("the gate has only just started".to_owned())),
            caddy: Mutex::new(Standing::Away("the gate has only just started".to_owned())),
            news: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers Caddy and keeps its configuration ours, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        // All can be dropped half-way: questions are asked again, and a file is replaced whole or not at all.
        tokio::select! {
            () = stop.cancelled() => {}
            never = self.clone().answer() => match never {},
            never = self.keep() => match never {},
        }
    }

    /// Returns when Caddy, or the port at which it asks, stands otherwise than before; for one waiter. Cancel
    /// safe.
    pub async fn changed(&self) {
        self.shared.news.notified().await;
    }

    /// How the way in to an instance stands.
    #[must_use]
    pub fn sight(&self, id: DeploymentId) -> IngressSight {
        let directory = self.directory();
        let Some(gate) = directory.policy().instances.get(&id) else {
            return IngressSight { fault: None, seen: "the gate knows no such instance".to_owned() };
        };
        if gate.ingress.hostnames.is_empty() {
            return IngressSight { fault: None, seen: "no public name".to_owned() };
        }
        let names: Vec<&str> = gate.ingress.hostnames.iter().map(String::as_str).collect();
        let seen = format!("{} → {}:{}", names.join(", "), gate.address, gate.ingress.port);
        let fault = self.door_fault().or_else(|| lock(&self.shared.caddy).fault(&self.shared.args));
        IngressSight { fault: fault.or_else(|| claimed(&directory, id, gate)), seen }
    }

    /// The policy's names, as they are now.
    fn directory(&self) -> Arc<Directory> {
        let policy = Arc::clone(&self.shared.policy.borrow());
        let mut directory = lock(&self.shared.directory);
        if !directory.is_of(&policy) {
            *directory = Arc::new(Directory::of(policy));
        }
        Arc::clone(&directory)
    }

    fn door_fault(&self) -> Option<Reason> {
        let address = self.shared.args.ingress_directory;
        let cause = lock(&self.shared.door).clone()?;
        let reason = Reason::new("ingress-directory-shut", "Caddy cannot ask the gate which bot a name leads to");
        Some(reason.because(cause).mend(format!("free {address}, or give the gate another --ingress-directory")))
    }

    /// Takes down how something stands; whether that is news.
    fn note<T: PartialEq>(&self, place: &Mutex<T>, now: T) -> bool {
        let mut before = lock(place);
        let differs = *before != now;
        *before = now;
        if differs {
            self.shared.news.notify_one();
        }
        differs
    }

    async fn answer(self) -> Infallible {
        let address = self.shared.args.ingress_directory;
        loop {
            match serve::bind(address).await {
                Ok(listener) => {
                    self.note(&self.shared.door, None);
                    return serve::serve(listener, self).await;
                }
                Err(error) => {
                    let cause = format!("cannot listen on {address}: {error}");
                    if self.note(&self.shared.door, Some(cause.clone())) {
                        tracing::warn!("{cause}; public names lead nowhere meanwhile");
                    }
                    sleep(DOOR_TRIED_EVERY).await;
                }
            }
        }
    }

    async fn keep(&self) -> Infallible {
        let Shared { args, ours, caddy, .. } = &*self.shared;
        let mut looks = interval(caddy::LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut file_trouble = None;
        loop {
            looks.tick().await;
            let trouble = caddy::keep_file(&args.caddy_config, ours).err();
            if let Some(trouble) = trouble.as_ref().filter(|_| trouble != file_trouble) {
                tracing::warn!("{trouble}; Caddy would start with an old configuration");
            }
            file_trouble = trouble;
            let standing = caddy::look(&args.caddy_admin, ours).await;
            if self.note(caddy, standing.clone()) {
                match standing.fault(args) {
                    None => tracing::info!("Caddy answers, and its configuration is ours"),
                    Some(fault) => tracing::warn!("{fault}"),
                }
            }
        }
    }
}

/// A name that another instance has too leads to one of them only.
fn claimed(directory: &Directory, id: DeploymentId, gate: &InstanceGate) -> Option<Reason> {
    let stray =
        gate.ingress.hostnames.iter().find(|name| directory.find(name).is_none_or(|(owner, _)| owner != id))?;
    let reason = Reason::new("public-name-elsewhere", format!("the public name {stray} leads to another bot"));
    Some(reason.mend("take the name from one of the two deployments"))
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::Parser;
    use launchpad_protocol::id::AccountId;
    use launchpad_protocol::spec;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ingress: IngressArgs,
    }

    /// The options as they are without any word.
    pub(super) fn args(words: &[&str]) -> IngressArgs {
        Line::try_parse_from([&["gate"], words].concat()).unwrap().ingress
    }

    pub(super) fn deployment(number: u128) -> DeploymentId {
        format!("dep_{number:032x}").parse().unwrap()
    }

    /// One tenant's instances: number, address, port, names.
    pub(super) fn policy(instances: &[(u128, &str, u16, &[&str])]) -> GatePolicy {
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        let instances = instances.iter().map(|(number, address, port, names)| {
            let hostnames: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let gate = InstanceGate {
                account,
                address: address.parse().unwrap(),
                egress: spec::EgressPolicy::default(),
                ingress: spec::Ingress { port: *port, hostnames },
            };
            (deployment(*number), gate)
        });
        GatePolicy { instances: instances.collect(), ..GatePolicy::default() }
    }

    fn ingress(policy: GatePolicy) -> (watch::Sender<Arc<GatePolicy>>, Ingress) {
        let (sender, receiver) = watch::channel(Arc::new(policy));
        let ingress = Ingress::new(args(&[]), receiver);
        *lock(&ingress.shared.door) = None;
        *lock(&ingress.shared.caddy) = Standing::Ours;
        (sender, ingress)
    }

    fn fault(ingress: &Ingress, number: u128) -> Option<String> {
        ingress.sight(deployment(number)).fault.map(|fault| fault.code)
    }

    #[test]
    fn an_instance_without_public_names_needs_no_caddy() {
        let (_policy, ingress) =
            ingress(policy(&[(1, "172.30.0.2", 80, &["one.example"]), (2, "172.30.0.3", 80, &[])]));
        *lock(&ingress.shared.caddy) = Standing::Away("connection refused".to_owned());
        *lock(&ingress.shared.door) = None;
        assert_eq!(fault(&ingress, 1).as_deref(), Some("caddy-away"));
        assert_eq!(fault(&ingress, 2), None);
        *lock(&ingress.shared.caddy) = Standing::Ours;
        assert_eq!(fault(&ingress, 1), None);
        *lock(&ingress.shared.door) = Some("taken".to_owned());
        assert_eq!(fault(&ingress, 1).as_deref(), Some("ingress-directory-shut"));
        assert_eq!(fault(&ingress, 2), None);
    }

    #[test]
    fn a_gate_that_has_looked_at_nothing_yet_promises_nothing() {
        let (_sender, receiver) = watch::channel(Arc::new(policy(&[(1, "172.30.0.2", 80, &["one.example"])])));
        assert!(fault(&Ingress::new(args(&[]), receiver), 1).is_some());
    }

    #[test]
    fn a_name_that_two_bots_claim_is_a_fault_of_the_one_that_lost_it() {
        let (_policy, ingress) =
            ingress(policy(&[(1, "172.30.0.2", 80, &["x.example"]), (2, "172.30.0.3", 80, &["x.example"])]));
        assert_eq!(fault(&ingress, 1), None);
        assert_eq!(fault(&ingress, 2).as_deref(), Some("public-name-elsewhere"));
    }

    #[test]
    fn a_change_of_the_policy_counts_at_once() {
        let (sender, ingress) = ingress(policy(&[(1, "172.30.0.2", 80, &["x.example"])]));
        assert_eq!(ingress.sight(deployment(1)).seen, "x.example → 172.30.0.2:80");
        sender.send_replace(Arc::new(policy(&[(1, "172.30.0.9", 81, &["y.example"])])));
        assert_eq!(ingress.sight(deployment(1)).seen, "y.example → 172.30.0.9:81");
        assert_eq!(ingress.directory().find("x.example"), None);
    }

    #[test]
    fn what_mends_a_missing_caddy_names_the_file_that_it_starts_with() {
        let away = Standing::Away("no such file".to_owned()).fault(&args(&[])).unwrap();
        assert!(away.mend.unwrap().contains(&format!("caddy run --config {}", options::CADDY_CONFIG)));
        assert!(Path::new(options::CADDY_CONFIG).is_absolute());
    }
}
