//! How one field is read: the few readers from which every conversion in [`crate::wire`] is made, and the error that
//! names the field.
//!
//! A conversion knows only its own fields. Each level that it passes on the way out puts its own name in front
//! ([`Under`]), so that the reader of a log sees `instances[3].image`, not "bad image". Nothing here knows a message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::digest::Digest;
use crate::generation::Generation;
use crate::names::{is_file_name, is_mount_point};
use crate::reason::Reason;

/// Why a message was refused, and which field of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct WireError {
    /// From the outermost message: `instances[3].files[0].name`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It must be there, and is not.
    #[error("is missing")]
    Missing,
    /// An enum's value, or 0, that this version has no name for.
    #[error("holds {0}, which this version does not know (0: the sender set nothing)")]
    UnknownValue(i32),
    /// Zero, where zero would mean "no limit" or "at once".
    #[error("must not be 0")]
    Zero,
    /// It does not parse, or makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// A key that may come once came again.
    #[error("names `{0}` twice")]
    Twice(String),
    /// More entries than the bound in [`crate::limits`].
    #[error("has {found} entries, at most {most} are allowed")]
    TooMany {
        /// Entries that came.
        found: usize,
        /// Entries that are allowed.
        most: usize,
    },
    /// More bytes than the bound in [`crate::limits`].
    #[error("has {found} bytes, at most {most} are allowed")]
    TooLarge {
        /// Bytes that came.
        found: usize,
        /// Bytes that are allowed.
        most: usize,
    },
    /// The bytes are not those that were promised.
    #[error("is {promised}, but the bytes have {found}")]
    OtherDigest {
        /// What the offer says.
        promised: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// The spec inside is of another generation than the offer around it.
    #[error("is {promised}, but the spec in the bytes is of generation {found}")]
    OtherGeneration {
        /// What the offer says.
        promised: Generation,
        /// What the spec says.
        found: Generation,
    },
}

impl WireError {
    /// An error of that field.
    pub(super) fn new(field: &str, problem: Problem) -> Self {
        Self { path: field.to_owned(), problem }
    }
}

/// For a verdict, a farewell or a log: the field and the problem in the sentence, a code for programs.
impl From<&WireError> for Reason {
    fn from(error: &WireError) -> Self {
        let (code, mend) = match error.problem {
            Problem::TooMany { .. } | Problem::TooLarge { .. } => {
                ("message-too-large", "ask for less in one message")
            }
            Problem::OtherDigest { .. } | Problem::OtherGeneration { .. } => ("spec-corrupt", "have it sent again"),
            Problem::UnknownValue(_) => {
                ("message-from-another-version", "upgrade the older of agent and coordinator")
            }
            Problem::Missing | Problem::Zero | Problem::Malformed(_) | Problem::Twice(_) => {
                ("message-malformed", "compare the versions of agent and coordinator, and report this as a defect")
            }
        };
        Self::new(code, error.to_string()).mend(mend)
    }
}

/// Puts the name of the outer field in front of an inner error's path.
pub(super) trait Under<T> {
    /// `field.…`
    fn under(self, field: &str) -> Result<T, WireError>;
    /// `field[index].…`
    fn under_item(self, field: &str, index: usize) -> Result<T, WireError>;
}

impl<T> Under<T> for Result<T, WireError> {
    fn under(self, field: &str) -> Self {
        self.map_err(|inner| {
            let path = if inner.path.is_empty() { field.to_owned() } else { format!("{field}.{}", inner.path) };
            WireError { path, problem: inner.problem }
        })
    }

    fn under_item(self, field: &str, index: usize) -> Self {
        self.or_else(|inner| Err(inner).under(&format!("{field}[{index}]")))
    }
}

/// A message, a `oneof` or an optional field that must be set.
pub(super) fn set<T>(field: &str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or_else(|| WireError::new(field, Problem::Missing))
}

/// A message that must be set, converted.
pub(super) fn required<M, T>(field: &str, value: Option<M>) -> Result<T, WireError>
where
    T: TryFrom<M, Error = WireError>,
{
    T::try_from(set(field, value)?).under(field)
}

/// A message that may be unset, converted.
pub(super) fn optional<M, T>(field: &str, value: Option<M>) -> Result<Option<T>, WireError>
where
    T: TryFrom<M, Error = WireError>,
{
    value.map(|message| T::try_from(message).under(field)).transpose()
}

/// Every entry converted, in order.
pub(super) fn list<M, T>(field: &str, entries: Vec<M>) -> Result<Vec<T>, WireError>
where
    T: TryFrom<M, Error = WireError>,
{
    entries.into_iter().enumerate().map(|(i, entry)| T::try_from(entry).under_item(field, i)).collect()
}

