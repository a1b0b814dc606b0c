//! How a step that failed is told: which step, on what, what the system said, and what would mend it.

use std::io;
use std::path::Path;

use launchpad_protocol::reason::Reason;

/// Bytes of the unit in which people are told of sizes.
const MIB: u64 = 1 << 20;

/// The system said no.
#[must_use]
pub fn failed(step: &str, path: &Path, error: &io::Error) -> Reason {
    let reason = Reason::new("volume-failed", format!("cannot {step} {}", path.display())).because(error.to_string());
    let mends = [
        (io::ErrorKind::StorageFull, "free some space on that filesystem"),
        (io::ErrorKind::QuotaExceeded, "free some space on that filesystem"),
        (io::ErrorKind::PermissionDenied, "run the agent as root"),
        (io::ErrorKind::ReadOnlyFilesystem, "remount that filesystem read-write"),
        (io::ErrorKind::InvalidFilename, "have the bot nest its folders less deeply"),
    ];
    match mends.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, mend)) => reason.mend(*mend),
        None => reason,
    }
}

/// A size as people read it.
#[must_use]
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}
