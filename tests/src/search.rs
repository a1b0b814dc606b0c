//! Looks for a text in everything that a laboratory leaves on a machine: files, tables, processes.
//!
//! Called by the scenario that plants a canary. A text is also found in the clothes in which programs keep
//! bytes: hex, base64, a list of numbers. What finds is told as a place in words, so that a scenario can
//! compare a whole search with what it expects. Nothing here knows the product.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use sqlx::{Connection as _, Row as _, SqliteConnection};

/// Bytes that are looked at together: a volume's image is far larger than memory should be.
const CHUNK_BYTES: usize = 4 << 20;

/// A text, and the forms in which it may lie somewhere.
#[derive(Debug, Clone)]
pub struct Needle {
    forms: Vec<Vec<u8>>,
}

impl Needle {
    /// That text, which should be long and random enough to be nowhere by chance.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = |gap: &str| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(gap);
        let mut forms = vec![text.to_owned(), hex.to_uppercase(), hex, numbers(","), numbers(", ")];
        forms.extend((0..3).map(|offset| in_base64(bytes, offset)));
        Self { forms: forms.into_iter().map(String::into_bytes).collect() }
    }

    /// Whether the bytes hold it in any form.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memmem::find(bytes, form).is_some())
    }

    /// Every form, for whoever proves that each is found.
    #[must_use]
    pub fn forms(&self) -> &[Vec<u8>] {
        &self.forms
    }

    fn longest(&self) -> usize {
        self.forms.iter().map(Vec::len).max().unwrap_or_default()
    }
}

/// What the bytes look like within a longer text in base64, so many bytes after a third one: without the
/// characters that their neighbours share.
fn in_base64(bytes: &[u8], offset: usize) -> String {
    let text = STANDARD_NO_PAD.encode([&[0; 2][..offset], bytes].concat());
    let (from, to) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
    text[from..to].to_owned()
}

/// The files below `dir` that hold it, by their paths from there. Links are not followed; sockets, pipes and
/// devices are passed by, and so is what goes away meanwhile.
///
/// # Errors
/// When a file that stays cannot be read.
pub fn files(dir: &Path, needle: &Needle) -> Result<BTreeSet<PathBuf>> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&folder), &folder)? else { continue };
        for entry in entries {
            let Some(entry) = unless_gone(entry, &folder)? else { continue };
            let path = entry.path();
            let Some(kind) = unless_gone(entry.file_type(), &path)? else { continue };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && file_holds(&path, needle)? {
                found.insert(path.strip_prefix(dir).unwrap_or(&path).to_owned());
            }
        }
    }
    Ok(found)
}

/// The tables of a SQLite database that hold it, by their names.
///
/// # Errors
/// When it cannot be read.
pub fn tables(database: &Path, needle: &Needle) -> Result<BTreeSet<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let url = format!("sqlite:{}?mode=ro", database.display());
        let mut connection = SqliteConnection::connect(&url).await.context("open the database")?;
        let names = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'");
        let mut found = BTreeSet::new();
        for table in names.fetch_all(&mut connection).await.context("list its tables")? {
            let table: String = table.get(0);
            if rows(&mut connection, &table).await?.iter().any(|row| needle.is_in(row.as_bytes())) {
                found.insert(table);
            }
        }
        Ok(found)
    })
}

