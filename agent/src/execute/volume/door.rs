//! The one door through which volumes change the host: a step comes in, and is done or told why not.
//!
//! [`Machine`] is the real host. Tests stand before it with a door of their own, which stops after any step
//! as a crash would, or answers for a kernel that has what this one lacks. Nothing is decided here. A killed
//! agent may leave a step half done; each is one that can be done again.

mod files;
mod mounting;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use launchpad_protocol::killpoint::{self, Side};
use launchpad_protocol::reason::Reason;

use super::failure::failed;
use super::program::{Program, Programs};
use super::step::Step;
use super::{content, tree};
use crate::disk::Disk;

/// What can be asked of the host that no file of `/proc` and `/sys` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether project quotas are enforced on the XFS mounted there.
    QuotaState {
        /// Where it is mounted.
        filesystem: PathBuf,
    },
    /// What is counted under each project on the XFS mounted there.
    QuotaReport {
        /// Where it is mounted.
        filesystem: PathBuf,
    },
}

/// What carries out steps.
#[async_trait]
pub trait Door: fmt::Debug + Send + Sync + 'static {
    /// Returns when no program of a former life works on a volume any more.
    ///
    /// # Errors
    /// When one does not end.
    async fn quiet(&self) -> Result<(), Reason>;

    /// Carries out one step. Idempotent.
    ///
    /// # Errors
    /// What the system said. The step may be half done.
    async fn carry_out(&self, step: &Step) -> Result<(), Reason>;

    /// Asks one question; the answer is the program's own text.
    ///
    /// # Errors
    /// What the system said.
    async fn ask(&self, question: &Question) -> Result<String, Reason>;
}

/// The real host.
#[derive(Debug, Clone)]
pub struct Machine {
    programs: Programs,
}

impl Machine {
    /// Whose programs hold that lock while they work.
    #[must_use]
    pub const fn new(at_work: PathBuf) -> Self {
        Self { programs: Programs::under(at_work) }
    }

    async fn run(&self, program: Program, arguments: &[&OsStr]) -> Result<(), Reason> {
        self.programs.run(program, arguments).await.map(drop)
    }

    async fn act(&self, step: &Step) -> Result<(), Reason> {
        match step {
            Step::MakeDir { path, mode } => files::make_dir(path, *mode),
            Step::Allocate { file, bytes } => self.allocate(file, *bytes).await,
            Step::Format { image } => self.format(image).await,
            Step::Check { image } => self.check(image).await,
            Step::Enlarge { image } => self.enlarge(image).await,
            Step::MountImage { image, at } => mounting::mount_image(&self.programs, image, at).await,
            Step::EnlargeMounted { image } => mounting::enlarge(&self.programs, image).await,
            Step::MountTree { tree, at } => mounting::mount_tree(tree, at),
            Step::SetFlags { at } => mounting::set_flags(at),
            Step::Unmount { at } => mounting::unmount(at).await,
            Step::FreeLoop { image } => mounting::free_loop(&self.programs, image).await,
            Step::GiveTo { path, uid, gid } => files::give_to(path, *uid, *gid),
            Step::SetProject { tree, project } => {
                let project = format!("chproj {project}");
                let inherit = ["-c".as_ref(), "chattr +P".as_ref(), "-c".as_ref(), project.as_ref(), tree.as_ref()];
                self.run(Program::XfsIo, &inherit).await
            }
            Step::LimitProject { filesystem, project, bytes, files } => {
                let limit = format!("limit -p bhard={bytes} ihard={files} {project}");
                let limit = ["-x".as_ref(), "-c".as_ref(), limit.as_ref(), filesystem.as_ref()];
                self.run(Program::XfsQuota, &limit).await
            }
            Step::CopyImage { from, to } => self.copy_image(from, to).await,
            Step::CopyTree { from, to } => self.copy_tree(from, to).await,
            Step::ShiftOwners { root, by } => {
                let by = *by;
                let shift = move |root: &Path| tree::shift(root, by).and_then(|()| files::sync_filesystem(root));
                off_thread("shift the owners in", root, shift).await
            }
            Step::Note { dir, name, content } => {
                let noted = Disk::open(dir).and_then(|disk| disk.write(name, content.as_bytes()));
                noted.map_err(|error| Reason::new("volume-failed", error.to_string()))
            }
            Step::Rename { from, to } => files::rename(from, to),
            Step::Exchange { one, other } => files::exchange(one, other),
            Step::Delete { path } => self.delete(path).await,
        }
    }

