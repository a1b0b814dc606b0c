//! The hosts as placement sees them.

use std::collections::BTreeMap;

use crate::domain::placement::Candidate;
use crate::store::{StoreError, Tx, deployments, hosts, revisions};

/// Every host, with what it holds, by id.
pub(crate) async fn candidates(tx: &mut Tx) -> Result<Vec<Candidate>, StoreError> {
    let held: BTreeMap<_, _> = deployments::allocated(tx)
        .await?
        .into_iter()
        .map(|(host, size, instances)| (host, (size, instances)))
        .collect();
    let tenants = deployments::tenants(tx).await?;
    let sealed = revisions::files_bytes_on_hosts(tx).await?;
    let hosts = hosts::all(tx).await?.into_iter();
    Ok(hosts
        .map(|host| {
            let (allocated, instances) = held.get(&host.id).copied().unwrap_or_default();
            Candidate {
                id: host.id,
                name: host.name,
                pool: host.pool,
                state: host.state,
                capacity: host.capacity,
                allocated,
                instances,
                sealed_bytes: sealed.get(&host.id).copied().unwrap_or_default(),
                features: host.features,
                capabilities: host.capabilities,
                tenants: tenants.get(&host.id).cloned().unwrap_or_default(),
            }
        })
        .collect())
}
