//! Carrying out one [`Action`]: a translation, without a policy.
//!
//! `reconcile` calls [`Hands::execute`] with one action after another of a plan, and [`Eyes::observe`] between plans.
//! The real host is [`docker`] with its neighbours; the tests' host is `execute/fake.rs`, a complete one whose world
//! outlives the agent. Nothing here knows what is desired.

pub mod docker;

pub mod address;
pub mod bridge;
pub mod container;
pub mod create;
pub mod files;
pub mod gate;
pub mod image;
pub mod network;
pub mod resolv;
pub mod stop;
pub mod systemd;
pub mod tenant;
pub mod volume;

pub mod cgroup;
pub mod events;
pub mod inspect;
pub mod kernel;
pub mod logs;
pub mod probe;
pub mod sight;

pub mod engine;
pub mod facts;
pub mod places;

pub mod fake;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use async_trait::async_trait;
use launchpad_protocol::image::ImageRef;
use launchpad_protocol::reason::Reason;
use tokio::sync::mpsc;

use launchpad_protocol::frame::{Answer, Question};

use crate::observe::Observed;
use crate::plan::action::Action;

/// Why an action, or an observation, failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    /// The engine does not answer: nothing can be said about any container. Nothing is counted against a bot.
    #[error("the container engine does not answer: {0}")]
    EngineAway(Reason),
    /// It failed now and may work later: a registry that is away, a full disk.
    #[error("{0}")]
    Passing(Reason),
    /// It fails for this revision, however often it is tried: an image that is not what its digest says, a file that
    /// does not open with this host's key.
    #[error("{0}")]
    Refused(Reason),
}

impl ExecuteError {
    /// What is wrong.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        match self {
            Self::EngineAway(reason) | Self::Passing(reason) | Self::Refused(reason) => reason,
        }
    }
}

/// What carries out actions.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Carries out one action. Idempotent.
    ///
    /// # Errors
    /// [`ExecuteError`] says whether trying again makes sense.
    async fn execute(&self, action: &Action) -> Result<(), ExecuteError>;
}

/// What observes.
#[async_trait]
pub trait Eyes: Send + Sync + 'static {
    /// Everything of ours on the host now. `images` are those worth asking about.
    ///
    /// # Errors
    /// [`ExecuteError::EngineAway`] when the engine does not answer; half an observation is never returned.
    async fn observe(&self, images: &BTreeSet<ImageRef>) -> Result<Observed, ExecuteError>;

    /// Returns when something of ours may have changed: a container started, died, was removed. May return early,
    /// never too late by more than the reconciler's own timer.
    async fn changed(&self);

    /// Answers a question piece by piece until it is answered, or nobody listens. Sends exactly one
    /// [`Answer::End`], last.
    async fn answer(&self, question: &Question, pieces: mpsc::Sender<Answer>);

    /// Whether an HTTP GET of `http://address:port/path` answers 200 in time with a body that contains the text.
    ///
    /// # Errors
    /// In a few words, what came instead: `connection refused`, `status 503`, `no answer within 2s`.
    async fn probe(
        &self,
        address: Ipv4Addr,
        port: u16,
        probe: &launchpad_protocol::spec::HttpProbe,
    ) -> Result<(), String>;
}
