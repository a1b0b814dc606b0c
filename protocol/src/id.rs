//! Typed ids: a prefix that names the kind, then a UUIDv7 in 32 hex digits, as in `dep_0198c2…`.
//!
//! Used by everything. An id of one kind never parses as another, so that a deployment id pasted where a host id
//! belongs is refused at the door. Nothing here reads a clock or a generator: [`crate::entropy::IdGen`] makes ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: expected {prefix} followed by 32 hex digits")]
pub struct IdError {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

/// An id that [`crate::entropy::IdGen`] can make: a newtype over a UUID.
pub trait TypedId: From<Uuid> {
    /// What every id of this kind starts with, its underscore included.
    const PREFIX: &'static str;
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The UUID behind the id.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl TypedId for $name {
            const PREFIX: &'static str = $prefix;
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse($prefix, text).map(Self).ok_or_else(|| IdError {
                    text: text.chars().take(ECHOED_CHARS).collect(),
                    kind: $kind,
                    prefix: $prefix,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// How much of a bad id an error repeats: enough to recognise it, too little to flood a log.
const ECHOED_CHARS: usize = 64;

/// Hex digits of a UUID without hyphens.
const HEX_DIGITS: usize = 32;

fn parse(prefix: &str, text: &str) -> Option<Uuid> {
    let hex = text.strip_prefix(prefix)?;
    // `Uuid::try_parse` also takes hyphens, braces and upper case; one id has one spelling here.
    let canonical = hex.len() == HEX_DIGITS && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| Uuid::try_parse(hex).ok()).flatten()
}

typed_id!(
    /// A tenant: the customer's account.
    AccountId, "acct_", "account"
);
typed_id!(
    /// A person, member of one or more accounts, or staff.
    UserId, "user_", "user"
);
typed_id!(
    /// One API token. The secret is not part of the id.
    ApiTokenId, "tok_", "API token"
);
typed_id!(
    /// One deployment: a bot that a customer asked for, wherever it runs.
    DeploymentId, "dep_", "deployment"
);
typed_id!(
    /// One host. Its UUID is the last part of the SPIFFE id in the host's certificate.
    HostId, "host_", "host"
);
typed_id!(
    /// One single-use token with which a host joins.
    JoinTokenId, "join_", "join token"
);
typed_id!(
    /// Something that must happen once, such as a restart.
    OperationId, "op_", "operation"
);
typed_id!(
    /// One change of the key that wraps configs and secrets in the coordinator's store.
    RotationId, "rot_", "key rotation"
);
typed_id!(
    /// One upgrade of the fleet's agents to another version.
    UpgradeId, "upg_", "upgrade"
);
typed_id!(
    /// One order to remove a container, or a tenant's data.
    TombstoneId, "tomb_", "tombstone"
);
typed_id!(
    /// One life of the coordinator's store: a restore from a copy begins another.
    IncarnationId, "inc_", "incarnation"
);
typed_id!(
    /// One question that the coordinator asked a host.
    AskId, "ask_", "ask"
);
typed_id!(
    /// One life of an agent's event journal: a wiped disk begins another, so its first event is not taken for a repeat.
    JournalId, "jrnl_", "journal"
);
typed_id!(
    /// One line of a deployment's timeline.
    TimelineId, "evt_", "timeline entry"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let id = DeploymentId::from(Uuid::from_u128(0x0198_c2aa_0000_7000_8000_0000_0000_0001));
        assert_eq!(id.to_string().parse::<DeploymentId>(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let host = HostId::from(Uuid::from_u128(7)).to_string();
        let error = host.parse::<DeploymentId>().expect_err("a host is not a deployment");
        assert!(error.to_string().contains("expected dep_"), "{error}");
    }

    #[test]
    fn one_id_has_one_spelling() {
        let upper = "dep_0198C2AA000070008000000000000001";
        let hyphens = "dep_0198c2aa-0000-7000-8000-000000000001";
        assert!(upper.parse::<DeploymentId>().is_err());
        assert!(hyphens.parse::<DeploymentId>().is_err());
    }
}
