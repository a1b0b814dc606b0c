//! `launchpad login URL --token TOKEN`: asks the coordinator whether it knows the token, then remembers both.

use std::io::{IsTerminal as _, stdin};

use launchpad_protocol::reason::Reason;
use serde_json::json;

use crate::arguments::{Access, Login as Arguments};
use crate::client::Client;
use crate::failure::Failure;
use crate::login::{Login, normal_url, path};
use crate::output::Output;

/// Logs in.
pub(super) fn run(access: &Access, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let login = Login { url: normal_url(&arguments.url)?, token: token(access)? };
    // Any list will do: it needs a token that the coordinator knows, and no role above the lowest.
    Client::new(login.clone(), None).get("/deployments?limit=1")?;
    let path = path(access)?;
    login.save(&path)?;
    output.show(&json!({ "url": login.url, "file": path }), || {
        Ok(format!("Logged in to {}; the token is kept in {}", login.url, path.display()))
    })
}

/// The token from the arguments or the environment, else a line of stdin: that keeps it out of the shell's history.
fn token(access: &Access) -> Result<String, Failure> {
    if let Some(token) = &access.token {
        return Ok(token.clone());
    }
    if stdin().is_terminal() {
        eprint!("API token: ");
    }
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    let token = line.trim();
    if read.is_err() || token.is_empty() {
        let reason = Reason::new("no-token", "no API token was given");
        return Err(Failure::usage(reason.mend("use --token TOKEN, LAUNCHPAD_TOKEN, or write it to stdin")));
    }
    Ok(token.to_owned())
}
