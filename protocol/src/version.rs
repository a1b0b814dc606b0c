//! The version of one of our programs, as packages are named by it.
//!
//! It becomes part of a command line and of a file's name on a host, so that only what packages use is a version at all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::VERSION_MAX_CHARS;

/// This build's own: all programs of one release have one.
pub const OURS: &str = env!("CARGO_PKG_VERSION");

/// A version: begins with a digit, and goes on in letters, digits and `.+~-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version such as 0.2.0: digits, letters and `.+~-`, a digit first, at most {VERSION_MAX_CHARS}")]
pub struct VersionError(String);

impl Version {
    /// This build's.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn ours() -> Self {
        Self(OURS.to_owned())
    }

    /// Whether a package of this version holds a program that calls itself that: `0.2.0-1` is the first package of `0.2.0`.
    #[must_use]
    pub fn is_package_of(&self, program: &str) -> bool {
        let revision = self.0.strip_prefix(program);
        !program.is_empty() && revision.is_some_and(|revision| revision.is_empty() || revision.starts_with('-'))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~' | '-');
        let is_version = text.starts_with(|c: char| c.is_ascii_digit())
            && text.len() <= VERSION_MAX_CHARS
            && text.chars().all(known)
            && !text.contains("..");
        // What was sent is repeated, as far as a line of a log takes it.
        if is_version {
            Ok(Self(text.to_owned()))
        } else {
            Err(VersionError(text.chars().take(VERSION_MAX_CHARS).collect()))
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_packages_call_one() {
        for good in ["0.1.0", "1.2.3~rc1-2", "0.2.0+git20261122", OURS] {
            assert_eq!(good.parse::<Version>().map(|version| version.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn a_packages_own_revision_makes_no_other_program() {
        let package = |text: &str| text.parse::<Version>().unwrap();
        assert!(package("0.2.0").is_package_of("0.2.0") && package("0.2.0-1").is_package_of("0.2.0"));
        assert!(!package("0.2.01").is_package_of("0.2.0") && !package("0.2.0").is_package_of(""));
    }

    #[test]
    fn nothing_that_a_shell_a_path_or_an_option_is_made_of_is_a_version() {
        let long = "1".repeat(VERSION_MAX_CHARS + 1);
        for bad in ["", "v1", "-o", "1/../2", "1;reboot", "1 2", "1..2", "1:2", "1\n", "$(x)", long.as_str()] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
