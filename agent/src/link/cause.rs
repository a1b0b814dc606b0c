//! What lies at the bottom of a failed connection, in words that help.
//!
//! The layers of an RPC each say that the one below them failed; only the lowest says why. `connect`, `enroll` and
//! `renew` ask here. Nothing is decided, and nothing is retried.

use std::error::Error;
use std::io;

use launchpad_pki::pin::UnknownRoot;
use launchpad_pki::quic;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::wire;
use rustls::{AlertDescription, CertificateError};
use tonic::Status;

/// The lowest layer's own words.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    layers(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What the coordinator thinks of the certificate that this host has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was taken back.
    Revoked,
    /// It is not in force by the coordinator's clock, or its CA has ended: another one would do.
    OutOfDate,
}

/// What the coordinator said when it saw this host's certificate, if it refused it. QUIC and TLS say it in ways of their
/// own.
pub(crate) fn says_refused(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let alert = |at: &(dyn Error + 'static)| match at.downcast_ref() {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => quic::alert(at),
    };
    let refusal = |alert| {
        const OUT_OF_DATE: [AlertDescription; 2] =
            [AlertDescription::CertificateExpired, AlertDescription::UnknownCA];
        if alert == AlertDescription::CertificateRevoked {
            return Some(Refusal::Revoked);
        }
        OUT_OF_DATE.contains(&alert).then_some(Refusal::OutOfDate)
    };
    layers(error).filter_map(alert).find_map(refusal)
}

/// Whether this host refused the coordinator's certificate because it is not in force by the host's clock.
pub(crate) fn clocks_apart(error: &(dyn Error + 'static)) -> bool {
    let out_of_force = |problem: &CertificateError| {
        matches!(
            problem,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    };
    layers(error).find_map(certificate_error).is_some_and(out_of_force)
}

/// Why an enrolment listener could not be spoken to.
pub(crate) fn not_spoken_to(endpoint: &str, error: &(dyn Error + 'static)) -> Reason {
    if let Some(unknown) = layers(error).find_map(|at| at.downcast_ref::<UnknownRoot>()) {
        return Reason::new("coordinator-untrusted", format!("{endpoint} is not the coordinator that was expected"))
            .because(unknown.to_string())
            .mend("check the address, and make a token on the coordinator that listens there");
    }
    match layers(error).find_map(certificate_error) {
        Some(_) if clocks_apart(error) => not_in_force(endpoint),
        Some(_) => {
            Reason::new("coordinator-untrusted", format!("the certificate of {endpoint} is not to be trusted"))
                .because(innermost(error))
                .mend("check the address: it is to be the coordinator's enrolment listener")
        }
        None => Reason::new("coordinator-unreachable", format!("no answer from {endpoint}"))
            .because(innermost(error))
            .mend("check the address, and that this host may reach that port over TCP"),
    }
}

/// The coordinator's certificate is not in force by this host's clock.
pub(crate) fn not_in_force(endpoint: &str) -> Reason {
    Reason::new("clocks-apart", format!("the certificate of {endpoint} is not in force now, by this host's clock"))
        .because("one of the two clocks is wrong")
        .mend("set this host's clock (NTP), then try again; if it is right, look at the coordinator's")
}

/// Whether the coordinator's certificate is for other names than the one that this host was told.
pub(crate) fn names_apart(error: &(dyn Error + 'static)) -> bool {
    let misnamed = |problem: &CertificateError| {
        matches!(problem, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
    };
    layers(error).filter_map(certificate_error).any(misnamed)
}

/// Why a call was not carried out: the coordinator's own reason, or what broke below it.
pub(crate) fn not_carried_out(endpoint: &str, status: &Status) -> Reason {
    if status.details().is_empty() && status.source().is_some() {
        return not_spoken_to(endpoint, status);
    }
    wire::refused_because(status)
}

/// The error and everything below it. An I/O error carries another one beside its `source`, which is looked into too.
fn layers<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |at| below(*at))
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => error.source(),
    }
}

fn certificate_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() else { return None };
    Some(problem)
}
