//! A container's end: stopped with its grace, removed once stopped.
//!
//! `docker.rs` calls these. Nothing is removed by force, and nothing whose labels do not prove it to be ours:
//! a container's id in a plan may be as old as the plan.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use launchpad_protocol::reason::Reason;

use super::ExecuteError;
use super::docker::DockerHost;
use super::engine::{self, CALL_TIMEOUT, STOP_MARGIN};
use super::inspect::Labels;

/// Asks a container to stop, waits for its grace, kills it, and makes sure.
///
/// # Errors
/// `Refused` when it is not ours; `Passing` when it runs on all the same.
pub async fn stop(host: &DockerHost, id: &str, grace: Duration) -> Result<(), ExecuteError> {
    if !find(host, id).await?.is_some_and(|found| runs(&found)) {
        return Ok(());
    }
    let options = StopContainerOptions { signal: None, t: Some(whole_seconds(grace)) };
    let stopped =
        host.engine.ask(grace + STOP_MARGIN, |docker| async move { docker.stop_container(id, Some(options)).await });
    match stopped.await? {
        Ok(()) => {}
        Err(error) if engine::status(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(host.engine.unchanged("stop the container", &error).await),
    }
    if find(host, id).await?.is_some_and(|found| runs(&found)) {
        return Err(ExecuteError::Passing(
            Reason::new("stop-unfinished", format!("container {id} still runs after its grace and a kill"))
                .because("its process does not die, as one that waits for a dead disk"),
        ));
    }
    Ok(())
}

/// Removes a stopped container, with the unnamed volumes that its image declares.
///
/// # Errors
/// `Refused` when it is not ours; `Passing` when it runs.
pub async fn remove(host: &DockerHost, id: &str) -> Result<(), ExecuteError> {
    let Some(found) = find(host, id).await? else { return Ok(()) };
    if runs(&found) {
        return Err(ExecuteError::Passing(
            Reason::new("container-running", format!("container {id} runs, and only what is stopped is removed"))
                .because("somebody started it since the plan was made"),
        ));
    }
    let options = RemoveContainerOptions { v: true, force: false, link: false };
    let removed =
        host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.remove_container(id, Some(options)).await });
    match removed.await? {
        Err(error) if engine::status(&error) != Some(404) => {
            Err(host.engine.unchanged("remove the container", &error).await)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A container by its id, if there is one, and only if its labels prove it to be ours.
async fn find(host: &DockerHost, id: &str) -> Result<Option<ContainerInspectResponse>, ExecuteError> {
    let looked = host.engine.ask(CALL_TIMEOUT, |docker| async move { docker.inspect_container(id, None).await });
    let found = match looked.await? {
        Ok(found) => found,
        Err(error) if engine::status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(host.engine.failed("look at the container", &error)),
    };
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    if labels.and_then(|labels| Labels::read(labels, host.id)).is_none() {
        return Err(ExecuteError::Refused(
            Reason::new("not-ours", format!("container {id} does not carry this host's labels"))
                .mend("leave it to whoever made it"),
        ));
    }
    Ok(Some(found))
}

fn runs(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

/// Docker counts the grace in whole seconds. Rounded up: a bot is never killed early.
fn whole_seconds(grace: Duration) -> i32 {
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_never_cut_short() {
        assert_eq!(whole_seconds(Duration::from_millis(2001)), 3);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}
