//! `launchpad logs NAME|ID [-f]`: what the bot writes, straight from its host.
//!
//! Its standard output goes to ours, its standard error to ours, as `docker logs` does.

use launchpad_protocol::reason::Reason;
use serde_json::json;

use crate::answers::LogPiece;
use crate::arguments::Logs;
use crate::client::{Client, path};
use crate::failure::Failure;
use crate::output::{Output, print_line};

/// Shows.
pub(super) fn run(client: &Client, arguments: &Logs, output: Output) -> Result<(), Failure> {
    let tail = arguments.tail.to_string();
    let follow = arguments.follow.to_string();
    let mut ended = None;
    client.log(
        &path(&["deployments", &arguments.target.deployment, "logs"]),
        &[("tail", tail.as_str()), ("follow", follow.as_str())],
        &mut |piece| {
            match piece {
                LogPiece::Line { at_us, stream, line } if output.is_json() => {
                    print_line(&json!({ "at_us": at_us, "stream": stream, "line": line }).to_string());
                }
                LogPiece::Line { stream, line, .. } if stream == "stderr" => eprintln!("{line}"),
                LogPiece::Line { line, .. } => print_line(&line),
                LogPiece::End { end } => ended = Some(end.reason),
            }
            Ok(())
        },
    )?;
    match ended {
        Some(None) => Ok(()),
        Some(Some(reason)) => Err(Failure::refused(reason)),
        None => {
            let reason = Reason::new("log-broken-off", "the log broke off before its end");
            Err(Failure::unreachable(reason.because("the coordinator stopped").mend("run the command again")))
        }
    }
}
