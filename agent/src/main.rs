//! The agent's binary: reads the command line, builds the world outside, and calls the library.
//!
//! A failure is one line on stderr, what it is and what mends it, and exit code 1; a misused command line is 2. The
//! log goes to stderr, what was asked for to stdout. No bot is ever touched from here.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use launchpad_agent::config::file;
use launchpad_agent::config::{Command, Config, DATA_DIR, EnrollArgs, GateArgs, LOG_VARIABLE, UpgradeArgs};
use launchpad_agent::disk::Disk;
use launchpad_agent::doctor::{LiveFacts, Whereabouts, examine};
use launchpad_agent::enroll::dockerd::{Machine, Places, configure};
use launchpad_agent::enroll::units;
use launchpad_agent::execute::docker::{DockerHost, HostConfig};
use launchpad_agent::execute::gate::{GATE_AWAY, GateClient, keep_away};
use launchpad_agent::gate::GateConfig;
use launchpad_agent::identity::machine::this_machine;
use launchpad_agent::identity::{Enrolled, IdentityFiles, is_enrolled};
use launchpad_agent::link::{Pace, Reach};
use launchpad_agent::local::lock::DataLock;
use launchpad_agent::local::{LocalSocket, LocalView, REQUESTS_QUEUED};
use launchpad_agent::reconcile::request::LocalRequest;
use launchpad_agent::supervise::supervise;
use launchpad_agent::upgrade::{self, Place, Stage, Upgrading};
use launchpad_agent::{Outside, VERSION, book, enroll, evict, status};
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::settings::Misled;
use launchpad_protocol::time::Clock;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Threads for what blocks, at once: a volume that is emptied, a name that is looked up. Each costs memory.
const BLOCKING_THREADS_MAX: usize = 4;

