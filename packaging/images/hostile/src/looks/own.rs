//! Its own secrets, seen with a stranger's eyes: in environments, arguments, and what a crash leaves behind.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use launchpad_hostile::Try;

use super::{holds, pids};
use crate::place::Place;
use crate::runner::SELF;

/// Shorter values stand everywhere by chance.
const SECRET_MIN_BYTES: usize = 8;

/// Looks for each of its secrets' values in every environment and argument that it sees.
pub(crate) fn secrets_on_show(place: &Place) -> Vec<Try> {
    let files = fs::read_dir(&place.secrets).into_iter().flatten().flatten();
    let secrets: Vec<(String, Vec<u8>)> = files
        .filter_map(|file| {
            let value = fs::read(file.path()).ok()?.trim_ascii().to_vec();
            (value.len() >= SECRET_MIN_BYTES).then(|| (file.file_name().to_string_lossy().into_owned(), value))
        })
        .collect();
    if secrets.is_empty() {
        return vec![Try::untried("looks for its secrets", format!("no secret in {}", place.secrets.display()))];
    }
    let shown = |file: &str| -> Vec<u8> {
        pids().into_iter().flat_map(|pid| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).collect()
    };
    let places = [("environments", shown("environ")), ("arguments", shown("cmdline"))];
    let each = |(name, text): &(&str, Vec<u8>)| {
        let what = format!("looks for {} secrets in {name}", secrets.len());
        match secrets.iter().find(|(_, value)| holds(text, value)) {
            Some((secret, _)) => Try::reached(what, format!("`{secret}` is there")),
            None => Try::refused(what, "none is there"),
        }
    };
    places.iter().map(each).collect()
}

/// Has a child of it crash in its volume, where a dump could be written, and asks the kernel whether it
/// dumped.
pub(crate) fn core_dump(place: &Place) -> Vec<Try> {
    let what = "crashes a child and looks for its core";
    let mut command = Command::new(SELF);
    command.args(["minion", "crash"]).current_dir(&place.state).stdin(Stdio::null());
    vec![match command.status() {
        Ok(status) if status.core_dumped() => {
            let left = fs::read_dir(&place.state).into_iter().flatten().flatten();
            let cores = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
            let removed = cores.filter(|core| fs::remove_file(core.path()).is_ok()).count();
            Try::reached(what, format!("the kernel dumped it; {removed} found and removed in its volume"))
        }
        Ok(status) if status.signal().is_some() => Try::refused(what, format!("no dump ({status})")),
        Ok(status) => Try::untried(what, format!("the child did not crash: {status}")),
        Err(error) => Try::untried(what, error),
    }]
}
