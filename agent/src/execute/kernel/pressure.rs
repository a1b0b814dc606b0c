//! Pressure: for what share of the last minute processes stood still for want of something (PSI, cgroup v2 only).
//!
//! ```text
//! some avg10=1.23 avg60=0.50 avg300=0.10 total=123456     at least one of them
//! full avg10=0.00 avg60=0.00 avg300=0.00 total=0          all of them at once
//! ```

use std::path::Path;

use super::text;
use crate::observe::kernel::Pressure;

/// The pressures of a group; none where the kernel keeps no such figures.
pub(super) fn read(group: &Path) -> Option<Pressure> {
    let figure = |name: &str, who: &str| avg60(&text(group, name)?, who);
    Some(Pressure {
        memory_full: figure("memory.pressure", "full")?,
        cpu_some: figure("cpu.pressure", "some")?,
        io_full: figure("io.pressure", "full")?,
    })
}

/// The share of the last minute on a line, in hundredths of a percent.
fn avg60(text: &str, who: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(who)?.strip_prefix(' '))?;
    let share = line.split(' ').find_map(|part| part.strip_prefix("avg60="))?;
    let (whole, hundredths) = share.split_once('.')?;
    if hundredths.len() != 2 {
        return None;
    }
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_read_in_hundredths() {
        let text =
            "some avg10=1.23 avg60=12.05 avg300=0.10 total=123456\nfull avg10=0.00 avg60=0.07 avg300=0.00 total=0\n";
        assert_eq!((avg60(text, "some"), avg60(text, "full")), (Some(1205), Some(7)));
        for odd in ["", "some", "full avg60=1", "full avg60=1.5", "full avg60=a.bc", "fullavg60=1.00"] {
            assert_eq!(avg60(odd, "full"), None, "{odd}");
        }
    }
}
