//! Who this host is: its key, its certificate, its sealing key, whom it trusts and where the coordinator is.
//!
//! ```text
//! DATA_DIR/identity/            0700, files 0600
//!   identity      all that comes with an enrolment or a renewal, in one file: a crash between key and
//!                 certificate would otherwise leave a host that is nobody
//!   sealing.key   made once, never replaced: what was sealed to it must open as long as the host lives
//!   machine       on which machine that was, so that a copied disk is noticed
//!   pending.key   the key of an enrolment that is not answered yet: with it the same token works again
//! ```
//! `enroll` writes the first identity, `renew` every later one, `link` shows it to the coordinator. [`Enrolled`] keeps
//! disk, memory and TLS in step. Nothing here talks to anybody.

pub mod machine;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use launchpad_pki::CertificateDer;
use launchpad_pki::bundle::{BundleError, TrustBundle};
use launchpad_pki::files::FileError;
use launchpad_pki::host_key::{HostKey, KeyError};
use launchpad_pki::identity::{HostIdentity, IdentityError, TrustDomain};
use launchpad_pki::sealing::SealingKey;
use launchpad_pki::serial::NoEntropy;
use launchpad_pki::tls::{Credentials, TlsError};
use launchpad_protocol::id::HostId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use zeroize::{Zeroize as _, Zeroizing};

use crate::config::HostPort;
use crate::disk::{Disk, DiskError, Found};

const DIR: &str = "identity";
const IDENTITY: &str = "identity";
const SEALING_KEY: &str = "sealing.key";
const PENDING_KEY: &str = "pending.key";

/// What an enrolment or a renewal leaves behind.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The host's id, as in its certificate.
    pub host: HostId,
    /// What the host is called.
    pub name: String,
    /// The installation that it belongs to.
    pub trust_domain: TrustDomain,
    /// The key of its certificate.
    pub key: Arc<HostKey>,
    /// Its certificate, then the issuing CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots that it trusts.
    pub bundle: TrustBundle,
    /// Where the fleet listener is, in the order in which to try.
    pub fleet_endpoints: Vec<HostPort>,
    /// The name in the fleet listener's certificate.
    pub server_name: String,
    /// Where the enrolment listener is: the way back in when the certificate has expired.
    pub enroll_endpoint: HostPort,
}

