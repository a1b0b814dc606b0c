//! The generated clients and servers carry our bounds: what the language allows passes, what it does not is refused by
//! the side that meets it first. Over a pipe in memory; the sockets are `launchpad-pki`'s.

mod support;

use std::io;

use hyper_util::rt::TokioIo;
use launchpad_protocol::limits::{ENROLL_MESSAGE_MAX_BYTES, FRAME_MAX_BYTES, SPEC_MAX_BYTES};
use launchpad_protocol::wire::{enrollment_client, enrollment_server, fleet_client, fleet_server, v1};
use support::enrollment;
use tokio::io::DuplexStream;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Bytes in flight in the pipe: a few frames of HTTP/2.
const PIPE_BYTES: usize = 64 * 1024;

/// A coordinator that answers a Hello with one spec of so many bytes.
struct Coordinator {
    spec_bytes: usize,
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for Coordinator {
    type ControlStream = tokio_stream::Once<Result<v1::CoordinatorFrame, Status>>;

    async fn control(&self, _: Request<Streaming<v1::AgentFrame>>) -> Result<Response<Self::ControlStream>, Status> {
        let offer = v1::SpecOffer { generation: 1, digest: vec![0; 32], host_spec: vec![7; self.spec_bytes] };
        let frame = v1::CoordinatorFrame { frame: Some(v1::coordinator_frame::Frame::Spec(offer)) };
        Ok(Response::new(tokio_stream::once(Ok(frame))))
    }

    async fn answer(&self, request: Request<Streaming<v1::AnswerFrame>>) -> Result<Response<v1::AnswerAck>, Status> {
        let mut frames = request.into_inner();
        while frames.message().await?.is_some() {}
        Ok(Response::new(v1::AnswerAck {}))
    }

    async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        Err(Status::unimplemented("no test renews"))
    }

    async fn trust(&self, _: Request<v1::TrustRequest>) -> Result<Response<v1::TrustReply>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Coordinator {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        Ok(Response::new(v1::EnrollReply { host_id: request.into_inner().host_name, ..v1::EnrollReply::default() }))
    }

    async fn challenge(&self, _: Request<v1::ChallengeRequest>) -> Result<Response<v1::ChallengeReply>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    async fn renew_expired(&self, _: Request<v1::RenewExpiredRequest>) -> Result<Response<v1::RenewReply>, Status> {
        Err(Status::unimplemented("no test renews"))
    }
}

/// A fleet port on one end of a pipe, and a channel on the other.
async fn fleet_port(spec_bytes: usize) -> Channel {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let service = fleet_server(Coordinator { spec_bytes });
    tokio::spawn(Server::builder().serve_with_incoming(service, one(theirs)));
    channel(ours).await
}

/// An enrolment listener on one end of a pipe, and a channel on the other.
async fn enrolment_listener() -> Channel {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let service = enrollment_server(Coordinator { spec_bytes: 0 });
    tokio::spawn(Server::builder().serve_with_incoming(service, one(theirs)));
    channel(ours).await
}

/// One connection that is accepted, and no other.
fn one(pipe: DuplexStream) -> impl Stream<Item = io::Result<DuplexStream>> {
    tokio_stream::once(Ok(pipe))
}

async fn channel(pipe: DuplexStream) -> Channel {
    let mut pipe = Some(pipe);
    let connector = tower::service_fn(move |_| {
        let pipe = pipe.take().map(TokioIo::new).ok_or_else(|| io::Error::other("the pipe has been used"));
        async move { pipe }
    });
    Endpoint::from_static("http://coordinator").connect_with_connector(connector).await.expect("the pipe is open")
}

/// The bytes of the one spec that comes, or why it does not.
async fn offered_spec(spec_bytes: usize) -> Result<usize, Status> {
    let hello = v1::AgentFrame { frame: Some(v1::agent_frame::Frame::Hello(v1::Hello::default())) };
    let mut client = fleet_client(fleet_port(spec_bytes).await);
    let mut frames = client.control(tokio_stream::once(hello)).await?.into_inner();
    match frames.message().await?.and_then(|message| message.frame) {
        Some(v1::coordinator_frame::Frame::Spec(offer)) => Ok(offer.host_spec.len()),
        other => panic!("no spec came: {other:?}"),
    }
}

#[tokio::test]
async fn the_largest_spec_passes_which_tonic_alone_would_refuse() {
    assert_eq!(offered_spec(SPEC_MAX_BYTES).await.expect("it is allowed"), SPEC_MAX_BYTES);
}

#[tokio::test]
async fn a_frame_above_the_bound_is_refused() {
    let refusal = offered_spec(FRAME_MAX_BYTES).await.expect_err("a frame around it is larger");
    assert_eq!(refusal.code(), Code::OutOfRange, "{refusal}");
}

#[tokio::test]
async fn an_answer_is_read_to_its_end() {
    let frames = support::frames::answer_parts().into_iter().map(|(_, part)| v1::AnswerFrame::from(part));
    let mut client = fleet_client(fleet_port(0).await);
    client.answer(tokio_stream::iter(frames.collect::<Vec<_>>())).await.expect("it is acknowledged");
}

#[tokio::test]
async fn a_stranger_can_send_the_enrolment_listener_only_little() {
    let mut client = enrollment_client(enrolment_listener().await);
    let reply = client.enroll(enrollment::request()).await.expect("a request of ordinary size");
    assert_eq!(reply.into_inner().host_id, enrollment::request().host_name);

    let huge = v1::EnrollRequest { csr_der: vec![0; ENROLL_MESSAGE_MAX_BYTES], ..enrollment::request() };
    let mut stranger = v1::enrollment_client::EnrollmentClient::new(enrolment_listener().await);
    let refusal = stranger.enroll(huge).await.expect_err("it is too large");
    assert_eq!(refusal.code(), Code::OutOfRange, "{refusal}");
}

#[test]
fn a_request_that_is_logged_shows_no_secret() {
    let shown = format!("{:?}", enrollment::request());
    assert!(shown.contains("web-2"), "{shown}");
    assert!(!shown.contains(&enrollment::SECRET_BYTE.to_string()), "{shown}");
}
