//! The coordinator's durable store, as somebody sees it who is not the coordinator: over a connection of its own, which
//! shows what was committed whether the coordinator lives or not.

use std::collections::BTreeMap;
use std::path::Path;

use futures::FutureExt as _;
use launchpad_coordinator::domain::actor::Scope;
use launchpad_coordinator::store::deployments::{self, Deployment};
use launchpad_coordinator::store::reports::StoredReport;
use launchpad_coordinator::store::timeline::{self, TimelineEntry};
use launchpad_coordinator::store::{
    Intent, Store, StoreError, StoreUrl, Tx, meta, operations, outbox, reports, specs, tombstones,
};
use launchpad_protocol::generation::Accepted;
use launchpad_protocol::id::{DeploymentId, HostId, JournalId};
use launchpad_protocol::time::Moment;

use crate::chronicle::Chronicle;

/// Deployments of a run, at most; more than anybody wishes for.
const DEPLOYMENTS_MAX: u32 = 100;

/// The look.
pub(crate) struct Observer {
    store: Store,
    hosts: Vec<HostId>,
}

/// Everything durable that the oracle asks about, of one moment.
#[derive(Default)]
pub(crate) struct StoreView {
    pub(crate) hosts: Vec<HostView>,
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) timelines: BTreeMap<DeploymentId, Vec<TimelineEntry>>,
    /// Why something is still to be done; none: nothing is.
    pub(crate) undone: Option<String>,
}

/// One host in it.
pub(crate) struct HostView {
    pub(crate) latest: Option<Accepted>,
    pub(crate) told: Option<Accepted>,
    pub(crate) folded: BTreeMap<JournalId, u64>,
    pub(crate) report: Option<StoredReport>,
}

impl Observer {
    pub(crate) fn open(database: &Path, hosts: Vec<HostId>, now: Moment) -> Self {
        let url = StoreUrl::Sqlite(database.to_owned());
        let store = inline(Store::open_inline(&url, Intent::Use, now)).expect("a store that was just made");
        Self { store, hosts }
    }

    /// Everything as it is now. `journals`: those that each host has ever had.
    pub(crate) fn look(&self, journals: &[BTreeMap<JournalId, u64>]) -> StoreView {
        let read = async |tx: &mut Tx| {
            let mut view = StoreView::default();
            let mut undone = meta::frozen(tx).await?.map(|frozen| format!("publishing is frozen: {frozen:?}"));
            for (host, journals) in self.hosts.iter().zip(journals) {
                let mut folded = BTreeMap::new();
                for journal in journals.keys() {
                    folded.insert(*journal, reports::folded(tx, *host, *journal).await?);
                }
                if !operations::unanswered_on_host(tx, *host).await?.is_empty() {
                    undone.get_or_insert(format!("operations on {host} have no answer"));
                }
                if !tombstones::unburied(tx, *host).await?.is_empty() {
                    undone.get_or_insert(format!("tombstones of {host} are not carried out"));
                }
                view.hosts.push(HostView {
                    latest: specs::latest(tx, *host).await?.map(|offer| offer.accepted()),
                    told: specs::floor(tx, *host).await?,
                    report: reports::latest(tx, *host).await?,
                    folded,
                });
            }
            if !outbox::marked(tx).await?.is_empty() {
                undone.get_or_insert("the outbox is not empty".to_owned());
            }
            view.deployments = deployments::list(tx, Scope::Every, "", DEPLOYMENTS_MAX).await?;
            for one in &view.deployments {
                view.timelines.insert(one.id, timeline::latest(tx, one.id, timeline::LINES_MAX).await?);
            }
            view.undone = undone;
            Ok::<_, StoreError>(view)
        };
        inline(self.store.read(read)).expect("the store can always be read")
    }
}

impl StoreView {
    /// Tells what is new since `before`.
    pub(crate) fn tell(&self, before: &Self, chronicle: &Chronicle) {
        for (machine, host) in self.hosts.iter().enumerate() {
            let earlier = before.hosts.get(machine);
            if earlier.is_none_or(|earlier| earlier.latest != host.latest)
                && let Some(latest) = host.latest
            {
                chronicle.note(format_args!("store: spec {} for machine {machine}", latest.generation));
            }
            if earlier.is_none_or(|earlier| earlier.told != host.told)
                && let Some(told) = host.told
            {
                chronicle.note(format_args!("store: machine {machine} holds {}", told.generation));
            }
        }
        for (id, lines) in &self.timelines {
            let told = before.timelines.get(id).map_or(0, Vec::len);
            for line in lines.iter().skip(told) {
                chronicle.note(format_args!("store: {id} is {}: {}", line.state.as_str(), line.cause));
            }
        }
    }
}

/// The result of something that waits for nothing but an inline store.
pub(crate) fn inline<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("an inline store answers at once")
}
