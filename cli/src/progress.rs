//! Waits that can be seen: after a second, a line on stderr says what is waited for and for how long already.
//!
//! On a terminal it is one line that is drawn over; elsewhere, in a log or a pipe, only steps are printed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A wait shorter than this goes unseen.
const UNSEEN: Duration = Duration::from_secs(1);
/// Between two drawings.
const TICK: Duration = Duration::from_millis(120);

/// A wait for one answer. Dropping it takes its line away.
pub(crate) struct Waiting {
    over: Option<Sender<()>>,
    drawing: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Starts to wait.
    pub(crate) fn on(what: String) -> Self {
        let (over, ended) = channel::<()>();
        let drawing = std::thread::spawn(move || {
            if ended.recv_timeout(UNSEEN) == Err(RecvTimeoutError::Timeout) {
                let bar = bar(&what);
                // Nothing is ever sent: the other end goes away when the wait is over.
                let _ended = ended.recv();
                bar.finish_and_clear();
            }
        });
        Self { over: Some(over), drawing: Some(drawing) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.over.take();
        if let Some(drawing) = self.drawing.take() {
            // It only draws; a failure to draw is no failure of the command.
            drawing.join().ok();
        }
    }
}

/// A wait of several steps: each stays on the screen, the running one is drawn below them.
pub(crate) struct Steps {
    bar: ProgressBar,
}

impl Steps {
    /// Starts to wait.
    pub(crate) fn begin(what: &str) -> Self {
        Self { bar: bar(what) }
    }

    /// One step was taken.
    pub(crate) fn step(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// What is waited for now.
    pub(crate) fn now(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    // The template is a constant and parses; a plain spinner would do as well.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