fn main() -> ExitCode {
    if let Err(errno) = keep_memory_private() {
        eprintln!("launchpad-agent: core dumps cannot be turned off: {errno}");
        return ExitCode::FAILURE;
    }
    take_small_pages();
    let cli = match file::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Misled::Words(error)) => error.exit(),
        Err(Misled::File(reason)) => {
            eprintln!("launchpad-agent: {reason}");
            return ExitCode::FAILURE;
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // `{:#}` would put the sources behind it: each of ours says in its own text what is needed of them.
            eprintln!("launchpad-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is being sealed or unsealed is in memory for a moment: the kernel writes it into no core dump, and lets no
/// debugger of the same user read it.
fn keep_memory_private() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}

/// Where huge pages are on for everybody, as on a stock Debian, each stack and each heap of a thread is rounded up to two
/// megabytes of them. A kernel that refuses costs memory and nothing else.
fn take_small_pages() {
    let _ = prctl::set_thp_disable(true);
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Enroll(args) => runtime()?.block_on(join(&args))?,
        Command::Run(config) => runtime()?.block_on(run(config))?,
        Command::Gate(args) => runtime()?.block_on(gate(args))?,
        Command::Doctor(config) => return runtime()?.block_on(find_fault(&config)),
        Command::Upgrade(args) => return carry_upgrade_out(&args),
        Command::Local(command) => status::carry_out(&command, &mut io::stdout())?,
        Command::Evict(args) => {
            runtime()?.block_on(evict::evict(&args, |progress| eprintln!("{progress}")))?;
            say(args.output.over());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread for everything that waits: an agent with thirty bots waits nearly always.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()
}

async fn join(args: &EnrollArgs) -> anyhow::Result<()> {
    if args.configure_docker {
        enroll::check(args)?;
        let configured = configure(&Places::default(), &Machine::with(&args.docker)).await?;
        say(&format!("{configured}\n"));
    }
    let joined = enroll::enroll(args, VERSION, &Clock::machine()).await?;
    say(&format!("{joined}\n"));
    // A host that is not seen cannot be mended: it joins first, and is told what it lacks.
    let found =
        examine(&Whereabouts { docker: args.docker.clone(), data_dir: args.data_dir.clone(), gate: None }).await;
    for missing in found.missing() {
        eprintln!("launchpad-agent: before bots can run here: {missing}");
    }
    if !args.no_start && args.data_dir == units_data_dir() {
        say(&format!("{}\n", units::start().await?));
    }
    Ok(())
}

/// Where the units' agent works: whoever joins elsewhere runs an agent of his own there, as tests do.
fn units_data_dir() -> PathBuf {
    let told = file::read(["launchpad-agent", "run"].map(OsString::from));
    match told.map(|cli| cli.command) {
        Ok(Command::Run(config)) => config.data_dir,
        _ => PathBuf::from(DATA_DIR),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    start_log(&config.log_filter)?;
    let enrolled = Enrolled::load(&config.data_dir)?;
    // Held until the process ends.
    let _lock = DataLock::take(&config.data_dir)?;
    IdentityFiles::open(&config.data_dir)?.belongs_to(this_machine().as_deref())?;
    let socket = LocalSocket::bind(&config.run_dir)?;
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let (host, run_dir) = (enrolled.identity().host, config.run_dir.clone());
    let whereabouts = whereabouts(&config, true);
    let docker = Arc::new(
        DockerHost::connect(HostConfig {
            docker: config.docker,
            data_dir: config.data_dir.clone(),
            run_dir: run_dir.clone(),
            host,
            subnet_pool: config.subnet_pool,
            sealing_key: Arc::new(enrolled.sealing_key()?),
        })
        .await?,
    );
    let coordinators = Arc::clone(&enrolled);
    let _denied = keep_away(GateClient::at(&run_dir), move || {
        coordinators.identity().fleet_endpoints.iter().map(ToString::to_string).collect()
    });
    let (book, damaged) = book::open(&config.data_dir.join("book"));
    let (reconciler, local) = mpsc::channel(REQUESTS_QUEUED);
    let outside = Outside {
        host,
        clock: Clock::machine(),
        entropy: Entropy::system(),
        disk: Disk::open(&config.data_dir)?,
        book,
        facts: Box::new(Upgrading::around(
            LiveFacts::watch(whereabouts).await,
            Place::at(&config.upgrade_dir),
            &config.data_dir,
            &run_dir,
            Clock::machine(),
        )),
        hands: Arc::clone(&docker) as _,
        eyes: Arc::clone(&docker) as _,
        reach: Reach::Fleet(Arc::clone(&enrolled)),
        pace: Pace::default(),
        local,
        troubles: damaged.into_iter().collect(),
    };
    tracing::info!(%host, version = VERSION, pid = std::process::id(), "the agent starts");
    let at_work = supervise(answer_of(reconciler.clone()), stop.clone());
    let serving = socket.serve(LocalView { enrolled, reconciler, eyes: docker }, stop.clone());
    let running = async {
        let ended = launchpad_agent::run(outside, stop.clone()).await;
        stop.cancel();
        ended
    };
    let (ended, (), ()) = tokio::join!(running, serving, at_work);
    ended?;
    tracing::info!("the agent has stopped; the bots run on");
    Ok(())
}

/// A host that is back at its old version is a failure, for whoever looks at the unit.
fn carry_upgrade_out(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    start_log("info")?;
    match upgrade::run(args)?.map(|log| log.stage) {
        Some(Stage::Refused { why } | Stage::RolledBack { why } | Stage::Stuck { why }) => Err(why.into()),
        Some(_) | None => Ok(ExitCode::SUCCESS),
    }
}

/// Asks the reconciler, which answers between two turns of its loop, once the ledger is open.
fn answer_of(reconciler: mpsc::Sender<LocalRequest>) -> impl AsyncFnMut() -> Option<String> {
    async move || {
        let (reply, answer) = oneshot::channel();
        reconciler.send(LocalRequest::Plan(reply)).await.ok()?;
        answer.await.ok().map(|_| "the bots are looked after".to_owned())
    }
}

/// Asks the keeper, through the gate's own socket. A refusal is an answer, too.
fn answer_of_gate(run_dir: &Path) -> impl AsyncFnMut() -> Option<String> + use<> {
    let gate = GateClient::at(run_dir);
    async move || match gate.look().await {
        Ok(look) => {
            Some(format!("{} bots of {} tenants are let out and in", look.instances.len(), look.tenants.len()))
        }
        Err(reason) => (reason.code != GATE_AWAY).then(|| reason.to_string()),
    }
}

async fn gate(args: GateArgs) -> anyhow::Result<()> {
    start_log(&args.log_filter)?;
    // The lock needs the directory.
    Disk::open(&args.data_dir)?;
    // Held until the process ends.
    let _lock = DataLock::of_gate(&args.data_dir)?;
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let config = GateConfig {
        data_dir: args.data_dir,
        run_dir: args.run_dir,
        resolvers: args.resolvers,
        public_addresses: args.public_addresses.into_iter().collect(),
        ingress: args.ingress,
    };
    tracing::info!(version = VERSION, pid = std::process::id(), "the gate starts");
    let run_dir = config.run_dir.clone();
    let at_work = supervise(answer_of_gate(&run_dir), stop.clone());
    let running = async {
        let ended = launchpad_agent::gate::run(config, Clock::machine(), stop.clone()).await;
        stop.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(running, at_work);
    ended?;
    tracing::info!("the gate has stopped; its rules stay");
    Ok(())
}

/// Says what is well and what is not; a host that cannot run bots is a failure, for scripts.
async fn find_fault(config: &Config) -> anyhow::Result<ExitCode> {
    let joined = is_enrolled(&config.data_dir);
    let found = examine(&whereabouts(config, joined)).await;
    say(&found.text());
    Ok(if found.missing().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn whereabouts(config: &Config, joined: bool) -> Whereabouts {
    Whereabouts {
        docker: config.docker.clone(),
        data_dir: config.data_dir.clone(),
        gate: joined.then(|| config.run_dir.clone()),
    }
}

/// To stdout. Whoever closes it early (`| head`) has read enough.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn start_log(wanted: &str) -> anyhow::Result<()> {
    // Levels by target, without patterns: an engine for regular expressions would cost the agent half a megabyte.
    let filter: Targets = wanted.parse().map_err(|error| {
        anyhow::anyhow!(
            "`{wanted}` ({LOG_VARIABLE}, or log_filter in the file) says nothing that can be logged by: {error}"
        )
    })?;
    let ansi = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}

/// SIGTERM and SIGINT end the agent and nothing else.
fn stop_on_signals(stop: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}
