//! The CA on disk, in the coordinator's data directory.
//!
//! ```text
//! ca/root.crt       the root's certificate, PEM
//! ca/root.key       the root's key, PEM; `init` writes it and asks to move it away; not needed to run
//! ca/issuing.crt    the issuing CA's certificate, PEM
//! ca/issuing.key    the issuing CA's key, PEM
//! ```

use std::path::{Path, PathBuf};

use launchpad_protocol::time::Moment;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::bundle::pem;
use crate::ca::{CaError, IssuingCa, RootCa};
use crate::files::{self, FileError};
use crate::identity::TrustDomain;

/// Where the four files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    dir: PathBuf,
}

/// Why the CA could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaFilesError {
    /// One of the files.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the files hold.
    #[error("the CA in {}", dir.display())]
    Ca {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: CaError,
    },
}

impl CaFiles {
    /// The CA in this directory, whether or not there is one yet.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where `create` leaves the root's key, for the sentence that asks to move it away.
    #[must_use]
    pub fn root_key(&self) -> PathBuf {
        self.dir.join("root.key")
    }

    /// Makes a root and an issuing CA and writes all four files. `issuing.key` comes last: without it there
    /// is no CA.
    ///
    /// # Errors
    /// When a CA is there already: then nothing is changed. When the operating system refuses.
    pub fn create(&self, trust_domain: &TrustDomain, now: Moment) -> Result<IssuingCa, CaFilesError> {
        let issuing_key = self.dir.join("issuing.key");
        if issuing_key.try_exists().unwrap_or(true) {
            return Err(FileError::Exists { path: issuing_key }.into());
        }
        let root = RootCa::create(trust_domain, now).map_err(|source| self.refused(source))?;
        let issuing = root.sign_issuing(trust_domain, now).map_err(|source| self.refused(source))?;
        files::private_dir(&self.dir)?;
        self.write("root.crt", "CERTIFICATE", root.certificate())?;
        self.write("root.key", "PRIVATE KEY", &root.key_pkcs8())?;
        self.write("issuing.crt", "CERTIFICATE", issuing.certificate())?;
        self.write("issuing.key", "PRIVATE KEY", &issuing.key_pkcs8())?;
        Ok(issuing)
    }

    /// Reads the issuing CA; the root's key may be away.
    ///
    /// # Errors
    /// When a file is absent, open to others or damaged (each names the file), or the key is not the
    /// certificate's.
    pub fn load(&self) -> Result<IssuingCa, CaFilesError> {
        let root = self.certificate("root.crt")?;
        let certificate = self.certificate("issuing.crt")?;
        let key = self.key("issuing.key")?;
        IssuingCa::load(root, certificate, &key).map_err(|source| self.refused(source))
    }

    /// Reads the root with its key, while it is at hand.
    ///
    /// # Errors
    /// As [`CaFiles::load`]; an absent `root.key` is a [`FileError`] that [`FileError::is_absent`].
    pub fn load_root(&self) -> Result<RootCa, CaFilesError> {
        let certificate = self.certificate("root.crt")?;
        let key = self.key("root.key")?;
        RootCa::load(certificate, &key).map_err(|source| self.refused(source))
    }

    /// A root whose certificate is known, with its key from wherever that was taken to.
    ///
    /// # Errors
    /// When the file is absent, open to others or damaged, or the key is another root's.
    pub fn root_with_key(&self, certificate: CertificateDer<'static>, key: &Path) -> Result<RootCa, CaFilesError> {
        RootCa::load(certificate, &read_key(key)?).map_err(|source| self.refused(source))
    }

    /// Writes a new root's key to a place of the operator's choice.
    ///
    /// # Errors
    /// When something is there already, or the operating system refuses.
    pub fn write_root_key(path: &Path, root: &RootCa) -> Result<(), CaFilesError> {
        if path.try_exists().unwrap_or(true) {
            return Err(FileError::Exists { path: path.to_owned() }.into());
        }
        Ok(files::write_private(path, Zeroizing::new(pem("PRIVATE KEY", &root.key_pkcs8())).as_bytes())?)
    }

    fn write(&self, name: &str, label: &str, der: &[u8]) -> Result<(), FileError> {
        files::write_private(&self.dir.join(name), Zeroizing::new(pem(label, der)).as_bytes())
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, FileError> {
        let path = self.dir.join(name);
        let text = files::read_text(&path)?;
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| FileError::damaged(&path, "a certificate in PEM"))
    }

    fn key(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let path = self.dir.join(name);
        read_key(&path)
    }

    fn refused(&self, source: CaError) -> CaFilesError {
        CaFilesError::Ca { dir: self.dir.clone(), source }
    }
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let text = files::read_private(path)?;
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| FileError::damaged(path, "a private key in PEM"))?;
    Ok(Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}
