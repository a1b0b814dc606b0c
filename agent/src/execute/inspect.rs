//! From what Docker shows to what the plan reads: [`list`] asks, the rest is pure.
//!
//! `sight.rs` and `create.rs` call these. A container counts as ours only by its label, and as readable only
//! if all its labels parse: anything else of ours is left alone and logged.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerInspectResponse, ContainerState as DockerState, ContainerSummary, HostConfig};
use bollard::query_parameters::ListContainersOptions;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::generation::Epoch;
use launchpad_protocol::id::{DeploymentId, HostId};
use launchpad_protocol::spec::Resources;
use launchpad_protocol::time::Moment;

use super::ExecuteError;
use super::container::NANOS_PER_MILLI;
use super::engine::{CALL_TIMEOUT, Engine};
use super::image;
use crate::observe::{
    Container, ContainerState, Exit, LABEL_ACCOUNT, LABEL_DEPLOYMENT, LABEL_EPOCH, LABEL_HOST, LABEL_RECREATE_HASH,
};

/// Everything with this host's label, stopped or not; of one deployment, if one is named.
///
/// # Errors
/// When the engine does not answer.
pub async fn list(
    engine: &Engine,
    host: HostId,
    deployment: Option<DeploymentId>,
) -> Result<Vec<ContainerSummary>, ExecuteError> {
    let mut labels = vec![format!("{LABEL_HOST}={host}")];
    labels.extend(deployment.map(|deployment| format!("{LABEL_DEPLOYMENT}={deployment}")));
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), labels)])),
        ..ListContainersOptions::default()
    };
    let listed = engine.ask(CALL_TIMEOUT, |docker| async move { docker.list_containers(Some(options)).await });
    listed.await?.map_err(|error| engine.failed("list containers", &error))
}

/// What the labels say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Whose it is.
    pub account: launchpad_protocol::id::AccountId,
    /// Under which lease it was made.
    pub epoch: Epoch,
    /// For which recreate hash.
    pub recreate_hash: Digest,
}

impl Labels {
    /// Reads them, if they are whole and this host's.
    #[must_use]
    pub fn read(labels: &HashMap<String, String>, host: HostId) -> Option<Self> {
        let text = |key: &str| labels.get(key);
        if text(LABEL_HOST)?.parse::<HostId>().ok()? != host {
            return None;
        }
        Some(Self {
            deployment: text(LABEL_DEPLOYMENT)?.parse().ok()?,
            account: text(LABEL_ACCOUNT)?.parse().ok()?,
            epoch: Epoch(text(LABEL_EPOCH)?.parse().ok()?),
            recreate_hash: text(LABEL_RECREATE_HASH)?.parse().ok()?,
        })
    }
}

/// A container as the plan reads it: without what the kernel shows and without its output, which take I/O.
#[must_use]
pub fn container(found: &ContainerInspectResponse, host: HostId) -> Option<Container> {
    let config = found.config.as_ref()?;
    let labels = Labels::read(config.labels.as_ref()?, host)?;
    Some(Container {
        id: found.id.clone()?,
        deployment: labels.deployment,
        account: labels.account,
        epoch: labels.epoch,
        recreate_hash: labels.recreate_hash,
        state: state(found.state.as_ref()?)?,
        resources: resources(found.host_config.as_ref()?),
        log_bytes: log_bytes(found.host_config.as_ref()?),
        seccomp: seccomp(found.host_config.as_ref()?),
        process_id: process_id(found),
        kernel: None,
        address: address(found),
        image: config.image.as_deref().and_then(image::digest_in),
    })
}

/// The process id of a container that runs.
fn process_id(found: &ContainerInspectResponse) -> Option<i64> {
    found.state.as_ref()?.pid.filter(|pid| *pid > 0)
}

fn state(state: &DockerState) -> Option<ContainerState> {
    let started_at = state.started_at.as_deref().and_then(moment);
    let runs = state.running.unwrap_or(false);
    match started_at {
        None => Some(ContainerState::Created),
        Some(started_at) if runs => Some(ContainerState::Running { started_at }),
        Some(started_at) => Some(ContainerState::Exited(Exit {
            started_at,
            // Docker notes a start when runc has answered: a process that ended at once has ended before.
            at: state.finished_at.as_deref().and_then(moment).unwrap_or(started_at).max(started_at),
            code: i32::try_from(state.exit_code?).ok()?,
            out_of_memory: state.oom_killed.unwrap_or(false),
            output_tail: String::new(),
        })),
    }
}

/// Docker's time: RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` stands for never.
#[must_use]
pub fn moment(text: &str) -> Option<Moment> {
    let at: jiff::Timestamp = text.parse().ok()?;
    (at.as_second() > 0).then(|| Moment::from_micros(at.as_microsecond()))
}

