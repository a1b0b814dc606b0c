//! What the agent knows and could find out again: records of instances, and the journal of events. In sled.
//!
//! `reconcile` writes through it and flushes at each commit point: an unflushed sled was measured to lose what it had
//! acknowledged. Nothing in here is needed to keep a bot running: a book that does not open is set aside and begun anew.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use launchpad_protocol::id::{DeploymentId, JournalId};
use launchpad_protocol::killpoint::{self, Side};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::report::Event;

use crate::plan::record::Record;

/// Bytes that sled may cache. The whole book is read once at start and then only written, so a cache serves nobody.
const CACHE_BYTES: u64 = 64 * 1024;

/// How often a book that somebody else has open is tried again, five seconds in all: sled's own threads let go of its lock a
/// moment after the book is closed, and a predecessor that was killed takes a moment to end.
const LOCK_LOOKS: u32 = 1_000;

/// The pause before each.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The name of the book's commit among the kill points.
pub const COMMIT: &str = "book";

/// What a book can do. [`SledBook`] keeps it on disk, [`MemoryBook`] for as long as a test's world lasts.
pub trait Book: Send + 'static {
    /// Everything that is written in it.
    ///
    /// # Errors
    /// [`BookError`] when it cannot be read.
    fn read(&self) -> Result<Pages, BookError>;

    /// Writes what has changed, and returns when it is durable.
    ///
    /// # Errors
    /// [`BookError`] when it cannot be written.
    fn write(&mut self, changes: &Changes) -> Result<(), BookError>;
}

/// All that is in a book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Memory of each instance.
    pub records: BTreeMap<DeploymentId, Record>,
    /// The journal's name; none in a new book.
    pub journal: Option<JournalId>,
    /// Events that the coordinator has not confirmed, by number.
    pub events: BTreeMap<u64, Event>,
}

/// What is to be written at one commit point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Records to put; none: to remove.
    pub records: BTreeMap<DeploymentId, Option<Record>>,
    /// The journal's name, in a new book.
    pub journal: Option<JournalId>,
    /// Events to put.
    pub events: Vec<Event>,
    /// Events up to this number are to be removed.
    pub forget_through: Option<u64>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a book could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} the book: {cause}")]
pub struct BookError {
    step: &'static str,
    cause: String,
    /// The disk refused, which says nothing about what is in the book.
    refused: bool,
}

impl BookError {
    /// That step failed, and why.
    #[must_use]
    pub fn new(step: &'static str, cause: impl ToString) -> Self {
        Self { step, cause: cause.to_string(), refused: false }
    }

    fn by_sled(step: &'static str) -> impl Fn(sled::Error) -> Self {
        move |error| {
            let refused = is_locked(&error) || matches!(&error, sled::Error::Io(error) if is_refusal(error.kind()));
            Self { refused, ..Self::new(step, error) }
        }
    }

    fn at<E: ToString>(step: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::new(step, error)
    }
}

/// Whether a disk says so of itself, and not of what it holds.
const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceBusy
            | ErrorKind::WouldBlock
    )
}

/// Whether somebody else has the book open, which is no damage. sled 0.34 says so in words alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock"))
}

/// The book in that directory; where the disk refuses even that, one in memory, because a full disk keeps no agent from
/// adopting what runs. The reason tells of either.
#[must_use]
pub fn open(dir: &Path) -> (Box<dyn Book>, Option<Reason>) {
    match SledBook::open(dir) {
        Ok((book, trouble)) => (Box::new(book), trouble),
        Err(error) => {
            let trouble = Reason::new("book-unwritable", error.to_string())
                .because("crashes and events of this time are forgotten with the agent's next start")
                .mend("free some space under the agent's data directory, then restart the agent");
            (Box::new(MemoryBook::default()), Some(trouble))
        }
    }
}

/// A book on disk.
///
/// sled remembers a failed write for as long as it is open: after one, the book is closed, and opened again for the next.
#[derive(Debug)]
pub struct SledBook {
    dir: PathBuf,
    open: Option<OpenBook>,
}

#[derive(Debug)]
struct OpenBook {
    db: sled::Db,
    records: sled::Tree,
    events: sled::Tree,
}

const JOURNAL_KEY: &[u8] = b"journal";

