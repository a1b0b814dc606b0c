//! tonic over the lanes: a handler knows its caller by the certificate, on every route.

use std::convert::Infallible;

use launchpad_pki::admission::Admission;
use launchpad_pki::dial::{Route, channel};
use launchpad_pki::listener::{FleetControl, FleetListener};
use launchpad_pki::pipe::{Lane, PeerInfo};
use launchpad_pki::quic::ResetKey;
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::world::{ROUTES, World, any_port, host_id, whole, within};

type Text = ProstCodec<String, String>;

/// Answers every call with the caller's id and the route that it took.
async fn who_is(request: Request<String>) -> Result<Response<String>, Status> {
    let peer = request.extensions().get::<PeerInfo>().ok_or_else(|| Status::internal("a caller without a name"))?;
    Ok(Response::new(format!("{} {} over {}", request.get_ref(), peer.host, peer.transport)))
}

async fn serve(world: &World) -> (FleetControl, JoinHandle<()>) {
    let reset = ResetKey::of(&world.ca);
    let listener = FleetListener::bind(any_port(), &world.tls(&[]), &reset, Admission::new([], [])).await.unwrap();
    let control = listener.control();
    let service = tower::service_fn(|request| async move {
        let service = tower::service_fn(who_is);
        let mut grpc = tonic::server::Grpc::new(Text::default());
        Ok::<_, Infallible>(grpc.unary(service, request).await)
    });
    let task = tokio::spawn(async move {
        Server::builder().serve_with_incoming(service, listener).await.unwrap();
    });
    (control, task)
}

async fn ask(channel: Channel, text: &str) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(whole(&error)))?;
    let path = PathAndQuery::from_static("/test.Names/WhoIs");
    Ok(grpc.unary(Request::new(text.to_owned()), path, Text::default()).await?.into_inner())
}

#[tokio::test]
async fn a_handler_knows_its_caller_on_every_lane_of_every_route() {
    let world = World::new();
    let (control, server) = serve(&world).await;
    let dialer = world.dialer(&world.host(7), control.local_addr());
    for (route, name) in ROUTES.into_iter().zip(["quic", "tcp"]) {
        let dial = dialer.open(route).await.unwrap();
        for lane in [Lane::Control, Lane::Answer, Lane::Renew] {
            let channel = within(channel(dial.clone(), lane)).await.unwrap();
            let answer = within(ask(channel, "hello")).await.unwrap();
            assert_eq!(answer, format!("hello {} over {name}", host_id(7)));
        }
    }
    server.abort();
}

#[tokio::test]
async fn a_refused_host_learns_it_from_its_first_call() {
    let (world, other) = (World::new(), World::new());
    let (control, server) = serve(&world).await;
    let stranger = crate::world::dialer(&other.host(7).credentials, &world.bundle, control.local_addr());
    for route in ROUTES {
        // The trap: both may succeed.
        let call = async {
            let dial = stranger.open(route).await.map_err(|error| Status::unavailable(whole(&error)))?;
            let channel = channel(dial, Lane::Control).await;
            ask(channel.map_err(|error| Status::unavailable(whole(&error)))?, "hello").await
        };
        within(call).await.unwrap_err();
    }
    server.abort();
}

#[tokio::test]
async fn a_big_message_passes_windows_that_are_smaller() {
    let world = World::new();
    let (control, server) = serve(&world).await;
    let dialer = world.dialer(&world.host(7), control.local_addr());
    let text = "x".repeat(3 * 1024 * 1024);
    for route in [Route::Quic, Route::Tcp] {
        let channel = channel(dialer.open(route).await.unwrap(), Lane::Answer).await.unwrap();
        let answer = within(ask(channel, &text)).await.unwrap();
        assert!(answer.len() > text.len());
    }
    server.abort();
}
