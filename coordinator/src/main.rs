//! The coordinator's binary: reads the command line, builds the world outside, and calls the library.
//!
//! A failure is one line on stderr, what it is and what mends it, and exit code 1; a misused command line is 2.

use std::process::ExitCode;

use launchpad_coordinator::api::openapi;
use launchpad_coordinator::app::ca_rotation::begin;
use launchpad_coordinator::app::init::{Installation, init};
use launchpad_coordinator::app::restore::{Restored, restore};
use launchpad_coordinator::config::file;
use launchpad_coordinator::config::{
    Command, Config, InitArguments, LOG_VARIABLE, LogFormat, Output, PkiVerb, RestoreArguments, RotateArguments,
    ServeArguments,
};
use launchpad_coordinator::outside::Outside;
use launchpad_coordinator::run;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::settings::Misled;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if let Err(errno) = keep_memory_private() {
        return refused(&Reason::new("memory-not-private", format!("core dumps cannot be turned off: {errno}")));
    }
    let arguments = match file::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(Misled::Words(error)) => error.exit(),
        Err(Misled::File(reason)) => return refused(&reason),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refused(&Reason::new("no-runtime", format!("cannot start threads: {error}"))),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Init(arguments) => run_init(&arguments).await,
            Command::Serve(arguments) => run_serve(arguments).await,
            Command::Restore(arguments) => run_restore(&arguments).await,
            Command::Pki { verb: PkiVerb::Rotate(arguments) } => run_rotate(&arguments).await,
            Command::Openapi => print_openapi(),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => refused(&reason),
    }
}

/// What is being sealed or unsealed is in memory for a moment: the kernel writes it into no core dump, and lets no
/// debugger of the same user read it.
fn keep_memory_private() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}

fn refused(reason: &Reason) -> ExitCode {
    eprintln!("launchpad-coordinator: {}: {reason}", reason.code);
    ExitCode::FAILURE
}

async fn run_init(arguments: &InitArguments) -> Result<(), Reason> {
    let made = init(arguments, &Outside::machine()).await.map_err(|error| error.reason())?;
    match arguments.output {
        Output::Json => {
            let result = json!({
                "token": *made.token,
                "login": made.login(),
                "root_sha256": made.root_hex(),
                "root_key": made.root_key,
                "keyring": made.keyring,
                "keyring_identity": made.keyring_identity,
            });
            println!("{result}");
        }
        Output::Text => println!("{}", told(arguments, &made)),
    }
    Ok(())
}

fn told(arguments: &InitArguments, made: &Installation) -> String {
    let dir = arguments.place.data_dir.display();
    let apart = |identity: &std::path::PathBuf| {
        format!(
            "Keep this out of every backup of the store, which opens nothing without it:\n  {}\n\n",
            identity.display()
        )
    };
    format!(
        "A new installation in {dir}. Root certificate: sha256:{}\n\n\
         Move the root's key off this machine; it is needed again only to replace the issuing CA:\n  {}\n\n\
         {}Start the coordinator:\n  launchpad-coordinator serve --data-dir {dir}\n\n\
         Log in as {} (this token is shown once):\n  {}",
        made.root_hex(),
        made.root_key.display(),
        made.keyring_identity.as_ref().map(apart).unwrap_or_default(),
        arguments.operator,
        made.login(),
    )
}

async fn run_serve(arguments: ServeArguments) -> Result<(), Reason> {
    start_log(arguments.log, &arguments.log_filter)?;
    let config = Config::of(arguments).map_err(|error| error.reason())?;
    let stop = CancellationToken::new();
    stop_on_signals(&stop).map_err(|error| Reason::new("no-signals", format!("cannot take signals: {error}")))?;
    run(config, Outside::machine(), stop).await.map_err(|error| error.reason())
}

async fn run_restore(arguments: &RestoreArguments) -> Result<(), Reason> {
    let Restored { store, set_aside } =
        restore(arguments, &Outside::machine()).await.map_err(|error| error.reason())?;
    println!("{store} is in place, as another incarnation. Publishing is frozen until `launchpad recover confirm`.");
    if let Some(old) = set_aside {
        println!("The store before it is kept as {}", old.display());
    }
    Ok(())
}

async fn run_rotate(arguments: &RotateArguments) -> Result<(), Reason> {
    let begun = begin(arguments, &Outside::machine()).await.map_err(|error| error.reason())?;
    println!(
        "{} has begun: the issuing CA {} is in force until {}.",
        begun.id,
        begun.issuer.short(),
        begun.not_after
    );
    if let Some(path) = begun.root_key {
        println!("Move the new root's key off this machine:\n  {}", path.display());
    }
    println!(
        "Nothing changes for any host yet. `launchpad pki status` shows who has heard of it, `launchpad pki rotate` goes on."
    );
    Ok(())
}

fn print_openapi() -> Result<(), Reason> {
    let text = openapi::text().map_err(|error| Reason::new("no-document", error.to_string()))?;
    println!("{text}");
    Ok(())
}

fn start_log(format: LogFormat, wanted: &str) -> Result<(), Reason> {
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        Reason::new(
            "malformed-log-filter",
            format!("`{wanted}` ({LOG_VARIABLE}, or log_filter in the file) says nothing that can be logged by"),
        )
        .because(error.to_string())
        .mend("give a level, such as `info`, or levels by module, such as `launchpad_coordinator::fleet=debug`")
    })?;
    // A log that nobody reads any more is no reason to fail: complaining about it on the same closed stderr would be.
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// SIGTERM (systemd) and SIGINT (Ctrl-C) both end it in order; a second one does not hurry it.
fn stop_on_signals(stop: &CancellationToken) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.cancel();
        tracing::info!("stopping");
    });
    Ok(())
}