impl SledBook {
    /// Opens the book in that directory. One that does not open, or does not read, is set aside and begun anew; the
    /// reason tells of it.
    ///
    /// # Errors
    /// [`BookError`] when the disk refuses: nothing is moved then.
    pub fn open(dir: &Path) -> Result<(Self, Option<Reason>), BookError> {
        let whole = |open: Option<OpenBook>| Self { dir: dir.to_owned(), open };
        let error = match caught("open", || OpenBook::at(dir).and_then(|open| open.read().map(|_| open))) {
            Ok(open) => return Ok((whole(Some(open)), None)),
            Err(error) if error.refused => return Err(error),
            Err(error) => error,
        };
        let aside = free_name(dir);
        std::fs::rename(dir, &aside).map_err(BookError::at("set aside"))?;
        let trouble =
            Reason::new("book-damaged", format!("the agent's book was damaged and is now {}", aside.display()))
                .because(error.to_string())
                .mend("nothing to do: it is rebuilt from Docker; check the disk if it repeats");
        Ok((whole(Some(OpenBook::at(dir)?)), Some(trouble)))
    }
}

fn free_name(dir: &Path) -> PathBuf {
    let named = |n: u32| dir.with_extension(format!("damaged-{n}"));
    (1..u32::MAX).map(named).find(|path| !path.exists()).unwrap_or_else(|| dir.with_extension("damaged"))
}

impl Book for SledBook {
    fn read(&self) -> Result<Pages, BookError> {
        match &self.open {
            Some(open) => caught("read", || open.read()),
            None => caught("read", || OpenBook::at(&self.dir)?.read()),
        }
    }

    fn write(&mut self, changes: &Changes) -> Result<(), BookError> {
        let open = self.open.take();
        self.open = Some(caught("write", || {
            let open = open.map_or_else(|| OpenBook::at(&self.dir), Ok)?;
            open.write(changes).map(|()| open)
        })?);
        Ok(())
    }
}

/// sled panics over some damage where others return an error. Nothing of it is used afterwards.
fn caught<T>(step: &'static str, work: impl FnOnce() -> Result<T, BookError>) -> Result<T, BookError> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(BookError::new(step, "it is damaged in a way that its library did not expect")))
}

