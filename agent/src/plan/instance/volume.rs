//! What is to be done about an instance's volume, and when. A part of [`Scene`].
//!
//! ```text
//! too small ─► its bot runs ──no──► grown before the start; where that has just failed, it starts in what it has
//!                 │ yes
//!                 └─► grows in use ──yes──► grown, after all else
//!                                  ──no───► told beside the phase; grown at the next stop
//! ```
//! No bot is stopped for a larger volume, and none is kept from running for want of one: whoever wants it at once asks
//! for a restart.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, Volume};

use super::Scene;
use crate::observe::VolumeSight;
use crate::plan::action::Action;

impl Scene<'_> {
    /// Its volume, as a container stands on it: there, mounted, and before a start as large as its plan grants.
    pub(super) fn volume(&self) -> Option<Action> {
        let asked = self.spec.volume.as_ref()?;
        let stays =
            self.too_small().filter(|volume| self.runs() || volume.flags_right && self.record.trouble.is_some());
        let bytes = stays.map_or(asked.bytes, |volume| volume.bytes);
        let is_right = |volume: &VolumeSight| volume.mounted && volume.flags_right && volume.bytes >= bytes;
        let seen = self.observed.volumes.get(&self.spec.deployment);
        (!seen.is_some_and(is_right)).then(|| self.prepare_volume(asked, bytes))
    }

    /// What is left of it for the moment in which the bot that runs stands still.
    pub(super) fn growth(&self) -> Option<Action> {
        let asked = self.spec.volume.as_ref()?;
        self.too_small().filter(|_| self.runs()).map(|_| self.prepare_volume(asked, asked.bytes))
    }

    /// The same around the running bot, where that can be.
    pub(super) fn growth_in_use(&self) -> Option<Action> {
        self.growth().filter(|_| self.waits_for_a_stop().is_none())
    }

    /// Why it cannot grow now; none: it can, or has no need to.
    pub(super) fn waits_for_a_stop(&self) -> Option<Reason> {
        let asked = self.spec.volume.as_ref()?;
        self.too_small().filter(|_| self.runs())?.waits_for_a_stop(asked.bytes)
    }

    fn too_small(&self) -> Option<&VolumeSight> {
        let (asked, volume) = (self.spec.volume.as_ref()?, self.observed.volumes.get(&self.spec.deployment));
        volume.filter(|volume| volume.mounted && volume.bytes < asked.bytes)
    }

    fn runs(&self) -> bool {
        let mut containers = self.current.into_iter().chain(self.others.iter().copied());
        containers.any(|container| container.running_since().is_some())
    }

    fn prepare_volume(&self, asked: &Volume, bytes: u64) -> Action {
        let volume = Some(Volume { bytes, ..asked.clone() });
        Action::PrepareVolume { spec: Box::new(InstanceSpec { volume, ..self.spec.clone() }) }
    }
}
