//! What a deployment can be, and what turns it from one thing into another: one table, [`step`].
//!
//! `app` asks with people's wishes, `jobs` with placements, `fold` with what hosts report. Nobody else decides a state.
//!
//! ```text
//!                    placed
//!   requested ──► provisioning ──► configuring ──► starting ──► running ◄─┐
//!                       │               │             │        │  │  ▲    │ ready
//!                       └───────────────┴──────┬──────┘        │  │  │    │
//!                     crash loop, refused      ▼               │  │  └── updating
//!                                           failed ◄───────────┘  │
//!                                              │ started again    │ suspend
//!                                              ▼                  ▼
//!                                          restarting ──► …   suspended ──► starting (resume)
//!
//!   any but terminated ──(delete)──► terminating ──(data gone)──► terminated
//! ```
//! Every working state can fail, and every state but the last can be terminated. What an agent does by itself
//! (fetching an image again, starting a crashed bot again) shows as `restarting`.

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::stopped_on_host;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// What a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for; it has no host yet.
    Requested,
    /// It has a host, which fetches the image.
    Provisioning,
    /// Network, volume, files and container are being made.
    Configuring,
    /// Its process runs and has not been ready yet.
    Starting,
    /// It is ready, or was and will soon say why not.
    Running,
    /// A new revision is being applied.
    Updating,
    /// It should run and does not.
    Failed,
    /// It is being started again.
    Restarting,
    /// It is stopped on purpose, its data kept.
    Suspended,
    /// It was deleted; its container goes now, its data after the retention window.
    Terminating,
    /// Nothing of it is left.
    Terminated,
}

/// What happens to a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The placer found it a host.
    Placed,
    /// The placer found none.
    Unplaceable(Reason),
    /// Its lease on its host has ended, and it has another host.
    Moved,
    /// Its host fetches the image.
    Pulling,
    /// Its host makes what it needs.
    Preparing,
    /// Its host started its process.
    Started,
    /// It answers.
    Ready,
    /// It answers, and something strains it.
    Strained(Reason),
    /// It answered and does not now.
    Unready(Reason),
    /// It exited, and waits to be started again.
    CrashLooping(Reason),
    /// It exited in a way that passes by itself, and is tried again: no crash.
    Retrying(Reason),
    /// Its host will not try again.
    Refused(Reason),
    /// It is stopped on its host.
    Stopped,
    /// Somebody wants it started anew.
    Restart,
    /// Somebody wants another revision of it.
    Update,
    /// Somebody wants it stopped for now.
    Suspend,
    /// Somebody wants it back.
    Resume,
    /// Somebody wants it gone.
    Delete,
    /// Its host will not do what it was asked to do once.
    WishRefused(Reason),
    /// Its container is gone from its host.
    ContainerGone,
    /// All of it is gone from its host, or it never had one.
    DataGone,
}

/// What an event made of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: State,
    /// What it is now; the same as before where the event changed only the reason.
    pub to: State,
    /// What brought it about, for the timeline.
    pub cause: &'static str,
    /// Why it is so, where the state alone does not say.
    pub reason: Option<Reason>,
}

impl Transition {
    /// Whether the deployment, its reason included, is now other than `reason` and `from` said.
    #[must_use]
    pub fn is_news(&self, reason: Option<&Reason>) -> bool {
        self.from != self.to || self.reason.as_ref() != reason
    }
}

/// What a deployment is after something happened to it.
///
/// # Errors
/// A refusal when there is no such step. People read it; `fold` drops it, because a late report is nobody's mistake.
pub fn step(state: State, event: Event) -> Result<Transition, Refusal> {
    let cause = event.cause();
    let (to, reason) = match state {
        State::Requested => requested(event)?,
        State::Provisioning | State::Configuring | State::Starting => coming_up(state, event)?,
        State::Running | State::Failed => settled(state, event)?,
        State::Updating | State::Restarting => changing(state, event)?,
        State::Suspended => suspended(event)?,
        State::Terminating => terminating(event)?,
        State::Terminated => return Err(no_step(State::Terminated, &event)),
    };
    Ok(Transition { from: state, to, cause, reason })
}

type Step = Result<(State, Option<Reason>), Refusal>;

