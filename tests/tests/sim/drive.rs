//! A machine's disk, as its agent sees it: it may be full, fail, or lose power between two operations.
//!
//! It is the simulated disk with something in front. A planted bug leaves a step of durable writing out, as code would
//! that forgot it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use launchpad_agent::disk::{Files, FreshFile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::net::SimulatedFiles;

/// How often a failing disk fails, in percent of its operations.
const FAILS: u32 = 30;

/// EIO, which the standard library has no name for.
const EIO: i32 = 5;

/// A mistake that a run makes on purpose: the oracle must notice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Plant {
    /// A file is given its name before its content is safe.
    NoFileSync,
    /// Names in a directory are not made safe.
    NoDirectorySync,
}

/// How a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    Full,
    Failing,
    /// The power goes after so many more operations.
    LosesPower(u32),
    /// It has gone: nothing reaches the disk any more.
    Dark,
}

/// The disk. Clones are the same one, and it outlives every agent.
#[derive(Debug, Clone)]
pub(crate) struct Drive(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    health: Health,
    plant: Option<Plant>,
    chance: StdRng,
    refused: u64,
}

impl Drive {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let chance = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(State { health: Health::Well, plant, chance, refused: 0 })))
    }

    pub(crate) fn health(&self) -> Health {
        self.state().health
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// Operations that were refused for the disk's health since this was last asked.
    pub(crate) fn take_refused(&self) -> u64 {
        std::mem::take(&mut self.state().refused)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an operation reaches the disk; `grows`: it takes room.
    fn admit(&self, grows: bool) -> io::Result<()> {
        let state = &mut *self.state();
        if let Health::LosesPower(left) = state.health {
            state.health = left.checked_sub(1).map_or(Health::Dark, Health::LosesPower);
        }
        let refusal = match state.health {
            Health::Full if grows => io::Error::from(io::ErrorKind::StorageFull),
            Health::Failing if state.chance.random_range(0..100) < FAILS => io::Error::from_raw_os_error(EIO),
            Health::Dark => io::Error::from_raw_os_error(EIO),
            Health::Well | Health::Full | Health::Failing | Health::LosesPower(_) => return Ok(()),
        };
        state.refused += 1;
        Err(refusal)
    }
}

impl Files for Drive {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.admit(true)?;
        SimulatedFiles.create_directory(path, mode)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FreshFile>> {
        self.admit(true)?;
        Ok(Box::new(DriveFile { drive: self.clone(), file: SimulatedFiles.create(path, mode)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.admit(false)?;
        SimulatedFiles.rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.admit(false)?;
        if self.state().plant == Some(Plant::NoDirectorySync) {
            return Ok(());
        }
        SimulatedFiles.sync_directory(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.admit(false)?;
        SimulatedFiles.read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.admit(false)?;
        SimulatedFiles.remove(path)
    }

    fn exists(&self, path: &Path) -> bool {
        SimulatedFiles.exists(path)
    }
}

struct DriveFile {
    drive: Drive,
    file: Box<dyn FreshFile>,
}

impl Write for DriveFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.drive.admit(true)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FreshFile for DriveFile {
    fn sync(&self) -> io::Result<()> {
        self.drive.admit(false)?;
        if self.drive.state().plant == Some(Plant::NoFileSync) {
            return Ok(());
        }
        self.file.sync()
    }
}
