//! `make demo`, `make demo-down` and `make demo-check`: one real bot, end to end, on this machine.
//!
//! ```text
//!  demo up [BOT]     foreground; Ctrl-C or `demo down` removes everything but the image cache
//!  demo down         stops it from another terminal, and tidies up after one that was killed
//!  demo check [BOT]  unattended, in a network of its own; the last line is one JSON object
//! ```
//!
//! Exit codes: 0 done, 1 failed, 2 misused or already running, 130 interrupted. What never happens here: anything
//! that a customer could not do. The bot is deployed through the public API, by our own command.

mod check;
mod down;
mod page;
mod up;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use launchpad_tests::programs;

/// Names the demo's namespace and link; tests have six hex digits there.
const RUN_ID: &str = "demo";
/// What is deployed when nobody says otherwise: the product's first workload.
const BOT_DEFAULT: &str = "openclaw";
/// Already running, or misused.
const EXIT_MISUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let bot = arguments.get(1).map_or(BOT_DEFAULT, String::as_str);
    let outcome = match arguments.first().map(String::as_str) {
        Some("up") => up::up(bot),
        Some("down") => down::down(),
        Some("check") => check::check(bot),
        _ => {
            eprintln!("usage: demo up [openclaw|echo] | demo down | demo check [openclaw|echo]");
            return ExitCode::from(EXIT_MISUSED);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

/// Where the demo keeps everything that runs.
fn directory() -> PathBuf {
    programs::target().join("demo")
}

/// Refuses a bot that there is no profile for.
fn known(bot: &str) -> Result<launchpad_protocol::profile::Profile> {
    let path = programs::profile(bot);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| anyhow::anyhow!("no bot named {bot}: {}: {error}", path.display()))?;
    Ok(launchpad_protocol::profile::Profile::parse(bot, &text)?)
}
