//! `/etc/launchpad/coordinator.toml`: what `serve` is told on this machine when neither command line nor environment
//! says otherwise.
//!
//! Two files, no key in both. This one is the machine's: addresses, tables, the log. The data directory's, which `init`
//! writes ([`super::Settings`]), is the installation's: trust domain, names, database, keys. It goes with the data from
//! machine to machine, and what hosts were told depends on it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use launchpad_protocol::settings::{self, Configured, Elsewhere, Form, Misled, Table};

use super::Arguments;

/// The file as it is shipped: every key, explained.
pub const EXAMPLE: &str = include_str!("../../../packaging/etc/coordinator.toml");

const TABLES: [Table; 1] = [Table { name: "", command: "serve" }];

/// Where the installation's keys are.
const IN_DATA_DIR: &str = "it is the installation's, not this machine's: `init` is told it, and keeps it in coordinator.toml of the \
                           data directory";

/// The installation's. `serve` takes the database's URL too, but it may hold a password, and everybody reads this file.
const ELSEWHERE: [Elsewhere; 6] = [
    Elsewhere { key: "trust_domain", mend: IN_DATA_DIR },
    Elsewhere { key: "server_names", mend: IN_DATA_DIR },
    Elsewhere { key: "advertise_fleet", mend: IN_DATA_DIR },
    Elsewhere { key: "advertise_enroll", mend: IN_DATA_DIR },
    Elsewhere { key: "database_url", mend: IN_DATA_DIR },
    Elsewhere { key: "keys", mend: IN_DATA_DIR },
];

impl Configured for Arguments {
    const FILE: &'static str = "/etc/launchpad/coordinator.toml";

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
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, Misled> {
    settings::read(words, |path| fs::read_to_string(path))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use std::collections::BTreeSet;

    use launchpad_protocol::settings::Values;

    use super::*;
    use crate::config::{Command, Settings};

    /// The example with every key in force.
    fn uncommented() -> String {
        let is_key = |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(" = ");
        let keys = EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
        keys.map(|line| format!("{line}\n")).collect()
    }

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_shipped_file_names_every_key_there_is_and_no_other() {
        let table: toml::Table = uncommented().parse().expect("TOML");
        assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), Arguments::form().keys().collect());
    }

    #[test]
    fn the_shipped_file_changes_nothing_as_it_is() {
        assert_eq!(Arguments::form().read(Path::new("coordinator.toml"), EXAMPLE), Ok(Values::default()));
    }

    #[test]
    fn every_key_of_the_shipped_file_can_be_used_and_shows_its_default() {
        let text = uncommented();
        Arguments::form().read(Path::new("coordinator.toml"), &text).expect("every example is good");
        let table: toml::Table = text.parse().expect("TOML");
        for key in Arguments::form().keys() {
            let default = Arguments::form().default_of(&key);
            if !default.is_empty() {
                assert_eq!(table[&key].as_str(), Some(default.join(",").as_str()), "{key}");
            }
        }
    }

    #[test]
    fn every_key_of_the_installation_is_told_where_it_belongs_and_is_none_here() {
        let arguments = Arguments::try_parse_from(words(
            "x init --data-dir /x --advertise-fleet a:1 --advertise-enroll a:2 --database-url postgres://x --keyring /k",
        ));
        let Command::Init(arguments) = arguments.unwrap().command else { panic!("not init") };
        let installations: toml::Table = Settings::of(&arguments).to_toml().unwrap().parse().unwrap();
        assert_eq!(installations.len(), ELSEWHERE.len(), "{installations:?}");
        for (key, value) in installations {
            let text = toml::to_string(&toml::Table::from_iter([(key.clone(), value)])).unwrap();
            let refused = Arguments::form().read(Path::new("/etc/x.toml"), &text).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{key}`; it is the installation's")), "{refused}");
        }
    }

    #[test]
    fn the_file_says_where_init_and_serve_work() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("coordinator.toml");
        fs::write(&file, "data_dir = \"/srv/c\"\nhttp = \"127.0.0.1:1\"\n").unwrap();
        let read = |line: &str| read(words(&format!("launchpad-coordinator {line} --config {}", file.display())));
        let Command::Serve(serve) = read("serve").unwrap().command else { panic!("not serve") };
        assert_eq!((serve.place.data_dir.to_str(), serve.http.port()), (Some("/srv/c"), 1));
        let Command::Init(init) = read("init").unwrap().command else { panic!("not init") };
        assert_eq!(init.place.data_dir.to_str(), Some("/srv/c"));
        let Command::Serve(serve) = read("serve --http 127.0.0.1:2").unwrap().command else { panic!("not serve") };
        assert_eq!(serve.http.port(), 2);
    }
}
