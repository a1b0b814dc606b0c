//! Why a thing is so: one type and one renderer for refusals, placement, timelines, health, `doctor` and `why`.
//!
//! ```text
//! memory-full: host web-2 has 400 MiB of memory free, the plan needs 1024 MiB
//!   because: 7 instances hold 7168 MiB of 7568 MiB
//!   mend:    add a host to pool `shared`, or remove a deployment
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// One answer to "why?": a stable code for programs, a sentence for people, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, kebab-case, for programs: `name-taken`.
    pub code: String,
    /// One sentence, without a full stop: what is so.
    pub sentence: String,
    /// What brought it about, if that says more than the sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the reader can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Reason {
    /// A reason with neither cause nor mend.
    #[must_use]
    pub fn new(code: &str, sentence: impl Into<String>) -> Self {
        Self { code: code.to_owned(), sentence: sentence.into(), cause: None, mend: None }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same, with its mend.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// On several lines, for a terminal.
    #[must_use]
    pub fn paragraph(&self) -> String {
        let mut text = format!("{}: {}", self.code, self.sentence);
        for (label, part) in [("because: ", &self.cause), ("mend:    ", &self.mend)] {
            if let Some(part) = part {
                text.push_str("\n  ");
                text.push_str(label);
                text.push_str(part);
            }
        }
        text
    }
}

/// On one line, for logs and tables.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sentence)?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        if let Some(mend) = &self.mend {
            write!(f, "; {mend}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_on_one_line_and_as_a_paragraph() {
        let reason =
            Reason::new("name-taken", "the name `web` is taken").because("dep_1 has it").mend("choose another");
        assert_eq!(reason.to_string(), "the name `web` is taken (dep_1 has it); choose another");
        assert_eq!(
            reason.paragraph(),
            "name-taken: the name `web` is taken\n  because: dep_1 has it\n  mend:    choose another"
        );
    }
}