/// Why the host's identity cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// Nobody has enrolled this host.
    #[error(
        "this host has not joined a fleet ({} is not there): run `launchpad-agent enroll` with a token from \
         `launchpad host token create`", .0.display()
    )]
    Absent(PathBuf),
    /// The file is torn, or somebody has edited it.
    #[error("the host's identity was damaged; it is now at {}: restore it from a copy, or enrol the host anew", .0.display())]
    Damaged(PathBuf),
    /// A part of it is not what it should be.
    #[error("the host's identity in {} cannot be used: {problem}; restore it from a copy, or enrol the host anew", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk is a copy, or was moved.
    #[error(
        "this host's identity was made on another machine ({made_on}; this one is {here}), so its disk is a copy: join \
         this machine as a host of its own with `launchpad-agent enroll --replace`; or, if the other machine is gone for \
         good and this one stands in for it, remove {}", note.display()
    )]
    OtherMachine {
        /// That machine's id.
        made_on: String,
        /// This one's.
        here: String,
        /// Where that is noted.
        note: PathBuf,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] FileError),
    /// No key could be made.
    #[error("cannot make a key for this host: {0}")]
    Making(#[from] KeyError),
    /// No random bytes.
    #[error("cannot make a sealing key for this host: {0}")]
    Entropy(#[from] NoEntropy),
}

/// Why a chain, a key and the rest do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum UnusableIdentity {
    /// A certificate with another host's name, or nobody's.
    #[error("its certificate names {found}, not {expected}")]
    OtherHost {
        /// In the certificate.
        found: HostId,
        /// Beside it.
        expected: HostId,
    },
    /// No certificate.
    #[error("it has no certificate")]
    NoCertificate,
    /// Nowhere to go.
    #[error("it names no fleet endpoint")]
    NoEndpoint,
    /// Not one of this installation's certificates.
    #[error("its certificate cannot be used: {0}")]
    Certificate(#[from] IdentityError),
    /// The certificate belongs to another key.
    #[error("{0}")]
    Credentials(#[from] TlsError),
    /// The roots.
    #[error("{0}")]
    Bundle(#[from] BundleError),
    /// The key.
    #[error("its key cannot be used: {0}")]
    Key(#[from] KeyError),
    /// The file's form.
    #[error("it does not parse: {0}")]
    Form(#[from] serde_json::Error),
}

/// The identity as it is written. Certificates and key are DER in hex.
#[derive(Serialize, Deserialize)]
struct Stored {
    host: HostId,
    name: String,
    trust_domain: TrustDomain,
    key: Hex,
    chain: Vec<Hex>,
    bundle_pem: String,
    fleet_endpoints: Vec<HostPort>,
    server_name: String,
    enroll_endpoint: HostPort,
}

/// Bytes that are written in hex, and wiped when dropped: one of them is the key.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Hex(#[serde(with = "hex::serde")] Vec<u8>);

impl Drop for Hex {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Identity {
    /// What the certificate says, once everything is seen to fit together.
    ///
    /// # Errors
    /// When certificate, key, host and endpoints do not make one usable identity.
    pub fn check(&self) -> Result<HostIdentity, UnusableIdentity> {
        let leaf = self.chain.first().ok_or(UnusableIdentity::NoCertificate)?;
        let named = HostIdentity::of_domain(leaf, &self.trust_domain)?;
        if named.host != self.host {
            return Err(UnusableIdentity::OtherHost { found: named.host, expected: self.host });
        }
        if self.fleet_endpoints.is_empty() {
            return Err(UnusableIdentity::NoEndpoint);
        }
        Credentials::new(self.chain.clone(), &self.key)?;
        Ok(named)
    }

    fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, UnusableIdentity> {
        let hex = |bytes: &[u8]| Hex(bytes.to_vec());
        let stored = Stored {
            host: self.host,
            name: self.name.clone(),
            trust_domain: self.trust_domain.clone(),
            key: hex(&self.key.to_pkcs8()),
            chain: self.chain.iter().map(|certificate| hex(certificate)).collect(),
            bundle_pem: self.bundle.to_pem(),
            fleet_endpoints: self.fleet_endpoints.clone(),
            server_name: self.server_name.clone(),
            enroll_endpoint: self.enroll_endpoint.clone(),
        };
        Ok(Zeroizing::new(serde_json::to_vec_pretty(&stored)?))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, UnusableIdentity> {
        let stored: Stored = serde_json::from_slice(bytes)?;
        let identity = Self {
            host: stored.host,
            name: stored.name,
            trust_domain: stored.trust_domain,
            key: Arc::new(HostKey::from_pkcs8(&stored.key.0)?),
            chain: stored.chain.iter().map(|der| CertificateDer::from(der.0.clone())).collect(),
            bundle: TrustBundle::from_pem(&stored.bundle_pem)?,
            fleet_endpoints: stored.fleet_endpoints,
            server_name: stored.server_name,
            enroll_endpoint: stored.enroll_endpoint,
        };
        identity.check()?;
        Ok(identity)
    }
}

/// Whether the host has joined, by what lies below the agent's data directory. Nothing is made there.
#[must_use]
pub fn is_enrolled(data_dir: &Path) -> bool {
    data_dir.join(DIR).join(IDENTITY).exists()
}

/// The files of one host's identity.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    disk: Disk,
}

impl IdentityFiles {
    /// Those below the agent's data directory, which is made if it is not there.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn open(data_dir: &Path) -> Result<Self, IdentityFileError> {
        let dir = data_dir.join(DIR);
        let disk = Disk::open(&dir)?;
        launchpad_pki::files::private_dir(&dir)?;
        Ok(Self { disk })
    }

    /// The identity.
    ///
    /// # Errors
    /// [`IdentityFileError::Absent`] before the first enrolment; otherwise what is wrong with it, and where it is.
    pub fn load(&self) -> Result<Identity, IdentityFileError> {
        let bytes = match self.disk.read(IDENTITY)? {
            Found::Whole(bytes) => Zeroizing::new(bytes),
            // It is not to be taken for a host that has never joined, however often its agent is started.
            Found::Nothing => {
                return Err(match self.disk.set_aside_before(IDENTITY) {
                    Some(aside) => IdentityFileError::Damaged(aside),
                    None => IdentityFileError::Absent(self.disk.path(IDENTITY)),
                });
            }
            Found::SetAside(path) => return Err(IdentityFileError::Damaged(path)),
        };
        Identity::from_bytes(&bytes).map_err(|problem| self.unusable(&problem))
    }

    /// Replaces the identity, all of it at once.
    ///
    /// # Errors
    /// When it is not usable, or the disk refuses: the old one is still there then.
    pub fn store(&self, identity: &Identity) -> Result<(), IdentityFileError> {
        let bytes = identity.check().and_then(|_| identity.to_bytes()).map_err(|problem| self.unusable(&problem))?;
        Ok(self.disk.write(IDENTITY, &bytes)?)
    }

    /// The sealing key.
    ///
    /// # Errors
    /// When its file is absent, open to others or damaged.
    pub fn sealing_key(&self) -> Result<SealingKey, IdentityFileError> {
        Ok(SealingKey::load(&self.disk.path(SEALING_KEY))?)
    }

    /// The sealing key, made now if there is none.
    ///
    /// # Errors
    /// When its file is open to others or damaged, or a new one cannot be written.
    pub fn sealing_key_or_new(&self) -> Result<SealingKey, IdentityFileError> {
        let path = self.disk.path(SEALING_KEY);
        match SealingKey::load(&path) {
            Err(error) if error.is_absent() => {
                let key = SealingKey::generate()?;
                key.save(&path)?;
                Ok(key)
            }
            loaded => Ok(loaded?),
        }
    }

    /// The key of an enrolment that is under way, made now if none is. One that cannot be read is made anew: nothing
    /// depends on it yet.
    ///
    /// # Errors
    /// When no key can be made or written.
    pub fn pending_key(&self) -> Result<HostKey, IdentityFileError> {
        let path = self.disk.path(PENDING_KEY);
        if let Ok(key) = HostKey::load(&path) {
            return Ok(key);
        }
        let key = HostKey::generate()?;
        key.save(&path)?;
        Ok(key)
    }

    /// The enrolment under way is over.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_pending(&self) -> Result<(), IdentityFileError> {
        Ok(self.disk.remove(PENDING_KEY)?)
    }

    fn unusable(&self, problem: &UnusableIdentity) -> IdentityFileError {
        IdentityFileError::Unusable { path: self.disk.path(IDENTITY), problem: problem.to_string() }
    }
}

/// Who this host is at this moment: on disk, in memory and towards TLS.
pub struct Enrolled {
    files: IdentityFiles,
    current: watch::Sender<Arc<Identity>>,
    credentials: Arc<Credentials>,
}

impl Enrolled {
    /// Reads it from disk.
    ///
    /// # Errors
    /// When the host is not enrolled, or its identity cannot be used.
    pub fn load(data_dir: &Path) -> Result<Arc<Self>, IdentityFileError> {
        let files = IdentityFiles::open(data_dir)?;
        let identity = files.load()?;
        let credentials = Credentials::new(identity.chain.clone(), &identity.key);
        let credentials = credentials.map_err(|problem| files.unusable(&problem.into()))?;
        Ok(Arc::new(Self { files, current: watch::Sender::new(Arc::new(identity)), credentials }))
    }

    /// The identity now.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.current.borrow())
    }

    /// What TLS shows: the same object through every renewal.
    #[must_use]
    pub const fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The sealing key.
    ///
    /// # Errors
    /// When its file is absent, open to others or damaged.
    pub fn sealing_key(&self) -> Result<SealingKey, IdentityFileError> {
        self.files.sealing_key()
    }

    /// Takes another identity of the same host: first on disk, then for the next handshake. Open streams stay.
    ///
    /// # Errors
    /// When it is not usable, or the disk refuses: nothing has changed then.
    pub fn replace(&self, identity: Identity) -> Result<(), IdentityFileError> {
        self.files.store(&identity)?;
        // It was checked just now, by the same function.
        self.credentials
            .replace(identity.chain.clone(), &identity.key)
            .map_err(|problem| self.files.unusable(&problem.into()))?;
        self.current.send_replace(Arc::new(identity));
        Ok(())
    }
}

impl fmt::Debug for Enrolled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolled").field("host", &self.identity().host).finish_non_exhaustive()
    }
}
