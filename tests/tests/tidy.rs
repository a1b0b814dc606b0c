//! The house keeps its shape: who imports whom, what is pure, and which names belong nowhere.
//!
//! Sizes are for eyes, not for a test. Who may import whom is read from ARCHITECTURE.md, "Who may import whom": what is
//! drawn there is the rule, no wider and no narrower than the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose rooms are drawn. A room is a module of the crate's root and its folder.
const DRAWN: [&str; 2] = ["coordinator", "agent"];

/// Functions of a crate's root that any of its rooms may call: errors told in one sentence.
const COMMON: [&str; 1] = ["sentence"];

/// A crate, and the crates of this workspace that it may depend on outside its tests.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("pki", &["launchpad-protocol"]),
    ("agent", &["launchpad-protocol", "launchpad-pki"]),
    ("coordinator", &["launchpad-protocol", "launchpad-pki"]),
    ("cli", &["launchpad-protocol"]),
];

/// Rooms in which nothing waits: time, ids and chance arrive as arguments (invariant 10).
const PURE: &[&str] = &["coordinator/src/domain", "agent/src/enforce", "agent/src/plan", "protocol/src/session"];

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
    let next = text.lines().skip(1).chain([""]);
    let lines = text.lines().zip(next).enumerate();
    // A module for tests ends the code; an import for tests does not.
    let lines = lines.take_while(|(_, (line, next))| !(line.trim() == "#[cfg(test)]" && next.ends_with('{')));
    lines
        .filter(|(_, (line, _))| !line.trim_start().starts_with("//"))
        .map(|(n, (line, _))| (n + 1, line.split("//").next().unwrap_or("").to_owned()))
        .collect()
}

/// A file of tests, by its name or because the module above declares it for tests only.
fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let above = path.parent().map(|folder| folder.with_extension("rs"));
    let declared = above.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let for_tests = declared.lines().zip(declared.lines().skip(1)).any(|(attribute, line)| {
        attribute.trim() == "#[cfg(test)]" && line.trim().ends_with(&format!("mod {stem};"))
    });
    stem.ends_with("tests") || path.parent().is_some_and(|folder| folder.ends_with("tests")) || for_tests
}

/// Room → the rooms of the same crate that it may import from.
type Rules = BTreeMap<String, BTreeSet<String>>;

/// The rules that ARCHITECTURE.md draws for a crate: lines such as `jobs → app, store` below "In the coordinator".
fn drawn(architecture: &str, krate: &str) -> Rules {
    let after = architecture.split(&format!("In the {krate}:\n```\n")).nth(1).expect("a drawing of the crate");
    let block = after.split("```").next().expect("a drawing ends");
    let rule = |line: &str| {
        let (room, below) = line.split_once('→').unwrap_or_else(|| panic!("no arrow in `{line}`"));
        let below = below.split(',').map(str::trim).filter(|name| *name != "nothing");
        (room.trim().to_owned(), below.map(str::to_owned).collect())
    };
    block.lines().map(rule).collect()
}

/// The modules of the same crate's root that a piece of code names: `crate::a::b`, `crate::{a, b::c}`.
fn imported(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(outermost(list)),
            None => drop(found.insert(leading_name(rest))),
        }
    }
    found.retain(|name| !name.is_empty() && !COMMON.contains(&name.as_str()));
    found
}

/// The names of a braced list up to its end; what stands in inner braces belongs to the name before them.
fn outermost(list: &str) -> Vec<String> {
    let (mut depth, mut flat) = (0, String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            c if depth == 0 => flat.push(c),
            _ => {}
        }
    }
    flat.split(',').map(leading_name).collect()
}

fn leading_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
}

/// Which rooms a room imports from, and the first file that does.
fn imports_of(krate: &str, room: &str) -> BTreeMap<String, PathBuf> {
    let files = sources(&root().join(krate).join("src").join(room));
    assert!(!files.is_empty(), "{krate}/src/{room} is gone: correct ARCHITECTURE.md");
    let mut found = BTreeMap::new();
    for file in files.into_iter().filter(|file| !is_test(file)) {
        let text: String = code(&file).into_iter().map(|(_, line)| line + "\n").collect();
        for name in imported(&text).into_iter().filter(|name| name != room) {
            found.entry(name).or_insert_with(|| file.clone());
        }
    }
    found
}

/// What is imported and not drawn, and what is drawn and not imported.
fn differences(room: &str, drawn: &BTreeSet<String>, imports: &BTreeMap<String, PathBuf>) -> Vec<String> {
    let beyond = imports.iter().filter(|(name, _)| !drawn.contains(*name));
    let beyond = beyond.map(|(name, file)| format!("{}: {room} imports {name}", file.display()));
    let unused = drawn.iter().filter(|name| !imports.contains_key(*name));
    beyond.chain(unused.map(|name| format!("{room} may import {name}, and does not"))).collect()
}

#[test]
fn every_room_imports_from_the_rooms_that_are_drawn_below_it_and_no_others() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut broken = Vec::new();
    for krate in DRAWN {
        let rules = drawn(&architecture, krate);
        for (room, below) in &rules {
            broken.extend(differences(room, below, &imports_of(krate, room)));
        }
        // A room with a folder is large enough to be drawn.
        for entry in fs::read_dir(root().join(krate).join("src")).expect("a crate has sources") {
            let entry = entry.expect("a readable folder");
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_room =
                entry.path().is_dir() && root().join(krate).join("src").join(format!("{name}.rs")).is_file();
            if is_room && !rules.contains_key(&name) {
                broken.push(format!("{krate}/src/{name} is not drawn in ARCHITECTURE.md"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_planted_import_is_found_in_whatever_way_it_is_written() {
    let rules = drawn("In the coordinator:\n```\napi   → app, command\nstore → nothing\n```\n", "coordinator");
    assert!(rules["store"].is_empty());
    let imports = |code: &str| imported(code).into_iter().map(|name| (name, PathBuf::from("x.rs"))).collect();
    let clean = "use crate::app::App;\nuse crate::command::{Field, Page};\nlet why = crate::sentence(error);";
    assert_eq!(differences("api", &rules["api"], &imports(clean)), Vec::<String>::new());
    for planted in [
        "use crate::store::Tx;",
        "use crate::{\n    app,\n    store::{self, Tx},\n};",
        "use crate::{store};",
        "let row = crate::store::rows::get(tx);",
    ] {
        let found = differences("api", &rules["api"], &imports(&format!("{clean}\n{planted}")));
        assert_eq!(found, ["x.rs: api imports store"], "{planted}");
    }
    let found = differences("api", &rules["api"], &imports("use crate::app::App;"));
    assert_eq!(found, ["api may import command, and does not"]);
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

fn waits(line: &str) -> bool {
    line.contains(".await") || line.contains("async ") || line.contains("tokio::")
}

#[test]
fn pure_rooms_wait_for_nothing() {
    assert!(waits("let host = store.read(id).await?;") && !waits("let awaited = host.state;"), "it sees what waits");
    let mut broken = Vec::new();
    for room in PURE {
        for file in sources(&root().join(room)).iter().filter(|file| !is_test(file)) {
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
