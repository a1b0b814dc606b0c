//! Runs in processes of their own, a few at a time, and what came of each.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use crate::chance;
use crate::world::{Outcome, Script, World};

/// What tells a process that it is one run: the script, as JSON, and the directory that it may use.
const SCRIPT: &str = "LAUNCHPAD_SIM_SCRIPT";
const PLACE: &str = "LAUNCHPAD_SIM_PLACE";

/// Before the outcome, on a line of its own among whatever else is said.
const OUTCOME: &str = "outcome: ";

/// Where files cost no disk. The machine's own directory for such things serves as well.
const MEMORY: &str = "/dev/shm";

/// Runs, in an order in which each begins when one before it has ended.
pub(crate) struct Runs(Vec<Script>);

impl Runs {
    pub(crate) fn of(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self(scripts.into_iter().collect())
    }

    /// What came of all of them, in their order.
    pub(crate) fn all(self) -> Vec<Outcome> {
        self.until(|_| false)
    }

    /// The first outcome like that, in no order. The rest are not begun.
    pub(crate) fn find(self, like: impl Fn(&Outcome) -> bool + Sync) -> Option<Outcome> {
        self.until(&like).into_iter().find(like)
    }

    fn until(self, enough: impl Fn(&Outcome) -> bool + Sync) -> Vec<Outcome> {
        let waiting = Mutex::new(self.0.into_iter().enumerate());
        let worker = || {
            let mut outcomes = Vec::new();
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, script)) = next else { return outcomes };
                let outcome = run_elsewhere(script);
                if enough(&outcome) {
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).by_ref().for_each(drop);
                }
                outcomes.push((number, outcome));
            }
        };
        let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut outcomes: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker that does not panic")).collect()
        });
        outcomes.sort_by_key(|(number, _)| *number);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

fn run_elsewhere(script: Script) -> Outcome {
    let memory = PathBuf::from(MEMORY);
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.expect("a temporary directory");
    let mut run = Command::new(env::current_exe().expect("this program"));
    run.args(["one_run", "--exact", "--nocapture", "--test-threads=1"]);
    run.env(SCRIPT, serde_json::to_string(&script).expect("a script is JSON")).env(PLACE, place.path());
    let mut child = run.stdout(Stdio::piped()).spawn().expect("a process");
    let said = BufReader::new(child.stdout.take().expect("its words"));
    let lines: Vec<_> = said.lines().map_while(Result::ok).collect();
    child.wait().expect("its end");
    let outcome = lines.iter().find_map(|line| line.split_once(OUTCOME));
    let outcome = outcome.and_then(|(_, json)| serde_json::from_str(json).ok());
    outcome.unwrap_or_else(|| panic!("{script:?} came to no end:\n{}", lines.join("\n")))
}

/// Whether this process is one run, and nothing else.
pub(crate) fn is_one() -> bool {
    env::var_os(SCRIPT).is_some()
}

/// Does what this process was started for, if it is one run.
pub(crate) fn run_the_one() {
    let (Ok(script), Some(place)) = (env::var(SCRIPT), env::var_os(PLACE)) else { return };
    let script: Script = serde_json::from_str(&script).expect("a script");
    chance::plant(script.seed);
    let run = thread::spawn(move || {
        // A panic in any task of any process ends the run: nobody else would hear of it.
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tell(panic);
            std::process::abort();
        }));
        World::new(script, &PathBuf::from(place)).run()
    });
    let outcome = run.join().expect("a run that does not panic");
    let json = serde_json::to_string(&outcome).expect("an outcome is JSON");
    writeln!(io::stdout(), "\n{OUTCOME}{json}").expect("somebody listens");
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
