//! The certificate authority: an offline root that signs one issuing CA a year, and the issuing CA that signs
//! the rest.
//!
//! ```text
//! RootCa, 10 years, key away in a safe ──► IssuingCa, 1 year ──► hosts, 24 h, client only
//!                                                            ├──► servers, 24 h, server only
//!                                                            └──► list of revoked certificates
//! ```
//!
//! The coordinator calls it at `init`, at enrolment, at renewal, and twice a day for its own listeners. What
//! a certificate says comes from the arguments; of a CSR only the key is taken, never a name, a usage or a
//! life. Nothing here reads a clock, a file or a store.

use std::time::Duration;

use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::HostId;
use launchpad_protocol::time::Moment;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::bundle::{BundleError, TrustBundle};
use crate::host_key::{HostKey, KeyError};
use crate::identity::TrustDomain;
use crate::serial::{NoEntropy, Serial};

mod profile;

use profile::{asn1, ca_params, common_name, leaf_params, server_name, uri, whole_seconds};

/// How long a root is in force: longer than anybody wants to think about it; a rotation replaces it earlier.
pub const ROOT_LIFE: Duration = Duration::from_hours(24 * 3_652);

/// How long an issuing CA is in force.
pub const ISSUING_LIFE: Duration = Duration::from_hours(24 * 365);

/// How long a host's certificate is in force. Revocation is passive beyond it: a stolen key is worthless a
/// day later.
pub const HOST_LIFE: Duration = Duration::from_hours(24);

/// How long a server's certificate is in force. The running coordinator reissues its own at half of it.
pub const SERVER_LIFE: Duration = Duration::from_hours(24);

/// How long a list of revoked certificates is good. The coordinator makes one at each start, at each
/// revocation and at each reissue of its own certificate; a week covers any pause of that.
pub const CRL_LIFE: Duration = Duration::from_hours(24 * 7);

/// How far before its issue a certificate is in force, so that a host whose clock is behind can use it at
/// once.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The same for what hosts check by their own clocks, CAs and servers: a host whose clock is an hour behind (a time zone
/// taken for UTC, a summer time) still knows the coordinator, and can be told so.
pub const SERVER_BACKDATED: Duration = Duration::from_hours(2);

/// The most bytes of a CSR: one of ours has about 200.
const CSR_BYTES_MAX: usize = 4 * 1024;

/// Bytes of an uncompressed point on P-256: SEC 1 §2.3.3.
const P256_POINT_BYTES: usize = 65;

/// The root: it signs issuing CAs, and is at hand only then.
#[derive(Debug)]
pub struct RootCa {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// The CA that the coordinator runs with.
#[derive(Debug)]
pub struct IssuingCa {
    root: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    trust_domain: TrustDomain,
    not_after: Moment,
}

/// A certificate for a host, and what the coordinator stores about it.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// The host's certificate, then the issuing CA's.
    pub chain_der: Vec<CertificateDer<'static>>,
    /// Its number: what a revocation names.
    pub serial: Serial,
    /// In force from here.
    pub not_before: Moment,
    /// In force until here.
    pub not_after: Moment,
    /// The SHA-256 of the public key (SubjectPublicKeyInfo in DER), by which a repeated request is
    /// recognised.
    pub public_key: Digest,
}

