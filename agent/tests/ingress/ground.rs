//! Where these tests stand: an empty network namespace, a directory, the gate's way in, and Debian's Caddy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use launchpad_agent::gate::ingress::options::IngressArgs;
use launchpad_agent::gate::ingress::{Ingress, IngressSight};
use launchpad_agent::gate::policy::{GatePolicy, InstanceGate};
use launchpad_protocol::id::{AccountId, DeploymentId};
use launchpad_protocol::spec;
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Caddy starts within 100 ms, and is looked at every second; a busy machine takes longer.
const SOON: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    ingress: IngressArgs,
}

/// Everything that a test has; dropping it ends and removes all of it.
pub(crate) struct Ground {
    pub(crate) policy: watch::Sender<Arc<GatePolicy>>,
    pub(crate) ingress: Ingress,
    pub(crate) dir: TempDir,
    args: IngressArgs,
    gate: Option<(CancellationToken, JoinHandle<()>)>,
    caddy: Option<Child>,
}

impl Ground {
    /// A namespace with loopback alone, and a gate in it that knows no bot yet. None, and a word about it,
    /// where that is not to be had.
    pub(crate) fn bare() -> Option<Self> {
        Self::told(&["--ingress-tls", "internal"])
    }

    /// The same, with other options than those of a trial.
    pub(crate) fn told(options: &[&str]) -> Option<Self> {
        if Command::new("caddy").arg("version").stdout(Stdio::null()).status().is_err() {
            eprintln!("not proved: Caddy is not installed; packaging/setup.sh test installs it");
            return None;
        }
        // Mounts too: a test may have names of its own in /etc/hosts.
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            eprintln!("not proved: no namespaces can be made ({error}); run as root");
            return None;
        }
        run("mount", &["--make-rprivate", "/"]);
        run("ip", &["link", "set", "lo", "up"]);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let paths = ["--caddy-admin", &file("admin.sock"), "--caddy-config", &file("kept/caddy.json")];
        let args = Line::try_parse_from([&["gate"], &paths[..], options].concat()).unwrap().ingress;
        let (policy, told) = watch::channel(Arc::default());
        let ingress = Ingress::new(args.clone(), told);
        let mut ground = Self { policy, ingress, dir, args, gate: None, caddy: None };
        ground.start_gate();
        eventually("Caddy's file to be written", || ground.args.caddy_config.exists());
        Some(ground)
    }

    /// The same, with a Caddy that does what it was told.
    pub(crate) fn with_caddy() -> Option<Self> {
        let mut ground = Self::bare()?;
        ground.start_caddy();
        Some(ground)
    }

    /// Starts Caddy with the file that the gate keeps, and waits until it is ours.
    pub(crate) fn start_caddy(&mut self) {
        self.spawn_caddy(&self.args.caddy_config.clone());
        ground_is_ours(self);
    }

    /// Starts Caddy with some file.
    pub(crate) fn spawn_caddy(&mut self, config: &Path) {
        self.caddy = Some(caddy(self.dir.path(), config));
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill_caddy(&mut self) {
        if let Some(mut caddy) = self.caddy.take() {
            caddy.kill().unwrap();
            caddy.wait().unwrap();
        }
    }

    /// Runs the gate's part as a new process would: on a thread of its own, inside the namespace, knowing the
    /// policy alone.
    pub(crate) fn start_gate(&mut self) {
        self.ingress = Ingress::new(self.args.clone(), self.policy.subscribe());
        let (stop, ingress) = (CancellationToken::new(), self.ingress.clone());
        let stopping = stop.clone();
        let gate = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ingress.run(stopping));
        });
        self.gate = Some((stop, gate));
    }

    /// Ends the gate's part, as at an upgrade.
    pub(crate) fn stop_gate(&mut self) {
        if let Some((stop, gate)) = self.gate.take() {
            stop.cancel();
            gate.join().unwrap();
        }
    }

    /// Tells the gate its bots, all anew: number, `address:port`, names.
    pub(crate) fn tell(&self, bots: &[(u128, &str, &[&str])]) {
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        let instances = bots.iter().map(|(number, at, names)| {
            let (address, port) = at.split_once(':').unwrap();
            let hostnames = names.iter().map(|name| (*name).to_owned()).collect();
            let ingress = spec::Ingress { port: port.parse().unwrap(), hostnames };
            let egress = spec::EgressPolicy::default();
            (deployment(*number), InstanceGate { account, address: address.parse().unwrap(), egress, ingress })
        });
        self.policy.send_replace(Arc::new(GatePolicy { instances: instances.collect(), ..GatePolicy::default() }));
    }

    /// How the way in to a bot stands.
    pub(crate) fn sight(&self, number: u128) -> IngressSight {
        self.ingress.sight(deployment(number))
    }

    /// The code of what is wrong with it, or `ours`.
    pub(crate) fn fault(&self, number: u128) -> String {
        self.sight(number).fault.map_or_else(|| "ours".to_owned(), |fault| fault.code)
    }

    /// What the gate was told.
    pub(crate) fn args(&self) -> &IngressArgs {
        &self.args
    }

    /// The root certificate of Caddy's own authority.
    pub(crate) fn root(&self) -> PathBuf {
        root(self.dir.path())
    }

    /// The names that Caddy has certificates for.
    pub(crate) fn certified(&self) -> Vec<String> {
        let kept = fs::read_dir(self.dir.path().join("caddy/certificates/local")).into_iter().flatten();
        let mut names: Vec<String> = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The end of Caddy's log, for a failure.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("caddy.log")).unwrap_or_default()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop_gate();
        self.kill_caddy();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// The root certificate of the authority of a Caddy that was started there.
pub(crate) fn root(home: &Path) -> PathBuf {
    home.join("caddy/pki/authorities/local/root.crt")
}

/// A Caddy that writes nothing outside this directory; its log is `caddy.log`.
pub(crate) fn caddy(home: &Path, config: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(home.join("caddy.log")).unwrap();
    let mut caddy = Command::new("setpriv");
    caddy.args(["--pdeathsig", "KILL", "caddy", "run", "--config"]).arg(config);
    caddy.envs(["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|variable| (variable, home)));
    caddy.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    caddy.spawn().unwrap()
}

/// A policy without names shows nothing of Caddy: a bot with one is told, and taken back.
fn ground_is_ours(ground: &Ground) {
    let before = Arc::clone(&ground.policy.borrow());
    ground.tell(&[(0, "127.0.0.1:1", &["ground.example"])]);
    eventually("Caddy to be ours", || ground.fault(0) == "ours");
    ground.policy.send_replace(before);
}

pub(crate) fn deployment(number: u128) -> DeploymentId {
    format!("dep_{number:032x}").parse().unwrap()
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    within(SOON, what, condition);
}

/// Waits for it, and no longer.
#[expect(clippy::disallowed_methods, reason = "waits for a real Caddy on the real clock")]
pub(crate) fn within(deadline: Duration, what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < deadline, "after {deadline:?} still waiting for {what}");
        thread::sleep(PAUSE);
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}: {status}");
}
