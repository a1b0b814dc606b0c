//! A host's Caddy under a test's control: run beside the host's gate, killed, run again as its unit would.
//!
//! Called by [`crate::host`]. It starts with the file that the gate keeps and nothing else; certificates are
//! its own authority's ([`Caddy::root`]), and all that it writes is in the laboratory's directory.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::agent::Place;
use crate::process::{Process, Recipe};
use crate::wait::wait_until;

/// It listens within 100 ms on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running Caddy.
#[derive(Debug)]
pub struct Caddy {
    process: Process,
    dir: PathBuf,
}

impl Caddy {
    /// Runs the Caddy of that agent's host, whose gate runs already, and waits until it does what the gate
    /// told it.
    ///
    /// # Errors
    /// When the gate writes no file for it, or it ends first: the error repeats its words.
    pub fn start(place: &Place) -> Result<Self> {
        let dir = dir(place);
        wait_until("the gate to write Caddy's configuration", READY_WITHIN, || Ok(config(&dir).exists()))?;
        let recipe = Recipe::new("caddy", "caddy", place.log.with_file_name("caddy.log"))
            .args(["run".as_ref(), "--config".as_ref(), config(&dir).as_os_str()])
            // Keys, certificates and state: nothing of it in the machine's own home.
            .env("HOME", &dir)
            .env("XDG_DATA_HOME", dir.join("data"))
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .in_namespace(Some(&place.namespace));
        let mut caddy = Self { process: recipe.spawn()?, dir };
        caddy.wait_ready()?;
        Ok(caddy)
    }

    /// The certificate (PEM) of the authority that signs its bots' certificates, for `curl --cacert`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("data/caddy/pki/authorities/local/root.crt")
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Kills it if it runs, and starts it again as it was.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        self.wait_ready()
    }

    /// It takes its configuration and its ports in one step.
    fn wait_ready(&mut self) -> Result<()> {
        let admin = admin(&self.dir);
        self.process.wait_ready(READY_WITHIN, || {
            let seen = ask(&admin).map_err(|error| error.to_string())?;
            if seen.contains(r#""servers""#) { Ok(()) } else { Err(seen) }
        })
    }
}

/// What the gate of that agent's host is told about its Caddy.
pub fn gate_arguments(place: &Place) -> Vec<String> {
    let dir = dir(place);
    let path = |path: PathBuf| path.display().to_string();
    let words =
        ["--ingress-tls", "internal", "--caddy-admin", &path(admin(&dir)), "--caddy-config", &path(config(&dir))];
    words.map(str::to_owned).to_vec()
}

fn dir(place: &Place) -> PathBuf {
    place.log.with_file_name("caddy")
}

fn config(dir: &Path) -> PathBuf {
    dir.join("caddy.json")
}

fn admin(dir: &Path) -> PathBuf {
    dir.join("admin.sock")
}

/// Its configuration, with the head of the answer.
fn ask(admin: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(admin)?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    stream.write_all(b"GET /config/ HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
