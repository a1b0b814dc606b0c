//! A No across a call: a [`Reason`] as a gRPC status, and back.
//!
//! The status' message is the reason on one line, so that any client can show it; its details are the encoded reason,
//! so that the agent renders code, cause and mend as everywhere else.

use prost::Message as _;
use tonic::{Code, Status};

use super::v1;
use crate::reason::Reason;

/// The reason as a status of that code.
#[must_use]
pub fn refusal(code: Code, reason: &Reason) -> Status {
    let details = v1::Reason::from(reason.clone()).encode_to_vec();
    Status::with_details(code, reason.to_string(), details.into())
}

/// The reason in a status: what the peer said, or for a status that the transport made what it says of itself.
#[must_use]
pub fn refused_because(status: &Status) -> Reason {
    let details = (!status.details().is_empty()).then(|| v1::Reason::decode(status.details()).ok()).flatten();
    details
        .and_then(|reason| Reason::try_from(reason).ok())
        .unwrap_or_else(|| Reason::new("call-failed", format!("the call failed: {}", status.message())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_back_as_its_reason() {
        let reason = Reason::new("token-used", "the token was used").because("web-1 has it").mend("make another");
        let status = refusal(Code::PermissionDenied, &reason);
        assert_eq!(status.message(), reason.to_string());
        assert_eq!(refused_because(&status), reason);
    }

    #[test]
    fn a_status_of_the_transport_still_gives_a_reason() {
        let reason = refused_because(&Status::unavailable("connection reset"));
        assert_eq!(reason.code, "call-failed");
        assert!(reason.sentence.contains("connection reset"), "{reason}");
    }
}
