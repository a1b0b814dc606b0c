//! What the keeper does when it is asked: a part of [`Keeping`].

use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::GateReport;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::admitted::{Admitted, Renewal};
use super::super::kernel::Differences;
use super::super::policy::{Change, InstanceGate};
use super::super::ports::Admission;
use super::super::rules::{self, Wanted};
use super::super::state::State;
use super::super::talk::{InstanceSight, Look, TenantSight};
use super::{Keeping, Order};
use crate::observe::gate_digest;

/// What the kernel is told about a change.
enum Batch {
    /// Nothing: it is about nobody's rules.
    None,
    /// Everything anew.
    Whole,
    /// One tenant's part.
    Part { text: String, bridge: String },
}

impl Keeping {
    /// Serves what was asked, in the order in which it was; admissions that stand together become one batch.
    pub(super) async fn serve(&mut self, orders: impl Iterator<Item = Order>) {
        let mut admissions = Vec::new();
        for order in orders {
            if let Order::Admit(admission, reply) = order {
                admissions.push((admission, reply));
                continue;
            }
            self.admit(std::mem::take(&mut admissions)).await;
            // Whoever asked may have gone: an answer that nobody takes is no failure.
            match order {
                Order::Change(change, reply) => drop(reply.send(self.change(&change).await)),
                Order::Look(reply) => drop(reply.send(self.look().await)),
                Order::Admit(..) => {}
            }
        }
        self.admit(admissions).await;
    }

    async fn admit(&mut self, admissions: Vec<(Admission, oneshot::Sender<Result<(), Reason>>)>) {
        if admissions.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut next = self.admitted.clone();
        let mut renewals: Vec<Renewal> = Vec::new();
        let mut waiting = Vec::new();
        for (admission, reply) in admissions {
            let admitted = match &self.trouble {
                // Rules that are not as they should be are not added to.
                Some(trouble) => Err(trouble.reason.clone()),
                None => next.with(&admission, &self.state, now),
            };
            match admitted {
                Ok((admitted, renewed)) => {
                    next = admitted;
                    renewals.extend(renewed);
                    waiting.push(reply);
                }
                Err(reason) => drop(reply.send(Err(reason))),
            }
        }
        let done = if renewals.is_empty() { Ok(()) } else { self.renew(&renewals, &next, now).await };
        if done.is_ok() {
            self.admitted = next;
        }
        for reply in waiting {
            drop(reply.send(done.clone()));
        }
    }

    async fn renew(&mut self, renewals: &[Renewal], next: &Admitted, now: Instant) -> Result<(), Reason> {
        let wanted = Wanted { state: &self.state, admitted: next, now };
        match self.kernel.change(&wanted.renew(renewals), None).await {
            Ok(()) => Ok(()),
            // The kernel holds something that it should not, or lacks what it should hold: once more, from the start.
            Err(_) => self.kernel.replace(&wanted).await.map(drop),
        }
    }

    async fn change(&mut self, change: &Change) -> Result<Option<InstanceSight>, Reason> {
        let state = self.state.with(self.state.policy.after(change)?);
        let now = Instant::now();
        let (admitted, lost) = self.admitted.under(&state, now);
        let wanted = Wanted { state: &state, admitted: &admitted, now };
        if state != self.state || self.trouble.is_some() {
            let made = match self.batch(change, &wanted) {
                _ if self.trouble.is_some() => self.kernel.replace(&wanted).await,
                Batch::None => Ok(now),
                Batch::Whole => self.kernel.replace(&wanted).await,
                Batch::Part { text, bridge } => self.part(&wanted, &text, &bridge).await,
            };
            self.settle(Ok(made?), now);
            self.is_saved &= state == self.state;
            (self.state, self.admitted) = (state, admitted);
            self.lose(lost);
            self.policy.send_replace(std::sync::Arc::new(self.state.policy.clone()));
            self.ring();
        }
        self.save()?;
        Ok(match change {
            Change::PutInstance { deployment, .. } => self.sight(*deployment, &Differences::default()),
            Change::PutTenant { .. }
            | Change::DropTenant { .. }
            | Change::DropInstance { .. }
            | Change::PutNever { .. } => None,
        })
    }

