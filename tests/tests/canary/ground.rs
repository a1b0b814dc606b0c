//! A laboratory in which canaries are planted: all logs at their loudest, a profile that hands a secret over
//! in the environment, and one search over everything.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use launchpad_tests::coordinator::Place as CoordinatorPlace;
use launchpad_tests::deployment::{Deployment, SOON};
use launchpad_tests::lab::{Lab, http_address};
use launchpad_tests::process::run;
use launchpad_tests::search::{Needle, files, processes, tables};
use launchpad_tests::wait::wait_until;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::terminal::Line;

/// The echo bot that takes the secret `env-key` through its environment.
pub(crate) const IN_ENVIRONMENT: &str = "echo-env";
/// What the engine keeps for itself, on host 1.
const ENGINE: [&str; 4] = ["h1/data", "h1/exec", "h1/containerd", "h1/containerd-state"];
/// What our programs log at most.
const LOUDEST: (&str, &str) = ("LAUNCHPAD_LOG", "trace");

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A file, by its path in the laboratory.
    File(PathBuf),
    /// A file of the container engine's own.
    Engine(PathBuf),
    /// A table of the coordinator's store.
    Table(String),
    /// What `/proc` shows of a process: `cmdline` or `environ`.
    Process(u32, &'static str),
    /// What `docker inspect` shows of a container.
    Container(String),
    /// What the API or the command answers.
    Answer(String),
}

/// A coordinator and a host.
pub(crate) struct Ground {
    pub(crate) lab: Lab,
    /// A text that is meant to be seen.
    pub(crate) control: String,
}

impl Ground {
    pub(crate) fn new() -> Result<Self> {
        let mut lab = Lab::enter(&["echo"])?;
        let control = canary();
        let profiles = lab.dir().join("coordinator-profiles");
        fs::create_dir(&profiles)?;
        fs::write(profiles.join("echo-env.toml"), in_environment(&control))?;
        let mut place = CoordinatorPlace::new(lab.dir(), &http_address());
        place.arguments = vec!["--profiles".to_owned(), profiles.display().to_string()];
        place.environment.insert(LOUDEST.0.to_owned(), LOUDEST.1.to_owned());
        lab.start_coordinator_at(place)?;
        lab.add_host()?;
        lab.start_agent(0)?;
        let agent = lab.host(0)?.agent()?;
        agent.place().environment.insert(LOUDEST.0.to_owned(), LOUDEST.1.to_owned());
        agent.restart()?;
        lab.wait_connected(0)?;
        Ok(Self { lab, control })
    }

    pub(crate) fn close(self) -> Result<()> {
        self.lab.close()
    }

    pub(crate) fn deploy(&mut self, name: &str, profile: &str, secrets: Value) -> Result<Deployment> {
        let image = self.lab.image("echo")?;
        let body = json!({ "name": name, "profile": profile, "plan": "starter", "image": image, "secrets": secrets });
        let bot = Deployment::order(&self.lab.api()?, &body)?;
        bot.wait_state("running")?;
        Ok(bot)
    }

    /// Sets a secret over the API. Answers when the bot goes by it.
    pub(crate) fn set(&mut self, bot: &Deployment, name: &str, value: &str) -> Result<String> {
        let path = format!("/deployments/{}/secrets/{name}", bot.id);
        let answer = self.lab.api()?.put(&path, &json!({ "value": value }))?.success()?;
        ensure!(!answer.to_string().contains(value), "it is repeated: {answer}");
        Ok(answer["effect"].as_str().context("an effect")?.to_owned())
    }

    /// Sets a secret as a customer does, with its value on stdin.
    pub(crate) fn set_by_command(&mut self, bot: &Deployment, name: &str, value: &str) -> Result<()> {
        let told = self.launchpad(&["secret", "set", &bot.id, name])?.run_with(&format!("{value}\n"))?;
        ensure!(!told.err.contains(value) && !told.out.contains(value), "it is repeated: {told:?}");
        told.done().map(drop)
    }

