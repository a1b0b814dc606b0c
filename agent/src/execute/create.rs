//! A container's beginning: made, started, its limits changed.
//!
//! `docker.rs` calls these. Before Docker is asked for anything, what is there is listed by label and judged
//! by a pure function, so that done twice is done once and two containers of one deployment never run.

use std::path::Path;

use bollard::models::{ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::CreateContainerOptions;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, Resources};

use super::container::{self, Surroundings};
use super::docker::DockerHost;
use super::engine::{self, CALL_TIMEOUT, START_TIMEOUT};
use super::inspect::{self, Labels};
use super::places::container_name;
use super::{ExecuteError, network, resolv, stop, tenant};
use crate::enforce;
use crate::observe::Container;

/// What making a container comes to, given what is there.
#[derive(Debug, PartialEq, Eq)]
enum Making {
    /// It is there.
    Done,
    /// These were never started and are not it; they go first.
    After(Vec<String>),
}

/// What starting comes to, given what is there.
#[derive(Debug, PartialEq, Eq)]
enum Starting {
    /// This one runs.
    Done(String),
    /// This one is to be started.
    Start(String),
    /// Another of the same deployment runs.
    Second(String),
    /// There is none to start.
    Missing,
}

/// Makes an instance's container.
///
/// # Errors
/// `Refused` when the engine will never make it; `Passing` when something it needs is not there yet.
pub async fn make(host: &DockerHost, spec: &InstanceSpec) -> Result<(), ExecuteError> {
    let present = inspect::list(&host.engine, host.id, Some(spec.deployment)).await?;
    let in_the_way = match judge_making(&present, spec, host) {
        Making::Done => return Ok(()),
        Making::After(in_the_way) => in_the_way,
    };
    for id in in_the_way {
        stop::remove(host, &id).await?;
    }
    let facts = host.facts().await?;
    let secrets = host.files.secret_environment(spec)?;
    let address = host.networks.address(spec.account, spec.deployment).await?;
    write_resolv_conf(host, spec.deployment).await?;
    let around = Surroundings { host: host.id, places: &host.places, facts: &facts, address, secrets: &secrets };
    let options = CreateContainerOptions {
        name: Some(container_name(&spec.name, spec.deployment)),
        ..CreateContainerOptions::default()
    };
    let body = container::body(spec, &around);
    see_sources(&body)?;
    let made =
        host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.create_container(Some(options), body).await });
    match made.await? {
        Ok(made) => {
            for warning in made.warnings {
                tracing::warn!(deployment = %spec.deployment, warning, "Docker made the container, with a warning");
            }
            Ok(())
        }
        Err(error) if engine::status(&error) == Some(400) => Err(ExecuteError::Refused(
            Reason::new("container-refused", "Docker refuses to make the container").because(engine::message(&error)),
        )),
        Err(error) => Err(host.engine.unchanged("make the container", &error).await),
    }
}

/// Starts a container, the named one or the deployment's only one.
///
/// # Errors
/// `Refused` when the image has no such command; `Passing` when another of the deployment runs, or there is
/// none.
pub async fn start(host: &DockerHost, deployment: DeploymentId, named: Option<&str>) -> Result<(), ExecuteError> {
    let present = inspect::list(&host.engine, host.id, Some(deployment)).await?;
    let id = match judge_starting(&present, named) {
        Starting::Done(id) => return slow_down(host, &id).await,
        Starting::Start(id) => id,
        Starting::Second(other) => return Err(ExecuteError::Passing(second(deployment, &other))),
        Starting::Missing => return Err(ExecuteError::Passing(missing(deployment))),
    };
    write_resolv_conf(host, deployment).await?;
    let id = id.as_str();
    let go = || host.engine.ask(START_TIMEOUT, |docker| async move { docker.start_container(id, None).await });
    let mut started = go().await?;
    if let Err(error) = &started
        && network::is_gone(engine::status(error), &engine::message(error))
    {
        let mut labels = present.iter().filter_map(|container| Labels::read(container.labels.as_ref()?, host.id));
        let account = labels.next().ok_or_else(|| ExecuteError::Passing(missing(deployment)))?.account;
        host.networks.rejoin(account, deployment, id).await?;
        started = go().await?;
    }
    match started {
        Ok(()) => slow_down(host, id).await,
        // runc's exit codes 126 and 127: the command is missing or cannot be run. The image will not change.
        Err(error) if engine::status(&error) == Some(400) => Err(ExecuteError::Refused(
            Reason::new("start-refused", "the container's command cannot be run")
                .because(engine::message(&error))
                .mend("deploy an image whose command exists, or name another command"),
        )),
        Err(error) => Err(host.engine.unchanged("start the container", &error).await),
    }
}

