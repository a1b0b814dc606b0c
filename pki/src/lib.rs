//! Who is who in the fleet, and the byte pipes that carry it.
//!
//! ```text
//!            root key (offline)            join token: id, secret, hash of the root
//!                  │ signs, once a year             │ the agent pins that hash
//!                  ▼                                ▼
//!  IssuingCa ── 24 h certificates ──► HostKey   enrolment listener (server authenticated only)
//!      │                                 │          │ enrol, renew after expiry
//!      │ 24 h server certificate         │ mTLS     ▼
//!      ▼                                 ▼
//!  FleetListener ◄── QUIC, or TLS/TCP ── Dialer     one address, UDP and TCP
//!      │                                 │
//!      ▼ PeerPipe {bytes, PeerInfo}      ▼ Pipe, one per Lane
//!    tonic server                      tonic channel
//! ```
//!
//! The coordinator and the agent both import this crate. It knows certificates, keys and sockets; it knows
//! neither the messages that travel over its pipes, nor the store that remembers hosts and tokens. It never
//! decides that a host is revoked: it is told, and then no pipe of that host stays open.

pub mod identity;
pub mod serial;

pub mod bundle;
pub mod ca;
pub mod ca_files;
pub mod files;
pub mod host_key;

pub mod enroll;
pub mod renewal;
pub mod token;

pub mod envelope;
#[cfg(feature = "keyring")]
pub mod keyring;
#[cfg(feature = "aws-kms")]
pub mod kms;
pub mod sealing;

pub mod pin;
pub mod tls;

pub mod admission;
pub mod dial;
pub mod enroll_listener;
pub mod listener;
pub mod pipe;
pub mod quic;
pub mod tcp;

/// A certificate in DER, as every part of this crate passes it on.
pub use rustls::pki_types::CertificateDer;
/// A list of revoked certificates in DER, as [`ca::IssuingCa::crl`] makes it and [`tls::FleetTls`] takes it.
pub use rustls::pki_types::CertificateRevocationListDer;