/// A certificate for the coordinator's own listeners.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The server's certificate, the issuing CA's, and the root: an agent that enrols knows only the root's
    /// hash.
    pub chain_der: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: HostKey,
    /// In force until here.
    pub not_after: Moment,
}

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No random bytes.
    #[error("cannot make a key or a serial")]
    Entropy(#[from] NoEntropy),
    /// The request is not a CSR, is not signed by its own key, or asks with another kind of key.
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
    /// A moment that no certificate can hold.
    #[error("{0} is outside of what a certificate can say")]
    Time(Moment),
    /// A name that cannot stand in a certificate.
    #[error("`{0}` is not a DNS name or an IP address")]
    Name(String),
    /// A server needs a name.
    #[error("a server certificate needs at least one name")]
    NoNames,
    /// The CA certificate or its key cannot be used.
    #[error("the {which} CA's certificate or key cannot be used")]
    Material {
        /// `root` or `issuing`.
        which: &'static str,
        /// What the library says.
        source: rcgen::Error,
    },
    /// The key does not belong to the certificate.
    #[error("the {0} CA's key does not belong to its certificate")]
    Mismatch(&'static str),
    /// The CA's own certificate ends first.
    #[error("the issuing CA is in force until {0}: sign a new one with the root")]
    Expired(Moment),
    /// A key of the server could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The root cannot serve as one.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Signing failed.
    #[error("cannot sign the certificate")]
    Signing(#[source] rcgen::Error),
}

impl RootCa {
    /// A new root with a new key.
    ///
    /// # Errors
    /// When there are no random bytes, or the moment is beyond all calendars.
    pub fn create(trust_domain: &TrustDomain, now: Moment) -> Result<Self, CaError> {
        let key = new_ca_key()?;
        let mut params = ca_params(&format!("{trust_domain} root"), now, now + ROOT_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let certificate = params.self_signed(&key).map_err(CaError::Signing)?.der().clone();
        Ok(Self { certificate, key })
    }

    /// The root whose certificate and key these are.
    ///
    /// # Errors
    /// When they cannot be used, or do not belong together.
    pub fn load(certificate: CertificateDer<'static>, key_pkcs8: &[u8]) -> Result<Self, CaError> {
        let key = load_ca_key("root", &certificate, key_pkcs8)?;
        Ok(Self { certificate, key })
    }

    /// A new issuing CA with a new key.
    ///
    /// # Errors
    /// When there are no random bytes, or the moment is beyond all calendars.
    pub fn sign_issuing(&self, trust_domain: &TrustDomain, now: Moment) -> Result<IssuingCa, CaError> {
        let key = new_ca_key()?;
        let params = issuing_params(trust_domain, now, now + ISSUING_LIFE)?;
        let certificate = self.sign(&params, &key)?;
        IssuingCa::load(self.certificate.clone(), certificate, &Zeroizing::new(key.serialize_der()))
    }

    /// A second certificate for an issuing CA that another root has signed: a bridge to it for whoever knows this root
    /// alone. Same name, same key, same end.
    ///
    /// # Errors
    /// When there are no random bytes, or the issuing CA's own certificate has no name.
    pub fn bridge_to(&self, issuing: &IssuingCa, now: Moment) -> Result<CertificateDer<'static>, CaError> {
        let mut params = issuing_params(&issuing.trust_domain, now, issuing.not_after)?;
        params.distinguished_name = common_name(&issuing.certificate)?;
        self.sign(&params, issuing.issuer.key())
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<CertificateDer<'static>, CaError> {
        let issuer = issuer("root", &self.certificate, &self.key)?;
        Ok(params.signed_by(key, &issuer).map_err(CaError::Signing)?.der().clone())
    }

    /// The root's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root's key in PKCS#8, to be written once and taken away.
    #[must_use]
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.serialize_der())
    }
}

impl IssuingCa {
    /// The issuing CA whose certificate and key these are, and the root above it.
    ///
    /// # Errors
    /// When they cannot be used, or do not belong together.
    pub fn load(
        root: CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key_pkcs8: &[u8],
    ) -> Result<Self, CaError> {
        let key = load_ca_key("issuing", &certificate, key_pkcs8)?;
        let (trust_domain, not_after) = read_issuing(&certificate)?;
        let issuer = issuer("issuing", &certificate, key)?;
        Ok(Self { root, certificate, issuer, trust_domain, not_after })
    }

    /// A certificate for `host`, for the key of this CSR, in force for `life` or for as long as this CA is.
    ///
    /// # Errors
    /// When the CSR is not one that a host key of ours signed, or this CA has expired.
    pub fn issue_host(
        &self,
        csr_der: &[u8],
        host: HostId,
        now: Moment,
        life: Duration,
    ) -> Result<IssuedCertificate, CaError> {
        let key = checked_csr(csr_der)?;
        let serial = Serial::random()?;
        let (not_before, not_after) = self.span(now, life)?;
        let mut params = leaf_params(serial, not_before, not_after)?;
        params.subject_alt_names.push(uri(&self.trust_domain.spiffe_id(host))?);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let leaf = params.signed_by(&key, &self.issuer).map_err(CaError::Signing)?;
        Ok(IssuedCertificate {
            chain_der: vec![leaf.der().clone(), self.certificate.clone()],
            serial,
            not_before,
            not_after,
            public_key: Digest::of(&key.subject_public_key_info()),
        })
    }

    /// A key and a certificate for the coordinator's listeners under these DNS names and IP addresses, in
    /// force for [`SERVER_LIFE`].
    ///
    /// # Errors
    /// When there is no name, a name is not one, or this CA has expired.
    pub fn issue_server(&self, names: &[String], now: Moment) -> Result<ServerCertificate, CaError> {
        if names.is_empty() {
            return Err(CaError::NoNames);
        }
        let (_, not_after) = self.span(now, SERVER_LIFE)?;
        let not_before = whole_seconds(now - SERVER_BACKDATED);
        let mut params = leaf_params(Serial::random()?, not_before, not_after)?;
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let key = HostKey::generate()?;
        let leaf = params.signed_by(key.pair(), &self.issuer).map_err(CaError::Signing)?;
        let chain_der = vec![leaf.der().clone(), self.certificate.clone(), self.root.clone()];
        Ok(ServerCertificate { chain_der, key, not_after })
    }

