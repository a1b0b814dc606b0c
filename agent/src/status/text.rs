//! How the agent's answers read on a terminal. Pure.

use std::fmt::Write as _;

use launchpad_protocol::enforcement::Enforcement;
use serde_json::Value;

use super::{NOTHING, columns, phase, table};
use crate::local::Response;
use crate::local::show::{Bot, BotState, Why};

/// Characters of a container's id and of an image's digest: enough to tell it from others, as Docker shows it.
const SHORT: usize = 12;

/// For programs: what the socket said, without its envelope where it has one thing in it.
pub(super) fn json(response: &Response) -> String {
    let value = match response {
        Response::Status(status) => serde_json::to_value(status),
        Response::Bots { bots } => serde_json::to_value(bots),
        Response::Why(why) => serde_json::to_value(why),
        Response::Spec { spec } => Ok(spec.clone()),
        Response::Line { .. }
        | Response::End { .. }
        | Response::Evicting { .. }
        | Response::Done { .. }
        | Response::Refused { .. } => serde_json::to_value(response),
    };
    // Our own answers are JSON already: it cannot fail.
    let text = value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_default();
    format!("{text}\n")
}

/// One line of a log, for programs.
pub(super) fn line(response: &Response) -> String {
    format!("{}\n", serde_json::to_string(response).unwrap_or_default())
}

/// For people.
pub(super) fn of(response: &Response) -> String {
    match response {
        Response::Status(status) => table(status),
        Response::Bots { bots } => bots_table(bots),
        Response::Why(why) => why_text(why),
        Response::Spec { spec } => spec_text(spec),
        Response::Line { at, text, .. } => format!("{at} {text}\n"),
        Response::End { reason } => reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        Response::Evicting { left } => format!("{} left\n", left.len()),
        Response::Done { text } => format!("{}\n", text.trim_end()),
        Response::Refused { reason } => format!("{reason}\n"),
    }
}

fn bots_table(bots: &[Bot]) -> String {
    if bots.is_empty() {
        return "no bot is on this host, and none should be\n".to_owned();
    }
    let head = ["NAME", "ID", "ACCOUNT", "STATE", "SINCE", "RESTARTS", "CONTAINER", "IMAGE", "REASON"];
    let head = head.map(str::to_owned).to_vec();
    let or_nothing = |cell: Option<String>| cell.unwrap_or_else(|| NOTHING.to_owned());
    let row = |bot: &Bot| {
        vec![
            or_nothing(bot.name.clone()),
            bot.deployment.to_string(),
            or_nothing(bot.account.map(|account| account.to_string())),
            state(bot.state).to_owned(),
            or_nothing(bot.since.map(|since| since.to_string())),
            bot.restarts.to_string(),
            or_nothing(bot.container.as_ref().map(|id| id.chars().take(SHORT).collect())),
            or_nothing(bot.image.as_deref().map(short_image)),
            or_nothing(bot.reason.as_ref().map(ToString::to_string)),
        ]
    };
    columns(std::iter::once(head).chain(bots.iter().map(row)))
}

const fn state(state: BotState) -> &'static str {
    match state {
        BotState::Wished(standing) => phase(standing),
        BotState::OrphanRunning => "orphan, runs",
        BotState::OrphanStopped => "orphan, stopped",
        BotState::Remnant => "remnant",
    }
}

/// `registry.example/echo@sha256:0123456789ab…`, without what comes after.
fn short_image(image: &str) -> String {
    match image.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", digest.chars().take(SHORT).collect::<String>()),
        None => image.to_owned(),
    }
}

fn why_text(why: &Why) -> String {
    let Why { bot, before, retry_at, doing, enforcement, host } = why;
    let mut text = format!("{} {}", bot.name.as_deref().unwrap_or(NOTHING), bot.deployment);
    // Writing into a string cannot fail, here and below.
    let _ = write!(text, "\n{}", state(bot.state));
    if let Some(since) = bot.since {
        let _ = write!(text, " since {since}");
    }
    text.push('\n');
    if let Some(reason) = &bot.reason {
        indent(&mut text, &reason.paragraph());
    }
    if let Some(at) = retry_at {
        let _ = writeln!(text, "next try at {at}");
    }
    for (n, step) in doing.iter().enumerate() {
        let _ = writeln!(text, "{} {step}", if n == 0 { "doing" } else { "then " });
    }
    for (item, found) in enforcement {
        let _ = writeln!(text, "{item} is {}: {}", found.verdict.as_str(), found.seen);
        if let Some(reason) = Enforcement::reason(found) {
            indent(&mut text, &reason.paragraph());
        }
    }
    for past in before {
        let _ = write!(text, "before: {} since {}", phase(past.phase), past.at);
        let _ = writeln!(text, "{}", past.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default());
    }
    for reason in host {
        text.push_str("this host:\n");
        indent(&mut text, &reason.paragraph());
    }
    text
}

