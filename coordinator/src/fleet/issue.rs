//! A certificate for a host, signed and remembered in one transaction: what joining and renewing have in common.

use launchpad_pki::ca::{CaError, IssuedCertificate};
use launchpad_protocol::id::HostId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::refusal;
use tonic::{Code, Status};

use super::server::Ground;
use crate::store::{StoreError, Tx, certificates};

/// Why a host gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    /// It may not have one.
    #[error("{0}")]
    Refused(Reason),
    /// The CA cannot sign.
    #[error("the CA cannot sign: {0}")]
    Ca(#[source] CaError),
    /// The store cannot say, or cannot keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Signs a certificate for the key of that CSR, and remembers it.
pub(super) async fn issue(
    ground: &Ground,
    tx: &mut Tx,
    host: HostId,
    csr_der: &[u8],
    now: Moment,
) -> Result<IssuedCertificate, IssueError> {
    let issued =
        ground.trust().signer.issue_host(csr_der, host, now, ground.lives.host).map_err(IssueError::from_ca)?;
    certificates::insert(tx, host, &issued, now).await?;
    Ok(issued)
}

impl IssueError {
    /// A bad request is the caller's, all else ours.
    fn from_ca(error: CaError) -> Self {
        if matches!(error, CaError::Request(_)) {
            return Self::Refused(Reason::new("csr-refused", error.to_string()));
        }
        Self::Ca(error)
    }

    /// For the caller: a refusal in full, and of our own troubles only that there are some, with the rest in our log.
    /// `step` ends the sentence "a host cannot …".
    pub(super) fn into_status(self, step: &'static str) -> Status {
        match self {
            Self::Refused(reason) => {
                tracing::info!(code = reason.code, "a host may not {step}: {reason}");
                refusal(Code::PermissionDenied, &reason)
            }
            Self::Ca(error) => {
                tracing::error!(%error, "a host cannot {step}");
                refusal(Code::Internal, &ours("the coordinator's CA cannot sign"))
            }
            Self::Store(error) => {
                tracing::error!(%error, "a host cannot {step}");
                refusal(Code::Unavailable, &ours("the coordinator's store is away"))
            }
        }
    }
}

fn ours(sentence: &str) -> Reason {
    Reason::new("coordinator-in-trouble", sentence).mend("see the coordinator's log; then try again")
}