fn requested(event: Event) -> Step {
    match event {
        Event::Placed => Ok((State::Provisioning, None)),
        Event::Unplaceable(reason) => Ok((State::Requested, Some(reason))),
        Event::Update => Ok((State::Requested, None)),
        Event::Delete => Ok((State::Terminating, None)),
        Event::Moved
        | Event::Pulling
        | Event::Preparing
        | Event::Started
        | Event::Ready
        | Event::Strained(_)
        | Event::Unready(_)
        | Event::CrashLooping(_)
        | Event::Retrying(_)
        | Event::Refused(_)
        | Event::Stopped
        | Event::Restart
        | Event::Suspend
        | Event::Resume
        | Event::WishRefused(_)
        | Event::ContainerGone
        | Event::DataGone => Err(no_step(State::Requested, &event)),
    }
}

/// The way up the first time: the host may go back a step, as when its agent was restarted halfway.
fn coming_up(state: State, event: Event) -> Step {
    match event {
        Event::Pulling => Ok((State::Provisioning, None)),
        Event::Preparing => Ok((State::Configuring, None)),
        Event::Started => Ok((State::Starting, None)),
        Event::Ready => Ok((State::Running, None)),
        Event::Strained(reason) => Ok((State::Running, Some(reason))),
        Event::Unready(reason) | Event::Retrying(reason) | Event::WishRefused(reason) => Ok((state, Some(reason))),
        Event::CrashLooping(reason) | Event::Refused(reason) => Ok((State::Failed, Some(reason))),
        Event::Stopped => Ok((State::Failed, Some(stopped_on_host()))),
        Event::Update => Ok((state, None)),
        Event::Suspend => Ok((State::Suspended, None)),
        Event::Delete => Ok((State::Terminating, None)),
        Event::Moved => Ok((State::Provisioning, None)),
        Event::Placed
        | Event::Unplaceable(_)
        | Event::Restart
        | Event::Resume
        | Event::ContainerGone
        | Event::DataGone => Err(no_step(state, &event)),
    }
}

/// Running, or not running although it should.
fn settled(state: State, event: Event) -> Step {
    match event {
        Event::Pulling | Event::Preparing | Event::Started | Event::Restart | Event::Moved => {
            Ok((State::Restarting, None))
        }
        Event::Ready => Ok((State::Running, None)),
        Event::Strained(reason) => Ok((State::Running, Some(reason))),
        Event::Unready(reason) if state == State::Running => Ok((State::Running, Some(reason))),
        Event::Unready(reason) | Event::Retrying(reason) => Ok((State::Restarting, Some(reason))),
        Event::WishRefused(reason) => Ok((state, Some(reason))),
        Event::CrashLooping(reason) | Event::Refused(reason) => Ok((State::Failed, Some(reason))),
        Event::Stopped => Ok((State::Failed, Some(stopped_on_host()))),
        Event::Update => Ok((State::Updating, None)),
        Event::Suspend => Ok((State::Suspended, None)),
        Event::Delete => Ok((State::Terminating, None)),
        Event::Placed | Event::Unplaceable(_) | Event::Resume | Event::ContainerGone | Event::DataGone => {
            Err(no_step(state, &event))
        }
    }
}

/// On the way from one running to the next.
fn changing(state: State, event: Event) -> Step {
    match event {
        Event::Pulling | Event::Preparing | Event::Started => Ok((state, None)),
        Event::Ready => Ok((State::Running, None)),
        Event::Strained(reason) => Ok((State::Running, Some(reason))),
        Event::Unready(reason) | Event::Retrying(reason) | Event::WishRefused(reason) => Ok((state, Some(reason))),
        Event::CrashLooping(reason) | Event::Refused(reason) => Ok((State::Failed, Some(reason))),
        Event::Stopped => Ok((State::Failed, Some(stopped_on_host()))),
        Event::Restart | Event::Moved => Ok((state, None)),
        Event::Update => Ok((State::Updating, None)),
        Event::Suspend => Ok((State::Suspended, None)),
        Event::Delete => Ok((State::Terminating, None)),
        Event::Placed | Event::Unplaceable(_) | Event::Resume | Event::ContainerGone | Event::DataGone => {
            Err(no_step(state, &event))
        }
    }
}

/// Whatever its host still says on the way down changes nothing.
fn suspended(event: Event) -> Step {
    match event {
        Event::Pulling
        | Event::Preparing
        | Event::Started
        | Event::Ready
        | Event::Strained(_)
        | Event::Unready(_)
        | Event::CrashLooping(_)
        | Event::Retrying(_)
        | Event::Refused(_)
        | Event::Stopped
        | Event::Moved
        | Event::WishRefused(_) => Ok((State::Suspended, None)),
        Event::Update => Ok((State::Suspended, None)),
        Event::Resume => Ok((State::Starting, None)),
        Event::Delete => Ok((State::Terminating, None)),
        Event::Placed
        | Event::Unplaceable(_)
        | Event::Restart
        | Event::Suspend
        | Event::ContainerGone
        | Event::DataGone => Err(no_step(State::Suspended, &event)),
    }
}