/// The rows of a table as text, bytes in hex.
async fn rows(connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let columns = sqlx::query("SELECT name FROM pragma_table_info($1)").bind(table.to_owned());
    let columns = columns.fetch_all(&mut *connection).await.with_context(|| format!("list {table}'s columns"))?;
    let quoted: Vec<_> = columns.iter().map(|column| format!("quote(\"{}\")", column.get::<String, _>(0))).collect();
    let all = format!("SELECT {} FROM \"{table}\"", quoted.join(" || ' ' || "));
    let rows = sqlx::query(sqlx::AssertSqlSafe(all)).fetch_all(connection).await;
    let rows = rows.with_context(|| format!("read {table}"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Where a process shows it to whoever may look: its pid, and `cmdline` or `environ`.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn processes(needle: &Needle) -> Result<BTreeSet<(u32, &'static str)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        for part in ["cmdline", "environ"] {
            // It may have ended meanwhile.
            let shown = fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default();
            if needle.is_in(&shown) {
                found.insert((pid, part));
            }
        }
    }
    Ok(found)
}

/// Reads what is written of a file, and not its holes: a volume is gigabytes of them.
fn file_holds(path: &Path, needle: &Needle) -> Result<bool> {
    let Some(mut file) = unless_gone(File::open(path), path)? else { return Ok(false) };
    let look = || format!("look into {}", path.display());
    let mut at = 0;
    loop {
        at = match lseek(file.as_fd(), at, Whence::SeekData) {
            Ok(at) => at,
            // No data from there to its end; or no file of bytes at all, such as a handle on a namespace.
            Err(Errno::ENXIO | Errno::ESPIPE) => return Ok(false),
            Err(errno) => return Err(errno).with_context(look),
        };
        let hole = lseek(file.as_fd(), at, Whence::SeekHole).with_context(look)?;
        file.seek(SeekFrom::Start(u64::try_from(at)?))?;
        let data = file.by_ref().take(u64::try_from(hole - at)?);
        if holds(data, needle).with_context(look)? {
            return Ok(true);
        }
        at = hole;
    }
}

/// Reads to the end, chunk by chunk; what lies across a border is whole with the end of the chunk before.
fn holds(mut data: impl Read, needle: &Needle) -> std::io::Result<bool> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let kept = chunk.len();
        if data.by_ref().take((CHUNK_BYTES - kept) as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(false);
        }
        if needle.is_in(&chunk) {
            return Ok(true);
        }
        chunk.drain(..chunk.len().saturating_sub(needle.longest() - 1));
    }
}

/// None, if it has gone away since it was listed.
fn unless_gone<T>(looked: std::io::Result<T>, path: &Path) -> Result<Option<T>> {
    match looked {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a-text-that-is-nowhere-by-chance-4711";

    #[test]
    fn a_text_is_found_in_every_form_behind_every_hole() {
        let dir = std::env::temp_dir().join(format!("launchpad-search-{}", std::process::id()));
        fs::create_dir_all(dir.join("below")).unwrap();
        let needle = Needle::new(TEXT);
        for (n, form) in needle.forms().iter().enumerate() {
            let mut file = File::create(dir.join(format!("below/{n}"))).unwrap();
            file.seek(SeekFrom::Start(3 * CHUNK_BYTES as u64)).unwrap();
            std::io::Write::write_all(&mut file, form).unwrap();
        }
        fs::write(dir.join("clean"), "a text").unwrap();
        let found = files(&dir, &needle).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found.len(), needle.forms().len(), "{found:?}");
    }

    #[test]
    fn a_text_is_found_across_the_border_of_two_chunks() {
        let needle = Needle::new(TEXT);
        for part in 0..=TEXT.len() {
            let mut data = vec![b'x'; 2 * CHUNK_BYTES];
            data[CHUNK_BYTES - part..][..TEXT.len()].copy_from_slice(TEXT.as_bytes());
            assert!(holds(&*data, &needle).unwrap(), "{part} bytes before it");
        }
        assert!(!holds(&*vec![b'x'; 2 * CHUNK_BYTES], &needle).unwrap());
    }

    #[test]
    fn base64_hides_it_at_no_offset() {
        for before in ["", "x", "xy", "xyz"] {
            let whole = STANDARD_NO_PAD.encode(format!("{before}{TEXT} and more"));
            assert!(Needle::new(TEXT).is_in(whole.as_bytes()), "{whole}");
        }
        assert!(!Needle::new(TEXT).is_in(STANDARD_NO_PAD.encode("something else").as_bytes()));
    }

    #[test]
    fn a_process_shows_its_arguments_and_its_environment() {
        let needle = Needle::new(TEXT);
        let mut child =
            std::process::Command::new("cat").env("SHOWN", TEXT).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let shown = crate::wait::wait_for("the child to show it", std::time::Duration::from_secs(10), || {
            let found = processes(&needle)?;
            Ok(if found.contains(&(child.id(), "environ")) { Ok(()) } else { Err(format!("{found:?}")) })
        });
        child.kill().unwrap();
        child.wait().unwrap();
        shown.unwrap();
    }
}