    /// The list of revoked certificates, each with the moment of its revocation. A certificate that has
    /// expired need not be on it.
    ///
    /// # Errors
    /// When a moment is beyond all calendars.
    pub fn crl(
        &self,
        revoked: &[(Serial, Moment)],
        now: Moment,
    ) -> Result<CertificateRevocationListDer<'static>, CaError> {
        let mut revoked_certs = Vec::with_capacity(revoked.len());
        for (serial, at) in revoked {
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: asn1(*at)?.to_datetime(),
                reason_code: Some(RevocationReason::CessationOfOperation),
                invalidity_date: None,
            });
        }
        let params = CertificateRevocationListParams {
            this_update: asn1(now - BACKDATED)?.to_datetime(),
            next_update: asn1(now + CRL_LIFE)?.to_datetime(),
            // RFC 5280 §5.2.3 wants a number that rises: time does.
            crl_number: SerialNumber::from_slice(&now.micros().to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer).map_err(CaError::Signing)?.der().clone())
    }

    /// The bundle of this CA's root alone.
    ///
    /// # Errors
    /// When the root cannot serve as one.
    pub fn bundle(&self) -> Result<TrustBundle, CaError> {
        Ok(TrustBundle::new(vec![self.root.clone()])?)
    }

    /// The root above this CA.
    #[must_use]
    pub const fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The SHA-256 of this CA's own certificate (DER): what the store and hosts know it by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The SHA-256 of the root's DER: what join tokens carry.
    #[must_use]
    pub fn root_digest(&self) -> Digest {
        Digest::of(&self.root)
    }

    /// This CA's own certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// This CA's key in PKCS#8.
    #[must_use]
    pub fn key_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// The trust domain in which it issues.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// This CA is in force until here.
    #[must_use]
    pub const fn not_after(&self) -> Moment {
        self.not_after
    }

    /// From when until when a certificate that is issued now may be in force.
    fn span(&self, now: Moment, life: Duration) -> Result<(Moment, Moment), CaError> {
        if self.not_after <= now {
            return Err(CaError::Expired(self.not_after));
        }
        Ok((whole_seconds(now - BACKDATED), whole_seconds((now + life).min(self.not_after))))
    }
}

/// Until when a certificate is in force, by what it says.
#[must_use]
pub fn in_force_until(certificate: &CertificateDer<'_>) -> Option<Moment> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Moment::from_micros(parsed.validity().not_after.timestamp().checked_mul(1_000_000)?))
}

/// The public key of a CSR which that key has signed. Everything else in the CSR is let go.
fn checked_csr(csr_der: &[u8]) -> Result<rcgen::PublicKey, CaError> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(CaError::Request("it is longer than any CSR of an agent"));
    }
    let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der));
    let csr = csr.map_err(|error| {
        let forged = error == rcgen::Error::InvalidCertificationRequestSignature;
        CaError::Request(if forged { "its signature is not its key's" } else { "it cannot be read" })
    })?;
    // The library tells the kind of key by the signature's algorithm, which a P-384 key can share: look at
    // the point.
    let point = csr.public_key.der_bytes();
    if csr.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 || point.len() != P256_POINT_BYTES {
        return Err(CaError::Request("its key is not ECDSA P-256"));
    }
    Ok(csr.public_key)
}

fn issuing_params(trust_domain: &TrustDomain, now: Moment, not_after: Moment) -> Result<CertificateParams, CaError> {
    let mut params = ca_params(&format!("{trust_domain} issuing"), now, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    // The SPIFFE X.509-SVID standard §4.2: a signing certificate may name its trust domain, without a path.
    params.subject_alt_names.push(uri(&format!("spiffe://{trust_domain}"))?);
    Ok(params)
}

fn new_ca_key() -> Result<KeyPair, NoEntropy> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| NoEntropy)
}

fn load_ca_key(which: &'static str, certificate: &CertificateDer<'_>, pkcs8: &[u8]) -> Result<KeyPair, CaError> {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ECDSA_P256_SHA256)
        .map_err(|source| CaError::Material { which, source })?;
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| CaError::Material { which, source: rcgen::Error::CouldNotParseCertificate })?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(CaError::Mismatch(which));
    }
    Ok(key)
}

fn issuer<'a, S: rcgen::SigningKey>(
    which: &'static str,
    certificate: &CertificateDer<'_>,
    key: S,
) -> Result<Issuer<'a, S>, CaError> {
    Issuer::from_ca_cert_der(certificate, key).map_err(|source| CaError::Material { which, source })
}

/// The trust domain and the end of an issuing CA, from its certificate.
fn read_issuing(certificate: &CertificateDer<'_>) -> Result<(TrustDomain, Moment), CaError> {
    let read = || {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = &parsed.subject_alternative_name().ok()??.value.general_names;
        let [GeneralName::URI(uri)] = names[..] else { return None };
        let domain = TrustDomain::new(uri.strip_prefix("spiffe://")?).ok()?;
        let seconds = parsed.validity().not_after.timestamp();
        Some((domain, Moment::from_micros(seconds.checked_mul(1_000_000)?)))
    };
    let source = rcgen::Error::CouldNotParseCertificate;
    read().ok_or(CaError::Material { which: "issuing", source })
}
