//! The laboratory's image registry: Debian's `docker-registry` over a storage folder that outlives every run.
//!
//! Called by [`crate::images`] (to build) and [`crate::lab`] (to serve). The storage under `target/images/registry`
//! is the cache of built images; several registries may serve it at once, because each image is pushed once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{Process, Recipe};
use crate::programs;

/// It listens within 100 ms on a quiet machine; a hundred times that on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    _process: Process,
    /// `host:port`, as it stands in image references.
    pub address: String,
}

impl Registry {
    /// Starts a registry on `address`, with its config and log in `dir`.
    ///
    /// # Errors
    /// When it ends early, as with a port that is taken: the error repeats the end of its log.
    pub fn start(dir: &Path, address: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let config = dir.join("registry.json");
        // JSON is YAML.
        let text = serde_json::json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": programs::image_cache().join("registry") } },
            "http": { "addr": address },
        });
        fs::write(&config, text.to_string()).with_context(|| format!("write {}", config.display()))?;

        let recipe = Recipe::new("docker-registry", "docker-registry", dir.join("registry.log"));
        let mut process = recipe.args(["serve".as_ref(), config.as_os_str()]).spawn()?;
        process.wait_ready(READY_WITHIN, || {
            std::net::TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
        })?;
        Ok(Self { _process: process, address: address.to_owned() })
    }
}
