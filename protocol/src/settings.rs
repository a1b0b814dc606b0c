//! What an operator writes into `/etc/launchpad/*.toml`: the options of a command line, said once and for good.
//!
//! ```text
//! options of a command ──► Form ──read(text)──► Values ──fill──► the same command, with other defaults
//!                            └── the shipped example: what a complaint quotes
//! ```
//! There is no list of keys: a key is an option's field name, so that no option lacks one. What the file says takes the
//! place of the option's default, hence its rank: command line, then environment, then file. Whatever cannot be taken
//! is refused with its line; half a file never counts. Pure: whoever calls reads the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

use clap::builder::{OsStr, Resettable};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::reason::Reason;

/// How like a known key a mistyped one must be to be taken for it, of 1: what clap asks of its own options.
const NEAR: f64 = 0.7;

/// The option that names the file, and so is no key in it.
pub const FILE_OPTION: &str = "config";

/// Which options are keys of which table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its header; empty for what stands above all headers.
    pub name: &'static str,
    /// The subcommand whose options it holds, those apart that an earlier table has.
    pub command: &'static str,
}

/// What somebody may look for in a file, and is no key of it.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere {
    /// What they write.
    pub key: &'static str,
    /// Where it belongs: the mend of the complaint.
    pub mend: &'static str,
}

/// What a file may hold.
#[derive(Debug)]
pub struct Form {
    keys: Vec<Key>,
    elsewhere: &'static [Elsewhere],
    /// The shipped file: every key with its default or an example, behind a `#`.
    example: &'static str,
}

/// One key.
#[derive(Debug)]
struct Key {
    table: &'static str,
    option: Arg,
}

/// What a file says: values by option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Vec<String>>);

impl Form {
    /// That of a command, apart from options that have their place elsewhere.
    #[must_use]
    pub fn of(command: &Command, tables: &[Table], elsewhere: &'static [Elsewhere], example: &'static str) -> Self {
        let mut keys: Vec<Key> = Vec::new();
        for table in tables {
            let options = command.find_subcommand(table.command).into_iter().flat_map(Command::get_arguments);
            // A hidden one is for tests, and no operator's business.
            for option in options.filter(|option| option.get_long().is_some() && !option.is_hide_set()) {
                let id = option.get_id().as_str();
                let is_known = keys.iter().any(|key| key.name() == id);
                if !is_known && id != FILE_OPTION && !elsewhere.iter().any(|other| other.key == id) {
                    keys.push(Key { table: table.name, option: option.clone() });
                }
            }
        }
        Self { keys, elsewhere, example }
    }

    /// Every key, `gate.resolvers` where it stands below a header.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| qualified(key.table, key.name()))
    }

    /// What that key's option is without file, environment and command line.
    #[must_use]
    pub fn default_of(&self, qualified_key: &str) -> Vec<String> {
        let key = self.keys.iter().find(|key| qualified(key.table, key.name()) == qualified_key);
        let defaults = key.into_iter().flat_map(|key| key.option.get_default_values());
        defaults.map(|value| value.to_string_lossy().into_owned()).collect()
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing in it that cannot be taken, with its line and its mend.
    pub fn read(&self, path: &Path, text: &str) -> Result<Values, Reason> {
        let at = Place { path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().unwrap_or_default();
            at.refuse(
                "config-malformed",
                &line,
                &format!("this is not TOML: {}", error.message().replace('\n', ", ")),
            )
        })?;
        let mut values = Values::default();
        for (name, value) in table.get_ref() {
            match (self.has_table(name.get_ref()), value.get_ref()) {
                (true, DeValue::Table(below)) => {
                    for (key, value) in below {
                        self.take(&at, name.get_ref(), key, value, &mut values)?;
                    }
                }
                _ => self.take(&at, "", name, value, &mut values)?,
            }
        }
        Ok(values)
    }

    fn has_table(&self, name: &str) -> bool {
        !name.is_empty() && self.keys.iter().any(|key| key.table == name)
    }

    fn take(
        &self,
        at: &Place<'_>,
        table: &str,
        name: &Spanned<toml::de::DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        values: &mut Values,
    ) -> Result<(), Reason> {
        let known = self.keys.iter().find(|key| key.table == table && key.name() == name.get_ref());
        let Some(key) = known else {
            let sentence = format!("nobody knows the key `{}`", qualified(table, name.get_ref()));
            let refused = at.refuse("config-unknown-key", &name.span(), &sentence);
            return Err(refused.mend(self.meant(table, name.get_ref())));
        };
        let example = self.example_of(key);
        let such = |problem: &str, mend: &str| {
            at.refuse("config-wrong-value", &value.span(), &format!("`{}` {problem}", key.name())).mend(mend)
        };
        let said = key.words(value.get_ref()).ok_or_else(|| {
            let problem = format!("is {}, where {} is expected", kind(value.get_ref()), key.expected());
            such(&problem, &format!("write it as `{example}`"))
        })?;
        for word in &said {
            key.check(word).map_err(|problem| {
                such(&format!("cannot be `{word}`: {problem}"), &format!("such as `{example}`"))
            })?;
        }
        values.0.insert(key.name().to_owned(), said);
        Ok(())
    }

    /// What somebody meant who wrote that.
    fn meant(&self, table: &str, name: &str) -> String {
        if let Some(other) = self.elsewhere.iter().find(|other| other.key == name) {
            return other.mend.to_owned();
        }
        if let Some(key) = self.keys.iter().find(|key| key.name() == name) {
            return match key.table {
                "" => format!("move `{name}` to the top, above every [header]"),
                header => format!("move `{name}` below the header [{header}]"),
            };
        }
        let likeness = |key: &Key| {
            // Of two that are equally like it, the one in the same table.
            (strsim::jaro(key.name(), name), key.table == table)
        };
        let nearest = self
            .keys
            .iter()
            .max_by(|one, other| likeness(one).partial_cmp(&likeness(other)).unwrap_or(std::cmp::Ordering::Equal));
        match nearest.filter(|key| likeness(key).0 > NEAR) {
            Some(key) => format!("did you mean `{}`?", qualified(key.table, key.name())),
            None => format!("known are: {}", self.keys().collect::<Vec<_>>().join(", ")),
        }
    }

    /// The shipped file's line for that key, without the `#`.
    fn example_of(&self, key: &Key) -> String {
        let mut table = "";
        for line in self.example.lines() {
            if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = header;
            }
            let shown = line.strip_prefix('#').filter(|shown| shown.split(" = ").next() == Some(key.name()));
            if let Some(shown) = shown.filter(|_| table == key.table) {
                return shown.to_owned();
            }
        }
        format!("{} = …", key.name())
    }
}

