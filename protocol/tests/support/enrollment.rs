//! One message of each kind that enrolment and renewal send; they have no type of ours behind them.

use launchpad_protocol::id::{HostId, JoinTokenId};
use launchpad_protocol::wire::v1;
use prost::Message;

use super::id;

/// Every message of enrolment, encoded, by name.
pub(crate) fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("enrollment-request", request().encode_to_vec()),
        ("enrollment-reply", reply().encode_to_vec()),
        ("enrollment-challenge", v1::ChallengeRequest { certificate_der: b"certificate".to_vec() }.encode_to_vec()),
        ("enrollment-nonce", v1::ChallengeReply { nonce: vec![7; 32] }.encode_to_vec()),
        ("enrollment-renew-expired", renew_expired().encode_to_vec()),
        ("enrollment-renew", v1::RenewRequest { csr_der: b"csr".to_vec() }.encode_to_vec()),
        ("enrollment-renewed", renewed().encode_to_vec()),
    ]
}

/// What one of them says.
pub(crate) fn meaning(name: &str, bytes: &[u8]) -> String {
    fn shown<M: Message + Default + std::fmt::Debug>(bytes: &[u8]) -> String {
        format!("{:#?}\n", M::decode(bytes).expect("what was recorded decodes"))
    }
    match name {
        "enrollment-request" => shown::<v1::EnrollRequest>(bytes),
        "enrollment-reply" => shown::<v1::EnrollReply>(bytes),
        "enrollment-challenge" => shown::<v1::ChallengeRequest>(bytes),
        "enrollment-nonce" => shown::<v1::ChallengeReply>(bytes),
        "enrollment-renew-expired" => shown::<v1::RenewExpiredRequest>(bytes),
        "enrollment-renew" => shown::<v1::RenewRequest>(bytes),
        "enrollment-renewed" => shown::<v1::RenewReply>(bytes),
        other => panic!("{other}.bin: no such message of enrolment"),
    }
}

/// A request whose secret is [`SECRET_BYTE`], 32 times.
pub(crate) fn request() -> v1::EnrollRequest {
    v1::EnrollRequest {
        token_id: id::<JoinTokenId>(700).to_string(),
        secret: vec![SECRET_BYTE; 32],
        csr_der: b"csr".to_vec(),
        sealing_public_key: vec![9; 32],
        host_name: "web-2".to_owned(),
        agent_version: "0.1.0".to_owned(),
        wall_us: 1_767_225_600_000_000,
    }
}

/// A byte that no other field of [`request`] has.
pub(crate) const SECRET_BYTE: u8 = 0xab;

fn reply() -> v1::EnrollReply {
    v1::EnrollReply {
        host_id: id::<HostId>(100).to_string(),
        chain_der: chain(),
        trust_bundle_pem: "-----BEGIN CERTIFICATE-----".to_owned(),
        fleet_endpoints: endpoints(),
        server_name: "fleet.launchpad.internal".to_owned(),
        trust_domain: "launchpad.internal".to_owned(),
    }
}

fn renewed() -> v1::RenewReply {
    v1::RenewReply {
        chain_der: chain(),
        trust_bundle_pem: "-----BEGIN CERTIFICATE-----".to_owned(),
        fleet_endpoints: endpoints(),
    }
}

fn renew_expired() -> v1::RenewExpiredRequest {
    v1::RenewExpiredRequest {
        certificate_der: b"certificate".to_vec(),
        csr_der: b"csr".to_vec(),
        nonce: vec![7; 32],
        signature: b"signature".to_vec(),
    }
}

fn chain() -> Vec<Vec<u8>> {
    vec![b"host".to_vec(), b"issuer".to_vec()]
}

fn endpoints() -> Vec<String> {
    vec!["198.18.0.1:7443".to_owned(), "fleet.launchpad.example:7443".to_owned()]
}
