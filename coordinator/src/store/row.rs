//! One row of an answer, read column by column into types that cannot be wrong.

use std::fmt::Display;
use std::str::FromStr;

use launchpad_pki::serial::Serial;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::Moment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::{Any, AnyRow};

/// A column that holds what this version cannot read: damaged, or written by another version.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot {step}: column `{column}` is unreadable: {problem}; restore the database from a backup")]
pub struct Unreadable {
    step: &'static str,
    column: &'static str,
    problem: String,
}

/// A row.
pub(super) struct Row {
    row: AnyRow,
    step: &'static str,
}

impl Row {
    pub(super) const fn new(row: AnyRow, step: &'static str) -> Self {
        Self { row, step }
    }

    /// A number.
    pub(super) fn int(&self, column: &'static str) -> Result<i64, Unreadable> {
        self.get(column)
    }

    /// A number that is never negative.
    pub(super) fn uint(&self, column: &'static str) -> Result<u64, Unreadable> {
        u64::try_from(self.int(column)?).map_err(|error| self.unreadable(column, error))
    }

    /// A moment.
    pub(super) fn moment(&self, column: &'static str) -> Result<Moment, Unreadable> {
        self.int(column).map(Moment::from_micros)
    }

    /// A moment, or none yet.
    pub(super) fn moment_if_any(&self, column: &'static str) -> Result<Option<Moment>, Unreadable> {
        Ok(self.get::<Option<i64>>(column)?.map(Moment::from_micros))
    }

    /// A text.
    pub(super) fn text(&self, column: &'static str) -> Result<String, Unreadable> {
        self.get(column)
    }

    /// A text, or none.
    pub(super) fn text_if_any(&self, column: &'static str) -> Result<Option<String>, Unreadable> {
        self.get(column)
    }

    /// Bytes.
    pub(super) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, Unreadable> {
        self.get(column)
    }

    /// Bytes, or none.
    pub(super) fn bytes_if_any(&self, column: &'static str) -> Result<Option<Vec<u8>>, Unreadable> {
        self.get(column)
    }

    /// The 32 bytes of a digest, or none.
    pub(super) fn digest_if_any(&self, column: &'static str) -> Result<Option<Digest>, Unreadable> {
        let bytes = self.bytes_if_any(column)?;
        let digest =
            |bytes: Vec<u8>| Digest::from_bytes(&bytes).ok_or_else(|| self.unreadable(column, "not 32 bytes"));
        bytes.map(digest).transpose()
    }

    /// The 32 bytes of a digest.
    pub(super) fn digest(&self, column: &'static str) -> Result<Digest, Unreadable> {
        Digest::from_bytes(&self.bytes(column)?).ok_or_else(|| self.unreadable(column, "not 32 bytes"))
    }

    /// The bytes of a certificate's serial number.
    pub(super) fn serial(&self, column: &'static str) -> Result<Serial, Unreadable> {
        Serial::from_bytes(&self.bytes(column)?).map_err(|error| self.unreadable(column, error))
    }

    /// A text in a form of its own: an id, a state, an image.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, Unreadable> {
        self.text(column)?.parse().map_err(|error| self.unreadable(column, error))
    }

    /// Such a text, or none.
    pub(super) fn parse_if_any<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, Unreadable> {
        let text = self.text_if_any(column)?;
        text.map(|text| text.parse().map_err(|error| self.unreadable(column, error))).transpose()
    }

    /// JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, Unreadable> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.unreadable(column, error))
    }

    /// JSON, or none.
    pub(super) fn json_if_any<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, Unreadable> {
        let text = self.text_if_any(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.unreadable(column, error))).transpose()
    }

    fn get<'r, T: sqlx::Decode<'r, Any> + sqlx::Type<Any>>(&'r self, column: &'static str) -> Result<T, Unreadable> {
        self.row.try_get(column).map_err(|error| self.unreadable(column, error))
    }

    fn unreadable(&self, column: &'static str, problem: impl Display) -> Unreadable {
        Unreadable { step: self.step, column, problem: problem.to_string() }
    }
}

/// A value as a JSON column keeps it.
pub(super) fn to_json(value: &impl Serialize) -> String {
    // Only maps whose keys are no strings fail to be JSON, and the types of `protocol` and `domain` have none.
    serde_json::to_string(value).unwrap_or_default()
}

/// A number as a column keeps it: counters and sizes stay far below 2⁶³.
pub(super) fn to_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