    /// Whatever the command refuses, it does not repeat.
    pub(crate) fn refused_by_command(&mut self, bot: &Deployment, value: &str) -> Result<()> {
        for words in [&["secret", "set", &bot.id, "echo.conf"][..], &["secret", "set", "nobody", "KEY"]] {
            let told = self.launchpad(words)?.run_with(value)?;
            ensure!(told.code == Some(1) && !told.err.contains(value), "{told:?}");
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, bot: &Deployment, name: &str) -> Result<()> {
        self.launchpad(&["secret", "rm", &bot.id, name])?.run()?.done()?;
        let path = self.path_of(bot, name)?;
        wait_until("the file to be gone", SOON, || Ok(!path.exists()))
    }

    /// Makes another key, and waits until everything is wrapped with it.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        let api = self.lab.api()?;
        let asked = api.post("/keys/rotate", &json!({}))?.success()?;
        let old = asked["current"].as_str().context("a current key")?.to_owned();
        wait_until("the old key to be gone", SOON, || {
            let keys = api.get("/keys")?.success()?;
            Ok(keys["rotation"]["done_at_us"].is_i64() && keys["wraps"].get(&old).is_none())
        })
    }

    /// Both sides, and the bot.
    pub(crate) fn restart_everything(&mut self, bot: &Deployment) -> Result<()> {
        self.lab.coordinator()?.kill()?;
        self.lab.coordinator()?.restart()?;
        self.lab.host(0)?.agent()?.restart()?;
        self.lab.wait_connected(0)?;
        let before = bot.identity(&self.lab.host(0)?.engine)?;
        bot.restart()?;
        let engine = &self.lab.host(0)?.engine;
        bot.wait("running anew", |now| {
            now["state"] == "running" && bot.identity(engine).is_ok_and(|now| now.started_at != before.started_at)
        })?;
        Ok(())
    }

    /// Waits until the bot itself reads that value in its file.
    pub(crate) fn wait_seen(&mut self, bot: &Deployment, name: &str, value: &str) -> Result<()> {
        let (address, expected) = (bot.address()?, sha256(value)?);
        let host = self.lab.host(0)?;
        wait_until("the bot to read the new value", SOON, || {
            // A name that is not there yet is answered otherwise.
            let told = host.bot(&address).get(&format!("/secret?name={name}"))?.body;
            Ok(told["sha256"] == expected.as_str())
        })
    }

    /// The largest core dump that each of our programs would leave, in the kernel's words.
    pub(crate) fn core_limits(&mut self) -> Result<Vec<String>> {
        let pids = [self.lab.coordinator()?.process().pid(), self.lab.host(0)?.agent()?.process().pid()];
        let limit = |pid| -> Result<String> {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
            let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
            Ok(line.context("a limit of core files")?.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        };
        pids.into_iter().map(limit).collect()
    }

    /// Where a secret belongs that a bot takes as a file.
    pub(crate) fn file_of(&mut self, bot: &Deployment, name: &str) -> Result<BTreeSet<Place>> {
        let path = self.path_of(bot, name)?;
        Ok(BTreeSet::from([Place::File(path.strip_prefix(self.lab.dir())?.to_owned())]))
    }

    /// Where a secret is that a bot takes through its environment, but for what the engine keeps of it for
    /// itself: its file, its process, and what the engine shows.
    pub(crate) fn environment_of(&mut self, bot: &Deployment, name: &str) -> Result<BTreeSet<Place>> {
        let mut expected = self.file_of(bot, name)?;
        let identity = bot.identity(&self.lab.host(0)?.engine)?;
        expected.insert(Place::Process(u32::try_from(identity.pid)?, "environ"));
        expected.insert(Place::Container(identity.container));
        Ok(expected)
    }

    /// Where the agent unseals it to. That it is a tmpfs, 0400 and the bot's, is seen here each time.
    fn path_of(&mut self, bot: &Deployment, name: &str) -> Result<PathBuf> {
        let found =
            run(Command::new("find").arg(self.lab.host(0)?.agent()?.place().run.join("files").join(&bot.id)))?;
        let path = found.lines().map(PathBuf::from).find(|path| path.ends_with(name));
        let path = path.with_context(|| format!("no file `{name}` among {found}"))?;
        let seen = run(Command::new("stat").args(["--file-system", "--format=%T"]).arg(&path))?;
        ensure!(seen.trim() == "tmpfs", "{} is on {seen}", path.display());
        let seen = run(Command::new("stat").args(["--format=%a %u"]).arg(&path))?;
        ensure!(seen.trim() == "400 1000", "{} is {seen}", path.display());
        Ok(path)
    }

    /// Everything that anybody could look at.
    pub(crate) fn everywhere(&mut self, text: &str) -> Result<BTreeSet<Place>> {
        let needle = Needle::new(text);
        let place = |path: PathBuf| {
            let engines = ENGINE.iter().any(|dir| path.starts_with(dir));
            if engines { Place::Engine(path) } else { Place::File(path) }
        };
        let mut found: BTreeSet<Place> = files(self.lab.dir(), &needle)?.into_iter().map(place).collect();
        let database = self.lab.coordinator()?.place().data.join("coordinator.db");
        found.extend(tables(&database, &needle)?.into_iter().map(Place::Table));
        found.extend(processes(&needle)?.into_iter().map(|(pid, part)| Place::Process(pid, part)));
        let engine = &self.lab.host(0)?.engine;
        for container in engine.docker(&["ps", "--all", "--quiet", "--no-trunc"])?.lines() {
            if needle.is_in(engine.inspect(container)?.to_string().as_bytes()) {
                found.insert(Place::Container(container.to_owned()));
            }
        }
        found.extend(self.answers(&needle)?);
        Ok(found)
    }

    /// Everything that the API shows, and the bots' logs.
    fn answers(&mut self, needle: &Needle) -> Result<BTreeSet<Place>> {
        let api = self.lab.api()?;
        let mut paths = ["/deployments", "/hosts", "/keys", "/recovery"].map(str::to_owned).to_vec();
        let listed = |path: &str| -> Result<Vec<String>> {
            let items = api.get(path)?.success()?["items"].take();
            Ok(items
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| Some(one["id"].as_str()?.to_owned()))
                .collect())
        };
        let bots = listed("/deployments")?;
        paths.extend(listed("/hosts")?.iter().map(|id| format!("/hosts/{id}")));
        paths.extend(bots.iter().flat_map(|id| [format!("/deployments/{id}"), format!("/deployments/{id}/secrets")]));
        let mut found = BTreeSet::new();
        for path in paths {
            let answer = api.get(&path)?.success()?;
            if needle.is_in(answer.to_string().as_bytes()) {
                found.insert(Place::Answer(path));
            }
        }
        for id in bots {
            let told = self.launchpad(&["logs", &id])?.run()?;
            if needle.is_in((told.out + &told.err).as_bytes()) {
                found.insert(Place::Answer(format!("logs {id}")));
            }
        }
        Ok(found)
    }

