//! Names, and what is wrong with a field.

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::limits::NAME_MAX_CHARS;
use serde::Serialize;
use utoipa::ToSchema;

/// Characters of a secret's name: it becomes a file name, and 64 leaves room on every filesystem.
pub(super) const SECRET_NAME_MAX_CHARS: usize = 64;

/// A name that a person chose: a DNS label, because it becomes part of a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The name of a secret: a file name without surprises.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// Why a text is not such a name, as the rest of a sentence that starts with the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(&'static str);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        let bytes = text.as_bytes();
        if text.is_empty() {
            return Err(NameError("must not be empty"));
        }
        if text.len() > NAME_MAX_CHARS {
            return Err(NameError("is longer than 63 characters"));
        }
        if !bytes.iter().copied().all(allowed) || !edge(bytes.first()) || !edge(bytes.last()) {
            return Err(NameError("is not a DNS label"));
        }
        // `dep_…` has an underscore and is no label, so a name can never be taken for an id.
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecretName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > SECRET_NAME_MAX_CHARS || !text.bytes().all(allowed) {
            return Err(NameError("is not 1 to 64 letters, digits and . _ -"));
        }
        if text.bytes().all(|b| b == b'.') {
            return Err(NameError("is a directory, not a file name"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One bad field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Where: `name`, `secrets.api key`.
    pub field: String,
    /// What is wrong, as a sentence without a full stop.
    pub problem: String,
    /// What would be right.
    pub mend: String,
}

/// Every bad field of one request. Never empty where it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldProblems(pub Vec<FieldProblem>);

impl FieldProblems {
    /// One bad field.
    #[must_use]
    pub fn one(field: &str, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.add(field, problem, mend);
        problems
    }

    /// Notes one bad field.
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) {
        self.0.push(FieldProblem { field: field.into(), problem: problem.into(), mend: mend.into() });
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, FieldProblem { field, problem, mend }) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            write!(f, "{gap}{field}: {problem} ({mend})")?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldProblems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for good in ["a", "web-1", "1st", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "Web", "a.b", "a_b", "dep_0198", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_name_never_leaves_its_directory() {
        for good in ["OPENAI_API_KEY", "gateway-token", "a.b", ".env"] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }
}
