//! The house keeps its shape: who imports whom, what is pure, and which names belong nowhere.
//!
//! Sizes are for eyes, not for a test. The rules are the ones of ARCHITECTURE.md, "Who may import whom".

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms of the same crate that it may import from. A room is a module and its folder.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("coordinator", "domain", &[]),
    ("coordinator", "command", &["domain"]),
    ("coordinator", "store", &["domain"]),
    ("coordinator", "fleet", &["domain", "store", "signals", "sentence", "run"]),
    ("coordinator", "api", &["app", "command", "domain", "sentence"]),
    ("coordinator", "jobs", &["app", "domain", "fleet", "signals", "store", "sentence"]),
    ("agent", "disk", &[]),
    ("agent", "observe", &["execute"]),
    ("agent", "plan", &["observe"]),
    ("agent", "execute", &["disk", "observe", "plan"]),
    ("agent", "probe", &["execute", "plan"]),
    ("agent", "book", &["plan"]),
    ("agent", "journal", &["book", "plan"]),
    ("agent", "ledger", &["disk", "link", "plan"]),
    ("agent", "link", &["answer", "config", "execute", "identity", "renew"]),
];

/// A crate, and the crates of this workspace that it may depend on outside its tests.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("pki", &["launchpad-protocol"]),
    ("agent", &["launchpad-protocol", "launchpad-pki"]),
    ("coordinator", &["launchpad-protocol", "launchpad-pki"]),
    ("cli", &["launchpad-protocol"]),
];

/// Rooms in which nothing waits: time, ids and chance arrive as arguments (invariant 10).
const PURE: &[&str] = &["coordinator/src/domain", "agent/src/plan", "protocol/src/session"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A module's own file and all below its folder.
fn sources(module: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let file = module.with_extension("rs");
    found.extend(file.is_file().then_some(file));
    let mut folders = vec![module.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The code of a file, line by line, without its comments and without the tests at its end.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a readable source");
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("").to_owned()))
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"))
}

#[test]
fn every_room_imports_only_from_the_rooms_below_it() {
    let mut broken = Vec::new();
    for (krate, room, allowed) in ROOMS {
        let files = sources(&root().join(krate).join("src").join(room));
        assert!(!files.is_empty(), "{krate}/src/{room} is gone: correct the table");
        for file in files.iter().filter(|file| !is_test(file)) {
            for (n, line) in code(file) {
                let imported = line.split("crate::").skip(1).filter_map(|rest| {
                    let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                    (!name.is_empty()).then_some(name)
                });
                for name in imported.filter(|name| name != room && !allowed.contains(&name.as_str())) {
                    broken.push(format!("{}:{n}: {room} imports {name}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn agent_and_coordinator_never_meet_and_the_cli_speaks_only_the_protocol() {
    for (krate, allowed) in CRATES {
        let text = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("a manifest in TOML");
        let dependencies = manifest["dependencies"].as_table().expect("dependencies");
        let ours: BTreeSet<&str> =
            dependencies.keys().map(String::as_str).filter(|name| name.starts_with("launchpad")).collect();
        let extra: Vec<_> = ours.difference(&allowed.iter().copied().collect()).copied().collect();
        assert!(extra.is_empty(), "{krate} depends on {extra:?}");
    }
}

#[test]
fn pure_rooms_wait_for_nothing() {
    let mut broken = Vec::new();
    for room in PURE {
        for file in sources(&root().join(room)).iter().filter(|file| !is_test(file)) {
            let waits = |line: &str| line.contains(".await") || line.contains("async ") || line.contains("tokio::");
            let found = code(file).into_iter().filter(|(_, line)| waits(line));
            broken.extend(found.map(|(n, line)| format!("{}:{n}: {}", file.display(), line.trim())));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_workload_is_known_by_name() {
    let mut broken = Vec::new();
    for krate in ["protocol", "pki", "agent", "coordinator", "cli"] {
        for file in sources(&root().join(krate).join("src")).iter().filter(|file| !is_test(file)) {
            let named = code(file).into_iter().filter(|(_, line)| line.to_lowercase().contains("openclaw"));
            broken.extend(named.map(|(n, line)| format!("{}:{n}: {}", file.display(), line.trim())));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let mut silent = Vec::new();
    for krate in ["protocol", "pki", "agent", "coordinator", "cli", "tests"] {
        for folder in ["src", "tests"] {
            for file in sources(&root().join(krate).join(folder)) {
                let text = fs::read_to_string(&file).expect("a readable source");
                if !text.starts_with("//! ") || text.starts_with("//! \n") {
                    silent.push(file.display().to_string());
                }
            }
        }
    }
    assert!(silent.is_empty(), "without a //! head:\n{}", silent.join("\n"));
}