fn indent(text: &mut String, paragraph: &str) {
    paragraph.lines().for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
}

/// A few lines for each bot; the whole of it is in the JSON.
fn spec_text(spec: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut text = format!("generation {} for {}\n", spec["generation"], plain(&spec["host"]));
    for (id, bot) in spec["instances"].as_object().into_iter().flatten() {
        let _ = writeln!(text, "\n{} {id} of {}", plain(&bot["name"]), plain(&bot["account"]));
        for key in ["revision", "epoch", "power", "lease", "profile", "image", "resources", "volume"] {
            let _ = writeln!(text, "  {key:10}{}", plain(&bot[key]));
        }
        for file in bot["files"].as_array().into_iter().flatten() {
            let digest = plain(&file["sealed_digest"]);
            let (dir, name, version) = (plain(&file["dir"]), plain(&file["name"]), &file["version"]);
            let _ = writeln!(text, "  file      {dir}/{name}, version {version}, sealed {digest}");
        }
        for operation in bot["operations"].as_array().into_iter().flatten() {
            let _ =
                writeln!(text, "  operation {} {}", plain(&operation["id"]), plain(&operation["action"]["action"]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use launchpad_protocol::enforcement::Item;
    use launchpad_protocol::id::TypedId;
    use launchpad_protocol::reason::Reason;
    use launchpad_protocol::report::Phase;
    use launchpad_protocol::time::Moment;

    use crate::plan::record::Past;

    fn id<I: TypedId>(n: u128) -> I {
        uuid::Uuid::from_u128(n).into()
    }

    fn crashed() -> Reason {
        Reason::new("crashed", "the bot exited with code 3").because("its last words: boom").mend("read its log")
    }

    fn bots() -> Vec<Bot> {
        let web = Bot {
            deployment: id(1),
            name: Some("web".to_owned()),
            account: Some(id(0xa)),
            state: BotState::Wished(Phase::Backoff),
            since: Some(Moment::from_micros(2_000_000)),
            restarts: 4,
            container: Some("c0ffee000000beef".to_owned()),
            image: Some(format!("registry.example/echo@sha256:{}", "ab".repeat(32))),
            reason: Some(crashed()),
        };
        let orphan = Bot {
            deployment: id(2),
            name: None,
            account: None,
            state: BotState::Remnant,
            since: None,
            restarts: 0,
            container: None,
            image: None,
            reason: None,
        };
        vec![web, orphan]
    }

    #[test]
    fn a_table_of_bots_names_each_and_why_it_does_not_run() {
        let text = of(&Response::Bots { bots: bots() });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("NAME") && lines[0].ends_with("REASON"), "{text}");
        for part in ["web", "backoff", "1970-01-01T00:00:02", " 4 ", "c0ffee000000 ", "echo@abababababab ", "boom"] {
            assert!(lines[1].contains(part), "{part}: {text}");
        }
        assert!(lines[2].contains("remnant"), "{text}");
    }

    #[test]
    fn why_tells_the_cause_the_next_try_what_fails_and_the_way_there() {
        let seen = Enforcement::failed("8 GiB", Reason::new("limit-gone", "its memory has no bound"));
        let starting = Past { at: Moment::from_micros(1_000_000), phase: Phase::Starting, reason: None };
        let why = Why {
            bot: bots().remove(0),
            before: vec![starting],
            retry_at: Some(Moment::from_micros(9_000_000)),
            doing: vec!["start_container dep".to_owned(), "open_gate dep".to_owned()],
            enforcement: BTreeMap::from([(Item::Memory, seen)]),
            host: vec![Reason::new("engine-away", "nobody listens").mend("start dockerd")],
        };
        insta::assert_snapshot!(of(&Response::Why(Box::new(why))), @r"
        web dep_00000000000000000000000000000001
        backoff since 1970-01-01T00:00:02.000000Z
          crashed: the bot exited with code 3
            because: its last words: boom
            mend:    read its log
        next try at 1970-01-01T00:00:09.000000Z
        doing start_container dep
        then  open_gate dep
        memory is failed: 8 GiB
          limit-gone: its memory has no bound
        before: starting since 1970-01-01T00:00:01.000000Z
        this host:
          engine-away: nobody listens
            mend:    start dockerd
        ");
    }
}
