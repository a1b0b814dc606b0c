//! What hosts can enforce decides where bots go, and is told of those that are there already.

use launchpad_protocol::capability;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Capability;

use crate::app::lab::{GIB, Lab, LabHost, named};
use crate::domain::actor::Role;
use crate::domain::deployment::{Event, State};
use crate::domain::host::HostState;
use crate::domain::pool_table::PoolTable;
use crate::store::hosts::{self, Seen};

/// The host reports that user ids are not remapped there, or that they are.
async fn remap(lab: &Lab, host: &LabHost, is: bool) {
    let mut capabilities = capability::complete();
    if !is {
        let reason =
            Reason::new("no-userns-remap", "user ids of bots are those of the host").mend("set userns-remap");
        capabilities.insert(capability::USERNS_REMAP.to_owned(), Capability::Absent { reason });
    }
    let report = async |tx: &mut _| {
        let row = hosts::get(tx, host.id).await?.expect("the host");
        let seen = Seen { state: HostState::Active, capacity: row.capacity, capabilities: &capabilities };
        hosts::seen(tx, host.id, seen, lab.app.clock.wall()).await
    };
    lab.write(report).await;
}

#[tokio::test]
async fn a_bot_waits_for_a_host_that_keeps_tenants_apart_and_says_what_it_waits_for() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    remap(&lab, &host, false).await;
    let id = lab.create("web").await;
    lab.settle().await;
    let row = lab.row(id).await;
    assert_eq!(row.state, State::Requested);
    let reason = row.reason.unwrap();
    assert_eq!(reason.code, "no-capable-host");
    let text = reason.to_string();
    for part in
        ["userns-remap", "user ids of bots are those of the host", "set userns-remap", "accepts = [\"userns-remap\"]"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    remap(&lab, &host, true).await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, Some(host.id));
}

#[tokio::test]
async fn a_pool_that_accepts_the_lack_places_there() {
    let lab = Lab::new().await;
    let pools = PoolTable::parse("[shared]\nkind = \"shared\"\naccepts = [\"userns-remap\"]").unwrap();
    let lab = lab.with_pools(pools);
    let host = lab.host(4 * GIB).await;
    remap(&lab, &host, false).await;
    let id = lab.create("web").await;
    lab.settle().await;
    assert_eq!(lab.row(id).await.host, Some(host.id));
}

#[tokio::test]
async fn a_bot_on_a_host_that_loses_a_capability_runs_on_and_says_so() {
    let lab = Lab::new().await;
    let host = lab.host(4 * GIB).await;
    let id = lab.create("web").await;
    lab.settle().await;
    lab.happen(id, Event::Ready).await;
    let before = lab.offer(&host).await;
    remap(&lab, &host, false).await;
    lab.settle().await;
    assert_eq!(lab.offer(&host).await, before, "nothing is asked of its host");
    let viewer = lab.actor(Role::Viewer).await;
    let view = lab.app.deployment(&viewer, &named(id)).await.unwrap();
    assert_eq!((view.state, view.host), (State::Running, Some(host.id)));
    let reason = view.reason.unwrap();
    assert_eq!(reason.code, "host-lacks-capability");
    assert!(reason.sentence.contains("userns-remap") && reason.mend.unwrap().starts_with("it runs on"));
    assert_eq!(lab.row(id).await.reason, None, "it is not stored: it ends when the host is mended");
    let operator = lab.actor(Role::Operator).await;
    let shown = lab.app.host(&operator, host.id).await.unwrap();
    assert_eq!(shown.lacking.unwrap().code, "capability-missing");
}
