//! The keyring's two files: the keys, sealed with age, and the identity that opens them.
//!
//! ```text
//! keyring            age (X25519) ─► "launchpad keyring v1", then a key a line in hex, the oldest first
//! keyring.identity   AGE-SECRET-KEY-1…; here or wherever it is told to be
//! keyring.lock       held by whoever changes the keyring: replicas may share it
//! ```
//! Both files are in the formats of the `age` command: `age -d -i keyring.identity keyring` shows the keys
//! when nothing else of ours runs. Only [`super::LocalKeyring`] calls this. It blocks for milliseconds.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use zeroize::Zeroizing;

use super::KeyringError;
use crate::envelope::{DataKey, KEY_BYTES};
use crate::files::{self, FileError};

/// The first line of an opened keyring.
const HEAD: &str = "launchpad keyring v1";

/// What stands above the identity in its file.
const IDENTITY_HEAD: &str = "\
# Opens the keyring. Whoever has this, the keyring and a copy of the database reads every secret:
# never back it up together with them.
";

/// Where a keyring and its identity are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringPlace {
    /// The sealed keys.
    pub keyring: PathBuf,
    /// What opens them.
    pub identity: PathBuf,
}

/// Which file it was that was read: every change puts another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    changed_s: i64,
    changed_ns: i64,
}

/// The keys in a keyring, the oldest first.
pub(super) type Keys = Vec<DataKey>;

impl KeyringPlace {
    /// A keyring with its identity beside it.
    #[must_use]
    pub fn beside(keyring: PathBuf) -> Self {
        let identity = with_ending(&keyring, ".identity");
        Self { keyring, identity }
    }

    /// Whether there is a keyring.
    pub(super) fn exists(&self) -> Result<bool, FileError> {
        match self.stamp() {
            Err(error) if error.is_absent() => Ok(false),
            found => found.map(|_| true),
        }
    }

    /// Which file the keyring is at this moment.
    pub(super) fn stamp(&self) -> Result<Stamp, FileError> {
        let found = fs::metadata(&self.keyring).map_err(FileError::io("look at", &self.keyring))?;
        Ok(Stamp { inode: found.ino(), changed_s: found.ctime(), changed_ns: found.ctime_nsec() })
    }

    /// Reads the keyring: the keys, and which file they were in.
    pub(super) fn read(&self) -> Result<(Keys, Stamp), KeyringError> {
        let identity = self.identity()?;
        // Looked at before it is read: if it is replaced in between, the next look reads it again.
        let stamp = self.stamp()?;
        let sealed = files::read_private(&self.keyring)?;
        let unopened = || KeyringError::Unopened { keyring: self.keyring.clone(), identity: self.identity.clone() };
        let opened = age::decrypt(&identity, &sealed).map(Zeroizing::new).map_err(|_| unopened())?;
        let keys = parse(&opened).ok_or_else(|| FileError::damaged(&self.keyring, "a list of keys"))?;
        Ok((keys, stamp))
    }

    /// Puts these keys in the keyring's place, whole. Answers which file that made.
    pub(super) fn write(&self, keys: &[DataKey]) -> Result<Stamp, KeyringError> {
        let recipient = self.identity()?.to_public();
        let unsealed = |_| KeyringError::Unsealed { keyring: self.keyring.clone() };
        let sealed = age::encrypt(&recipient, text(keys).as_bytes()).map_err(unsealed)?;
        files::write_private(&self.keyring, &sealed)?;
        Ok(self.stamp()?)
    }

    /// Makes an identity, unless one is there.
    pub(super) fn ensure_identity(&self) -> Result<(), FileError> {
        let made = Identity::generate();
        let text = Zeroizing::new(format!(
            "{IDENTITY_HEAD}# public key: {}\n{}\n",
            made.to_public(),
            made.to_string().expose_secret()
        ));
        match files::write_new_private(&self.identity, text.as_bytes()) {
            Err(FileError::Exists { .. }) => Ok(()),
            written => written,
        }
    }

    /// Waits until nobody else changes the keyring; held until dropped.
    pub(super) fn lock(&self) -> Result<File, FileError> {
        let path = with_ending(&self.keyring, ".lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(FileError::io("open", &path))?;
        file.lock().map_err(FileError::io("lock", &path))?;
        Ok(file)
    }

    fn identity(&self) -> Result<Identity, FileError> {
        let damaged = || FileError::damaged(&self.identity, "an age identity (AGE-SECRET-KEY-1…)");
        let content = files::read_private(&self.identity)?;
        let text = std::str::from_utf8(&content).map_err(|_| damaged())?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        line.and_then(|line| line.parse().ok()).ok_or_else(damaged)
    }
}

/// `keyring` → `keyring.lock`.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn text(keys: &[DataKey]) -> Zeroizing<String> {
    // Reserved whole, so that no shorter copy is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + 1 + keys.len() * (2 * KEY_BYTES + 1)));
    text.push_str(HEAD);
    for key in keys {
        text.push('\n');
        text.push_str(&Zeroizing::new(hex::encode(key.expose())));
    }
    text
}

fn parse(opened: &[u8]) -> Option<Keys> {
    let mut lines = std::str::from_utf8(opened).ok()?.lines();
    if lines.next() != Some(HEAD) {
        return None;
    }
    let key = |line: &str| DataKey::from_bytes(&Zeroizing::new(hex::decode(line).ok()?));
    let keys: Keys = lines.map(key).collect::<Option<_>>()?;
    (!keys.is_empty()).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_is_text_that_reads_back_and_nothing_else_is_one() {
        let keys = [DataKey::random().unwrap(), DataKey::random().unwrap()];
        let read = parse(text(&keys).as_bytes()).unwrap();
        assert_eq!(
            read.iter().map(DataKey::expose).collect::<Vec<_>>(),
            keys.iter().map(DataKey::expose).collect::<Vec<_>>()
        );
        let long = format!("{HEAD}\n{}", "00".repeat(KEY_BYTES + 1));
        for bad in ["", HEAD, "launchpad keyring v2\n00", long.as_str()] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
