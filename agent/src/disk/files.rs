//! The operations that durable writing is made of, and no others: the machine's, or those of a simulated disk, which loses
//! at a power cut whatever was not asked to stay.
//!
//! [`super::Disk`] puts them in their order; that order is what the simulator proves.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What a disk can do with files.
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory with those permission bits, and whatever is missing above it. One that is there is as good.
    ///
    /// # Errors
    /// What the operating system says, as everywhere here.
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Makes an empty file with those permission bits, or empties the one that is there.
    ///
    /// # Errors
    /// As above.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FreshFile>>;

    /// Gives a file another name, in place of whatever had that name.
    ///
    /// # Errors
    /// As above.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Has the names in a directory survive a power cut.
    ///
    /// # Errors
    /// As above.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// The whole content of a file.
    ///
    /// # Errors
    /// As above.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Removes a file.
    ///
    /// # Errors
    /// As above.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether something has that name.
    fn exists(&self, path: &Path) -> bool;
}

/// A file that is being written.
pub trait FreshFile: io::Write {
    /// Has what was written survive a power cut.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync(&self) -> io::Result<()>;
}

/// The machine's own files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine;

impl Files for Machine {
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FreshFile>> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

impl FreshFile for fs::File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