impl OpenBook {
    fn at(dir: &Path) -> Result<Self, BookError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::LowSpace)
            // We flush at our commit points; a timer would only wake the machine.
            .flush_every_ms(None);
        let mut opened = config.open();
        for _ in 0..LOCK_LOOKS {
            if !opened.as_ref().is_err_and(is_locked) {
                break;
            }
            // Nothing else can be done before: the agent has not begun to look at its host.
            std::thread::sleep(LOCK_PAUSE);
            opened = config.open();
        }
        let db = opened.map_err(BookError::by_sled("open"))?;
        let records = db.open_tree("records").map_err(BookError::by_sled("open"))?;
        let events = db.open_tree("events").map_err(BookError::by_sled("open"))?;
        Ok(Self { db, records, events })
    }

    fn read(&self) -> Result<Pages, BookError> {
        let mut pages = Pages::default();
        for entry in &self.records {
            let (key, value) = entry.map_err(BookError::at("read"))?;
            let text = std::str::from_utf8(&key).map_err(BookError::at("read"))?;
            let deployment = text.parse().map_err(BookError::at::<launchpad_protocol::id::IdError>("read"))?;
            pages.records.insert(deployment, serde_json::from_slice(&value).map_err(BookError::at("read"))?);
        }
        for entry in &self.events {
            let (_, value) = entry.map_err(BookError::at("read"))?;
            let event: Event = serde_json::from_slice(&value).map_err(BookError::at("read"))?;
            pages.events.insert(event.seq, event);
        }
        if let Some(name) = self.db.get(JOURNAL_KEY).map_err(BookError::at("read"))? {
            pages.journal = Some(serde_json::from_slice(&name).map_err(BookError::at("read"))?);
        }
        Ok(pages)
    }

    fn write(&self, changes: &Changes) -> Result<(), BookError> {
        let put = BookError::at::<sled::Error>;
        for (deployment, record) in &changes.records {
            let key = deployment.to_string();
            match record {
                Some(record) => self.records.insert(key, encode(record)?).map_err(put("write"))?,
                None => self.records.remove(key).map_err(put("write"))?,
            };
        }
        if let Some(journal) = &changes.journal {
            self.db.insert(JOURNAL_KEY, encode(journal)?).map_err(put("write"))?;
        }
        for event in &changes.events {
            self.events.insert(event.seq.to_be_bytes(), encode(event)?).map_err(put("write"))?;
        }
        if let Some(through) = changes.forget_through {
            let keys: Vec<_> = self.events.range(..=through.to_be_bytes()).keys().filter_map(Result::ok).collect();
            for key in keys {
                self.events.remove(key).map_err(put("write"))?;
            }
        }
        killpoint::visit("agent", COMMIT, Side::Before);
        self.db.flush().map_err(put("flush"))?;
        killpoint::visit("agent", COMMIT, Side::After);
        Ok(())
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, BookError> {
    serde_json::to_vec(value).map_err(BookError::at("encode"))
}

/// A book in memory; clones share it, so that it outlives an agent under test.
#[derive(Debug, Clone, Default)]
pub struct MemoryBook(std::sync::Arc<std::sync::Mutex<Pages>>);

impl Book for MemoryBook {
    fn read(&self) -> Result<Pages, BookError> {
        self.0.lock().map(|pages| pages.clone()).map_err(BookError::at("read"))
    }

    fn write(&mut self, changes: &Changes) -> Result<(), BookError> {
        let mut pages = self.0.lock().map_err(BookError::at("write"))?;
        for (deployment, record) in &changes.records {
            match record {
                Some(record) => drop(pages.records.insert(*deployment, record.clone())),
                None => drop(pages.records.remove(deployment)),
            }
        }
        pages.journal = changes.journal.or(pages.journal);
        pages.events.extend(changes.events.iter().map(|event| (event.seq, event.clone())));
        if let Some(through) = changes.forget_through {
            pages.events.retain(|seq, _| *seq > through);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use launchpad_protocol::entropy::Entropy;
    use launchpad_protocol::report::Phase;
    use launchpad_protocol::time::Moment;

    fn sample() -> (DeploymentId, Changes) {
        let entropy = Entropy::seeded(1);
        let deployment = entropy.id(Moment::default());
        let at = Moment::from_micros(9);
        let event = |seq| Event { seq, at, deployment, phase: Phase::Ready, reason: None };
        let changes = Changes {
            records: BTreeMap::from([(deployment, Some(Record { crashes: 3, ..Record::default() }))]),
            journal: Some(entropy.id(Moment::default())),
            events: vec![event(1), event(2), event(3)],
            forget_through: None,
        };
        (deployment, changes)
    }

    #[test]
    fn a_book_on_disk_and_one_in_memory_read_alike_after_being_closed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("book");
        let (_, changes) = sample();
        let mut memory = MemoryBook::default();
        let (mut sled, trouble) = SledBook::open(&path).expect("open");
        assert_eq!(trouble, None);
        for step in [changes, Changes { forget_through: Some(2), ..Changes::default() }] {
            memory.write(&step).expect("write");
            sled.write(&step).expect("write");
        }
        drop(sled);
        let (sled, _) = SledBook::open(&path).expect("open again");
        let pages = sled.read().expect("read");
        assert_eq!(pages, memory.read().expect("read"));
        assert_eq!(pages.events.keys().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_book_that_somebody_else_still_holds_is_waited_for_and_not_set_aside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("book");
        let (_, changes) = sample();
        let (mut held, _) = SledBook::open(&path).expect("open");
        held.write(&changes).expect("write");
        let (begun, waits) = std::sync::mpsc::channel();
        let next = std::thread::spawn(move || {
            begun.send(()).expect("somebody waits");
            SledBook::open(&path)
        });
        waits.recv().expect("it is about to open");
        drop(held);
        let (next, trouble) = next.join().expect("no panic").expect("open");
        assert_eq!(trouble, None);
        assert_eq!(next.read().expect("read").events.len(), 3);
        assert!(!dir.path().join("book.damaged-1").exists());
    }

    #[test]
    fn a_damaged_book_is_set_aside_and_begun_anew() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("book");
        std::fs::create_dir(&path).expect("a directory");
        std::fs::write(path.join("conf"), b"not sled's").expect("damage");
        let (book, trouble) = SledBook::open(&path).expect("open anew");
        assert_eq!(trouble.map(|reason| reason.code), Some("book-damaged".to_owned()));
        assert_eq!(book.read().expect("read"), Pages::default());
        assert!(dir.path().join("book.damaged-1").exists());
    }
}
