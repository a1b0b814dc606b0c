//! One deployment of the echo bot through the public API, as a scenario handles it.
//!
//! Called by scenarios. Everything goes through the API; the container's identity is read from Docker, because that
//! is what must not change.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::api::Api;
use crate::engine::Engine;
use crate::lab::Lab;

/// Placing, pulling and starting echo takes about a second on a quiet machine; sixty on a busy one.
pub const SOON: Duration = Duration::from_secs(60);

/// A deployment that was accepted.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The API as its owner.
    pub api: Api,
    /// Its id.
    pub id: String,
}

/// What must stay the same as long as nobody wants it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The container's id.
    pub container: String,
    /// When its process started.
    pub started_at: String,
    /// The process's id.
    pub pid: u64,
}

impl Deployment {
    /// Deploys echo as `name` on Starter with this config; "" is the profile's default.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn create(lab: &Lab, name: &str, config: &str) -> Result<Self> {
        let mut body = json!({ "name": name, "profile": "echo", "plan": "starter", "image": lab.image("echo")? });
        if !config.is_empty() {
            body["config"] = json!(config);
        }
        Self::order(&lab.api()?, &body)
    }

    /// Deploys what `body` says.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn order(api: &Api, body: &Value) -> Result<Self> {
        let accepted = api.post("/deployments", body)?.success()?;
        let id = accepted["id"].as_str().context("the API answered without an id")?.to_owned();
        Ok(Self { api: api.clone(), id })
    }

    /// Deploys echo and waits until it runs.
    ///
    /// # Errors
    /// When it does not run soon.
    pub fn running(lab: &Lab, name: &str) -> Result<Self> {
        let deployment = Self::create(lab, name, "")?;
        deployment.wait_state("running")?;
        Ok(deployment)
    }

    /// As the API shows it now.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn get(&self) -> Result<Value> {
        self.api.get(&self.path())?.success()
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// When it is not reached soon: the error shows the deployment.
    pub fn wait_state(&self, state: &str) -> Result<Value> {
        self.api.wait_for_state(&self.id, state, SOON)
    }

    /// Waits until `holds`; `what` is for the error.
    ///
    /// # Errors
    /// When it does not hold soon: the error shows the deployment.
    pub fn wait(&self, what: &str, holds: impl FnMut(&Value) -> bool) -> Result<Value> {
        self.api.wait_for_deployment(&self.id, what, SOON, holds)
    }

    /// Asks for a restart.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn restart(&self) -> Result<Value> {
        self.api.post(&format!("{}/restart", self.path()), &json!({}))?.success()
    }

    /// Asks for its end.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn delete(&self, purge: bool) -> Result<Value> {
        self.api.delete(&format!("{}{}", self.path(), if purge { "?purge=true" } else { "" }))?.success()
    }

    /// The id of its account.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn account(&self) -> Result<String> {
        Ok(self.get()?["account"].as_str().context("the API tells no account")?.to_owned())
    }

    /// Where its bot listens, as its host sees it.
    ///
    /// # Errors
    /// When the API tells no address.
    pub fn address(&self) -> Result<String> {
        let deployment = self.get()?;
        let address = deployment["instance"]["address"].as_str().context("the API tells no address")?;
        // The profile's port, where the API tells the address alone.
        Ok(if address.contains(':') { address.to_owned() } else { format!("{address}:8080") })
    }

    /// The identity of its container on `engine`.
    ///
    /// # Errors
    /// When it has none.
    pub fn identity(&self, engine: &Engine) -> Result<Identity> {
        let deployment = self.get()?;
        let container = deployment["instance"]["container_id"].as_str().context("the API tells no container")?;
        identity(engine, container)
    }

    fn path(&self) -> String {
        format!("/deployments/{}", self.id)
    }
}

/// The identity of a container.
///
/// # Errors
/// When there is no such container.
pub fn identity(engine: &Engine, container: &str) -> Result<Identity> {
    let state = engine.inspect(container)?["State"].clone();
    let started_at = state["StartedAt"].as_str().context("the container never started")?.to_owned();
    let pid = state["Pid"].as_u64().context("the container has no pid")?;
    Ok(Identity { container: container.to_owned(), started_at, pid })
}