/// Entries with a key of their own; a key that comes twice is refused, because either could be the one that counts.
pub(super) fn map<M, K: Ord + Display, V>(
    field: &str,
    entries: Vec<M>,
    convert: impl Fn(M) -> Result<(K, V), WireError>,
) -> Result<BTreeMap<K, V>, WireError> {
    let mut map = BTreeMap::new();
    for (i, entry) in entries.into_iter().enumerate() {
        let (key, value) = convert(entry).under_item(field, i)?;
        if map.contains_key(&key) {
            return Err(twice(field, &key));
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// Entries whose order does not count, each once.
pub(super) fn distinct<M: Clone + Display, T: Ord>(
    field: &str,
    entries: Vec<M>,
    convert: impl Fn(M) -> Result<T, WireError>,
) -> Result<BTreeSet<T>, WireError> {
    let mut set = BTreeSet::new();
    for (i, entry) in entries.into_iter().enumerate() {
        if !set.insert(convert(entry.clone()).under_item(field, i)?) {
            return Err(twice(field, &entry));
        }
    }
    Ok(set)
}

/// Entries whose order counts, and of which no two may have the same key.
pub(super) fn distinct_list<M, T>(
    field: &str,
    entries: Vec<M>,
    key: impl Fn(&T) -> String,
) -> Result<Vec<T>, WireError>
where
    T: TryFrom<M, Error = WireError>,
{
    let entries = list(field, entries)?;
    let mut seen = BTreeSet::new();
    match entries.iter().map(key).find(|key| !seen.insert(key.clone())) {
        Some(again) => Err(twice(field, &again)),
        None => Ok(entries),
    }
}

/// The error of a key that comes twice.
fn twice(field: &str, key: &impl Display) -> WireError {
    WireError::new(field, Problem::Twice(key.to_string()))
}

/// Refuses more entries than a bound of [`crate::limits`].
pub(super) fn at_most<T>(field: &str, entries: &[T], most: usize) -> Result<(), WireError> {
    if entries.len() > most {
        return Err(WireError::new(field, Problem::TooMany { found: entries.len(), most }));
    }
    Ok(())
}

/// Refuses more bytes than a bound of [`crate::limits`].
pub(super) fn at_most_bytes(field: &str, bytes: &[u8], most: usize) -> Result<(), WireError> {
    if bytes.len() > most {
        return Err(WireError::new(field, Problem::TooLarge { found: bytes.len(), most }));
    }
    Ok(())
}

/// A text with a grammar of its own: an id, an image.
pub(super) fn parse<T>(field: &str, text: &str) -> Result<T, WireError>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error: T::Err| malformed(field, error.to_string()))
}

/// An id that may be unset.
pub(super) fn parse_optional<T>(field: &str, text: Option<String>) -> Result<Option<T>, WireError>
where
    T: FromStr<Err: Display>,
{
    text.map(|text| parse(field, &text)).transpose()
}

/// The 32 bytes of a digest.
pub(super) fn digest(field: &str, bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::from_bytes(bytes).ok_or_else(|| malformed(field, format!("has {} bytes, a digest has 32", bytes.len())))
}

/// A generated enum; its zero is left for the caller's match to refuse.
pub(super) fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, WireError> {
    E::try_from(value).map_err(|_| WireError::new(field, Problem::UnknownValue(value)))
}

/// The refusal of an enum's zero.
pub(super) fn unspecified(field: &str) -> WireError {
    WireError::new(field, Problem::UnknownValue(0))
}

/// A number that must not be 0.
pub(super) fn positive<N: PartialEq + Default>(field: &str, number: N) -> Result<N, WireError> {
    if number == N::default() { Err(WireError::new(field, Problem::Zero)) } else { Ok(number) }
}

/// A text that must not be empty.
pub(super) fn filled(field: &str, text: String) -> Result<String, WireError> {
    if text.is_empty() { Err(WireError::new(field, Problem::Missing)) } else { Ok(text) }
}

/// A mount point in a container: absolute, and nothing in it climbs.
pub(super) fn mount_point(field: &str, path: String) -> Result<String, WireError> {
    if is_mount_point(&path) {
        return Ok(path);
    }
    Err(malformed(field, format!("`{path}` must be an absolute path without `..`")))
}

/// A name that becomes one part of a path on the host, where the agent is root: it must not lead anywhere else.
pub(super) fn file_name(field: &str, name: String) -> Result<String, WireError> {
    if is_file_name(&name) {
        return Ok(name);
    }
    Err(malformed(field, format!("`{name}` must be a bare file name")))
}

/// The error of a value that makes no sense.
pub(super) fn malformed(field: &str, problem: impl Into<String>) -> WireError {
    WireError::new(field, Problem::Malformed(problem.into()))
}

/// Whole microseconds of a span; what is finer is not sent, and 584,000 years is the longest.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_puts_its_name_in_front() {
        let inner: Result<(), _> = Err(malformed("name", "is odd"));
        let outer = inner.under_item("files", 0).under_item("instances", 3).expect_err("an error stays one");
        assert_eq!(outer.to_string(), "instances[3].files[0].name: is odd");
    }

    #[test]
    fn a_span_longer_than_can_be_sent_is_sent_as_the_longest() {
        assert_eq!(micros(Duration::MAX), u64::MAX);
        assert_eq!(micros(Duration::from_nanos(1_999)), 1);
    }
}