    async fn allocate(&self, file: &Path, bytes: u64) -> Result<(), Reason> {
        self.begin_image(file).await?;
        off_thread("reserve space for", file, move |file| files::allocate(file, bytes)).await
    }

    async fn copy_image(&self, from: &Path, to: &Path) -> Result<(), Reason> {
        self.begin_image(to).await?;
        let from = from.to_owned();
        off_thread("copy an image to", to, move |to| content::copy(&from, to)).await
    }

    /// A file that is written in place must not be moved by each write: on btrfs its room would not be kept.
    async fn begin_image(&self, file: &Path) -> Result<(), Reason> {
        let begun = files::begin(file).map_err(|error| failed("make", file, &error))?;
        if begun && files::copies_on_write(file).map_err(|error| failed("look at", file, &error))? {
            self.run(Program::Chattr, &["+C".as_ref(), file.as_ref()]).await?;
        }
        Ok(())
    }

    /// Lazily: the file reads as zeros, so nothing of the inode tables has to be written. Nothing is
    /// discarded either, which would give the file's room back to the host. No block is kept for root: there
    /// is none in there.
    async fn format(&self, image: &Path) -> Result<(), Reason> {
        let options = "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";
        let arguments = ["-q", "-F", "-b", "4096", "-m", "0", "-E", options];
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).chain([image.as_ref()]).collect();
        self.run(Program::MkfsExt4, &arguments).await
    }

    /// What needs no answers of a person is repaired.
    async fn check(&self, image: &Path) -> Result<(), Reason> {
        let checked = self.run(Program::E2fsck, &["-p".as_ref(), image.as_ref()]).await;
        checked.map_err(|reason| {
            let told = Reason::new("volume-damaged", format!("{} cannot be repaired", image.display()));
            told.because(reason.cause.unwrap_or(reason.sentence)).mend("restore a snapshot of it")
        })
    }

    /// `resize2fs` insists on a full check before it.
    async fn enlarge(&self, image: &Path) -> Result<(), Reason> {
        self.run(Program::E2fsck, &["-f".as_ref(), "-p".as_ref(), image.as_ref()]).await?;
        self.run(Program::Resize2fs, &[image.as_ref()]).await
    }

    async fn copy_tree(&self, from: &Path, to: &Path) -> Result<(), Reason> {
        let options =
            ["--archive", "--reflink=auto", "--sparse=always", "--one-file-system", "--no-target-directory"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([OsStr::new("--"), from.as_ref(), to.as_ref()]);
        self.run(Program::Cp, &arguments).await?;
        off_thread("sync", to, files::sync_filesystem).await
    }

    /// `rm` follows no link, and minds neither depth nor other filesystems.
    async fn delete(&self, path: &Path) -> Result<(), Reason> {
        if std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        let arguments = ["--recursive", "--force", "--one-file-system", "--"];
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).chain([path.as_ref()]).collect();
        self.run(Program::Rm, &arguments).await
    }
}

#[async_trait]
impl Door for Machine {
    async fn quiet(&self) -> Result<(), Reason> {
        self.programs.quiet().await
    }

    async fn carry_out(&self, step: &Step) -> Result<(), Reason> {
        killpoint::visit("agent", step.kind(), Side::Before);
        let done = self.act(step).await;
        killpoint::visit("agent", step.kind(), Side::After);
        done
    }

    async fn ask(&self, question: &Question) -> Result<String, Reason> {
        let (words, filesystem) = match question {
            Question::QuotaState { filesystem } => ("state -p", filesystem),
            Question::QuotaReport { filesystem } => ("report -p -n -N -b", filesystem),
        };
        let arguments = ["-x".as_ref(), "-c".as_ref(), words.as_ref(), filesystem.as_ref()];
        self.programs.run(Program::XfsQuota, &arguments).await
    }
}

/// Does what may take long on a thread that may wait, and says on what it failed.
pub(super) async fn off_thread<T: Send + 'static>(
    step: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Reason> {
    let path = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path).map_err(|error| failed(step, &path, &error))).await;
    done.unwrap_or_else(|error| {
        Err(Reason::new("volume-failed", format!("cannot {step} anything")).because(error.to_string()))
    })
}
