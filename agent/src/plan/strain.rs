//! Whether a bot that answers does so under strain: told beside its phase, and acted upon by nobody but its owner. Pure.

use launchpad_protocol::reason::Reason;

use crate::observe::kernel::KernelView;

/// Hundredths of a percent of the last minute in which all of a bot stood still for want of memory, from which on that
/// is told: six seconds of a minute, which people notice in answers.
const MEMORY_STALL_TOLD_FROM: u32 = 10_00;

/// What strains a bot; none: nothing that its kernel tells.
#[must_use]
pub fn strain(kernel: &KernelView) -> Option<Reason> {
    let stalled =
        kernel.group.pressure.map(|pressure| pressure.memory_full).filter(|full| *full >= MEMORY_STALL_TOLD_FROM);
    if let Some(full) = stalled {
        let sentence = "it stands still again and again for want of memory";
        return Some(
            Reason::new("under-memory-pressure", sentence)
                .because(format!("all its processes waited for memory in {} % of the last minute", full / 100))
                .mend("choose a larger plan, or have the bot do less at once"),
        );
    }
    (kernel.group.oom_kills > 0).then(|| {
        Reason::new("processes-killed-for-memory", "the kernel killed processes of it, because its memory was full")
            .because(format!("{} since it started; the bot itself runs on", kernel.group.oom_kills))
            .mend("choose a larger plan, or have the bot do less at once")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::kernel::{GroupView, Pressure};

    fn strained(memory_full: u32, oom_kills: u64) -> Option<String> {
        let pressure = Some(Pressure { memory_full, ..Pressure::default() });
        let group = GroupView { oom_kills, pressure, ..GroupView::default() };
        strain(&KernelView { group, ..KernelView::default() }).map(|reason| reason.code)
    }

    #[test]
    fn want_of_memory_is_told_before_the_kills_that_it_led_to() {
        assert_eq!(strained(999, 0), None);
        assert_eq!(strained(999, 1).as_deref(), Some("processes-killed-for-memory"));
        assert_eq!(strained(1000, 1).as_deref(), Some("under-memory-pressure"));
        assert_eq!(strain(&KernelView::default()), None);
    }
}
