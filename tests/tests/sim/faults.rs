//! What goes wrong in a run, and when. How much is drawn with the seed, so that some runs see one fault and others a storm.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// Something that goes wrong. Each is for one machine, or for the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// An agent is killed, and begun again after a while.
    AgentKilled,
    /// A machine loses power, and its disk what was not asked to stay.
    PowerCut,
    /// The same, in the middle of what its agent writes.
    PowerCutWhileWriting,
    /// The coordinator is killed, and begun again after a while.
    CoordinatorKilled,
    /// Nothing of what a machine sends arrives.
    CutToCoordinator,
    /// Nothing of what is sent to a machine arrives.
    CutFromCoordinator,
    /// What is sent between a machine and the coordinator waits, and arrives together.
    Held,
    /// A machine's disk is full.
    DiskFull,
    /// A machine's disk fails now and then.
    DiskFails,
    /// A machine's wall clock is set wrong.
    ClockSet,
    /// The coordinator's wall clock is set wrong.
    CoordinatorClockSet,
    /// A bot's process ends by itself.
    BotExits,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::AgentKilled,
        Self::PowerCut,
        Self::PowerCutWhileWriting,
        Self::CoordinatorKilled,
        Self::CutToCoordinator,
        Self::CutFromCoordinator,
        Self::Held,
        Self::DiskFull,
        Self::DiskFails,
        Self::ClockSet,
        Self::CoordinatorClockSet,
        Self::BotExits,
    ];

    pub(crate) fn draw(chance: &mut StdRng) -> Self {
        Self::ALL[chance.random_range(0..Self::ALL.len())]
    }
}

/// How often each has had an effect.
pub(crate) type Tally = BTreeMap<Fault, u64>;

/// How long a fault lasts, at most.
const LASTS_MAX: Duration = Duration::from_secs(12);

/// How long one lasts this time.
pub(crate) fn lasts(chance: &mut StdRng) -> Duration {
    LASTS_MAX.mul_f64(chance.random::<f64>())
}

/// What is between a machine and the coordinator. One thing at a time: what is held can be neither cut nor mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Clear,
    CutTo,
    CutFrom,
    Held,
}
