//! What people and programs see: tables or JSON on stdout, complaints on stderr.
//!
//! Reasons have one renderer, [`Reason::paragraph`] and its one-line form: a terminal gets the paragraph, a log or a
//! pipe the line, and `--output json` the reason itself.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use serde_json::{Value, json};

use crate::arguments::Format;
use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    /// Results in that form.
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether a program reads.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints one result: the value for programs, the text for people.
    pub(crate) fn show(self, value: &Value, text: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
        if self.is_json() {
            print_line(&value.to_string());
        } else {
            print_line(&text()?);
        }
        Ok(())
    }

    /// Says on stderr why the command failed.
    pub(crate) fn complain(self, failure: &Failure) {
        let Failure { reason, fields, .. } = failure;
        if self.is_json() {
            eprintln!("{}", json!({ "error": reason, "fields": fields }));
        } else if std::io::stderr().is_terminal() {
            eprintln!("{}", reason.paragraph());
            for field in fields {
                eprintln!("  {}: {field}", field.code);
            }
        } else {
            let fields: String = fields.iter().map(|field| format!(" | {}: {field}", field.code)).collect();
            eprintln!("launchpad: {}: {reason}{fields}", reason.code);
        }
    }
}

/// Prints a line on stdout. A reader that went away (`launchpad logs | head`) ends the command quietly.
pub(crate) fn print_line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// A table with one heading per column. On a terminal it fits the width, in a pipe every row is one line.
pub(crate) fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(heads.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Facts one below the other, their names aligned. Absent ones are left out.
pub(crate) fn facts(facts: &[(&str, Option<String>)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter_map(|(name, value)| Some(format!("{name:width$}  {}", value.as_ref()?)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A reason as a paragraph, set in below a heading.
pub(crate) fn indented(reason: &Reason) -> String {
    reason.paragraph().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// How long ago a moment was, in the largest unit that fits: `3 m`.
pub(crate) fn ago(at_us: i64, now: Moment) -> String {
    let seconds = now.since(Moment::from_micros(at_us)).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes as people say them: `1.0 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_a_pipe_has_a_line_per_row() {
        let text = table(&["NAME", "STATE"], vec![vec!["web".to_owned(), "running".to_owned()]]);
        assert_eq!(text, "NAME  STATE\nweb   running");
    }

    #[test]
    fn absent_facts_are_left_out() {
        let text = facts(&[("id", Some("dep_1".to_owned())), ("host", None), ("state", Some("running".to_owned()))]);
        assert_eq!(text, "id     dep_1\nstate  running");
    }

    #[test]
    fn ages_and_sizes_read_as_people_say_them() {
        let now = Moment::from_micros(90_000_000);
        assert_eq!((ago(0, now), ago(85_000_000, now)), ("1 m".to_owned(), "5 s".to_owned()));
        assert_eq!((bytes(512), bytes(1 << 30)), ("512 B".to_owned(), "1.0 GiB".to_owned()));
    }
}
