//! A tenant's network: a Docker bridge network on a subnet of ours, its addresses, and what the gate is told of it.
//!
//! `docker.rs` calls [`Networks`]; one lock is held through each change, so that two instances of one tenant
//! never make two networks. The address book is written before Docker is asked, and before anybody here believes
//! it; it is rebuilt from Docker when it is lost. Networks without our label are never touched, and rules are the gate's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, Network, NetworkConnectRequest, NetworkCreateRequest,
};
use bollard::query_parameters::ListNetworksOptions;
use launchpad_protocol::id::{AccountId, DeploymentId, HostId};
use launchpad_protocol::reason::Reason;
use tokio::sync::{Mutex, MutexGuard};

use super::address::{self, AddressBook, Subnet, Tenant};
use super::engine::{self, CALL_TIMEOUT, Engine};
use super::gate::{self, GateClient};
use super::places::{bridge_name, network_name};
use super::{ExecuteError, bridge};
use crate::disk::{Disk, Found};
use crate::gate::policy::Change;
use crate::gate::talk::Look;
use crate::observe::{LABEL_ACCOUNT, LABEL_DEPLOYMENT, LABEL_HOST};

/// The state file of the address book.
const BOOK: &str = "addresses";

/// Subnets that are tried when Docker says of one after another that something else has it: more than any
/// host was seen to have networks.
const SUBNET_TRIES: usize = 64;

/// Where an instance is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its tenant's bridge: its way out, and its name server.
    pub gateway: Ipv4Addr,
}

/// All tenants' networks.
#[derive(Debug)]
pub struct Networks {
    engine: Arc<Engine>,
    host: HostId,
    disk: Disk,
    pool: Subnet,
    gate: GateClient,
    /// None until it was read and compared with Docker.
    book: Mutex<Option<AddressBook>>,
}

impl Networks {
    /// Of that host, with subnets out of that pool, behind that gate.
    #[must_use]
    pub fn new(engine: Arc<Engine>, host: HostId, disk: Disk, pool: Subnet, gate: GateClient) -> Self {
        Self { engine, host, disk, pool, gate, book: Mutex::new(None) }
    }

    /// Sees that a tenant's network and bridge are there, and that the gate keeps its rules.
    ///
    /// # Errors
    /// When no subnet is left, or Docker or the gate fails.
    pub async fn ensure(&self, account: AccountId) -> Result<(), ExecuteError> {
        let mut guard = self.book.lock().await;
        let book = self.loaded(&mut guard).await?;
        match self.find(account).await? {
            Some(network) if bridge::is_there(account) => {
                self.adopt(book, account, &network)?;
            }
            Some(network) => {
                // Somebody took the bridge away. Without running containers Docker lets go of the rest.
                self.remove_from_docker(&network).await?;
                self.create(book, account).await?;
            }
            None => self.create(book, account).await?,
        }
        let Some(tenant) = book.tenants.get(&account) else { return Err(ExecuteError::Passing(unknown(account))) };
        let tenant = gate::tenant(bridge_name(account), tenant.subnet)?;
        self.gate.change(Change::PutTenant { account, tenant }).await.map(drop)
    }

    /// Removes a tenant's network, its subnet and its rules.
    ///
    /// # Errors
    /// When a container is still on it, or Docker or the gate fails.
    pub async fn remove(&self, account: AccountId) -> Result<(), ExecuteError> {
        let mut guard = self.book.lock().await;
        let book = self.loaded(&mut guard).await?;
        if self.find(account).await?.is_none() && bridge::is_there(account) {
            // What a dying engine left is known to no other, until that has made the network anew.
            self.create(book, account).await?;
        }
        if let Some(network) = self.find(account).await? {
            self.remove_from_docker(&network).await?;
        }
        bridge::remove(account)?;
        self.turn(book, |next| {
            next.tenants.remove(&account);
            Ok(())
        })?;
        self.gate.change(Change::DropTenant { account }).await.map(drop)
    }

    /// The address of an instance: always the same one.
    ///
    /// # Errors
    /// When the tenant has no network yet, or no address is left on it.
    pub async fn address(&self, account: AccountId, deployment: DeploymentId) -> Result<Ipv4Addr, ExecuteError> {
        let mut guard = self.book.lock().await;
        let book = self.loaded(&mut guard).await?;
        self.turn(book, |next| next.address_for(account, deployment))
    }