    async fn part(&mut self, wanted: &Wanted<'_>, text: &str, bridge: &str) -> Result<Instant, Reason> {
        // What drops everything unmarked is there before anything marks, and goes after nothing does any more.
        self.kernel.put_routes(wanted)?;
        if self.kernel.change(text, Some(bridge)).await.is_err() {
            // Somebody has changed what it builds upon; if not, this says what is wrong.
            self.kernel.replace(wanted).await?;
        }
        self.kernel.clear_routes(wanted)?;
        Ok(Instant::now())
    }

    /// Which batch brings a change about.
    fn batch(&self, change: &Change, wanted: &Wanted<'_>) -> Batch {
        let (old, new) = (&self.state.policy, &wanted.state.policy);
        if old.tenants.is_empty() || new.tenants.is_empty() {
            return Batch::Whole;
        }
        let account = match change {
            Change::PutNever { .. } => return Batch::Whole,
            Change::PutTenant { account, .. } => Some(*account),
            Change::DropTenant { account } => {
                return old.tenants.get(account).map_or(Batch::None, |tenant| Batch::Part {
                    text: rules::without(tenant),
                    bridge: tenant.bridge.clone(),
                });
            }
            Change::PutInstance { deployment, instance } => {
                let moved = old.instances.get(deployment).is_some_and(|held| held.account != instance.account);
                if moved {
                    return Batch::Whole;
                }
                Some(instance.account)
            }
            Change::DropInstance { deployment } => old.instances.get(deployment).map(|held| held.account),
        };
        let Some((account, tenant)) = account.and_then(|account| Some((account, new.tenants.get(&account)?))) else {
            return Batch::None;
        };
        match old.tenants.get(&account) {
            Some(held) if held != tenant => Batch::Whole,
            Some(_) | None => Batch::Part { text: wanted.tenant(account), bridge: tenant.bridge.clone() },
        }
    }

    /// Compares the kernel with what should be there, counts what was refused, and mends what differs.
    pub(super) async fn see(&mut self) -> Differences {
        let wanted = Wanted { state: &self.state, admitted: &self.admitted, now: Instant::now() };
        let looked = self.kernel.look(&wanted).await;
        let (found, listing) = match looked {
            Ok(looked) => looked,
            Err(reason) => {
                self.settle(Err(reason.clone()), self.good_at);
                return Differences { of_all: Some(reason), ..Differences::default() };
            }
        };
        if let Some(listing) = listing {
            let now = self.shared.clock.wall();
            self.shared.tally().packets(&self.state.policy, &listing, now);
        }
        if found.is_empty() {
            self.good_at = Instant::now();
            return found;
        }
        let since = self.good_at;
        let made = self.replace().await;
        let still = if made.is_ok() { Differences::default() } else { found };
        self.mended(made, since, "the rules");
        still
    }

    async fn look(&mut self) -> Look {
        let found = match &self.trouble {
            None => self.see().await,
            Some(trouble) => Differences { of_all: Some(trouble.reason.clone()), ..Differences::default() },
        };
        let policy = &self.state.policy;
        let tenants = policy.tenants.iter().map(|(account, told)| {
            (*account, TenantSight { told: told.clone(), fault: found.at(&told.bridge).cloned() })
        });
        let instances =
            policy.instances.keys().filter_map(|deployment| Some((*deployment, self.sight(*deployment, &found)?)));
        Look {
            standing: *self.shared.standing.borrow(),
            tenants: tenants.collect(),
            instances: instances.collect(),
            denials: self.shared.tally().report(),
            report: GateReport { ..self.story.clone() },
            never: policy.never.clone(),
        }
    }

    /// How an instance stands, given how the kernel differs.
    fn sight(&self, deployment: DeploymentId, found: &Differences) -> Option<InstanceSight> {
        let State { policy, .. } = &self.state;
        let gate: &InstanceGate = policy.instances.get(&deployment)?;
        let bridge = policy.tenants.get(&gate.account).map(|tenant| tenant.bridge.as_str()).unwrap_or_default();
        let addresses = self.admitted.count(deployment, Instant::now());
        let rules = gate.egress.rules.len();
        Some(InstanceSight {
            told: gate_digest(&gate.egress, &gate.ingress),
            address: gate.address,
            egress_fault: found.at(bridge).cloned(),
            ingress_fault: None,
            egress_seen: format!("{rules} rules in chain from_{bridge}, {addresses} addresses of names open"),
            ingress_seen: String::new(),
        })
    }
}
