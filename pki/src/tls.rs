//! Every rustls configuration of the product, in one place.
//!
//! TLS 1.3 only; the aws-lc-rs provider is named, never taken from the process; the time comes from a
//! [`Clock`]. Two things are off on purpose. 0-RTT: it can be replayed, and is answered before the client is
//! known. Resumption: a resumed session skips the check of the client's certificate, and with it the list of
//! revoked ones.
//!
//! Certificates are replaced under running listeners and dialers through [`Credentials::replace`]: open
//! streams stay, new connections show the new one. Roots and revocations are fixed in a configuration; for
//! those a new one is made.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::time::{Clock, Moment};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use crate::bundle::TrustBundle;
use crate::host_key::HostKey;
use crate::identity::TrustDomain;
use crate::pin::RootPin;

/// The application protocol on QUIC: each stream is one HTTP/2 session. The number rises with an incompatible
/// change.
pub const ALPN_QUIC: &[u8] = b"lp-grpc/1";

/// The application protocol on TLS over TCP: plain HTTP/2.
pub const ALPN_TCP: &[u8] = b"h2";

/// What a configuration is for, and so which application protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC, [`ALPN_QUIC`].
    Quic,
    /// TLS over TCP, [`ALPN_TCP`].
    Tcp,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate and the key do not belong together, or neither can be used.
    #[error("the certificate and its key cannot be used together")]
    Credentials(#[source] rustls::Error),
    /// The roots or the list of revoked certificates cannot be used.
    #[error("the trust bundle or the list of revoked certificates cannot be used")]
    Trust(#[source] rustls::server::VerifierBuilderError),
    /// A fleet listener without a list of revoked certificates would let revoked hosts in.
    #[error("a list of revoked certificates is needed, even an empty one")]
    NoCrl,
    /// The provider does not do TLS 1.3.
    #[error("the TLS library cannot do what is asked of it")]
    Library(#[source] rustls::Error),
}

/// A certificate chain and its key, as they are now.
pub struct Credentials {
    current: ArcSwap<CertifiedKey>,
}

/// What a fleet listener needs.
#[derive(Debug, Clone)]
pub struct FleetTls {
    pub(crate) quic: Arc<ServerConfig>,
    pub(crate) tcp: Arc<ServerConfig>,
    pub(crate) trust_domain: TrustDomain,
}

/// What a host needs to reach the fleet listener.
#[derive(Debug, Clone)]
pub struct ClientTls {
    pub(crate) quic: Arc<ClientConfig>,
    pub(crate) tcp: Arc<ClientConfig>,
}

impl FleetTls {
    /// Both configurations of a fleet listener, which accepts hosts of `trust_domain` that chain to `bundle`
    /// and are on none of `crls`. There is a list for every issuing CA whose certificates are in use.
    ///
    /// # Errors
    /// When there is no list, or something cannot be used.
    pub fn new(
        credentials: &Arc<Credentials>,
        bundle: &TrustBundle,
        crls: &[CertificateRevocationListDer<'static>],
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            quic: server_config(credentials, bundle, crls, Carrier::Quic, clock)?,
            tcp: server_config(credentials, bundle, crls, Carrier::Tcp, clock)?,
            trust_domain: trust_domain.clone(),
        })
    }
}

impl ClientTls {
    /// Both configurations of a host, which trusts the servers that chain to `bundle`.
    ///
    /// # Errors
    /// When something cannot be used.
    pub fn new(credentials: &Arc<Credentials>, bundle: &TrustBundle, clock: &Clock) -> Result<Self, TlsError> {
        Ok(Self {
            quic: client_config(credentials, bundle, Carrier::Quic, clock)?,
            tcp: client_config(credentials, bundle, Carrier::Tcp, clock)?,
        })
    }
}

impl Credentials {
    /// A chain, leaf first, and the key of the leaf.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &HostKey) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(certified(chain, key)?) }))
    }

    /// Shows another chain from the next handshake on. Open connections stay.
    ///
    /// # Errors
    /// When chain and key do not belong together: then nothing changes.
    pub fn replace(&self, chain: Vec<CertificateDer<'static>>, key: &HostKey) -> Result<(), TlsError> {
        self.current.store(Arc::new(certified(chain, key)?));
        Ok(())
    }

    /// The certificate that the next handshake shows.
    #[must_use]
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current.load().cert.first().cloned()
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &HostKey) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key.to_rustls(), &provider()).map_err(TlsError::Credentials)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A fleet listener's configuration: both sides show a certificate.
///
/// # Errors
/// When there is no list of revoked certificates, or something cannot be used.
pub fn server_config(
    credentials: &Arc<Credentials>,
    bundle: &TrustBundle,
    crls: &[CertificateRevocationListDer<'static>],
    carrier: Carrier,
    clock: &Clock,
) -> Result<Arc<ServerConfig>, TlsError> {
    if crls.is_empty() {
        return Err(TlsError::NoCrl);
    }
    let config = ServerConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Library)?
        .with_client_cert_verifier(host_verifier(bundle, Some(crls))?)
        .with_cert_resolver(Arc::clone(credentials) as Arc<dyn ResolvesServerCert>);
    Ok(Arc::new(closed_server(config, carrier)))
}

