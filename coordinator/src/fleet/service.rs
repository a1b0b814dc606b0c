//! The fleet port's four calls, between the wire and the rest of `fleet`.
//!
//! Who calls is in the request's extensions, put there by the listener from the certificate. Wire messages become the
//! protocol's own types here, and nothing further in sees protobuf; what does not convert ends the call with its reason.

use std::sync::Arc;

use futures::stream::{BoxStream, Stream, StreamExt as _};
use launchpad_pki::pipe::PeerInfo;
use launchpad_protocol::frame::AgentFrame;
use launchpad_protocol::id::AskId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::wire::v1::fleet_server::Fleet;
use launchpad_protocol::wire::{AnswerPart, refusal, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::query::Pieces;
use super::server::Ground;
use super::session::{self, Frames};
use super::{renew, trust};

/// Frames that wait for the host to read them: a spec, and the small ones around it.
const FRAMES_WAITING_MAX: usize = 8;

/// The service that the fleet listener's connections reach.
pub(super) struct FleetService {
    pub(super) ground: Arc<Ground>,
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type ControlStream = BoxStream<'static, Result<v1::CoordinatorFrame, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::AgentFrame>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let peer = peer_of(&request)?;
        let (out, waiting) = mpsc::channel(FRAMES_WAITING_MAX);
        let session = session::run(Arc::clone(&self.ground), peer, frames(request.into_inner()), out);
        // A task of its own: what the session has begun in the store it ends, also when the call is dropped.
        self.ground.sessions.spawn(session);
        Ok(Response::new(ReceiverStream::new(waiting).map(|frame| Ok(frame.into())).boxed()))
    }

    async fn answer(&self, request: Request<Streaming<v1::AnswerFrame>>) -> Result<Response<v1::AnswerAck>, Status> {
        let peer = peer_of(&request)?;
        let mut parts = request.into_inner();
        let id = begins(&mut parts).await?;
        let answered = self.ground.fleet.asks.answer(peer.host, id, pieces(parts)).await;
        answered.map_err(|reason| refusal(Code::NotFound, &reason))?;
        Ok(Response::new(v1::AnswerAck {}))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let peer = peer_of(&request)?;
        let renewed = renew::in_touch(&self.ground, peer.host, &request.into_inner().csr_der).await;
        let certificate = renewed.map_err(|error| error.into_status("renew a certificate"))?;
        Ok(Response::new(renew::reply(&self.ground, &certificate, None)))
    }

    async fn trust(&self, request: Request<v1::TrustRequest>) -> Result<Response<v1::TrustReply>, Status> {
        let peer = peer_of(&request)?;
        let told = trust::asked(&self.ground, peer.host, &request.into_inner()).await;
        told.map(Response::new).map_err(|reason| refusal(Code::Unavailable, &reason))
    }
}

/// Who calls.
fn peer_of<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    // The listener puts it there for every pipe: without it, this service was reached by another way in.
    let peer = request.extensions().get::<PeerInfo>().cloned();
    peer.ok_or_else(|| Status::unauthenticated("the caller has shown no certificate"))
}

/// The session's frames. A broken connection ends them; a frame that does not convert ends them with its reason.
fn frames(messages: Streaming<v1::AgentFrame>) -> Frames {
    let decoded = |message| AgentFrame::try_from(message).map_err(|error| Reason::from(&error));
    until_broken(messages).map(decoded).boxed()
}

/// The messages, until the stream ends or breaks: to a session both are the same.
fn until_broken<T>(messages: Streaming<T>) -> impl Stream<Item = T> {
    tokio_stream::StreamExt::map_while(messages, Result::ok)
}

/// The first frame of an answer says which question it answers.
async fn begins(parts: &mut Streaming<v1::AnswerFrame>) -> Result<AskId, Status> {
    let first = parts.message().await?.ok_or_else(|| Status::invalid_argument("the answer is empty"))?;
    match AnswerPart::try_from(first) {
        Ok(AnswerPart::Begins(id)) => Ok(id),
        Ok(AnswerPart::Piece(_)) => Err(Status::invalid_argument("the answer does not begin with the ask's id")),
        Err(error) => Err(refusal(Code::InvalidArgument, &Reason::from(&error))),
    }
}

/// The pieces of an answer after its first frame.
fn pieces(parts: Streaming<v1::AnswerFrame>) -> Pieces {
    let decoded = |message| match AnswerPart::try_from(message) {
        Ok(AnswerPart::Piece(piece)) => Ok(piece),
        Ok(AnswerPart::Begins(_)) => Err(Reason::new("frame-out-of-turn", "an answer began twice")),
        Err(error) => Err(Reason::from(&error)),
    };
    until_broken(parts).map(decoded).boxed()
}