    /// Puts a container that stands still on its tenant's network as it is now. Docker knows by number the one that it
    /// was made on, and starts it on no other of that name.
    ///
    /// # Errors
    /// When the tenant has no network, or Docker fails.
    pub async fn rejoin(
        &self,
        account: AccountId,
        deployment: DeploymentId,
        container: &str,
    ) -> Result<(), ExecuteError> {
        let address = self.address(account, deployment).await?;
        let name = &network_name(account);
        let at = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings { ipam_config: Some(at), ..EndpointSettings::default() };
        let joining = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        let joined =
            self.engine.ask(CALL_TIMEOUT, |docker| async move { docker.connect_network(name, joining).await });
        match joined.await? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.engine.unchanged("put the container on its tenant's network", &error).await),
        }
    }

    /// Gives up an instance's address. Only when its last container is gone: Docker would let another start
    /// with it.
    ///
    /// # Errors
    /// When the book cannot be written.
    pub async fn release(&self, deployment: DeploymentId) -> Result<(), ExecuteError> {
        let mut guard = self.book.lock().await;
        let book = self.loaded(&mut guard).await?;
        self.turn(book, |next| {
            next.release(deployment);
            Ok(())
        })
    }

    /// The addresses of all instances, and of the bridges behind which they are.
    ///
    /// # Errors
    /// When the book has to be rebuilt and the engine does not answer.
    pub async fn addresses(&self) -> Result<BTreeMap<DeploymentId, Placed>, ExecuteError> {
        let mut guard = self.book.lock().await;
        let book = self.loaded(&mut guard).await?;
        let of = |tenant: &Tenant| {
            let gateway = tenant.subnet.gateway();
            let placed = |(deployment, address): (&DeploymentId, &Ipv4Addr)| {
                (*deployment, Placed { address: *address, gateway })
            };
            tenant.instances.iter().map(placed).collect::<Vec<_>>()
        };
        Ok(book.tenants.values().flat_map(of).collect())
    }

    /// Tenants whose network and bridge are there, and whose rules stand, by what the gate sees; none: it does not answer.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn whole(&self, look: Option<&Look>) -> Result<BTreeSet<AccountId>, ExecuteError> {
        let Some(look) = look else { return Ok(BTreeSet::new()) };
        let networks = self.all().await?;
        let whole = networks.iter().filter_map(|network| {
            let (account, subnet) = (account_of(network)?, subnet_of(network)?);
            (bridge::is_there(account) && gate::stands(look, account, &bridge_name(account), subnet))
                .then_some(account)
        });
        Ok(whole.collect())
    }

    async fn create(&self, book: &mut AddressBook, account: AccountId) -> Result<(), ExecuteError> {
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        let mut avoid = address::routed(&routes);
        for _ in 0..SUBNET_TRIES {
            let subnet = self.turn(book, |next| next.subnet_for(account, self.pool, &avoid))?;
            let request = request(self.host, account, subnet);
            let made = self.engine.ask(CALL_TIMEOUT, |docker| async move { docker.create_network(request).await });
            match made.await? {
                Ok(_) => return Ok(()),
                Err(error) if is_overlap(engine::status(&error), &engine::message(&error)) => {
                    avoid.insert(subnet);
                    self.turn(book, |next| {
                        next.tenants.remove(&account);
                        Ok(())
                    })?;
                }
                Err(error) if rules_are_gone(&engine::message(&error)) => {
                    return Err(ExecuteError::Passing(docker_rules_gone(&engine::message(&error))));
                }
                Err(error) => return Err(self.engine.unchanged("create the tenant's network", &error).await),
            }
        }
        Err(ExecuteError::Passing(
            Reason::new("network-pool-busy", format!("Docker has refused {SUBNET_TRIES} subnets of {}", self.pool))
                .because("other networks on this host use them")
                .mend("give the agent a pool that the host does not use"),
        ))
    }

    async fn remove_from_docker(&self, network: &Network) -> Result<(), ExecuteError> {
        let name = network.id.as_deref().or(network.name.as_deref()).unwrap_or_default();
        let removed = self.engine.ask(CALL_TIMEOUT, |docker| async move { docker.remove_network(name).await });
        match removed.await? {
            Err(error) if engine::status(&error) != Some(404) => {
                Err(self.engine.unchanged("remove the tenant's network", &error).await)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn find(&self, account: AccountId) -> Result<Option<Network>, ExecuteError> {
        Ok(self.all().await?.into_iter().find(|network| account_of(network) == Some(account)))
    }

    async fn all(&self) -> Result<Vec<Network>, ExecuteError> {
        let labels = vec![format!("{LABEL_HOST}={}", self.host)];
        let options = ListNetworksOptions { filters: Some(HashMap::from([("label".to_owned(), labels)])) };
        let listed = self.engine.ask(CALL_TIMEOUT, |docker| async move { docker.list_networks(Some(options)).await });
        listed.await?.map_err(|error| self.engine.failed("list networks", &error))
    }

    /// Reads the book once, and lets Docker correct it.
    async fn loaded<'book>(
        &self,
        guard: &'book mut MutexGuard<'_, Option<AddressBook>>,
    ) -> Result<&'book mut AddressBook, ExecuteError> {
        if guard.is_none() {
            let mut book = match self.disk.read(BOOK).map_err(disk_failed)? {
                Found::Whole(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
                Found::Nothing | Found::SetAside(_) => AddressBook::default(),
            };
            let addresses = self.addresses_in_docker().await?;
            for network in self.all().await? {
                if let (Some(account), Some(subnet)) = (account_of(&network), subnet_of(&network)) {
                    book.adopt(account, subnet, addresses.get(&account).unwrap_or(&BTreeMap::new()));
                }
            }
            self.save(&book)?;
            **guard = Some(book);
        }
        Ok(guard.get_or_insert_default())
    }

    async fn addresses_in_docker(
        &self,
    ) -> Result<BTreeMap<AccountId, BTreeMap<DeploymentId, Ipv4Addr>>, ExecuteError> {
        let mut found: BTreeMap<AccountId, BTreeMap<DeploymentId, Ipv4Addr>> = BTreeMap::new();
        for container in super::inspect::list(&self.engine, self.host, None).await? {
            let labels = container.labels.unwrap_or_default();
            let account = labels.get(LABEL_ACCOUNT).and_then(|text| text.parse::<AccountId>().ok());
            let deployment = labels.get(LABEL_DEPLOYMENT).and_then(|text| text.parse::<DeploymentId>().ok());
            let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
            let address = networks.values().find_map(|endpoint| endpoint.ipam_config.as_ref()?.ipv4_address.clone());
            if let (Some(account), Some(deployment), Some(Ok(address))) =
                (account, deployment, address.map(|text| text.parse()))
            {
                found.entry(account).or_default().insert(deployment, address);
            }
        }
        Ok(found)
    }

    fn adopt(&self, book: &mut AddressBook, account: AccountId, network: &Network) -> Result<(), ExecuteError> {
        let Some(subnet) = subnet_of(network) else { return Ok(()) };
        self.turn(book, |next| {
            next.adopt(account, subnet, &BTreeMap::new());
            Ok(())
        })
    }

    /// Changes the book, on the disk first. What could not be saved has not happened: the next try changes, and
    /// saves, again.
    fn turn<T>(
        &self,
        book: &mut AddressBook,
        change: impl FnOnce(&mut AddressBook) -> Result<T, Reason>,
    ) -> Result<T, ExecuteError> {
        let mut next = book.clone();
        let changed = change(&mut next).map_err(ExecuteError::Passing)?;
        if next != *book {
            self.save(&next)?;
            *book = next;
        }
        Ok(changed)
    }

    fn save(&self, book: &AddressBook) -> Result<(), ExecuteError> {
        let bytes = serde_json::to_vec(book).map_err(|error| {
            ExecuteError::Passing(
                Reason::new("address-book", "cannot write the addresses").because(error.to_string()),
            )
        })?;
        self.disk.write(BOOK, &bytes).map_err(disk_failed)
    }
}

fn disk_failed(error: crate::disk::DiskError) -> ExecuteError {
    ExecuteError::Passing(Reason::new("state-file", error.to_string()))
}

fn unknown(account: AccountId) -> Reason {
    Reason::new("network-missing", format!("{account} has no network on this host yet"))
}

fn account_of(network: &Network) -> Option<AccountId> {
    network.labels.as_ref()?.get(LABEL_ACCOUNT)?.parse().ok()
}

fn subnet_of(network: &Network) -> Option<Subnet> {
    network.ipam.as_ref()?.config.as_ref()?.first()?.subnet.as_ref()?.parse().ok()
}

/// What Docker says of a container whose network was removed since it was made.
pub(super) fn is_gone(status: Option<u16>, message: &str) -> bool {
    status == Some(404) && message.contains("network ") && message.contains(" not found")
}

/// libnetwork's own words; 20.10 answers 403, later ones 400.
fn is_overlap(status: Option<u16>, message: &str) -> bool {
    matches!(status, Some(400 | 403 | 409 | 500)) && message.to_ascii_lowercase().contains("overlap")
}

/// iptables' own words of a chain that Docker made when it started, over nftables and by itself.
fn rules_are_gone(message: &str) -> bool {
    let missing = message.contains("Chain 'DOCKER") && message.contains("does not exist");
    message.contains("iptables") && (missing || message.contains("No chain/target/match by that name"))
}

/// Somebody flushed every rule of the host. Ours the gate puts back; its own, Docker makes only when it starts.
fn docker_rules_gone(cause: &str) -> Reason {
    Reason::new("docker-rules-gone", "Docker can make no network: somebody took its own rules away")
        .because(cause)
        .mend("systemctl restart docker; with live-restore the bots run on")
}

/// What Docker is asked for. IPv6 stays off: nothing of ours would translate or filter it.
#[must_use]
pub fn request(host: HostId, account: AccountId, subnet: Subnet) -> NetworkCreateRequest {
    let range = IpamConfig {
        subnet: Some(subnet.to_string()),
        gateway: Some(subnet.gateway().to_string()),
        ..IpamConfig::default()
    };
    let text = |pairs: &[(&str, String)]| -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    NetworkCreateRequest {
        name: network_name(account),
        driver: Some("bridge".to_owned()),
        internal: Some(false),
        enable_ipv6: Some(false),
        ipam: Some(Ipam { driver: None, config: Some(vec![range]), options: None }),
        options: Some(text(&[
            ("com.docker.network.bridge.name", bridge_name(account)),
            ("com.docker.network.bridge.enable_ip_masquerade", "false".to_owned()),
        ])),
        labels: Some(text(&[(LABEL_HOST, host.to_string()), (LABEL_ACCOUNT, account.to_string())])),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_was_removed_under_a_container_is_known_by_its_words() {
        let message = "network a3bca87abbfaa26b0976a934e941b191d5fde8a930ca5397ef56b66241b37960 not found";
        assert!(is_gone(Some(404), message));
        assert!(!is_gone(Some(404), "No such container: a3bca87abbfa"));
        assert!(!is_gone(Some(500), message));
    }

    #[test]
    fn a_subnet_that_docker_has_given_away_is_known_by_its_words() {
        assert!(is_overlap(Some(403), "Pool overlaps with other one on this address space"));
        assert!(is_overlap(Some(400), "invalid pool request: Pool overlaps with other one on this address space"));
        assert!(!is_overlap(Some(500), "no space left on device"));
    }

    #[test]
    fn an_engine_whose_own_rules_were_flushed_is_known_by_its_words_and_is_to_be_started_anew() {
        let first = "Failed to Setup IP tables: Unable to enable SKIP DNAT rule:  (iptables failed: iptables --wait -t nat \
                     -I DOCKER -i lp0000000000a1 -j RETURN: iptables: No chain/target/match by that name.\n (exit status 1))";
        let next = "Failed to program NAT chain: Failed to inject DOCKER in PREROUTING chain: iptables failed: iptables \
                    --wait -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER: iptables v1.8.9 (nf_tables): \
                    Chain 'DOCKER' does not exist\nTry `iptables -h' or 'iptables --help' for more information.\n";
        assert!(rules_are_gone(first) && rules_are_gone(next));
        assert!(!rules_are_gone("iptables: Resource temporarily unavailable"));
        assert!(!rules_are_gone("network bridge does not exist"));
        let reason = docker_rules_gone(next);
        assert!(reason.mend.is_some_and(|mend| mend.contains("systemctl restart docker")));
    }

    #[tokio::test]
    async fn an_address_that_could_not_be_saved_has_not_been_given() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let account = "acct_0000000000000000000000000000000a".parse().unwrap();
        let bot = "dep_0000000000000000000000000000000d".parse().unwrap();
        let mut book = AddressBook::default();
        book.subnet_for(account, address::DEFAULT_POOL, &BTreeSet::new()).unwrap();
        let engine = Arc::new(Engine::behind(std::path::Path::new("/nonexistent/docker.sock")));
        let host = "host_00000000000000000000000000000001".parse().unwrap();
        let networks = Networks::new(engine, host, disk.clone(), address::DEFAULT_POOL, GateClient::at(dir.path()));
        *networks.book.lock().await = Some(book);
        // Where the book is written first, root cannot write a directory either.
        let in_the_way = disk.path(&format!("{BOOK}.new"));
        std::fs::create_dir(&in_the_way).unwrap();
        for _ in 0..2 {
            let error = networks.address(account, bot).await.unwrap_err();
            assert_eq!(error.reason().code, "state-file");
        }
        std::fs::remove_dir(&in_the_way).unwrap();
        let address = networks.address(account, bot).await.unwrap();
        let Found::Whole(saved) = disk.read(BOOK).unwrap() else { panic!("it is not saved") };
        let saved: AddressBook = serde_json::from_slice(&saved).unwrap();
        assert_eq!(saved.tenants[&account].instances[&bot], address);
    }

    #[test]
    fn a_tenants_network_leaves_translation_to_us() {
        let host = "host_00000000000000000000000000000001".parse().unwrap();
        let account = "acct_0000000000000000000000000000000a".parse().unwrap();
        let asked = serde_json::to_value(request(host, account, "172.29.0.64/26".parse().unwrap())).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&asked).unwrap());
    }
}