impl Key {
    fn name(&self) -> &str {
        self.option.get_id().as_str()
    }

    fn takes_many(&self) -> bool {
        matches!(self.option.get_action(), ArgAction::Append)
    }

    fn expected(&self) -> &'static str {
        if self.takes_many() { "a list of strings" } else { "a string" }
    }

    /// The words of a value of the right type.
    fn words(&self, value: &DeValue<'_>) -> Option<Vec<String>> {
        let word = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        match value.as_array() {
            Some(several) if self.takes_many() => several.iter().map(|value| word(value.get_ref())).collect(),
            None if !self.takes_many() => word(value).map(|word| vec![word]),
            Some(_) | None => None,
        }
    }

    /// Whether the option itself takes that word.
    fn check(&self, word: &str) -> Result<(), String> {
        let long = self.option.get_long().unwrap_or_default();
        // By itself: without the variable that would stand in for it.
        let alone = Command::new("file").no_binary_name(true).arg(self.option.clone().env(Resettable::Reset));
        let Err(error) = alone.try_get_matches_from([format!("--{long}={word}")]) else { return Ok(()) };
        let possible = self.option.get_possible_values();
        if !possible.is_empty() {
            let names: Vec<&str> = possible.iter().map(clap::builder::PossibleValue::get_name).collect();
            return Err(format!("it is one of {}", names.join(", ")));
        }
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Err(source.unwrap_or_else(|| "it may not be empty".to_owned()))
    }
}

impl Values {
    /// The command with what the file says as defaults, in every subcommand that has such an option.
    #[must_use]
    pub fn fill(&self, command: Command) -> Command {
        let filled = command.mut_args(|option| match self.0.get(option.get_id().as_str()) {
            Some(words) if !words.is_empty() => option.default_values(words.iter().map(OsStr::from)),
            _ => option,
        });
        filled.mut_subcommands(|below| self.fill(below))
    }

    /// A command line read with what the file says as defaults. It has been read without already: what fails here is
    /// told as clap tells it.
    ///
    /// # Errors
    /// As clap's.
    pub fn parse<C: CommandFactory + FromArgMatches>(
        &self,
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<C, clap::Error> {
        let mut matches = self.fill(C::command()).try_get_matches_from(words)?;
        C::from_arg_matches_mut(&mut matches)
    }
}

/// A command line beside which a file may stand.
pub trait Configured: Parser {
    /// Where that file is, unless it is named. There, none is as good as an empty one.
    const FILE: &'static str;

    /// Which file it names instead.
    fn named(&self) -> Option<&Path>;

    /// What the file may hold.
    fn form() -> Form;
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Misled {
    /// The command line; or it asks for help. Told as clap tells it.
    Words(clap::Error),
    /// The file.
    File(Reason),
}

/// A command line, with what its file says where it says nothing. `load` reads a file.
///
/// # Errors
/// [`Misled`] by the command line or by the file.
pub fn read<C: Configured>(
    words: impl IntoIterator<Item = OsString>,
    load: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<C, Misled> {
    let words: Vec<OsString> = words.into_iter().collect();
    let alone = C::try_parse_from(&words).map_err(Misled::Words)?;
    let path = alone.named().unwrap_or_else(|| Path::new(C::FILE));
    let text = match load(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && alone.named().is_none() => return Ok(alone),
        Err(error) => return Err(Misled::File(unreadable(path, &error))),
    };
    let values = C::form().read(path, &text).map_err(Misled::File)?;
    values.parse(words).map_err(Misled::Words)
}

fn unreadable(path: &Path, error: &io::Error) -> Reason {
    Reason::new("config-unreadable", format!("cannot read {}", path.display()))
        .because(error.to_string())
        .mend("run this as a user who may read it, or name another file with --config")
}

/// Where a complaint points.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn refuse(&self, code: &str, span: &Range<usize>, sentence: &str) -> Reason {
        Reason::new(code, format!("{}, line {}: {sentence}", self.path.display(), line_of(self.text, span.start)))
    }
}

/// Which line of a text a byte is on, counted from 1.
#[must_use]
pub fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

fn qualified(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
