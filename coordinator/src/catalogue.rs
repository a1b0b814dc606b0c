//! What customers choose from: runtime profiles, plans and pools, read once when the coordinator starts.
//!
//! The built-in ones are part of the binary, so that one file is all that an installation needs. A directory adds
//! profiles, or replaces those of the same name; a table of plans or of pools replaces the built-in one whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use launchpad_protocol::profile::{Profile, ProfileError};
use launchpad_protocol::reason::Reason;

use crate::domain::plan_table::{DEFAULT_PLANS, PlanTable, PlanTableError};
use crate::domain::pool_table::{DEFAULT_POOLS, PoolTable, PoolTableError};

/// The built-in profiles, file name and text: all of `profiles/`, gathered by `build.rs`.
const BUILT_IN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// Why the catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or the directory.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A profile that makes no sense.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Plans that make no sense.
    #[error(transparent)]
    Plans(#[from] PlanTableError),
    /// Pools that make no sense.
    #[error(transparent)]
    Pools(#[from] PoolTableError),
}

impl CatalogueError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let reason = Reason::new("catalogue-unusable", self.to_string().replace('\n', " "));
        reason.mend("correct the file, or leave --profiles, --plans and --pools out to use the built-in ones")
    }
}

/// The profiles by name.
///
/// # Errors
/// [`CatalogueError`] names the file and what is wrong with it.
pub fn profiles(dir: Option<&Path>) -> Result<BTreeMap<String, Profile>, CatalogueError> {
    let mut profiles = BTreeMap::new();
    let mut add = |origin: &str, text: &str| -> Result<(), ProfileError> {
        let profile = Profile::parse(origin, text)?;
        profiles.insert(profile.name.clone(), profile);
        Ok(())
    };
    for (origin, text) in BUILT_IN {
        add(origin, text)?;
    }
    for path in dir.map(toml_files).transpose()?.unwrap_or_default() {
        add(&path.display().to_string(), &read(&path)?)?;
    }
    Ok(profiles)
}

/// The plans.
///
/// # Errors
/// [`CatalogueError`] names the file or the plan, and what is wrong with it.
pub fn plans(file: Option<&Path>) -> Result<PlanTable, CatalogueError> {
    let text = file.map(read).transpose()?;
    Ok(PlanTable::parse(text.as_deref().unwrap_or(DEFAULT_PLANS))?)
}

/// The pools.
///
/// # Errors
/// [`CatalogueError`] names the file or the pool, and what is wrong with it.
pub fn pools(file: Option<&Path>) -> Result<PoolTable, CatalogueError> {
    let text = file.map(read).transpose()?;
    Ok(PoolTable::parse(text.as_deref().unwrap_or(DEFAULT_POOLS))?)
}

/// In order of their names, so that of two profiles of one name the same one always wins.
fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    let unreadable = |source| CatalogueError::Unreadable { path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, CatalogueError> {
    std::fs::read_to_string(path).map_err(|source| CatalogueError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let names: Vec<_> = profiles(None).unwrap().into_keys().collect();
        assert_eq!(names, ["echo", "openclaw"]);
        plans(None).unwrap();
        pools(None).unwrap();
    }

    #[test]
    fn a_file_replaces_the_built_in_profile_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let text = BUILT_IN[0].1.replace("port = 8080", "port = 9090");
        std::fs::write(dir.path().join("mine.toml"), text).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not a profile").unwrap();
        assert_eq!(profiles(Some(dir.path())).unwrap()["echo"].port, 9090);
    }

    #[test]
    fn a_bad_profile_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.toml"), "colour = 1").unwrap();
        let error = profiles(Some(dir.path())).unwrap_err();
        assert!(error.reason().to_string().contains("bad.toml"), "{error}");
    }
}
