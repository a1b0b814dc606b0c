//! Who a certificate says that its holder is.
//!
//! Called at every accepted connection and at every renewal. It reads, and judges only the shape: whether a
//! certificate is signed by us, in force and not revoked has been decided before (`tls.rs`, `renewal.rs`). A
//! host's identity never comes from anywhere else, least of all from a message field.

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::serial::Serial;

/// The most characters of a trust domain: the SPIFFE ID standard §2.1.
const TRUST_DOMAIN_CHARS: usize = 255;

/// The name under which all hosts of one installation are known, such as `launchpad.internal`. It is a name,
/// not an address: nothing resolves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

/// What a host's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host.
    pub host: HostId,
    /// The installation that it belongs to.
    pub trust_domain: TrustDomain,
    /// The certificate is in force from this moment on.
    pub not_before: Moment,
    /// The certificate is in force until this moment.
    pub not_after: Moment,
    /// The certificate's number.
    pub serial: Serial,
}

/// Why a name or a certificate is not a host of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a name that SPIFFE allows for a trust domain.
    #[error("`{0}` is not a trust domain: 1 to 255 of a-z, 0-9, `.`, `-`, `_`")]
    TrustDomain(String),
    /// Not `spiffe://DOMAIN/host/UUID`.
    #[error("`{0}` is not a host's SPIFFE id: expected spiffe://DOMAIN/host/UUID")]
    SpiffeId(String),
    /// Not a certificate at all.
    #[error("the certificate does not parse")]
    Malformed,
    /// A host's certificate has one subject alternative name, and it is a URI.
    #[error("the certificate names {0} subjects; a host's has exactly one, a URI")]
    Names(usize),
    /// The one subject alternative name is not a URI.
    #[error("the certificate's only subject is not a URI: it is not a host's")]
    NotUri,
    /// The serial is not one of ours.
    #[error("the certificate's serial is not 16 bytes long: no CA of ours issued it")]
    Serial,
    /// A host of another installation.
    #[error("the certificate belongs to trust domain `{theirs}`, this is `{ours}`")]
    Foreign {
        /// The certificate's trust domain.
        theirs: TrustDomain,
        /// The reader's.
        ours: TrustDomain,
    },
}

impl TrustDomain {
    /// The trust domain of that name.
    ///
    /// # Errors
    /// When SPIFFE does not allow the name.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > TRUST_DOMAIN_CHARS || !name.bytes().all(allowed) {
            return Err(IdentityError::TrustDomain(name.chars().take(TRUST_DOMAIN_CHARS).collect()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id of a host of this installation: `spiffe://launchpad.internal/host/0198c2aa-…`.
    #[must_use]
    pub fn spiffe_id(&self, host: HostId) -> String {
        format!("spiffe://{}/host/{}", self.0, host.uuid().hyphenated())
    }

    /// The inverse of [`TrustDomain::spiffe_id`], for whichever trust domain.
    ///
    /// # Errors
    /// When the text is not exactly such an id: no query, no other spelling of the UUID.
    pub fn parse_spiffe_id(id: &str) -> Result<(Self, HostId), IdentityError> {
        let read = || {
            let (domain, uuid) = id.strip_prefix("spiffe://")?.split_once("/host/")?;
            let domain = Self::new(domain).ok()?;
            let host = HostId::from(Uuid::try_parse(uuid).ok()?);
            // One id has one spelling: a UUID also parses in capitals, in braces and without hyphens.
            (domain.spiffe_id(host) == id).then_some((domain, host))
        };
        read().ok_or_else(|| IdentityError::SpiffeId(id.chars().take(2 * TRUST_DOMAIN_CHARS).collect()))
    }
}

impl HostIdentity {
    /// What the certificate says, whichever trust domain it is of.
    ///
    /// # Errors
    /// When it is not shaped like a host's certificate.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Malformed)?;
        let names = parsed.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
        let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
        let [name] = names else { return Err(IdentityError::Names(names.len())) };
        let GeneralName::URI(uri) = name else { return Err(IdentityError::NotUri) };
        let (trust_domain, host) = TrustDomain::parse_spiffe_id(uri)?;
        let moment = |seconds: i64| Moment::from_micros(seconds.saturating_mul(1_000_000));
        Ok(Self {
            host,
            trust_domain,
            not_before: moment(parsed.validity().not_before.timestamp()),
            not_after: moment(parsed.validity().not_after.timestamp()),
            serial: Serial::from_bytes(parsed.raw_serial()).map_err(|_| IdentityError::Serial)?,
        })
    }

    /// The same, and of this installation.
    ///
    /// # Errors
    /// When it is not shaped like a host's certificate, or of another trust domain.
    pub fn of_domain(certificate: &CertificateDer<'_>, ours: &TrustDomain) -> Result<Self, IdentityError> {
        let identity = Self::from_certificate(certificate)?;
        if identity.trust_domain != *ours {
            return Err(IdentityError::Foreign { theirs: identity.trust_domain, ours: ours.clone() });
        }
        Ok(identity)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::new(text)
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("launchpad.internal").unwrap()
    }

    #[test]
    fn a_spiffe_id_reads_back_as_its_host() {
        let host = HostId::from(Uuid::from_u128(0x0198_c2aa_0000_7000_8000_0000_0000_0001));
        let id = domain().spiffe_id(host);
        assert_eq!(id, "spiffe://launchpad.internal/host/0198c2aa-0000-7000-8000-000000000001");
        assert_eq!(TrustDomain::parse_spiffe_id(&id), Ok((domain(), host)));
    }

    #[test]
    fn a_host_has_one_spelling() {
        for id in [
            "spiffe://launchpad.internal/host/0198C2AA-0000-7000-8000-000000000001",
            "spiffe://launchpad.internal/host/0198c2aa000070008000000000000001",
            "spiffe://launchpad.internal/host/0198c2aa-0000-7000-8000-000000000001/",
            "spiffe://launchpad.internal/agent/0198c2aa-0000-7000-8000-000000000001",
            "https://launchpad.internal/host/0198c2aa-0000-7000-8000-000000000001",
            "spiffe:///host/0198c2aa-0000-7000-8000-000000000001",
        ] {
            assert!(TrustDomain::parse_spiffe_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_trust_domain_is_a_lower_case_name() {
        for name in ["", "Launchpad", "a/b", "a b", &"x".repeat(256)] {
            assert!(TrustDomain::new(name).is_err(), "{name}");
        }
    }
}