    /// A process that shows the control to whoever looks, a file of the agent's and one of the coordinator's
    /// that hold it, and a deployment that is called so.
    pub(crate) fn show_control(&mut self) -> Result<Child> {
        let name = format!("bot-{}", self.control);
        let image = self.lab.image("echo")?;
        let body = json!({ "name": name, "profile": "echo", "plan": "starter", "image": image });
        let bot = Deployment::order(&self.lab.api()?, &body)?;
        bot.wait_state("running")?;
        let data = self.lab.host(0)?.agent()?.place().data.clone();
        let hidden = data.join("hidden");
        fs::write(&hidden, &Needle::new(&self.control).forms()[2])?;
        let mut shows = Command::new("sh");
        shows.args(["-c", "read line", &self.control]).env("SHOWN", &self.control).stdin(Stdio::piped());
        shows.spawn().context("start a process that shows it")
    }

    fn launchpad(&mut self, words: &[&str]) -> Result<Line> {
        let api = self.lab.api()?;
        let token = self.lab.coordinator()?.token().to_owned();
        Ok(Line::launchpad(&api, &token)?.args(words))
    }
}

/// A text that nothing else could be: 128 random bits, and fit to be part of a name.
pub(crate) fn canary() -> String {
    format!("canary{:032x}", StdRng::from_os_rng().random::<u128>())
}

/// By coreutils, so that the test does not trust the code under test.
pub(crate) fn sha256(text: &str) -> Result<String> {
    let told = Line::program("sha256sum").run_with(text)?.done()?;
    Ok(told.split(' ').next().unwrap_or_default().to_owned())
}

/// The echo profile, but for its name, a secret in its environment, and a variable that anybody may see.
fn in_environment(control: &str) -> String {
    let echo = include_str!("../../../profiles/echo.toml");
    let name = echo.replacen("name = \"echo\"", &format!("name = \"{IN_ENVIRONMENT}\""), 1);
    let secret = name.replacen("[needs]", "[secrets.environment]\nECHO_KEY = \"env-key\"\n\n[needs]", 1);
    secret.replacen("[process.env]", &format!("[process.env]\nECHO_CONTROL = \"{control}\""), 1)
}
