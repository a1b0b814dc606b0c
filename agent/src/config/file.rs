//! `/etc/launchpad/agent.toml`: what agent and gate are told when neither command line nor environment says otherwise.
//!
//! Keys are the options of `run`, and below `[gate]` those that only `gate` has ([`launchpad_protocol::settings`]). The
//! other subcommands read the same file, so that `status` looks for the socket where `run` makes it. No file is as good
//! as an empty one, unless `--config` names it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use launchpad_protocol::settings::{self, Configured, Elsewhere, Form, Misled, Table};

use super::Cli;

/// The file as it is shipped: every key, explained.
pub const EXAMPLE: &str = include_str!("../../../packaging/etc/agent.toml");

const TABLES: [Table; 2] = [Table { name: "", command: "run" }, Table { name: "gate", command: "gate" }];

/// What comes with joining, once, and is kept with the host's identity.
const ELSEWHERE: [Elsewhere; 3] = [
    Elsewhere { key: "coordinator", mend: "tell it to `launchpad-agent enroll --coordinator`" },
    Elsewhere {
        key: "token",
        mend: "tell it to `launchpad-agent enroll --token`; it works once, and belongs in no file",
    },
    Elsewhere { key: "name", mend: "tell it to `launchpad-agent enroll --name`" },
];

impl Configured for Cli {
    const FILE: &'static str = "/etc/launchpad/agent.toml";

    fn named(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn form() -> Form {
        Form::of(&Self::command(), &TABLES, &ELSEWHERE, EXAMPLE)
    }
}

/// The command line, with what the file says where it says nothing.
///
/// # Errors
/// [`Misled`] by the command line or by the file.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Misled> {
    settings::read(words, |path| fs::read_to_string(path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The example with every key in force.
    fn uncommented() -> String {
        let is_key = |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(" = ");
        let keys = EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
        keys.map(|line| format!("{line}\n")).collect()
    }

    fn keys_of(text: &str) -> BTreeSet<String> {
        let table: toml::Table = text.parse().expect("TOML");
        let below = |(name, value): (&String, &toml::Value)| match value.as_table() {
            Some(table) => table.keys().map(|key| format!("{name}.{key}")).collect(),
            None => vec![name.clone()],
        };
        table.iter().flat_map(below).collect()
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_shipped_file_names_every_key_there_is_and_no_other() {
        assert_eq!(keys_of(&uncommented()), Cli::form().keys().collect::<BTreeSet<_>>());
    }

    #[test]
    fn the_shipped_file_changes_nothing_as_it_is() {
        assert_eq!(Cli::form().read(Path::new("agent.toml"), EXAMPLE), Ok(settings::Values::default()));
    }

    #[test]
    fn every_key_of_the_shipped_file_can_be_used_and_shows_its_default() {
        let text = uncommented();
        Cli::form().read(Path::new("agent.toml"), &text).expect("every example is good");
        let table: toml::Table = text.parse().expect("TOML");
        for key in Cli::form().keys() {
            let value = key.split('.').fold(toml::Value::Table(table.clone()), |value, name| value[name].clone());
            let default = Cli::form().default_of(&key);
            if !default.is_empty() {
                assert_eq!(value.as_str(), Some(default.join(",").as_str()), "{key}");
            }
        }
    }

    #[test]
    fn status_looks_for_the_socket_where_run_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        fs::write(&file, "run_dir = \"/run/elsewhere\"\n").unwrap();
        let looks_in = |line: &str| {
            let cli = read(words(&format!("launchpad-agent {line} --config {}", file.display()))).unwrap();
            let told = format!("{:?}", cli.command);
            told.split("run_dir: \"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
        };
        for command in ["status", "run", "gate", "doctor"] {
            assert_eq!(looks_in(command).as_deref(), Some("/run/elsewhere"), "{command}");
        }
        assert_eq!(looks_in("status --run-dir /x").as_deref(), Some("/x"), "who says it there means it");
    }

    #[test]
    fn a_file_that_is_named_and_not_there_is_refused() {
        let Err(Misled::File(reason)) = read(words("launchpad-agent status --config /nowhere/agent.toml")) else {
            panic!("there is no such file")
        };
        assert!(reason.to_string().contains("/nowhere/agent.toml"), "{reason}");
    }
}
