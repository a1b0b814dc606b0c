//! A coordinator under a test's control: initialised once, served, killed, served again on the same data.
//!
//! Called by [`crate::lab`] and the demo.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api::{Api, agent};
use crate::netns::FABRIC_ADDRESS;
use crate::process::{Process, Recipe, run};
use crate::programs;

/// A debug build on a busy machine, with migrations to run.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Where hosts connect: the coordinator's default.
const FLEET_PORT: u16 = 7701;
/// Where hosts enrol: likewise.
const ENROLL_PORT: u16 = 7702;

/// The pool of laboratories and of the demo, which run in containers and on build machines as well: user ids there cannot
/// be remapped inside of what is remapped already, and cgroups and AppArmor are the machine's. All else a host has to have.
pub const POOLS: &str = "[shared]\nkind = \"shared\"\naccepts = [\"apparmor\", \"cgroup-v2\", \"userns-remap\"]\n";

/// The spec's plans but for their storage: a volume's room is really taken from the disk, and a laboratory's bots write
/// nothing. Starter's ten gigabytes are proved where one bot has them, in the demo.
pub const PLANS: &str = "\
[starter]\ncpu_millis = 500\nmemory_gb = 1\nstorage_mb = 64\nretention_days = 7\negress_rules = 8\n\
[pro]\ncpu_millis = 1000\nmemory_gb = 2\nstorage_mb = 128\nretention_days = 30\negress_rules = 16\n\
[team]\ncpu_millis = 2000\nmemory_gb = 4\nstorage_mb = 256\nretention_days = 30\negress_rules = 32\n";

/// What `init` handed out; kept beside the data, because it is told only once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FirstOperator {
    /// The API token.
    pub token: String,
    /// The CA root's hash.
    pub root_sha256: String,
}

/// Where a coordinator keeps its data and listens.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its data directory.
    pub data: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// `host:port` of the public API.
    pub http: String,
    /// `--database-url`, if not the built-in SQLite.
    pub database: Option<String>,
    /// The table of pools.
    pub pools: String,
    /// The table of plans, unless `arguments` name one; none: the built-in one.
    pub plans: Option<String>,
    /// More arguments of `serve`, such as `--profiles DIR`.
    pub arguments: Vec<String>,
    /// More environment of `serve`, such as a kill point.
    pub environment: BTreeMap<String, String>,
}

impl Place {
    /// A coordinator in `dir` that serves its API at `http`.
    pub fn new(dir: &Path, http: &str) -> Self {
        Self {
            data: dir.join("coordinator"),
            log: dir.join("coordinator.log"),
            http: http.to_owned(),
            database: None,
            pools: POOLS.to_owned(),
            plans: Some(PLANS.to_owned()),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// The same with the plans as customers get them.
    #[must_use]
    pub fn with_real_plans(self) -> Self {
        Self { plans: None, ..self }
    }

    /// The same with another database.
    #[must_use]
    pub fn with_database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    fn database_arguments(&self) -> Vec<String> {
        self.database.iter().flat_map(|url| ["--database-url".to_owned(), url.clone()]).collect()
    }
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    process: Process,
    place: Place,
    operator: FirstOperator,
}

impl Coordinator {
    /// Initialises the data directory if that was never done, and serves it.
    ///
    /// # Errors
    /// When `init` refuses or `serve` ends early: the error repeats its words.
    pub fn start(place: Place) -> Result<Self> {
        let kept = place.data.with_extension("operator.json");
        let operator = match std::fs::read(&kept) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", kept.display()))?,
            Err(_) => {
                let operator = init(&place)?;
                std::fs::write(&kept, serde_json::to_vec(&operator)?).context("keep the operator's token")?;
                operator
            }
        };
        let process = serve(&place)?.spawn()?;
        let mut coordinator = Self { process, place, operator };
        coordinator.wait_ready()?;
        Ok(coordinator)
    }

    /// The API as the first operator.
    pub fn api(&self) -> Api {
        Api::new(&self.url(), &self.operator.token)
    }

    /// The API's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.place.http)
    }

    /// The first operator's token.
    pub fn token(&self) -> &str {
        &self.operator.token
    }

    /// Where it keeps its data and listens; what is changed here counts from the next restart.
    pub fn place(&mut self) -> &mut Place {
        &mut self.place
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

    /// Starts a killed coordinator again on the same data, and waits until it answers.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        // Afresh from the place: a test may have changed its arguments or environment meanwhile.
        self.process = serve(&self.place)?.spawn()?;
        self.wait_ready()
    }

    /// A fresh join token for a host of this name.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn host_token(&self, name: &str) -> Result<String> {
        let body = self.api().post("/hosts/tokens", &json!({ "name": name }))?.success()?;
        Ok(body["token"].as_str().context("the answer holds no token")?.to_owned())
    }

    /// Where hosts enrol.
    pub fn enroll_endpoint() -> String {
        format!("{FABRIC_ADDRESS}:{ENROLL_PORT}")
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (address, url) = (self.place.http.clone(), format!("{}/healthz", self.url()));
        self.process.wait_ready(READY_WITHIN, || {
            // A refused connection is cheaper to see than a failed request.
            TcpStream::connect(&address).map_err(|error| error.to_string())?;
            let answer = agent(Duration::from_secs(2)).get(&url).call().map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(format!("/healthz: {}", answer.status())) }
        })
    }
}

fn init(place: &Place) -> Result<FirstOperator> {
    let mut command = Command::new(programs::binary("launchpad-coordinator")?);
    command.arg("init").arg("--data-dir").arg(&place.data).args(place.database_arguments());
    command.args(["--advertise-fleet", &format!("{FABRIC_ADDRESS}:{FLEET_PORT}")]);
    command.args(["--advertise-enroll", &Coordinator::enroll_endpoint()]);
    command.args(["--operator", "operator@example.com", "--output", "json"]);
    let text = run(&mut command)?;
    let operator: FirstOperator =
        serde_json::from_str(&text).with_context(|| format!("read what init printed: {text}"))?;
    ensure!(!operator.token.is_empty(), "init handed out no token");
    Ok(operator)
}

fn serve(place: &Place) -> Result<Recipe> {
    let pools = place.data.with_extension("pools.toml");
    std::fs::write(&pools, &place.pools).with_context(|| format!("write {}", pools.display()))?;
    let plans = place.data.with_extension("plans.toml");
    let plans_arguments = match &place.plans {
        Some(table) if !place.arguments.iter().any(|argument| argument == "--plans") => {
            std::fs::write(&plans, table).with_context(|| format!("write {}", plans.display()))?;
            vec!["--plans".as_ref(), plans.as_os_str()]
        }
        Some(_) | None => Vec::new(),
    };
    let recipe = Recipe::new("launchpad-coordinator", programs::binary("launchpad-coordinator")?, &place.log);
    let recipe = place.environment.iter().fold(recipe, |recipe, (name, value)| recipe.env(name, value));
    Ok(recipe
        .args(["serve".as_ref(), "--data-dir".as_ref(), place.data.as_os_str()])
        .args(["--http", &place.http])
        .args(["--fleet", &format!("{FABRIC_ADDRESS}:{FLEET_PORT}")])
        .args(["--enroll", &format!("{FABRIC_ADDRESS}:{ENROLL_PORT}")])
        .args(["--pools".as_ref(), pools.as_os_str()])
        .args(plans_arguments)
        .args(place.database_arguments())
        .args(&place.arguments))
}
