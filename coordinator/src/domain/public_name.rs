//! Names on the internet: the one that every bot has below the installation's own domain, and those of owners.
//!
//! ```text
//! --ingress-domain bots.example.com ─► web-1f2e3d4c.bots.example.com     the bot `web`, and the end of its id
//! POST …/domains {"name": …}        ─► www.example.org                   once its owner has proved it (`domains.rs`)
//! ```

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::egress::is_host_name;
use launchpad_protocol::id::DeploymentId;
use serde::{Deserialize, Serialize};

/// Bytes of one label (RFC 1035 §2.3.4).
const LABEL_MAX_BYTES: usize = 63;
/// Bytes of a name, likewise.
const NAME_MAX_BYTES: usize = 253;
/// Hex digits of an id in a name. They are its last, which are random: its first are the time.
const ID_DIGITS: usize = 8;
/// Where the proof of a domain stands, as a label before it.
const PROOF_LABEL: &str = "_launchpad";
/// Labels of a name that somebody can own.
const LABELS_MIN: usize = 2;

/// A host name that certificates can be had for: two labels at least, in lower case, without underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicName(String);

/// The domain below which every bot of an installation has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressDomain(PublicName);

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicNameError {
    /// It is none at all.
    #[error("`{0}` is no host name with two labels or more, such as `www.example.com`")]
    Malformed(String),
    /// Nothing could stand before it.
    #[error("`{0}` is too long: {LABEL_MAX_BYTES} letters and a dot must have room before it in {NAME_MAX_BYTES}")]
    NoRoom(PublicName),
}

impl PublicName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where its owner puts the proof, as a TXT record.
    #[must_use]
    pub fn proof_name(&self) -> String {
        format!("{PROOF_LABEL}.{}", self.0)
    }
}

impl FromStr for PublicName {
    type Err = PublicNameError;

    /// A name in any case, with or without its final dot.
    fn from_str(text: &str) -> Result<Self, PublicNameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let has_room_for_proof = name.len() + PROOF_LABEL.len() < NAME_MAX_BYTES;
        if is_host_name(&name) && has_room_for_proof && name.split('.').count() >= LABELS_MIN && !name.contains('_') {
            Ok(Self(name))
        } else {
            Err(PublicNameError::Malformed(text.chars().take(NAME_MAX_BYTES).collect()))
        }
    }
}

impl fmt::Display for PublicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PublicName {
    type Error = PublicNameError;

    fn try_from(text: String) -> Result<Self, PublicNameError> {
        text.parse()
    }
}

impl From<PublicName> for String {
    fn from(name: PublicName) -> Self {
        name.0
    }
}

impl FromStr for IngressDomain {
    type Err = PublicNameError;

    fn from_str(text: &str) -> Result<Self, PublicNameError> {
        let name: PublicName = text.parse()?;
        if name.0.len() + LABEL_MAX_BYTES < NAME_MAX_BYTES {
            Ok(Self(name))
        } else {
            Err(PublicNameError::NoRoom(name))
        }
    }
}

impl IngressDomain {
    /// The name of a bot: what its owner calls it, cut where a label would be too long, and the end of its id, because
    /// two accounts may call their bots the same.
    #[must_use]
    pub fn name_of(&self, called: &str, id: DeploymentId) -> String {
        let digits = id.uuid().simple().to_string();
        let (_, tail) = digits.split_at(digits.len() - ID_DIGITS);
        let room = LABEL_MAX_BYTES - ID_DIGITS - 1;
        let called: String = called.chars().take(room).collect();
        format!("{}-{tail}.{}", called.trim_end_matches('-'), self.0)
    }

    /// Whether a name is this domain or below it, and so not an owner's to claim.
    #[must_use]
    pub fn covers(&self, name: &PublicName) -> bool {
        let (own, name) = (self.0.as_str(), name.as_str());
        name.strip_suffix(own).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

impl fmt::Display for IngressDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn domain() -> IngressDomain {
        "bots.example.com".parse().expect("a domain")
    }

    fn id(number: u128) -> DeploymentId {
        DeploymentId::from(Uuid::from_u128(number))
    }

    #[test]
    fn bots_of_one_name_have_names_of_their_own() {
        assert_eq!(domain().name_of("web", id(0x1234_5678_9abc)), "web-56789abc.bots.example.com");
        assert_ne!(domain().name_of("web", id(1)), domain().name_of("web", id(2)));
    }

    #[test]
    fn the_longest_name_of_a_bot_still_makes_a_label() {
        let long = format!("{}-{}", "a".repeat(53), "b".repeat(9));
        let name = domain().name_of(&long, id(1));
        assert_eq!(name, format!("{}-00000001.bots.example.com", "a".repeat(53)));
        assert!(name.parse::<PublicName>().is_ok());
    }

    #[test]
    fn a_public_name_is_read_in_any_case_and_with_a_final_dot() {
        let name: PublicName = "WWW.Example.com.".parse().expect("a name");
        assert_eq!((name.as_str(), name.proof_name().as_str()), ("www.example.com", "_launchpad.www.example.com"));
    }

    #[test]
    fn what_nobody_can_own_is_no_public_name() {
        let long = format!("{}.example.com", vec!["a".repeat(60); 4].join("."));
        for bad in
            ["", "com", "*.example.com", "a_b.example.com", "203.0.113.7", "a..example.com", "ä.example", &long]
        {
            assert!(bad.parse::<PublicName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_covers_itself_and_what_is_below_it() {
        let covers = |name: &str| domain().covers(&name.parse().expect("a name"));
        assert!(covers("bots.example.com") && covers("web.bots.example.com"));
        assert!(!covers("robots.example.com") && !covers("example.com"));
        let long = format!("{}.{}.{}.example", "a".repeat(62), "b".repeat(62), "c".repeat(62));
        assert!(matches!(long.parse::<IngressDomain>(), Err(PublicNameError::NoRoom(_))));
    }
}
