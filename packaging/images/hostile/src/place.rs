//! Where the bot is: what its environment says, and its orders. Read once by each process of it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::{env, fs};

use launchpad_hostile::Orders;

/// What the bot was given.
#[derive(Debug)]
pub(crate) struct Place {
    /// `HOSTILE_CONFIG`; no file means: no orders beyond the defaults.
    pub(crate) config: PathBuf,
    /// `HOSTILE_SECRETS`: a folder with one file per secret.
    pub(crate) secrets: PathBuf,
    /// `HOSTILE_STATE`: its volume.
    pub(crate) state: PathBuf,
    /// `PORT`.
    pub(crate) port: u16,
    /// What the config file says.
    pub(crate) orders: Orders,
}

impl Place {
    /// Reads the environment and the config file; the error is one line for the log.
    pub(crate) fn from_env() -> Result<Self, String> {
        let path = |name: &str, default: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| default.into()));
        let config = path("HOSTILE_CONFIG", "/etc/launchpad/config/hostile.json");
        let orders = match fs::read_to_string(&config) {
            Ok(text) => Orders::parse(&text).map_err(|error| format!("config {}: {error}", config.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Orders::default(),
            Err(error) => return Err(format!("config {} cannot be read: {error}", config.display())),
        };
        Ok(Self {
            config,
            secrets: path("HOSTILE_SECRETS", "/run/launchpad/secrets"),
            state: path("HOSTILE_STATE", "/state"),
            port: env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080),
            orders,
        })
    }

    /// Where it may write: its volume, and the tmpfs mounts that its orders name.
    pub(crate) fn own_folders(&self) -> Vec<PathBuf> {
        let tmpfs = self.orders.bounds.tmpfs_mb.keys().map(PathBuf::from);
        [self.state.clone()].into_iter().chain(tmpfs).collect()
    }
}
