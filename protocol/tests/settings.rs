//! The file in `/etc/launchpad`: what it says counts after the command line, and what it says wrong is told with its line.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::settings::{Elsewhere, Form, Table, Values};

const TABLES: [Table; 2] = [Table { name: "", command: "run" }, Table { name: "gate", command: "gate" }];

const ELSEWHERE: [Elsewhere; 1] = [Elsewhere { key: "once", mend: "say it to `x run --once`" }];

const EXAMPLE: &str = "\
# The port.
#port = \"80\"
# A list.
#colours = [\"red\"]
[gate]
#resolvers = [\"192.0.2.53\"]
#signer = \"acme\"
";

#[derive(Debug, Parser)]
struct Cli {
    #[arg(long, global = true)]
    config: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Run),
    Gate(Gate),
    Show {
        #[arg(long, default_value = "1")]
        port: u16,
    },
}

#[derive(Debug, Args)]
struct Run {
    #[arg(long, env = "LAUNCHPAD_TEST_PORT_OF_NOBODY", default_value = "80")]
    port: u16,
    #[arg(long = "colour")]
    colours: Vec<String>,
    #[arg(long)]
    once: Option<String>,
    #[arg(long, hide = true)]
    for_tests: Option<String>,
}

#[derive(Debug, Args)]
struct Gate {
    #[arg(long, default_value = "80")]
    port: u16,
    #[arg(long = "resolver")]
    resolvers: Vec<std::net::IpAddr>,
    #[arg(long, value_enum, default_value_t)]
    signer: Signer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Signer {
    Internal,
    #[default]
    Acme,
}

fn form() -> Form {
    Form::of(&Cli::command(), &TABLES, &ELSEWHERE, EXAMPLE)
}

fn read(text: &str) -> Result<Values, Reason> {
    form().read(Path::new("/etc/x.toml"), text)
}

fn parse(text: &str, words: &str) -> Command {
    let words = words.split(' ').map(OsString::from);
    read(text).unwrap().parse::<Cli>(words).unwrap().command
}

fn complaint(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn every_option_is_a_key_unless_it_has_no_place_in_a_file() {
    assert_eq!(form().keys().collect::<Vec<_>>(), ["port", "colours", "gate.resolvers", "gate.signer"]);
    assert_eq!(form().default_of("port"), ["80"]);
    assert_eq!(form().default_of("gate.resolvers"), Vec::<String>::new());
}

#[test]
fn the_file_counts_where_the_command_line_says_nothing_in_every_command_with_that_option() {
    let file = "port = \"81\"\ncolours = [\"red\", \"blue\"]\n[gate]\nsigner = \"internal\"\n";
    let Command::Run(run) = parse(file, "x run") else { panic!("not run") };
    assert_eq!((run.port, run.colours, run.once), (81, vec!["red".to_owned(), "blue".to_owned()], None));
    let Command::Run(run) = parse(file, "x run --port 82 --colour green") else { panic!("not run") };
    assert_eq!((run.port, run.colours), (82, vec!["green".to_owned()]));
    let Command::Gate(gate) = parse(file, "x gate") else { panic!("not gate") };
    assert_eq!((gate.port, gate.signer, gate.resolvers), (81, Signer::Internal, vec![]));
    let Command::Show { port } = parse(file, "x show") else { panic!("not show") };
    assert_eq!(port, 81);
    let Command::Run(run) = parse("", "x run") else { panic!("not run") };
    assert_eq!((run.port, run.colours), (80, vec![]), "an empty file changes nothing");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_what_was_meant() {
    assert_eq!(
        complaint("\n# ports\nprot = \"81\"\n"),
        "/etc/x.toml, line 3: nobody knows the key `prot`; did you mean `port`?"
    );
    assert_eq!(
        complaint("[gate]\nresolver = []\n"),
        "/etc/x.toml, line 2: nobody knows the key `gate.resolver`; did you mean `gate.resolvers`?"
    );
    assert_eq!(
        complaint("[gait]\nport = \"1\"\n"),
        "/etc/x.toml, line 1: nobody knows the key `gait`; known are: port, colours, gate.resolvers, gate.signer"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    assert!(complaint("resolvers = []").ends_with("move `resolvers` below the header [gate]"));
    assert!(complaint("[gate]\nport = \"1\"").ends_with("move `port` to the top, above every [header]"));
}

#[test]
fn what_has_its_place_elsewhere_is_told_where() {
    assert!(complaint("once = \"1\"").ends_with("nobody knows the key `once`; say it to `x run --once`"));
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_is_expected_and_an_example() {
    assert_eq!(
        complaint("colours = []\nport = 81\n"),
        "/etc/x.toml, line 2: `port` is a number, where a string is expected; write it as `port = \"80\"`"
    );
    assert_eq!(
        complaint("[gate]\nresolvers = \"192.0.2.1\"\n"),
        "/etc/x.toml, line 2: `resolvers` is a string, where a list of strings is expected; write it as `resolvers = \
         [\"192.0.2.53\"]`"
    );
    assert!(complaint("colours = [1]").contains("`colours` is a list, where a list of strings is expected"));
    assert!(complaint("gate = \"shut\"").contains("nobody knows the key `gate`"));
}

#[test]
fn a_value_that_the_option_does_not_take_is_told_in_the_options_own_words() {
    let text = complaint("port = \"99999\"");
    assert!(text.contains("line 1: `port` cannot be `99999`: ") && text.contains("65535"), "{text}");
    assert!(text.ends_with("such as `port = \"80\"`"), "{text}");
    assert!(complaint("[gate]\nsigner = \"nobody\"").contains("it is one of internal, acme"));
    assert!(complaint("[gate]\nresolvers = [\"192.0.2.1\", \"here\"]").contains("cannot be `here`"));
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    for (text, line) in [("port = \"1\"\nport", 2), ("port = \"1\"\nport = \"2\"", 2), ("[gate", 1)] {
        let said = complaint(text);
        assert!(said.starts_with(&format!("/etc/x.toml, line {line}: this is not TOML: ")), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}
