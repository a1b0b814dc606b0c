//! Who the bot is and where it can write: how a test sees from inside what isolation holds.
//!
//! Called by `control`. Each attempt cleans up after itself.

use std::fs;
use std::path::Path;

/// As JSON: the user id, the no-new-privileges and seccomp flags, and whether `/`, `/tmp` and `state` take a file.
pub(crate) fn report(state: &Path) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> &str {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_ascii_whitespace().next()).unwrap_or("unknown")
    };
    format!(
        "{{\"uid\":\"{}\",\"capabilities\":\"{}\",\"no_new_privileges\":\"{}\",\"seccomp\":\"{}\",\
         \"writable\":{{\"root\":{},\"tmp\":{},\"state\":{}}}}}",
        field("Uid"),
        field("CapEff"),
        field("NoNewPrivs"),
        field("Seccomp"),
        writable(Path::new("/")),
        writable(Path::new("/tmp")),
        writable(state)
    )
}

fn writable(folder: &Path) -> bool {
    let probe = folder.join(".echo-write-check");
    fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe)).is_ok()
}
