//! The spec of a host, as bytes with a digest.
//!
//! ```text
//! HostSpec ─ encode_spec ─► SpecOffer                      domain::compile, once for each generation
//! HostSpec ◄ decode_spec ── SpecOffer                      the agent: size, digest, bytes, fields, generation
//! both     ◄ ledgered_spec ─ bytes                         the agent, from its ledger, after a restart
//! ```
//! The coordinator stores the offer and the agent ledgers it; nobody encodes a spec that was decoded. One instance is
//! `wire/instance.rs`.

use std::time::Duration;

use prost::Message as _;

use super::field::{
    Problem, WireError, at_most, at_most_bytes, digest, known, malformed, map, micros, optional, parse, positive,
    unspecified,
};
use super::v1;
use crate::digest::Digest;
use crate::generation::Generation;
use crate::limits::{INSTANCES_PER_HOST_MAX, SPEC_MAX_BYTES};
use crate::spec::{AgentUpgrade, HostSpec, InstanceSpec, SpecOffer, Tombstone, TombstoneScope};

/// The bytes of a spec and their digest. The same spec always makes the same bytes.
///
/// An instance goes by its own `deployment` and a tombstone by its own `id`; the maps' keys are not sent. The size is
/// not judged here: [`decode_spec`] refuses what is above [`SPEC_MAX_BYTES`].
#[must_use]
pub fn encode_spec(spec: &HostSpec) -> SpecOffer {
    debug_assert!(spec.instances.iter().all(|(key, instance)| *key == instance.deployment), "keyed by deployment");
    debug_assert!(spec.tombstones.iter().all(|(key, tombstone)| *key == tombstone.id), "keyed by id");
    let bytes = v1::HostSpec::from(spec).encode_to_vec();
    SpecOffer { generation: spec.generation, digest: Digest::of(&bytes), bytes }
}

/// Reads the spec in an offer, and checks all of it.
///
/// # Errors
/// [`WireError`] names the field: `digest` and `generation` when the bytes are not what the offer says,
/// `host_spec` when they are too many or no message, else the path of the field inside.
pub fn decode_spec(offer: &SpecOffer) -> Result<HostSpec, WireError> {
    at_most_bytes("host_spec", &offer.bytes, SPEC_MAX_BYTES)?;
    let found = Digest::of(&offer.bytes);
    if found != offer.digest {
        return Err(WireError::new("digest", Problem::OtherDigest { promised: offer.digest, found }));
    }
    let spec = read(&offer.bytes)?;
    if spec.generation != offer.generation {
        let problem = Problem::OtherGeneration { promised: offer.generation, found: spec.generation };
        return Err(WireError::new("generation", problem));
    }
    Ok(spec)
}

/// Reads ledgered bytes back: the offer that they were, and the spec in it. The ledger's own checksum vouches for them.
///
/// # Errors
/// [`WireError`] as [`decode_spec`].
pub fn ledgered_spec(bytes: Vec<u8>) -> Result<(SpecOffer, HostSpec), WireError> {
    at_most_bytes("host_spec", &bytes, SPEC_MAX_BYTES)?;
    let spec = read(&bytes)?;
    Ok((SpecOffer { generation: spec.generation, digest: Digest::of(&bytes), bytes }, spec))
}

fn read(bytes: &[u8]) -> Result<HostSpec, WireError> {
    let message =
        v1::HostSpec::decode(bytes).map_err(|error| malformed("host_spec", format!("is no HostSpec: {error}")))?;
    HostSpec::try_from(message)
}

impl From<&HostSpec> for v1::HostSpec {
    fn from(spec: &HostSpec) -> Self {
        Self {
            host_id: spec.host.to_string(),
            incarnation_id: spec.incarnation.to_string(),
            generation: spec.generation.0,
            instances: spec.instances.values().map(v1::InstanceSpec::from).collect(),
            tombstones: spec.tombstones.values().map(v1::Tombstone::from).collect(),
            upgrade: spec.upgrade.as_ref().map(v1::AgentUpgrade::from),
        }
    }
}

impl TryFrom<v1::HostSpec> for HostSpec {
    type Error = WireError;

    fn try_from(message: v1::HostSpec) -> Result<Self, WireError> {
        at_most("instances", &message.instances, INSTANCES_PER_HOST_MAX)?;
        Ok(Self {
            host: parse("host_id", &message.host_id)?,
            incarnation: parse("incarnation_id", &message.incarnation_id)?,
            generation: Generation(positive("generation", message.generation)?),
            instances: map("instances", message.instances, |entry| {
                InstanceSpec::try_from(entry).map(|instance| (instance.deployment, instance))
            })?,
            tombstones: map("tombstones", message.tombstones, |entry| {
                Tombstone::try_from(entry).map(|tombstone| (tombstone.id, tombstone))
            })?,
            upgrade: optional("upgrade", message.upgrade)?,
        })
    }
}

impl From<&AgentUpgrade> for v1::AgentUpgrade {
    fn from(upgrade: &AgentUpgrade) -> Self {
        Self { operation_id: upgrade.operation.to_string(), version: upgrade.version.to_string() }
    }
}

impl TryFrom<v1::AgentUpgrade> for AgentUpgrade {
    type Error = WireError;

    fn try_from(message: v1::AgentUpgrade) -> Result<Self, WireError> {
        Ok(Self {
            operation: parse("operation_id", &message.operation_id)?,
            version: parse("version", &message.version)?,
        })
    }
}

impl From<&Tombstone> for v1::Tombstone {
    fn from(tombstone: &Tombstone) -> Self {
        let scope = match tombstone.scope {
            TombstoneScope::Container => v1::TombstoneScope::Container,
            TombstoneScope::Data => v1::TombstoneScope::Data,
        };
        Self {
            tombstone_id: tombstone.id.to_string(),
            deployment_id: tombstone.deployment.to_string(),
            account_id: tombstone.account.to_string(),
            scope: scope.into(),
            stop_grace_us: micros(tombstone.stop_grace),
        }
    }
}

impl TryFrom<v1::Tombstone> for Tombstone {
    type Error = WireError;

    fn try_from(message: v1::Tombstone) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("tombstone_id", &message.tombstone_id)?,
            deployment: parse("deployment_id", &message.deployment_id)?,
            account: parse("account_id", &message.account_id)?,
            scope: match known("scope", message.scope)? {
                v1::TombstoneScope::Unspecified => return Err(unspecified("scope")),
                v1::TombstoneScope::Container => TombstoneScope::Container,
                v1::TombstoneScope::Data => TombstoneScope::Data,
            },
            stop_grace: Duration::from_micros(message.stop_grace_us),
        })
    }
}

impl From<SpecOffer> for v1::SpecOffer {
    fn from(offer: SpecOffer) -> Self {
        Self { generation: offer.generation.0, digest: offer.digest.as_bytes().to_vec(), host_spec: offer.bytes }
    }
}

/// The envelope only: [`decode_spec`] compares the digest with the bytes, and reads them.
impl TryFrom<v1::SpecOffer> for SpecOffer {
    type Error = WireError;

    fn try_from(message: v1::SpecOffer) -> Result<Self, WireError> {
        at_most_bytes("host_spec", &message.host_spec, SPEC_MAX_BYTES)?;
        Ok(Self {
            generation: Generation(positive("generation", message.generation)?),
            digest: digest("digest", &message.digest)?,
            bytes: message.host_spec,
        })
    }
}
