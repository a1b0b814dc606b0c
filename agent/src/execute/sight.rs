//! The last observation, and what it takes to make it true again.
//!
//! `docker.rs` calls [`Sight::observe`]. A host where nothing happens is observed without a question: events
//! and our own actions say what is stale ([`super::events`]), and once a minute everything is read again,
//! because an event can be lost and somebody may have flushed the firewall. What the kernel shows has no events at
//! all, and is read more often. Half an observation is never kept or returned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum};
use launchpad_protocol::id::AccountId;
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::limits::REPORT_INTERVAL;
use tokio::time::Instant;

use super::docker::DockerHost;
use super::engine::{self, CALL_TIMEOUT};
use super::events::Stale;
use super::facts::CgroupDriver;
use super::{ExecuteError, gate, image, inspect, logs};
use crate::gate::talk::Look;
use crate::observe::kernel::TenantGroup;
use crate::observe::{Container, ContainerState, Observed};

/// How long an observation may live on events alone.
const FULL_AFTER: Duration = Duration::from_secs(60);

/// How old what the kernel shows may be: newer than the last report. Thirty containers take 9 ms.
const KERNEL_AFTER: Duration = Duration::from_secs(REPORT_INTERVAL.as_secs() / 2);

/// What was seen.
#[derive(Debug, Default)]
pub struct Sight {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    observed: Observed,
    at: Instant,
    /// When the kernel was last read for all.
    kernel_at: Instant,
}

impl Sight {
    /// Everything of ours now.
    ///
    /// # Errors
    /// [`ExecuteError::EngineAway`] when the engine does not answer; the next call reads everything.
    pub async fn observe(
        &mut self,
        host: &DockerHost,
        images: &BTreeSet<ImageRef>,
    ) -> Result<Observed, ExecuteError> {
        let mut stale = host.board.take();
        let now = Instant::now();
        // Taken out, so that a failure half-way leaves nothing to believe.
        let Seen { mut observed, at, mut kernel_at } = match self.seen.take() {
            Some(seen) if !stale.all && now.duration_since(seen.at) < FULL_AFTER => seen,
            Some(_) | None => {
                stale.all = true;
                Seen { observed: Observed::default(), at: now, kernel_at: now }
            }
        };
        if stale.all || stale.list || !stale.ids.is_empty() {
            observed.containers = containers(host, &stale, observed.containers).await?;
        }
        if stale.all || stale.rest {
            through_the_gate(host, &mut observed).await?;
            observed.volumes = host.volumes.all().await.map_err(ExecuteError::Passing)?;
            observed.files = host.files.all().map_err(ExecuteError::Passing)?;
        }
        if !stale.all && now.duration_since(kernel_at) >= KERNEL_AFTER {
            kernel_at = now;
            observed.containers.values_mut().for_each(|container| see_kernel(host, container));
        }
        observed.tenants = tenants(host, &observed).await?;
        observed.images.retain(|image| images.contains(image));
        for image in images {
            if !observed.images.contains(image) && image::holds(&host.engine, image).await? {
                observed.images.insert(image.clone());
            }
        }
        self.seen = Some(Seen { observed: observed.clone(), at, kernel_at });
        Ok(observed)
    }
}

/// What the gate sees. One that does not answer says nothing of anybody: nothing is started anew then, and what runs
/// runs on.
async fn through_the_gate(host: &DockerHost, observed: &mut Observed) -> Result<(), ExecuteError> {
    let look = match host.gate.look().await {
        Ok(look) => Some(look),
        Err(reason) => {
            tracing::warn!(%reason, "the gate cannot be looked at");
            None
        }
    };
    observed.networks = host.networks.whole(look.as_ref()).await?;
    let placed = host.networks.addresses().await?;
    observed.gates = look.as_ref().map(|look| gate::sights(look, &placed)).unwrap_or_default();
    (observed.denials, observed.gate) = match look {
        Some(Look { denials, report, .. }) => (denials, Some(report)),
        None => Default::default(),
    };
    Ok(())
}

/// The containers that are there: what is known of those that did not change, the rest looked at anew.
async fn containers(
    host: &DockerHost,
    stale: &Stale,
    mut known: BTreeMap<String, Container>,
) -> Result<BTreeMap<String, Container>, ExecuteError> {
    let mut present = BTreeMap::new();
    for listed in inspect::list(&host.engine, host.id, None).await? {
        let Some(id) = listed.id else { continue };
        let is_stale = stale.all || stale.ids.contains(&id);
        let kept = known.remove(&id).filter(|container| !is_stale && agrees(container, listed.state.as_ref()));
        let container = match kept {
            Some(container) => Some(container),
            None => look(host, &id).await?,
        };
        present.extend(container.map(|container| (id, container)));
    }
    Ok(present)
}

/// Whether what is known of a container still agrees with the list: an event may be late.
fn agrees(known: &Container, listed: Option<&ContainerSummaryStateEnum>) -> bool {
    match known.state {
        ContainerState::Created => listed == Some(&ContainerSummaryStateEnum::CREATED),
        ContainerState::Running { .. } => listed == Some(&ContainerSummaryStateEnum::RUNNING),
        ContainerState::Exited(_) => {
            matches!(listed, Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD))
        }
    }
}

/// Reads anew what the kernel shows of a container.
fn see_kernel(host: &DockerHost, container: &mut Container) {
    let process = container.process_id.filter(|_| container.running_since().is_some());
    container.kernel = process.and_then(|process| host.kernel.view(process, &container.id)).map(Box::new);
}

/// The control groups above those of containers: two or five small files for each tenant.
async fn tenants(host: &DockerHost, observed: &Observed) -> Result<BTreeMap<AccountId, TenantGroup>, ExecuteError> {
    let driver = host.facts().await?.cgroup_driver;
    let there =
        observed.containers.values().map(|container| container.account).chain(observed.networks.iter().copied());
    let accounts: BTreeSet<AccountId> = there.collect();
    let group = |account| match driver {
        // Without groups there is nothing to shape, and nothing that differs.
        CgroupDriver::None => Some(TenantGroup::default()),
        CgroupDriver::Cgroupfs | CgroupDriver::Systemd => host.kernel.tenant(account, driver),
    };
    Ok(accounts.into_iter().filter_map(|account| Some((account, group(account)?))).collect())
}

async fn look(host: &DockerHost, id: &str) -> Result<Option<Container>, ExecuteError> {
    let looked = host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.inspect_container(id, None).await });
    let found: ContainerInspectResponse = match looked.await? {
        Ok(found) => found,
        // Removed since it was listed.
        Err(error) if engine::status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(host.engine.failed("look at the container", &error)),
    };
    let Some(mut container) = inspect::container(&found, host.id) else {
        tracing::warn!(container = id, "it carries this host's label, but its other labels cannot be read");
        return Ok(None);
    };
    see_kernel(host, &mut container);
    if let ContainerState::Exited(exit) = &mut container.state
        && exit.code != 0
    {
        exit.output_tail = logs::tail(&host.engine, id).await;
    }
    Ok(Some(container))
}