/// A host's configuration towards the fleet listener: both sides show a certificate.
///
/// # Errors
/// When something cannot be used.
pub fn client_config(
    credentials: &Arc<Credentials>,
    bundle: &TrustBundle,
    carrier: Carrier,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(bundle.store(), provider());
    let config = ClientConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Library)?
        .with_webpki_verifier(verifier.build().map_err(TlsError::Trust)?)
        .with_client_cert_resolver(Arc::clone(credentials) as Arc<dyn ResolvesClientCert>);
    Ok(Arc::new(closed_client(config, carrier)))
}

/// The enrolment listener's configuration: only the server shows a certificate, and its chain ends with the
/// root.
///
/// # Errors
/// When something cannot be used.
pub fn enroll_server_config(credentials: &Arc<Credentials>, clock: &Clock) -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Library)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(credentials) as Arc<dyn ResolvesServerCert>);
    Ok(Arc::new(closed_server(config, Carrier::Tcp)))
}

/// A host's configuration towards the enrolment listener: it trusts the roots with these hashes and nothing
/// else. The token carries one; a host that renews after expiry takes [`TrustBundle::digests`].
///
/// # Errors
/// When the library cannot do TLS 1.3.
pub fn enroll_client_config(pins: BTreeSet<Digest>, clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RootPin::new(pins, &provider())))
        .with_no_client_auth();
    Ok(Arc::new(closed_client(config, Carrier::Tcp)))
}

/// Checks hosts' certificates. Only the leaf's revocation is looked up: a CA is replaced, not revoked.
pub(crate) fn host_verifier(
    bundle: &TrustBundle,
    crls: Option<&[CertificateRevocationListDer<'static>]>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(bundle.store(), provider());
    let verifier = match crls {
        None => verifier,
        Some(crls) => verifier
            .with_crls(crls.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration(),
    };
    verifier.build().map_err(TlsError::Trust)
}

/// The moment in the form that certificate checks take.
pub(crate) fn unix_time(at: Moment) -> UnixTime {
    UnixTime::since_unix_epoch(at.since(Moment::from_micros(0)))
}

/// No tickets, no early data: see the head of this file.
fn closed_server(mut config: ServerConfig, carrier: Carrier) -> ServerConfig {
    config.alpn_protocols = vec![alpn(carrier)];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config
}

fn closed_client(mut config: ClientConfig, carrier: Carrier) -> ClientConfig {
    config.alpn_protocols = vec![alpn(carrier)];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn alpn(carrier: Carrier) -> Vec<u8> {
    match carrier {
        Carrier::Quic => ALPN_QUIC.to_vec(),
        Carrier::Tcp => ALPN_TCP.to_vec(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn time(clock: &Clock) -> Arc<dyn TimeProvider> {
    Arc::new(WallTime(clock.clone()))
}

/// The fleet's clock, where rustls would read the system's.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.wall()))
    }
}
