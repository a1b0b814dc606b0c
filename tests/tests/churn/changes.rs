//! What is changed: guests come and go, are restarted, and get other rules and secrets.
//!
//! Guests are of two accounts, neither of which is the prober's: now and then one of them loses its last guest, and its
//! network, its bridge, its rules and its control group have to go with it. The coordinator is not among the dead here:
//! every order is answered.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use launchpad_coordinator::domain::actor::Role;
use launchpad_tests::accounts::sign_up;
use launchpad_tests::api::{Answer, Api};
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use launchpad_tests::remains;
use launchpad_tests::wait::wait_for;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::PATIENCE;

/// At once: with the prober, what a small host holds beside a test.
const GUESTS_MAX: usize = 4;
/// How often a change is a guest more, where there is room. With one in three of the others being a guest less, an
/// account loses its last one about twenty times in two hundred changes.
const ARRIVES: f64 = 0.3;
/// Rules that a guest may be given, of which each time some are.
const RULES: [&str; 4] = ["api.example.com", "*.chat.example:8443", "203.0.113.0/24", "198.51.100.128/25:9000"];

/// The guests of a churn.
pub(crate) struct Changes {
    accounts: [Account; 2],
    image: String,
    guests: Vec<Guest>,
    made: usize,
    /// Ordered away, and perhaps still there.
    gone: Vec<Deployment>,
    losses: Losses,
}

/// How often an account was left without a guest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    /// By an order, in the midst of the killing; another guest may have come before the last one was gone.
    pub(crate) ordered: usize,
    /// As the host showed it at rest: nothing of the account was left there.
    pub(crate) seen: usize,
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ordered, seen } = self;
        write!(
            f,
            "{ordered} times an account's last guest was ordered away, {seen} times nothing of it was left at rest"
        )
    }
}

struct Account {
    owner: Api,
    /// Known from its first guest on.
    id: Option<String>,
    /// Whether it has had a guest since it was last seen to have nothing on the host.
    inhabited: bool,
}

struct Guest {
    /// Which of the accounts is its.
    account: usize,
    deployment: Deployment,
}

impl Changes {
    /// Through that laboratory's API, by two accounts that are signed up for it.
    pub(crate) fn of(lab: &mut Lab) -> Result<Self> {
        let accounts = [account(lab, "blue")?, account(lab, "red")?];
        let image = lab.image("echo")?;
        Ok(Self { accounts, image, guests: Vec::new(), made: 0, gone: Vec::new(), losses: Losses::default() })
    }

    /// One change, drawn.
    pub(crate) fn make_one(&mut self, random: &mut StdRng) -> Result<()> {
        if self.guests.is_empty() || (self.guests.len() < GUESTS_MAX && random.random_bool(ARRIVES)) {
            return self.deploy(random);
        }
        let at = random.random_range(0..self.guests.len());
        match random.random_range(0..6) {
            0 | 1 => self.purge(at)?,
            2 => self.restart(at)?,
            3 | 4 => {
                let allow: Vec<&str> = RULES.into_iter().filter(|_| random.random_bool(0.5)).collect();
                self.put(at, "egress", &json!({ "allow": allow }))?;
            }
            _ => {
                let value: u64 = random.random();
                self.put(at, "secrets/extra", &json!({ "value": value.to_string() }))?;
            }
        }
        Ok(())
    }

    /// Of a host at rest: waits until nothing is left there of an account that has no guest any more.
    pub(crate) fn see_losses(&mut self, lab: &mut Lab) -> Result<()> {
        for at in 0..self.accounts.len() {
            let Some(id) = self.accounts[at].id.clone().filter(|_| self.accounts[at].inhabited) else { continue };
            if self.guests.iter().any(|guest| guest.account == at) {
                continue;
            }
            wait_for(&format!("nothing of {id} to be left on the host"), PATIENCE, || {
                let left = remains::of_account(lab.host(0)?, &id)?;
                Ok(if left.is_empty() { Ok(()) } else { Err(left.join("\n")) })
            })?;
            self.accounts[at].inhabited = false;
            self.losses.seen += 1;
        }
        Ok(())
    }

    /// How often an account has lost its last guest so far.
    pub(crate) const fn losses(&self) -> Losses {
        self.losses
    }

    /// The accounts that have had a guest.
    pub(crate) fn accounts(&self) -> BTreeSet<String> {
        self.accounts.iter().filter_map(|account| account.id.clone()).collect()
    }

    /// Orders everybody away, and waits until they are gone.
    pub(crate) fn purge_all(&mut self) -> Result<()> {
        for guest in self.guests.drain(..) {
            guest.deployment.delete(true)?;
            self.gone.push(guest.deployment);
        }
        self.gone.drain(..).try_for_each(|guest| guest.wait_state("terminated").map(drop))
    }

    fn deploy(&mut self, random: &mut StdRng) -> Result<()> {
        self.made += 1;
        let mut body = json!({
            "name": format!("guest-{}", self.made), "profile": "echo", "plan": "starter", "image": self.image,
        });
        if random.random_bool(0.5) {
            body["egress"] = json!([RULES[random.random_range(0..RULES.len())]]);
        }
        let at = random.random_range(0..self.accounts.len());
        let account = &mut self.accounts[at];
        let deployment = Deployment::order(&account.owner, &body)?;
        account.inhabited = true;
        if account.id.is_none() {
            account.id = Some(deployment.account()?);
        }
        self.guests.push(Guest { account: at, deployment });
        Ok(())
    }

    fn purge(&mut self, at: usize) -> Result<()> {
        let Guest { account, deployment } = self.guests.swap_remove(at);
        deployment.delete(true)?;
        self.gone.push(deployment);
        let is_last = self.guests.iter().all(|guest| guest.account != account);
        self.losses.ordered += usize::from(is_last);
        Ok(())
    }

    /// Only what runs, or has failed, can be restarted: a guest that is not so far says so.
    fn restart(&self, at: usize) -> Result<()> {
        let answer = self.ask(at, |api, path| api.post(&format!("{path}/restart"), &json!({})))?;
        if answer.body["type"] == "urn:launchpad:wrong-state" { Ok(()) } else { answer.success().map(drop) }
    }

    fn put(&self, at: usize, what: &str, body: &serde_json::Value) -> Result<()> {
        self.ask(at, |api, path| api.put(&format!("{path}/{what}"), body))?.success().map(drop)
    }

    /// What the owner of a guest is answered.
    fn ask(&self, at: usize, order: impl Fn(&Api, &str) -> Result<Answer>) -> Result<Answer> {
        let guest = &self.guests.get(at).context("a guest")?.deployment;
        order(&guest.api, &format!("/deployments/{}", guest.id))
    }
}

fn account(lab: &mut Lab, name: &str) -> Result<Account> {
    let tokens = sign_up(lab, name, &[Role::Owner])?;
    let owner = lab.api()?.as_caller(tokens.first().context("a token for the owner")?);
    Ok(Account { owner, id: None, inhabited: false })
}