/// Changes limits under a running container.
///
/// # Errors
/// `Refused` when the engine never sets such limits; `Passing` when the kernel does not take them now, as a
/// memory limit below what is in use, or does not show them afterwards.
pub async fn update(host: &DockerHost, id: &str, resources: &Resources) -> Result<(), ExecuteError> {
    let limits = container::update(resources);
    let updated = host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.update_container(id, limits).await });
    match updated.await? {
        Ok(_) => {}
        Err(error) if engine::status(&error) == Some(400) => {
            return Err(ExecuteError::Refused(
                Reason::new("limits-refused", "Docker refuses these limits").because(engine::message(&error)),
            ));
        }
        Err(error) => return Err(host.engine.unchanged("change the container's limits", &error).await),
    }
    slow_down(host, id).await?;
    let process = look(host, id).await?.and_then(|container| container.process_id);
    match process.and_then(|process| host.kernel.view(process, id)) {
        Some(seen) if !enforce::limits_hold(&seen.group, resources) => Err(ExecuteError::Passing(
            Reason::new("limits-not-taken", "the kernel does not show the limits that it was given")
                .because(format!("asked for {resources:?}, found {:?}", seen.group)),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Has a container that runs slowed down before its memory is full. The engine knows no such bound, so it is set after
/// the start; on cgroup v1 there is none.
async fn slow_down(host: &DockerHost, id: &str) -> Result<(), ExecuteError> {
    let facts = host.facts().await?;
    if !facts.cgroup_v2 {
        return Ok(());
    }
    let Some(container) = look(host, id).await? else { return Ok(()) };
    let Some(process) = container.process_id else { return Ok(()) };
    let memory_high_bytes = container.resources.memory_high_bytes();
    tenant::slow_down(&host.kernel, process, facts.cgroup_driver, memory_high_bytes).await
}

async fn look(host: &DockerHost, id: &str) -> Result<Option<Container>, ExecuteError> {
    let looked = host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.inspect_container(id, None).await });
    let found = looked.await?.map_err(|error| host.engine.failed("look at the container", &error))?;
    Ok(inspect::container(&found, host.id))
}

/// The bot's name server is the gate, at its own end of the tenant's bridge.
async fn write_resolv_conf(host: &DockerHost, deployment: DeploymentId) -> Result<(), ExecuteError> {
    let placed = host.networks.addresses().await?.get(&deployment).copied();
    let placed = placed.ok_or_else(|| {
        ExecuteError::Passing(
            Reason::new("address-missing", format!("{deployment} has no address on this host yet"))
                .because("its network was made anew since it was placed there"),
        )
    })?;
    resolv::write(&host.places, deployment, placed.gateway).map_err(ExecuteError::Passing)
}

/// Docker refuses a mount without a source in the same way as a body that it does not understand. The first
/// passes: somebody took a volume or files away, and the next plan puts them back.
fn see_sources(body: &ContainerCreateBody) -> Result<(), ExecuteError> {
    let mounts = body.host_config.iter().flat_map(|config| config.mounts.iter().flatten());
    let missing = mounts.filter_map(|mount| mount.source.as_deref()).find(|source| !Path::new(source).exists());
    missing.map_or(Ok(()), |source| {
        Err(ExecuteError::Passing(
            Reason::new("mount-missing", format!("{source} is to be mounted, and is not there"))
                .because("somebody took it away since it was made"),
        ))
    })
}

fn judge_making(present: &[ContainerSummary], spec: &InstanceSpec, host: &DockerHost) -> Making {
    let mut in_the_way = Vec::new();
    for found in present {
        let labels = found.labels.as_ref().and_then(|labels| Labels::read(labels, host.id));
        let never_started = found.state == Some(ContainerSummaryStateEnum::CREATED);
        let is_it = labels.is_some_and(|labels| {
            labels.recreate_hash == spec.recreate_hash && (!never_started || labels.epoch == spec.epoch)
        });
        if is_it {
            return Making::Done;
        }
        if never_started {
            in_the_way.extend(found.id.clone());
        }
    }
    Making::After(in_the_way)
}

fn judge_starting(present: &[ContainerSummary], named: Option<&str>) -> Starting {
    let runs = |found: &&ContainerSummary| {
        matches!(
            found.state,
            Some(
                ContainerSummaryStateEnum::RUNNING
                    | ContainerSummaryStateEnum::PAUSED
                    | ContainerSummaryStateEnum::RESTARTING
            )
        )
    };
    if let Some(running) = present.iter().find(runs) {
        let id = running.id.clone().unwrap_or_default();
        return if named.is_none_or(|named| named == id) { Starting::Done(id) } else { Starting::Second(id) };
    }
    // Of several, the newest: the older ones are what it replaces.
    let candidates = present.iter().filter(|found| named.is_none() || found.id.as_deref() == named);
    let newest = candidates.max_by_key(|found| found.created);
    newest.and_then(|found| found.id.clone()).map_or(Starting::Missing, Starting::Start)
}

fn second(deployment: DeploymentId, other: &str) -> Reason {
    Reason::new("second-container", format!("another container of {deployment} runs: {other}"))
        .because("a bot is a singleton with state: two would damage it")
}

fn missing(deployment: DeploymentId) -> Reason {
    Reason::new("container-missing", format!("there is no container of {deployment} to start"))
        .because("somebody removed it between its making and its start")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, created: i64, state: ContainerSummaryStateEnum) -> ContainerSummary {
        ContainerSummary { id: Some(id.to_owned()), created: Some(created), state: Some(state), ..Default::default() }
    }

    #[test]
    fn a_second_container_is_never_started_beside_a_running_one() {
        let both = [
            found("old", 1, ContainerSummaryStateEnum::RUNNING),
            found("new", 2, ContainerSummaryStateEnum::CREATED),
        ];
        assert_eq!(judge_starting(&both, Some("new")), Starting::Second("old".to_owned()));
        assert_eq!(judge_starting(&both, Some("old")), Starting::Done("old".to_owned()));
        assert_eq!(judge_starting(&both, None), Starting::Done("old".to_owned()));
    }

    #[test]
    fn without_a_name_the_newest_is_started() {
        let both =
            [found("new", 2, ContainerSummaryStateEnum::CREATED), found("old", 1, ContainerSummaryStateEnum::EXITED)];
        assert_eq!(judge_starting(&both, None), Starting::Start("new".to_owned()));
        assert_eq!(judge_starting(&both, Some("old")), Starting::Start("old".to_owned()));
        assert_eq!(judge_starting(&both, Some("other")), Starting::Missing);
        assert_eq!(judge_starting(&[], None), Starting::Missing);
    }
}
