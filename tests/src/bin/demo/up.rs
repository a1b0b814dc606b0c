//! `demo up`: everything on this machine, in the foreground, for a person who watches.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator::Place;
use launchpad_tests::lab::Lab;
use launchpad_tests::wait::Stopwatch;
use launchpad_tests::{interrupt, programs};

use crate::{EXIT_MISUSED, RUN_ID, directory, down, known, page};

/// On this machine only: the demo's operator token is for whoever runs it.
const HTTP: &str = "127.0.0.1:7700";

/// Starts it, and waits until it is interrupted.
pub(crate) fn up(bot: &str) -> Result<ExitCode> {
    known(bot)?;
    let clock = Clock(Stopwatch::start());
    // Whether one runs already has to be known before a signal handler exists that would remove it.
    if let Some(pid) = launchpad_tests::lab::owner(&directory())? {
        eprintln!("demo: it runs already (process {pid}); `make demo-down` stops it");
        return Ok(ExitCode::from(EXIT_MISUSED));
    }
    interrupt::on_interrupt("demo", down::tidy)?;
    // Kept alive here, with its processes, until an interrupt ends this process.
    let _lab = interrupt::unless_stopping(start(bot, &clock))?;
    loop {
        thread::park();
    }
}

fn start(bot: &str, clock: &Clock) -> Result<Lab> {
    clock.say(&format!("the image of {bot} (built the first time, cached from then on)"));
    let dir = directory();
    let lab = Lab::on_machine(&dir, RUN_ID, &[bot])?;
    let mut lab = lab.context("another demo has just started; `make demo-down` stops it")?;

    clock.say("a Docker engine and a registry of our own, in a network namespace that plays the host");
    lab.add_host()?;
    clock.say(&format!("coordinator on http://{HTTP}"));
    // The one in `coordinator::POOLS`: a demo runs on build machines and in containers as well.
    clock.say(
        "its pool `shared` accepts a host without apparmor, cgroup-v2 and userns-remap; on your own, let it not",
    );
    let mut place = Place::new(&dir, HTTP).with_real_plans();
    place.arguments = page::coordinator_arguments();
    lab.start_coordinator_at(place)?;
    clock.say("agent: enrols with a join token, then connects over QUIC");
    lab.start_agent(0)?;
    clock.say("Caddy: HTTPS for the bots' public names, with an authority of its own");
    lab.host(0)?.start_caddy()?;

    let command = our_command(&dir)?;
    let token = lab.coordinator()?.token().to_owned();
    run(&command, &["login", &format!("http://{HTTP}"), "--token", &token])?;
    let name = format!("my-{bot}");
    clock.say(&format!("launchpad deploy {name} --profile {bot} --plan starter"));
    run(&command, &["deploy", &name, "--profile", bot, "--plan", "starter", "--image", &lab.image(bot)?])?;
    clock.say(&format!("{name} is ready\n"));
    let deployment = lab.api()?.get(&format!("/deployments/{name}"))?.success()?;
    let shown = page::look(&mut lab, &deployment)?;
    clock.say(&format!("its page, over HTTPS: {shown}\n"));
    run(&command, &["ps"])?;
    run(&command, &["hosts"])?;
    println!("\nTry next, from another terminal:\n");
    println!("  {}", page::visit(&mut lab, &deployment)?.join(" "));
    for words in [format!("status {name}"), format!("logs {name} -f"), format!("restart {name}")] {
        println!("  {} {words}", command.display());
    }
    println!("\nCtrl-C here, or `make demo-down` anywhere, stops everything.");
    Ok(lab)
}

/// A script that is the `launchpad` command, logged in to the demo: what is printed works when it is pasted.
fn our_command(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("launchpad");
    let login = dir.join("login.toml");
    let binary = programs::binary("launchpad")?;
    let text = format!("#!/bin/sh\nLAUNCHPAD_CONFIG='{}' exec '{}' \"$@\"\n", login.display(), binary.display());
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make the command executable")?;
    Ok(path)
}

/// Runs our command for the person to see.
fn run(command: &Path, words: &[&str]) -> Result<()> {
    let status =
        Command::new(command).args(words).status().with_context(|| format!("start {}", command.display()))?;
    ensure!(status.success(), "`launchpad {}` ended with {status}", words[0]);
    Ok(())
}

/// Tells each step with the seconds since the start.
struct Clock(Stopwatch);

impl Clock {
    fn say(&self, words: &str) {
        println!("[{:6.1} s] {words}", self.0.elapsed().as_secs_f64());
    }
}
