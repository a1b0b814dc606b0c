//! The enrolment listener's three calls: a machine becomes a host, and a host comes back whose certificate ran out.
//!
//! Anybody may knock here. What a caller says is a claim until a join token's secret or an old key's signature proves
//! it, and a refusal tells a stranger no more than that it is one. The decisions are [`super::join`]'s and
//! [`super::renew`]'s; here wire messages become values, and refusals statuses.

use std::net::IpAddr;
use std::sync::Arc;

use launchpad_pki::CertificateDer;
use launchpad_pki::enroll::{EnrollRequest, Nonce, RenewRequest};
use launchpad_pki::enroll_listener::EnrollPeer;
use launchpad_pki::identity::HostIdentity;
use launchpad_pki::token::TokenSecret;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;
use launchpad_protocol::wire::v1::enrollment_server::Enrollment;
use launchpad_protocol::wire::{refusal, v1};
use tonic::{Code, Request, Response, Status};

use super::server::Ground;
use super::{join, renew};

/// The service that the enrolment listener's connections reach.
pub(super) struct EnrollService {
    pub(super) ground: Arc<Ground>,
}

#[tonic::async_trait]
impl Enrollment for EnrollService {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let reached = reached(&request);
        let request = enroll_request(request.into_inner()).map_err(|reason| malformed(&reason))?;
        let ground = &self.ground;
        let joined = join::join(ground, &request).await.map_err(|error| error.into_status("join"))?;
        Ok(Response::new(v1::EnrollReply {
            host_id: joined.host.to_string(),
            chain_der: joined.certificate.chain_der.iter().map(|der| der.to_vec()).collect(),
            trust_bundle_pem: ground.trust().bundle.to_pem(),
            fleet_endpoints: ground.address.endpoints(reached),
            server_name: ground.address.server_name.clone(),
            trust_domain: ground.trust_domain.to_string(),
        }))
    }

    async fn challenge(
        &self,
        request: Request<v1::ChallengeRequest>,
    ) -> Result<Response<v1::ChallengeReply>, Status> {
        let certificate = request.into_inner().certificate_der;
        // Whether the caller has its key shows in the answer; a certificate of somebody else need not be challenged.
        HostIdentity::of_domain(&CertificateDer::from(&certificate[..]), &self.ground.trust_domain)
            .map_err(|error| malformed(&not_understood("certificate_der", error)))?;
        let nonce = self.ground.challenges.give(&certificate, self.ground.clock.wall());
        Ok(Response::new(v1::ChallengeReply { nonce: nonce.as_bytes().to_vec() }))
    }

    async fn renew_expired(
        &self,
        request: Request<v1::RenewExpiredRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        let reached = reached(&request);
        let message = request.into_inner();
        let nonce = Nonce::from_bytes(&message.nonce)
            .ok_or_else(|| malformed(&not_understood("nonce", "it is not 32 bytes")))?;
        let request = RenewRequest {
            certificate_der: CertificateDer::from(message.certificate_der),
            csr_der: message.csr_der,
            nonce,
            signature: message.signature,
        };
        let renewed = renew::after_expiry(&self.ground, &request).await;
        let certificate = renewed.map_err(|error| error.into_status("renew a certificate"))?;
        Ok(Response::new(renew::reply(&self.ground, &certificate, reached)))
    }
}

/// The address of ours that the caller reached.
fn reached<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<EnrollPeer>().map(|peer| peer.local.ip())
}

fn enroll_request(message: v1::EnrollRequest) -> Result<EnrollRequest, Reason> {
    Ok(EnrollRequest {
        token_id: message.token_id.parse().map_err(|error| not_understood("token_id", error))?,
        token_secret: TokenSecret::from_bytes(&message.secret).map_err(|error| not_understood("secret", error))?,
        csr_der: message.csr_der,
        sealing_public_key: message.sealing_public_key,
        host_name: message.host_name,
        agent_version: message.agent_version,
        wall: Moment::from_micros(message.wall_us),
    })
}

fn not_understood(field: &str, problem: impl std::fmt::Display) -> Reason {
    Reason::new("message-malformed", format!("{field}: {problem}"))
        .mend("compare the versions of agent and coordinator")
}

fn malformed(reason: &Reason) -> Status {
    refusal(Code::InvalidArgument, reason)
}
