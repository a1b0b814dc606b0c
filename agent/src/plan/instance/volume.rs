//! What is to be done about an instance's volume, and when. A part of [`Scene`].
//!
//! ```text
//! too small ─► grows around a running bot ──yes──► now, in use
//!                                         ──no───► told beside the phase ─► grown at the next stop, before the start
//! ```
//! No bot is stopped for a larger volume: whoever wants it at once asks for a restart.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, Volume};

use super::Scene;
use crate::observe::VolumeSight;
use crate::plan::action::Action;

impl Scene<'_> {
    /// Its volume, as far as it can be prepared without a stop.
    pub(super) fn volume(&self) -> Option<Action> {
        let seen = self.observed.volumes.get(&self.spec.deployment);
        // One that must wait is still mounted as it should be, at the size that it has.
        let waiting = seen.filter(|_| self.waits_for_a_stop().is_some());
        let bytes = waiting.map_or(self.spec.volume.bytes, |volume| volume.bytes);
        let is_right = |volume: &VolumeSight| volume.mounted && volume.flags_right && volume.bytes >= bytes;
        (!seen.is_some_and(is_right)).then(|| self.prepare_volume(bytes))
    }

    /// What is left of its volume for when its bot stands still.
    pub(super) fn growth(&self) -> Option<Action> {
        self.waits_for_a_stop().map(|_| self.prepare_volume(self.spec.volume.bytes))
    }

    /// Why its volume cannot grow now; none: it can, or has no need to. Nobody is stopped for it.
    pub(super) fn waits_for_a_stop(&self) -> Option<Reason> {
        let mut containers = self.current.into_iter().chain(self.others.iter().copied());
        let runs = containers.any(|container| container.running_since().is_some());
        let volume = self.observed.volumes.get(&self.spec.deployment).filter(|volume| runs && volume.mounted);
        volume.and_then(|volume| volume.waits_for_a_stop(self.spec.volume.bytes))
    }

    fn prepare_volume(&self, bytes: u64) -> Action {
        let volume = Volume { bytes, ..self.spec.volume.clone() };
        Action::PrepareVolume { spec: Box::new(InstanceSpec { volume, ..self.spec.clone() }) }
    }
}
