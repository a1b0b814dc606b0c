//! What is changed: guests come and go, are restarted, and get other rules and secrets.
//!
//! Guests are of two accounts, so that networks come and go with them. The coordinator is not among the dead here:
//! every order is answered.

use anyhow::{Context as _, Result};
use launchpad_tests::api::Api;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::lab::Lab;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::json;

/// At once: with the prober, what a small host holds beside a test.
const GUESTS_MAX: usize = 4;
/// Rules that a guest may be given, of which each time some are.
const RULES: [&str; 4] = ["api.example.com", "*.chat.example:8443", "203.0.113.0/24", "198.51.100.128/25:9000"];

/// The guests of a churn.
pub(crate) struct Changes {
    api: Api,
    image: String,
    guests: Vec<Deployment>,
    made: usize,
    /// Ordered away, and perhaps still there.
    gone: Vec<Deployment>,
}

impl Changes {
    /// Through that laboratory's API.
    pub(crate) fn of(lab: &Lab) -> Result<Self> {
        Ok(Self { api: lab.api()?, image: lab.image("echo")?, guests: Vec::new(), made: 0, gone: Vec::new() })
    }

    /// One change, drawn.
    pub(crate) fn make_one(&mut self, random: &mut StdRng) -> Result<()> {
        if self.guests.is_empty() || (self.guests.len() < GUESTS_MAX && random.random_bool(0.4)) {
            return self.deploy(random);
        }
        let at = random.random_range(0..self.guests.len());
        match random.random_range(0..5) {
            0 => {
                let guest = self.guests.swap_remove(at);
                guest.delete(true)?;
                self.gone.push(guest);
            }
            1 => self.restart(at)?,
            2 | 3 => {
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

    /// Orders everybody away, and waits until they are gone.
    pub(crate) fn purge_all(&mut self) -> Result<()> {
        for guest in self.guests.drain(..) {
            guest.delete(true)?;
            self.gone.push(guest);
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
        self.guests.push(Deployment::order(&self.api, &body)?);
        Ok(())
    }

    /// Only what runs, or has failed, can be restarted: a guest that is not so far says so.
    fn restart(&self, at: usize) -> Result<()> {
        let guest = self.guests.get(at).context("a guest")?;
        let answer = self.api.post(&format!("/deployments/{}/restart", guest.id), &json!({}))?;
        if answer.body["type"] == "urn:launchpad:wrong-state" { Ok(()) } else { answer.success().map(drop) }
    }

    fn put(&self, at: usize, what: &str, body: &serde_json::Value) -> Result<()> {
        let guest = self.guests.get(at).context("a guest")?;
        self.api.put(&format!("/deployments/{}/{what}", guest.id), body)?.success().map(drop)
    }
}
