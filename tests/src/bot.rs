//! A bot's own HTTP door, asked from inside its host's network, as an ingress would.
//!
//! Called by scenarios to see a bot from outside its container, and to make the echo bot misbehave.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::api::agent;
use crate::netns::HostNet;

/// A bot answers in milliseconds; `/hang` is asked for on purpose.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One bot's address, as seen from its host.
#[derive(Debug)]
pub struct Bot<'a> {
    host: &'a HostNet,
    address: String,
    timeout: Duration,
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, if it is JSON; null if not.
    pub body: Value,
}

impl<'a> Bot<'a> {
    /// A bot on `host` at `address` (`ip:port`).
    pub fn new(host: &'a HostNet, address: &str) -> Self {
        Self { host, address: address.to_owned(), timeout: TIMEOUT }
    }

    /// The same, waiting this long for its answers.
    #[must_use]
    pub fn patient(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// GET.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer in time.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.ask(path, |url| agent(self.timeout).get(url).call())
    }

    /// POST without a body.
    ///
    /// # Errors
    /// As [`Bot::get`]. An order to crash is one: no answer comes.
    pub fn post(&self, path: &str) -> Result<Answer> {
        self.ask(path, |url| agent(self.timeout).post(url).send_empty())
    }

    fn ask(
        &self,
        path: &str,
        send: impl FnOnce(&str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send,
    ) -> Result<Answer> {
        let url = format!("http://{}{path}", self.address);
        self.host.inside(|| {
            let mut response = send(&url).with_context(|| format!("ask the bot {url}"))?;
            let status = response.status().as_u16();
            let text =
                response.body_mut().read_to_string().with_context(|| format!("read the bot's answer to {url}"))?;
            Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
        })
    }
}
