//! Whether the neighbours answer all the while: each is asked for its readiness several times a second, from
//! its host's own network, as an ingress would.
//!
//! Called by [`super::site`], which starts a [`Watch`] before an attack and ends it after. What the agent says
//! of a bot cannot stand in for this: its probes come seconds apart, and forgive a few failures.
//!
//! ```text
//! Watch::over ─► a thread for each neighbour ─► GET /readyz ─► Tally (pure) ─► silences ─► lines of harm
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::api::agent;
use crate::netns::inside;
use crate::wait::Stopwatch;

/// Where a bot tells whether it is ready: every profile of the laboratory has it there.
const READY_PATH: &str = "/readyz";
/// Between an answer and the next question: five a second show a pause that a person would notice.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// For one answer: as long as the profiles' own probes wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// For how long a neighbour may be silent. The bombs of processes and memory share two cores with everything
/// else here, the one who asks included, and the kernel takes a second or so to end what is out of memory; a
/// neighbour that is held up for longer is held up by a wall that is missing.
pub const SILENT_MAX: Duration = Duration::from_secs(3);

/// Neighbours that are being asked. Dropping it ends the questions.
#[derive(Debug)]
pub struct Watch {
    since: Stopwatch,
    posts: Vec<Post>,
}

/// One neighbour under watch.
#[derive(Debug)]
struct Post {
    name: String,
    tally: Arc<Mutex<Tally>>,
    /// Dropped, it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What came of asking one neighbour. Pure: times since the watch began come as arguments.
#[derive(Debug, Clone, Default)]
struct Tally {
    answers: usize,
    last_answer: Duration,
    /// What the last question without an answer ended in.
    fault: Option<String>,
    silences: Vec<Silence>,
    /// Why nobody asks any more.
    broken: Option<String>,
}

/// A time without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Silence {
    from: Duration,
    to: Duration,
    fault: String,
}

impl Watch {
    /// Asks each of these neighbours, a name and an `ip:port`, in that network namespace.
    ///
    /// # Errors
    /// When the namespace or a thread cannot be had.
    pub(super) fn over(namespace: &Path, neighbours: &[(&str, String)]) -> Result<Self> {
        let mut watch = Self { since: Stopwatch::start(), posts: Vec::new() };
        for (name, address) in neighbours {
            let file = File::open(namespace).with_context(|| format!("open {}", namespace.display()))?;
            watch.posts.push(Post::start(name, address, file, watch.since)?);
        }
        Ok(watch)
    }

    /// One line for each silence so far that was too long.
    pub fn harm(&self) -> Vec<String> {
        let now = self.since.elapsed();
        self.posts.iter().flat_map(|post| lock(&post.tally).harm(&post.name, now)).collect()
    }

    /// Ends the questions, and says what [`Watch::harm`] there was, and who was not heard even once.
    pub(super) fn end(mut self) -> Vec<String> {
        self.posts.iter_mut().for_each(Post::end);
        let unheard = self.posts.iter().filter_map(|post| lock(&post.tally).unheard(&post.name));
        self.harm().into_iter().chain(unheard).collect()
    }
}

impl Post {
    fn start(name: &str, address: &str, namespace: File, since: Stopwatch) -> Result<Self> {
        let (stop, stopped) = channel();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (kept, url) = (Arc::clone(&tally), format!("http://{address}{READY_PATH}"));
        let thread = thread::Builder::new().name(format!("watch of {name}")).spawn(move || {
            let asked = &kept;
            if let Err(error) = inside(namespace, move || ask_until(&stopped, &url, asked, since)) {
                lock(&kept).broken = Some(format!("{error:#}"));
            }
        });
        let thread = thread.with_context(|| format!("start the watch of {name}"))?;
        Ok(Self { name: name.to_owned(), tally, stop: Some(stop), thread: Some(thread) })
    }

    fn end(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            lock(&self.tally).broken = Some("the one who asked panicked".to_owned());
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask_until(stopped: &Receiver<()>, url: &str, tally: &Mutex<Tally>, since: Stopwatch) -> Result<()> {
    loop {
        let answer = ask(url);
        lock(tally).take(since.elapsed(), answer);
        // The wait ends early when the sender is gone.
        match stopped.recv_timeout(ASK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn ask(url: &str) -> Result<(), String> {
    let answer = agent(ANSWER_WITHIN).get(url).call().map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("status {}", answer.status())) }
}

impl Tally {
    /// Takes down what a question ended in, and when.
    fn take(&mut self, now: Duration, answer: Result<(), String>) {
        match answer {
            Ok(()) => {
                self.silences.extend(self.silence(now));
                self.answers += 1;
                self.last_answer = now;
                self.fault = None;
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// The silence that lasts since the last answer, if it is too long.
    fn silence(&self, now: Duration) -> Option<Silence> {
        let fault = || self.fault.clone().unwrap_or_else(|| "the answer came late".to_owned());
        (now.saturating_sub(self.last_answer) > SILENT_MAX).then(|| Silence {
            from: self.last_answer,
            to: now,
            fault: fault(),
        })
    }

    fn harm(&self, name: &str, now: Duration) -> Vec<String> {
        let silences = self.silences.iter().cloned().chain(self.silence(now)).map(|Silence { from, to, fault }| {
            let (for_s, from_s) = ((to - from).as_secs_f64(), from.as_secs_f64());
            format!("{name} did not answer for {for_s:.1} s, {from_s:.1} s after the attack began: {fault}")
        });
        let broken = self.broken.iter().map(|why| format!("{name} could not be watched: {why}"));
        silences.chain(broken).collect()
    }

    /// Of a watch that is over: one without a single answer has shown nothing, however short it was.
    fn unheard(&self, name: &str) -> Option<String> {
        (self.answers == 0).then(|| format!("{name} never answered while it was watched"))
    }
}

/// Nothing panics while it holds one of these.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A tally of answers at these times; `None` is a question that ended in nothing.
    fn tally(asked: &[(u64, bool)]) -> Tally {
        let mut tally = Tally::default();
        for (at, answered) in asked {
            tally.take(ms(*at), if *answered { Ok(()) } else { Err("timed out".to_owned()) });
        }
        tally
    }

    #[test]
    fn pauses_within_the_bound_are_no_harm_however_many() {
        let seen = tally(&[(200, true), (1400, false), (3200, true), (4400, false), (6200, true)]);
        assert_eq!(seen.harm("red", ms(9200)), Vec::<String>::new());
    }

    #[test]
    fn each_longer_silence_is_told_with_its_span_the_one_that_lasts_too() {
        let seen = tally(&[(200, true), (1400, false), (4500, true), (4700, true), (5900, false)]);
        let lines = seen.harm("red", ms(8000));
        assert_eq!(
            lines,
            [
                "red did not answer for 4.3 s, 0.2 s after the attack began: timed out",
                "red did not answer for 3.3 s, 4.7 s after the attack began: timed out",
            ]
        );
    }

    #[test]
    fn whoever_was_never_heard_or_never_asked_is_harmed() {
        let mute = tally(&[(1000, false)]);
        assert_eq!(mute.unheard("red").as_deref(), Some("red never answered while it was watched"));
        assert_eq!(tally(&[(1000, false), (1200, true)]).unheard("red"), None);
        let broken = Tally { broken: Some("no namespace".to_owned()), ..tally(&[(200, true)]) };
        assert_eq!(broken.harm("red", ms(400)), ["red could not be watched: no namespace"]);
    }
}
