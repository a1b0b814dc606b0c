//! What our certificates say, field by field. A change here changes what every host and server shows.

use launchpad_protocol::time::Moment;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyUsagePurpose, SanType, SerialNumber};
use rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{CaError, SERVER_BACKDATED};
use crate::serial::Serial;

/// A CA: it signs certificates and lists of revoked ones, and nothing else. Its name ends in its serial,
/// because verifiers find a certificate's issuer and its list by name: two CAs of one name, as during a
/// rotation, confuse them.
pub(super) fn ca_params(name: &str, now: Moment, not_after: Moment) -> Result<CertificateParams, CaError> {
    let serial = Serial::random()?;
    let mut params = leaf_params(serial, now - SERVER_BACKDATED, not_after)?;
    params.distinguished_name.push(DnType::CommonName, format!("{name} {serial}"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

/// The name that a CA's certificate bears, as [`ca_params`] made it.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Result<DistinguishedName, CaError> {
    let unreadable = || CaError::Material { which: "issuing", source: rcgen::Error::CouldNotParseCertificate };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| unreadable())?;
    let text =
        parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).ok_or_else(unreadable)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    Ok(name)
}

/// A host or a server: without a name but its alternative one, which the caller adds along with what it is
/// for.
pub(super) fn leaf_params(
    serial: Serial,
    not_before: Moment,
    not_after: Moment,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = asn1(not_before)?.to_datetime();
    params.not_after = asn1(not_after)?.to_datetime();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A DNS name or an IP address of a server.
pub(super) fn server_name(name: &str) -> Result<SanType, CaError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || CaError::Name(name.to_owned());
    let dns = DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(dns.as_ref().try_into().map_err(|_| refused())?))
}

/// A SPIFFE id.
pub(super) fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(|_| CaError::Name(text.to_owned()))?))
}

/// The moment in whole seconds, rounded down, as certificates hold it.
pub(super) fn asn1(at: Moment) -> Result<ASN1Time, CaError> {
    ASN1Time::from_timestamp(at.micros().div_euclid(1_000_000)).map_err(|_| CaError::Time(at))
}

/// A certificate counts in seconds: what is stored about it says what it says.
pub(super) fn whole_seconds(at: Moment) -> Moment {
    Moment::from_micros(at.micros().div_euclid(1_000_000) * 1_000_000)
}