fn resources(config: &HostConfig) -> Resources {
    let unsigned = |value: Option<i64>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Resources {
        cpu_millis: small(unsigned(config.nano_cpus.map(|nanos| nanos / NANOS_PER_MILLI))),
        memory_bytes: unsigned(config.memory),
        pids: small(unsigned(config.pids_limit)),
    }
}

/// The bytes of its log that the engine keeps, over all files; none: without a bound.
fn log_bytes(config: &HostConfig) -> Option<u64> {
    let options = config.log_config.as_ref()?.config.as_ref()?;
    let number = |name: &str| options.get(name)?.parse::<u64>().ok();
    number("max-size")?.checked_mul(number("max-file").unwrap_or(1))
}

/// The seccomp profile that it was made with; none: the engine's own.
fn seccomp(config: &HostConfig) -> Option<Digest> {
    let options = config.security_opt.as_deref().unwrap_or_default();
    options.iter().find_map(|option| option.strip_prefix("seccomp=")).map(|json| Digest::of(json.as_bytes()))
}

/// The address that it has, or, while it does not run, the one that it is to have.
fn address(found: &ContainerInspectResponse) -> Option<std::net::Ipv4Addr> {
    let networks: BTreeMap<_, _> = found.network_settings.as_ref()?.networks.as_ref()?.iter().collect();
    networks.values().find_map(|endpoint| {
        let given = endpoint.ip_address.as_deref().and_then(|text| text.parse().ok());
        given.or_else(|| endpoint.ipam_config.as_ref()?.ipv4_address.as_deref()?.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited() -> DockerState {
        DockerState {
            running: Some(false),
            exit_code: Some(137),
            oom_killed: Some(true),
            started_at: Some("2026-11-22T14:00:00.123456789Z".to_owned()),
            finished_at: Some("2026-11-22T14:00:01.5Z".to_owned()),
            ..DockerState::default()
        }
    }

    #[test]
    fn dockers_times_are_read_to_the_microsecond_and_never_is_never() {
        assert_eq!(moment("1970-01-01T00:00:01.123456789Z"), Some(Moment::from_micros(1_123_456)));
        assert_eq!(moment("0001-01-01T00:00:00Z"), None);
        assert_eq!(moment(""), None);
    }

    #[test]
    fn an_exit_tells_its_code_its_times_and_whether_memory_ended_it() {
        let Some(ContainerState::Exited(exit)) = state(&exited()) else { panic!("it has exited") };
        assert_eq!((exit.code, exit.out_of_memory), (137, true));
        assert_eq!(exit.at.since(exit.started_at).as_micros(), 1_376_544);
    }

    #[test]
    fn what_was_never_started_is_created_even_if_a_start_failed() {
        let failed = DockerState { started_at: Some("0001-01-01T00:00:00Z".to_owned()), ..exited() };
        assert_eq!(state(&failed), Some(ContainerState::Created));
    }

    #[test]
    fn what_the_engine_was_told_of_log_and_system_calls_is_read_back() {
        let options = [("max-size", "1000"), ("max-file", "4")];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let log = bollard::models::HostConfigLogConfig { config: Some(options), ..Default::default() };
        let told = HostConfig {
            log_config: Some(log),
            security_opt: Some(vec!["no-new-privileges=true".to_owned(), "seccomp={}".to_owned()]),
            ..HostConfig::default()
        };
        assert_eq!((log_bytes(&told), seccomp(&told)), (Some(4000), Some(Digest::of(b"{}"))));
        assert_eq!((log_bytes(&HostConfig::default()), seccomp(&HostConfig::default())), (None, None));
    }

    #[test]
    fn another_hosts_label_or_a_damaged_one_is_not_ours() {
        let host: HostId = "host_00000000000000000000000000000001".parse().unwrap();
        let other: HostId = "host_00000000000000000000000000000002".parse().unwrap();
        let mut labels: HashMap<String, String> = [
            (LABEL_HOST, host.to_string()),
            (LABEL_DEPLOYMENT, format!("dep_{:032x}", 3)),
            (LABEL_ACCOUNT, format!("acct_{:032x}", 4)),
            (LABEL_EPOCH, "5".to_owned()),
            (LABEL_RECREATE_HASH, Digest::of(b"x").to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        assert!(Labels::read(&labels, host).is_some());
        assert_eq!(Labels::read(&labels, other), None);
        labels.insert(LABEL_EPOCH.to_owned(), "five".to_owned());
        assert_eq!(Labels::read(&labels, host), None);
    }
}
