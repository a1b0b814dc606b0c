//! A gate beside the host of a test, as every agent has one: in the same network namespace, on a thread of its own, so
//! that a test that waits does not keep it from answering.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use clap::Parser;
use launchpad_agent::execute::facts::CgroupDriver;
use launchpad_agent::execute::gate::GateClient;
use launchpad_agent::execute::kernel::Kernel;
use launchpad_agent::execute::tenant;
use launchpad_agent::gate::ingress::options::IngressArgs;
use launchpad_agent::gate::policy::Change;
use launchpad_agent::gate::{GateConfig, run};
use launchpad_protocol::time::Clock;
use tokio_util::sync::CancellationToken;

use crate::ground::groups_of;

/// A running gate.
pub(crate) struct Gatekeeper {
    dir: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The ingress of a host without a Caddy: no bot of these tests has a public name.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    ingress: IngressArgs,
}

impl Gatekeeper {
    /// Starts a gate with its files below that directory, and waits until it answers.
    pub(crate) async fn start(dir: &Path) -> Self {
        let run_dir = dir.join("run");
        let none = |name: &str| run_dir.join(name).display().to_string();
        let options = Options::parse_from([
            "gate".to_owned(),
            format!("--caddy-admin={}", none("no-caddy.sock")),
            format!("--caddy-config={}", none("no-caddy.json")),
        ]);
        let config = GateConfig {
            data_dir: dir.join("data"),
            run_dir: run_dir.clone(),
            resolvers: vec![],
            public_addresses: BTreeSet::new(),
            ingress: options.ingress,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(config, Clock::machine(), stopped)).expect("a gate");
        };
        let thread = std::thread::Builder::new().name("gate".to_owned()).spawn(body).expect("a thread");
        let gate = Self { dir: dir.to_owned(), stop, thread: Some(thread) };
        let answers = async {
            while gate.client().look().await.is_err() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(crate::ground::PATIENCE, answers).await.expect("the gate answers");
        gate
    }

    /// The agent's side of it.
    pub(crate) fn client(&self) -> GateClient {
        GateClient::at(&self.dir.join("run"))
    }

    fn stop(&mut self) {
        self.stop.cancel();
        self.thread.take().expect("it runs").join().expect("it ends");
    }

    /// Has it take all its rules away, and ends it: what it would leave in place is the next test's trouble.
    pub(crate) async fn end(mut self) {
        if self.client().look().await.is_err() {
            // The test has booted the host anew, and its socket has gone with all that does not outlive a boot.
            self.stop();
            self = Self::start(&self.dir).await;
        }
        let told = self.client().look().await.expect("the gate answers");
        let kernel = Kernel::beneath(&self.dir);
        for deployment in told.instances.into_keys() {
            self.client().change(Change::DropInstance { deployment }).await.expect("dropped");
        }
        for account in told.tenants.into_keys() {
            self.client().change(Change::DropTenant { account }).await.expect("dropped");
            // What the engine leaves of tenants whose network the test has not removed.
            for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
                if !groups_of(account).is_empty() {
                    // By whichever of the two this host has.
                    let _ = tenant::remove(&kernel, account, driver).await;
                }
            }
        }
        self.stop();
        // Not there where no tenant ever was.
        let _ = std::process::Command::new("nft").args(["delete", "table", "inet", "launchpad"]).output();
    }
}
