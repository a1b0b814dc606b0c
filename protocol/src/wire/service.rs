//! Clients and servers of both services, with our bounds on message size instead of tonic's.
//!
//! `agent/src/link.rs` and `coordinator/src/fleet` make theirs here and nowhere else: tonic's own default would refuse a
//! spec above 4 MiB on the agent, and would let it grow without a bound on the coordinator.

use tonic::transport::Channel;

use super::v1::enrollment_client::EnrollmentClient;
use super::v1::enrollment_server::{Enrollment, EnrollmentServer};
use super::v1::fleet_client::FleetClient;
use super::v1::fleet_server::{Fleet, FleetServer};
use crate::limits::{ENROLL_MESSAGE_MAX_BYTES, FRAME_MAX_BYTES};

/// The host's side of the fleet port, over an authenticated channel.
#[must_use]
pub fn fleet_client(channel: Channel) -> FleetClient<Channel> {
    FleetClient::new(channel).max_decoding_message_size(FRAME_MAX_BYTES).max_encoding_message_size(FRAME_MAX_BYTES)
}

/// The coordinator's side of the fleet port.
#[must_use]
pub fn fleet_server<F: Fleet>(service: F) -> FleetServer<F> {
    FleetServer::new(service).max_decoding_message_size(FRAME_MAX_BYTES).max_encoding_message_size(FRAME_MAX_BYTES)
}

/// The host's side of the enrolment listener.
#[must_use]
pub fn enrollment_client(channel: Channel) -> EnrollmentClient<Channel> {
    EnrollmentClient::new(channel)
        .max_decoding_message_size(ENROLL_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(ENROLL_MESSAGE_MAX_BYTES)
}

/// The coordinator's side of the enrolment listener, where anybody may knock: hence the small bound.
#[must_use]
pub fn enrollment_server<E: Enrollment>(service: E) -> EnrollmentServer<E> {
    EnrollmentServer::new(service)
        .max_decoding_message_size(ENROLL_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(ENROLL_MESSAGE_MAX_BYTES)
}
