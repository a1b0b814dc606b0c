//! `launchpad secret set|ls|rm`: what a bot is given in confidence.
//!
//! A value comes from a file or from stdin and never from the command line, which every process of the
//! machine can read and the shell remembers. It is sent and forgotten: the coordinator shows no value to
//! anybody, and neither does this.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::{Clock, Moment};
use serde_json::{Value, json};

use crate::answers::{Page, Secret, SecretChange};
use crate::arguments::{SecretChangeArguments, SecretSet, Target};
use crate::client::{Client, path, read};
use crate::failure::Failure;
use crate::output::{Output, ago, table};

const HEADS: [&str; 5] = ["NAME", "VERSION", "AGE", "NEEDED", "ENVIRONMENT"];

/// The name of stdin where a file is expected.
const STDIN: &str = "-";

/// Gives a secret a value.
pub(super) fn set(client: &Client, arguments: &SecretSet, output: Output) -> Result<(), Failure> {
    let change = &arguments.change;
    let from = arguments.value.as_deref().unwrap_or(Path::new(STDIN));
    if from == Path::new(STDIN) && std::io::stdin().is_terminal() {
        eprintln!("Type the value, then Ctrl-D on a line of its own. It is shown while you type.");
    }
    let body = json!({ "value": value_in(from)? });
    let value = client.put(&address(change), &restart(change), &body)?;
    output.show(&value, || told(change, "is set", &value))
}

/// Lists secrets by name.
pub(super) fn list(client: &Client, target: &Target, output: Output) -> Result<(), Failure> {
    let value = client.get(&path(&["deployments", &target.deployment, "secrets"]))?;
    let now = Clock::machine().wall();
    output.show(&value, || {
        let items = read::<Page>(&value)?.items;
        let rows =
            items.iter().map(|item| read(item).map(|secret| row(secret, now))).collect::<Result<Vec<_>, _>>()?;
        let none = format!("No secrets. Set one with `launchpad secret set {} NAME`.", target.deployment);
        Ok(if rows.is_empty() { none } else { table(&HEADS, rows) })
    })
}

/// Takes a secret away.
pub(super) fn remove(client: &Client, change: &SecretChangeArguments, output: Output) -> Result<(), Failure> {
    let value = client.delete(&address(change), &restart(change))?;
    output.show(&value, || told(change, "is gone, with every value that it had", &value))
}

/// The text of a secret: a file's, or what comes on stdin for `-`. An editor ends a file with a line end that
/// is not part of the secret.
pub(super) fn value_in(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new(STDIN) {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = read.map_err(|error| {
        let reason = Reason::new("file-unreadable", format!("cannot read {}: {error}", file.display()));
        Failure::usage(reason.mend("name a text file that you may read"))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn address(change: &SecretChangeArguments) -> String {
    path(&["deployments", &change.target.deployment, "secrets", &change.name])
}

fn restart(change: &SecretChangeArguments) -> Vec<(&'static str, &'static str)> {
    if change.restart { vec![("restart", "true")] } else { Vec::new() }
}

fn row(secret: Secret, now: Moment) -> Vec<String> {
    let Secret { name, version, set_at_us, needed, variables } = secret;
    let needed = if needed { "yes" } else { "no" };
    let variables = if variables.is_empty() { "–".to_owned() } else { variables.join(", ") };
    vec![name, version.to_string(), ago(set_at_us, now), needed.to_owned(), variables]
}

/// What became of it, and what is left to do.
fn told(change: &SecretChangeArguments, done: &str, value: &Value) -> Result<String, Failure> {
    let SecretChange { name, revision, effect, operation } = read(value)?;
    let deployment = &change.target.deployment;
    if effect == "unchanged" {
        return Ok(format!("{name} of {deployment} has that value already"));
    }
    let then = match (effect.as_str(), operation) {
        (_, Some(operation)) => format!("the bot is restarted to read it ({operation})"),
        ("at-start", None) => "the bot goes by it when it starts".to_owned(),
        ("at-once", None) => "the running bot reads it again by itself".to_owned(),
        ("new-container", None) => "its host makes a new container for it".to_owned(),
        _ => format!("a running bot may not read it again: `launchpad restart {deployment}` to be sure"),
    };
    Ok(format!("{name} of {deployment} {done} (revision {revision}); {then}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_end_of_an_editor_is_no_part_of_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        for (content, value) in [("s3cret=1\n", "s3cret=1"), ("a\nb\r\n", "a\nb"), ("", "")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(value_in(&file).unwrap(), value);
        }
    }
}
