//! A small client of the coordinator's public API, for tests: JSON in, JSON out, refusals as values.
//!
//! Scenarios call it instead of the CLI where they look at single fields. It knows paths and nothing of the
//! product's types, so that a change of the API shows here as a red test.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::wait::wait_for;

/// For one request; the slowest (a log tail from a busy host) takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The API at one address, as one caller.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: String,
}

/// An answer of any status.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null when there is none or it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// A refusal, with its body.
    pub fn success(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("the API refused with {}: {}", self.status, self.body)
    }
}

impl Api {
    /// A client for `base` (`http://host:port`) with this token.
    pub fn new(base: &str, token: &str) -> Self {
        Self { base: base.to_owned(), token: token.to_owned() }
    }

    /// The address that it speaks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same API as another caller.
    #[must_use]
    pub fn as_caller(&self, token: &str) -> Self {
        Self::new(&self.base, token)
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let request = agent(TIMEOUT).get(self.url(path)).header("authorization", self.bearer());
        read(request.call().with_context(|| format!("GET {path}"))?)
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let request = agent(TIMEOUT).post(self.url(path)).header("authorization", self.bearer());
        read(request.send_json(body).with_context(|| format!("POST {path}"))?)
    }

    /// POST with a JSON body that takes effect once, however often it is sent with this `key`.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<Answer> {
        let request = agent(TIMEOUT).post(self.url(path)).header("authorization", self.bearer());
        read(request.header("idempotency-key", key).send_json(body).with_context(|| format!("POST {path}"))?)
    }

    /// PUT with a JSON body.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        let request = agent(TIMEOUT).put(self.url(path)).header("authorization", self.bearer());
        read(request.send_json(body).with_context(|| format!("PUT {path}"))?)
    }

    /// DELETE.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        let request = agent(TIMEOUT).delete(self.url(path)).header("authorization", self.bearer());
        read(request.call().with_context(|| format!("DELETE {path}"))?)
    }

    /// Looks at deployment `id` until it is in `state`. A deployment that has failed for good ends the wait at once.
    ///
    /// # Errors
    /// After `deadline`, with the deployment as it was seen last.
    pub fn wait_for_state(&self, id: &str, state: &str, deadline: Duration) -> Result<Value> {
        self.wait_for_deployment(id, &format!("state {state}"), deadline, |deployment| deployment["state"] == state)
    }

    /// Looks at deployment `id` until `holds`; `what` is for the error.
    ///
    /// # Errors
    /// After `deadline`, with the deployment as it was seen last.
    pub fn wait_for_deployment(
        &self,
        id: &str,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        wait_for(&format!("deployment {id}: {what}"), deadline, || {
            // A coordinator that is being restarted refuses connections for a moment.
            let Ok(answer) = self.get(&format!("/deployments/{id}")) else { return Ok(Err("no answer".to_owned())) };
            let deployment = answer.success()?;
            Ok(if holds(&deployment) { Ok(deployment) } else { Err(deployment.to_string()) })
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

/// An HTTP client for one request: no shared connections, which a restarted server would have cut, no proxy.
pub fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent()
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().context("read the API's answer")?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}
