//! The fleet's side over pipes that somebody else opens: the simulator's, which has neither QUIC nor TLS.
//!
//! Sessions and publishing are those of [`super::server`]; there is no enrolment, and no certificate to tend.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::Stream;
use launchpad_pki::pipe::PeerPipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificates::Certificates;
use super::challenge::Challenges;
use super::publish;
use super::server::{FleetAddress, FleetError, FleetParts, Ground, Lives, serve_fleet};

/// The name in a certificate that nobody is shown.
const NAME: &str = "coordinator";

/// Serves sessions until the coordinator stops.
///
/// # Errors
/// When the CA cannot be used, or the pipes break.
pub(crate) async fn serve(
    parts: FleetParts,
    pipes: impl Stream<Item = io::Result<PeerPipe>>,
    stop: CancellationToken,
) -> Result<(), FleetError> {
    let FleetParts { store, signals, fleet, ca, keys, clock, entropy } = parts;
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (challenges, trust_domain) = (Challenges::new(&ca), ca.trust_domain().clone());
    let nobody = vec![NAME.to_owned()];
    let (_, trust) = Certificates::issue(ca, nobody, (&store, &keys), (&clock, &entropy)).await?;
    let ground = Arc::new(Ground {
        challenges,
        trust_domain,
        trusted: watch::Sender::new(Arc::new(trust)),
        lives: Lives::default(),
        keys,
        sessions: TaskTracker::new(),
        address: FleetAddress { bound: nowhere, advertised: None, server_name: String::new() },
        store,
        signals,
        fleet,
        clock,
        entropy,
        stop,
    });
    let (served, ()) = tokio::join!(serve_fleet(&ground, pipes), publish::run(Arc::clone(&ground)));
    served
}
