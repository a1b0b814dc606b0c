//! A fleet that comes back all at once, as after an outage: it is in again soon, and is told to do nothing.
//!
//! `LAUNCHPAD_STORM_HOSTS=1000` makes it a thousand hosts; how long they took is printed, and with `LAUNCHPAD_FIGURES` a
//! figure of that file.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use launchpad_pki::dial::Route;
use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::frame::{CoordinatorFrame, Leases};
use launchpad_protocol::generation::Accepted;
use launchpad_protocol::id::{HostId, IncarnationId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::agent::{Agent, Session, hello, report};
use super::coordinator::Coordinator;

/// Hosts, unless the variable says otherwise.
const HOSTS: usize = 100;

/// Machines that join side by side: far fewer than enrolment lets in.
const JOINING: usize = 16;

/// The agent's own pace (`link::Pace`): the most that it waits after a first failure, doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(30);

/// How long one try may take, as the agent bounds its own: what is not answered by then is tried again.
const TRY_WITHIN: Duration = Duration::from_secs(10);

/// How long they may take on a busy machine: some rounds of the longest pause.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

fn count() -> usize {
    std::env::var("LAUNCHPAD_STORM_HOSTS").map_or(HOSTS, |text| text.parse().expect("a number of hosts"))
}

/// One host's way in: like the agent's link, it tries until a report of it is stored, and pauses with full jitter.
/// Answers its session, and what it was told meanwhile.
async fn come_back(
    agent: &Agent,
    (held, life): (Accepted, IncarnationId),
    entropy: &Entropy,
    tries: &AtomicUsize,
) -> (Session, Vec<CoordinatorFrame>) {
    let mut pause = RETRY_FIRST;
    loop {
        tries.fetch_add(1, Ordering::Relaxed);
        let once = async {
            let mut session = agent.connect(Route::Quic, hello(Some(held), Some(life))).await.ok()?;
            let told = is_in(&mut session, held, entropy).await?;
            Some((session, told))
        };
        if let Ok(Some(back)) = tokio::time::timeout(TRY_WITHIN, once).await {
            return back;
        }
        tokio::time::sleep(entropy.full_jitter(pause)).await;
        pause = (pause * 2).min(RETRY_CAP);
    }
}

/// What a session was told until its report was stored; none: it was turned away.
async fn is_in(session: &mut Session, held: Accepted, entropy: &Entropy) -> Option<Vec<CoordinatorFrame>> {
    let Some(CoordinatorFrame::Welcome(_)) = session.hear().await else { return None };
    session.report(report(Some(held), entropy.id(super::agent::now()))).await;
    let mut told = Vec::new();
    loop {
        let frame = session.hear().await?;
        let stored = matches!(frame, CoordinatorFrame::ReportStored { .. });
        told.push(frame);
        if stored {
            return Some(told);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reconnects_settles_and_tells_nobody_to_do_anything() {
    let (coordinator, hosts) = (Coordinator::start().await, count());
    let joining = (0..hosts).map(|number| {
        let coordinator = &coordinator;
        async move {
            let agent = coordinator.host(&format!("web-{number}")).await;
            let offer = coordinator.publish(agent.host, 1).await;
            (agent.host, (Arc::new(agent), offer.accepted()))
        }
    });
    let fleet: BTreeMap<HostId, (Arc<Agent>, Accepted)> =
        stream::iter(joining).buffer_unordered(JOINING).collect().await;
    assert_eq!(fleet.len(), hosts);
    let life = coordinator.read(launchpad_coordinator::store::meta::incarnation).await;

    let coordinator = coordinator.restart().await;
    let (began, tries) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut coming = JoinSet::new();
    for (agent, held) in fleet.values().cloned() {
        let (entropy, tries) = (coordinator.entropy.clone(), Arc::clone(&tries));
        coming.spawn(async move { come_back(&agent, (held, life), &entropy, &tries).await });
    }
    let mut sessions = Vec::new();
    let settle = async {
        while let Some(back) = coming.join_next().await {
            let (session, told) = back.unwrap();
            let nothing_new = matches!(&told[..], [CoordinatorFrame::ReportStored { leases: Leases::Granted, .. }]);
            assert!(nothing_new, "a host is told {told:?}");
            sessions.push(session);
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, settle).await.expect("the storm settles");
    let connected = fleet.keys().filter(|host| coordinator.fleet.connected(**host).is_some()).count();
    assert_eq!((sessions.len(), connected), (hosts, hosts), "everybody is in, and nobody has thrown another out");
    tell(hosts, began.elapsed(), tries.load(Ordering::Relaxed));
}

/// Says how long it took; as a figure among the benchmark's too, where one is wanted.
fn tell(hosts: usize, settled: Duration, tries: usize) {
    let seconds = settled.as_secs_f64();
    println!("storm of {hosts} reconnects settles in {seconds:.1} s, after {tries} tries");
    let Some(path) = std::env::var_os("LAUNCHPAD_FIGURES") else { return };
    let figure = serde_json::json!({
        "name": format!("storm of {hosts} reconnects settles"), "unit": "s", "ours": seconds,
        "peer": null, "theirs": null, "target": null, "ok": true,
    });
    let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file for figures");
    writeln!(file, "{figure}").expect("a figure written");
}