fn terminating(event: Event) -> Step {
    match event {
        // A second delete may ask for the data at once.
        Event::Delete => Ok((State::Terminating, None)),
        Event::ContainerGone => Ok((State::Terminating, Some(data_kept()))),
        Event::DataGone => Ok((State::Terminated, None)),
        Event::Placed
        | Event::Unplaceable(_)
        | Event::Moved
        | Event::Pulling
        | Event::Preparing
        | Event::Started
        | Event::Ready
        | Event::Strained(_)
        | Event::Unready(_)
        | Event::CrashLooping(_)
        | Event::Retrying(_)
        | Event::Refused(_)
        | Event::Stopped
        | Event::Restart
        | Event::Update
        | Event::Suspend
        | Event::Resume
        | Event::WishRefused(_) => Err(no_step(State::Terminating, &event)),
    }
}

fn data_kept() -> Reason {
    Reason::new("data-kept", "its container is gone, its data is kept until the plan's retention ends")
        .mend("delete it with `--purge` to remove the data now")
}

fn no_step(state: State, event: &Event) -> Refusal {
    let wish = event.wish();
    let reason = Reason::new("wrong-state", format!("a deployment that is {state} cannot be {wish}"));
    Refusal::conflict(match state {
        State::Requested => reason.mend("wait until it has a host; its status says what it waits for"),
        State::Provisioning | State::Configuring | State::Starting => reason.mend("wait until it runs or has failed"),
        State::Terminating => reason.mend("deploy it again under a new name"),
        State::Terminated => reason.mend("deploy it again"),
        // Nobody can suspend or update one yet, and so nothing is promised of that.
        State::Running | State::Failed | State::Updating | State::Restarting | State::Suspended => reason,
    })
}

impl Event {
    /// What brought a transition about, in words for a timeline.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Placed => "placed on a host",
            Self::Unplaceable(_) => "no host can take it yet",
            Self::Moved => "moved to another host: its own is silent",
            Self::Pulling => "the host fetches the image",
            Self::Preparing => "the host prepares network, volume and files",
            Self::Started => "the process started",
            Self::Ready => "the bot is ready",
            Self::Strained(_) => "the bot is ready, under strain",
            Self::Unready(_) => "the bot does not answer",
            Self::CrashLooping(_) => "the process exited",
            Self::Retrying(_) => "the process exited in passing",
            Self::Refused(_) => "the host gave up",
            Self::Stopped => "the bot stopped",
            Self::Restart => "restart requested",
            Self::Update => "update requested",
            Self::Suspend => "suspension requested",
            Self::Resume => "resumption requested",
            Self::Delete => "deletion requested",
            Self::WishRefused(_) => "the host refused the operation",
            Self::ContainerGone => "the container is gone",
            Self::DataGone => "nothing of it is left",
        }
    }

    /// What the deployment was to be, as the end of "cannot be".
    const fn wish(&self) -> &'static str {
        match self {
            Self::Placed | Self::Unplaceable(_) => "placed",
            Self::Moved => "moved",
            Self::Pulling | Self::Preparing => "prepared",
            Self::Started => "started",
            Self::Ready | Self::Strained(_) | Self::Unready(_) => "probed",
            Self::CrashLooping(_) | Self::Retrying(_) | Self::Refused(_) => "failed",
            Self::Stopped => "stopped",
            Self::Restart => "restarted",
            Self::Update => "updated",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Delete => "deleted",
            Self::WishRefused(_) => "refused",
            Self::ContainerGone | Self::DataGone => "cleared away",
        }
    }
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Requested,
        Self::Provisioning,
        Self::Configuring,
        Self::Starting,
        Self::Running,
        Self::Updating,
        Self::Failed,
        Self::Restarting,
        Self::Suspended,
        Self::Terminating,
        Self::Terminated,
    ];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Provisioning => "provisioning",
            Self::Configuring => "configuring",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Updating => "updating",
            Self::Failed => "failed",
            Self::Restarting => "restarting",
            Self::Suspended => "suspended",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no state of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a deployment")]
pub struct StateError(String);

impl FromStr for State {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| StateError(text.to_owned()))
    }
}

#[cfg(test)]
#[path = "deployment_tests.rs"]
mod tests;
