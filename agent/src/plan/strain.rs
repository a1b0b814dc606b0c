//! Whether a bot that answers does so under strain: told beside its phase and in its timeline, and acted upon by nobody
//! but its owner. Pure.
//!
//! What was told last goes away later than it came: a bot that works at a bound does not fill its timeline.

use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::{MEMORY_KILLS, MEMORY_PRESSURE, VOLUME_FULL};

use crate::observe::VolumeSight;
use crate::observe::kernel::KernelView;

/// A bound with two sides.
struct Bound {
    told_from: u32,
    gone_below: u32,
}

/// Hundredths of a percent of the last minute in which all of a bot stood still for want of memory: six seconds of a
/// minute, which people notice in answers, until it is half of that.
const MEMORY_STALL: Bound = Bound { told_from: 10_00, gone_below: 5_00 };

/// Percent of what a volume can hold: while a twentieth is left its owner has time to act, and a bot that frees a tenth
/// has cleared up, and not only rotated a file.
const VOLUME_FILL: Bound = Bound { told_from: 95, gone_below: 90 };

/// What strains a bot, the worst first: a full volume refuses every write, want of memory only slows it, and kills are
/// over. None: nothing that its kernel or its volume tells. `told` is the code that was told last.
#[must_use]
pub fn strain(kernel: Option<&KernelView>, volume: Option<&VolumeSight>, told: Option<&str>) -> Option<Reason> {
    let is_told = |code| told == Some(code);
    volume
        .and_then(|volume| full(volume, is_told(VOLUME_FULL)))
        .or_else(|| kernel.and_then(|kernel| stalled(kernel, is_told(MEMORY_PRESSURE))))
        .or_else(|| kernel.and_then(killed))
}

impl Bound {
    /// Whether that is told: a thing that was told before is, until it falls below the other side.
    const fn tells(&self, found: u32, was_told: bool) -> bool {
        found >= if was_told { self.gone_below } else { self.told_from }
    }
}

/// Judged by what the bot can still write: the volume's own size has the filesystem in it, which in a small one is more
/// than the bound leaves.
fn full(volume: &VolumeSight, was_told: bool) -> Option<Reason> {
    let free = volume.free_bytes?;
    let holds = u128::from(volume.used_bytes) + u128::from(free);
    let percent = u32::try_from((u128::from(volume.used_bytes) * 100).checked_div(holds)?).ok()?;
    VOLUME_FILL.tells(percent, was_told).then(|| {
        Reason::new(VOLUME_FULL, "its volume is full, or nearly so: soon every write to it fails")
            .because(format!("{percent} % of it is filled, {free} bytes are left"))
            .mend("free some space in it, or choose a larger plan")
    })
}

fn stalled(kernel: &KernelView, was_told: bool) -> Option<Reason> {
    let full = kernel.group.pressure?.memory_full;
    MEMORY_STALL.tells(full, was_told).then(|| {
        Reason::new(MEMORY_PRESSURE, "it stands still again and again for want of memory")
            .because(format!("all its processes waited for memory in {} % of the last minute", full / 100))
            .mend("choose a larger plan, or have the bot do less at once")
    })
}

fn killed(kernel: &KernelView) -> Option<Reason> {
    (kernel.group.oom_kills > 0).then(|| {
        Reason::new(MEMORY_KILLS, "the kernel killed processes of it, because its memory was full")
            .because(format!("{} since it started; the bot itself runs on", kernel.group.oom_kills))
            .mend("choose a larger plan, or have the bot do less at once")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::observe::kernel::{GroupView, Pressure};

    fn kernel(memory_full: u32, oom_kills: u64) -> KernelView {
        let pressure = Some(Pressure { memory_full, ..Pressure::default() });
        let group = GroupView { oom_kills, pressure, ..GroupView::default() };
        KernelView { group, ..KernelView::default() }
    }

    /// A volume of which the filesystem itself takes a tenth.
    fn volume(used_bytes: u64, free_bytes: Option<u64>) -> VolumeSight {
        VolumeSight {
            backend: "loop-ext4".to_owned(),
            bytes: 1100,
            used_bytes,
            free_bytes,
            mounted: true,
            flags_right: true,
            grows_in_use: true,
            snapshots: BTreeMap::new(),
        }
    }

    fn code(kernel: &KernelView, volume: Option<&VolumeSight>, told: Option<&str>) -> Option<String> {
        strain(Some(kernel), volume, told).map(|reason| reason.code)
    }

    #[test]
    fn want_of_memory_is_told_before_the_kills_that_it_led_to() {
        assert_eq!(code(&kernel(999, 0), None, None), None);
        assert_eq!(code(&kernel(999, 1), None, None).as_deref(), Some(MEMORY_KILLS));
        assert_eq!(code(&kernel(1000, 1), None, None).as_deref(), Some(MEMORY_PRESSURE));
        assert_eq!(strain(None, None, None), None);
        assert_eq!(strain(Some(&KernelView::default()), None, None), None);
    }

    #[test]
    fn a_full_volume_is_told_before_everything_else_with_what_is_left() {
        let (strained, filled) = (kernel(1000, 1), volume(950, Some(50)));
        let reason = strain(Some(&strained), Some(&filled), None).expect("it is full");
        assert_eq!(
            reason.to_string(),
            "its volume is full, or nearly so: soon every write to it fails (95 % of it is filled, 50 bytes are left); \
             free some space in it, or choose a larger plan"
        );
        assert_eq!(reason.code, VOLUME_FULL);
    }

    #[test]
    fn what_was_told_goes_away_later_than_it_came() {
        let still = KernelView::default();
        for (used, before, told) in [(949, None, false), (950, None, true), (900, Some(VOLUME_FULL), true)] {
            let found = code(&still, Some(&volume(used, Some(1000 - used))), before);
            assert_eq!(found.is_some(), told, "{used} of a thousand after {before:?}");
        }
        assert_eq!(code(&still, Some(&volume(899, Some(101))), Some(VOLUME_FULL)), None);
        assert_eq!(code(&still, Some(&volume(900, Some(100))), Some(MEMORY_PRESSURE)), None);
        assert_eq!(code(&kernel(500, 0), None, Some(MEMORY_PRESSURE)).as_deref(), Some(MEMORY_PRESSURE));
        assert_eq!(code(&kernel(499, 0), None, Some(MEMORY_PRESSURE)), None);
    }

    #[test]
    fn a_volume_that_cannot_be_seen_into_is_not_called_full() {
        let still = KernelView::default();
        assert_eq!(code(&still, Some(&volume(0, None)), None), None);
        assert_eq!(code(&still, Some(&volume(0, Some(0))), None), None);
        assert_eq!(code(&still, Some(&volume(1000, Some(0))), None).as_deref(), Some(VOLUME_FULL));
    }
}
