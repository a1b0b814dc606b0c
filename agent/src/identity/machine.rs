//! On which machine an identity was made: a copied disk carries it to another one, and two machines with one identity
//! would take the host's session from each other for ever, each running the same bots.
//!
//! `enroll` notes it, `run` compares. What tells machines apart is systemd's machine id, which whoever copies disks has to
//! renew anyway. Nothing of the hardware counts: a host with a new board is the same host. Two machines that share that id
//! as well are told apart by the coordinator.

use std::fs;

use super::{IdentityFileError, IdentityFiles};
use crate::disk::Found;

const FILE: &str = "machine";

/// Where the machine's id is.
const MACHINE_ID: &str = "/etc/machine-id";

/// Hexadecimal digits of an id; what else may stand there (`uninitialized`) is none.
const ID_DIGITS: usize = 32;

/// This machine's id, if it has one.
#[must_use]
pub fn this_machine() -> Option<String> {
    let text = fs::read_to_string(MACHINE_ID).ok()?;
    let id = text.trim();
    (id.len() == ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| id.to_owned())
}

impl IdentityFiles {
    /// Notes that the identity is this machine's.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn claim(&self, machine: Option<&str>) -> Result<(), IdentityFileError> {
        match machine {
            Some(id) => Ok(self.disk.write(FILE, id.as_bytes())?),
            None => Ok(self.disk.remove(FILE)?),
        }
    }

    /// Whether the identity is this machine's. One that nobody has noted so far is: hosts joined before this was.
    ///
    /// # Errors
    /// [`IdentityFileError::OtherMachine`], or the disk refuses.
    pub fn belongs_to(&self, machine: Option<&str>) -> Result<(), IdentityFileError> {
        let Some(here) = machine else { return Ok(()) };
        match self.disk.read(FILE)? {
            Found::Whole(noted) if noted == here.as_bytes() => Ok(()),
            Found::Whole(noted) => Err(IdentityFileError::OtherMachine {
                made_on: String::from_utf8_lossy(&noted).into_owned(),
                here: here.to_owned(),
                note: self.disk.path(FILE),
            }),
            Found::Nothing | Found::SetAside(_) => self.claim(machine),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    #[test]
    fn a_copied_identity_is_refused_on_another_machine_with_both_ways_out() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::open(dir.path()).unwrap();
        files.claim(Some(ONE)).unwrap();
        files.belongs_to(Some(ONE)).unwrap();
        let refused = files.belongs_to(Some(OTHER)).unwrap_err().to_string();
        assert!(refused.contains(ONE) && refused.contains(OTHER), "{refused}");
        assert!(refused.contains("enroll --replace") && refused.contains("identity/machine"), "{refused}");
        files.belongs_to(Some(ONE)).unwrap();
    }

    #[test]
    fn an_identity_from_before_this_was_noted_is_this_machines() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::open(dir.path()).unwrap();
        files.belongs_to(Some(ONE)).unwrap();
        assert!(files.belongs_to(Some(OTHER)).is_err());
    }

    #[test]
    fn a_machine_without_an_id_is_asked_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = IdentityFiles::open(dir.path()).unwrap();
        files.claim(Some(ONE)).unwrap();
        files.belongs_to(None).unwrap();
    }
}
