//! `launchpad-coordinator pki rotate`: another issuing CA, made where the root's key is at hand, beside a coordinator
//! that runs.
//!
//! ```text
//!  root key ─► signs a new issuing CA ────────────────────┐
//!     │  --new-root: a new root signs it, the old one     ├─► key encrypted under the keyring ─► one commit:
//!     └─ makes a bridge to it for hosts that know no other┘                                      phase `distribute`
//! ```
//! The root's key is read, used and forgotten; it is never copied. The new CA's key goes into the store, encrypted, so
//! that every coordinator on it has it. Nothing changes for any host yet: `launchpad pki rotate` takes the further steps.

use std::path::PathBuf;

use launchpad_pki::ca::{CaError, IssuingCa, RootCa};
use launchpad_pki::ca_files::{CaFiles, CaFilesError};
use launchpad_pki::envelope::{Envelope, EnvelopeContext, EnvelopeError};
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::RotationId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Moment;

use crate::config::{ConfigError, RotateArguments, Settings};
use crate::data_dir::DataDir;
use crate::domain::audit::AuditEntry;
use crate::domain::rotation::Phase;
use crate::key_source::{KeySource, KeySourceError};
use crate::outside::Outside;
use crate::store::issuers::{self, CaRotation, Issuer, Standing};
use crate::store::{Commit, Intent, OpenError, Store, StoreError, StoreUrl, StoreUrlError, Tx, audit};

/// A rotation that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its id.
    pub id: RotationId,
    /// The new issuing CA.
    pub issuer: Digest,
    /// In force until here.
    pub not_after: Moment,
    /// Where the new root's key is, if there is a new root.
    pub root_key: Option<PathBuf>,
}

/// Why no rotation has begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database URL.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The certificate authority's files, the root's key among them.
    #[error(transparent)]
    Files(#[from] CaFilesError),
    /// Signing.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The keyring.
    #[error(transparent)]
    Keys(#[from] KeySourceError),
    /// Encrypting the new key.
    #[error("the new key: {0}")]
    Envelope(#[from] EnvelopeError),
    /// One is under way.
    #[error("the rotation {0} is under way")]
    UnderWay(RotationId),
    /// The commit.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BeginError {
    /// The same with its mend.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let sentence = crate::sentence(self);
        match self {
            Self::Config(error) => error.reason(),
            Self::Keys(error) => error.reason(),
            Self::Files(_) => Reason::new("root-key-unusable", sentence)
                .because("a new issuing CA is signed by the root, whose key `init` asked to move away")
                .mend("name the file of this installation's root key, readable by nobody else (chmod 600), with --root-key"),
            Self::UnderWay(_) => Reason::new("ca-rotation-under-way", sentence)
                .mend("bring it to its end with `launchpad pki rotate`, or take it back with `launchpad pki rotate --back`"),
            Self::Open(_) | Self::Url(_) => Reason::new("store-unusable", sentence),
            Self::Ca(_) | Self::Envelope(_) | Self::Store(_) => {
                Reason::new("ca-rotation-failed", sentence).mend("mend that, and run it again: nothing has begun")
            }
        }
    }
}

/// What was made, before it is committed.
struct Made {
    ca: IssuingCa,
    bridge: Option<launchpad_pki::CertificateDer<'static>>,
    root_key: Option<PathBuf>,
}

/// Begins a rotation.
///
/// # Errors
/// [`BeginError`], and then nothing has begun.
pub async fn begin(arguments: &RotateArguments, outside: &Outside) -> Result<Begun, BeginError> {
    let dir = DataDir::new(&arguments.place.data_dir);
    let settings = Settings::load(&dir)?;
    let database = arguments.place.database_url.as_deref().or(settings.database_url.as_deref());
    let url = StoreUrl::parse(database, &dir.database())?;
    let now = outside.clock.wall();
    // The coordinator may run meanwhile: this is one more writer on its store, for one commit.
    let store = Store::open(&url, Intent::Use, now).await?;
    let begun = begin_in(&store, arguments, (&dir, &settings), outside).await;
    store.close().await;
    begun
}

async fn begin_in(
    store: &Store,
    arguments: &RotateArguments,
    (dir, settings): (&DataDir, &Settings),
    outside: &Outside,
) -> Result<Begun, BeginError> {
    let now = outside.clock.wall();
    let files = CaFiles::at(dir.ca());
    let first = files.load()?;
    let standing = store.read::<_, StoreError>(async |tx| Standing::read(tx).await).await?;
    refuse_second(&standing)?;
    let root = standing.signer().map_or(first.root(), |signer| &signer.root).clone();
    let root = files.root_with_key(root, &arguments.root_key)?;
    let Made { ca, bridge, root_key } = make(&root, arguments, settings, now)?;
    let keys = KeySource::of(&settings.keys, dir).open().await?;
    let context = EnvelopeContext::of_issuer(ca.digest());
    let key = Envelope::encrypt(&*keys, &context, &ca.key_pkcs8()).await?;
    let issuer = Issuer {
        id: ca.digest(),
        root: ca.root().clone(),
        certificate: ca.certificate().clone(),
        bridge,
        key: Some(key),
        added_at: now,
        ended_at: None,
    };
    let id = outside.entropy.id(now);
    let commit = async |tx: &mut Tx| {
        issuers::register_first(tx, &first, now).await?;
        let standing = Standing::read(tx).await?;
        refuse_second(&standing)?;
        let old = standing.signer().map_or(first.digest(), |signer| signer.id);
        issuers::insert(tx, &issuer).await?;
        let rotation = CaRotation { id, old, new: issuer.id, phase: Phase::Distribute, begun_at: now, phase_at: now };
        issuers::begin(tx, &rotation).await?;
        let detail = format!("{} → {}", old.short(), issuer.id.short());
        audit::append(tx, &AuditEntry::by_coordinator(now, "ca.begin-rotation", id.to_string(), detail)).await?;
        Ok::<_, BeginError>(())
    };
    store.write(Commit::BeginCaRotation, commit).await?;
    Ok(Begun { id, issuer: ca.digest(), not_after: ca.not_after(), root_key })
}

fn make(root: &RootCa, arguments: &RotateArguments, settings: &Settings, now: Moment) -> Result<Made, BeginError> {
    let Some(path) = &arguments.new_root_key else {
        return Ok(Made { ca: root.sign_issuing(&settings.trust_domain, now)?, bridge: None, root_key: None });
    };
    let new_root = RootCa::create(&settings.trust_domain, now)?;
    let ca = new_root.sign_issuing(&settings.trust_domain, now)?;
    let bridge = root.bridge_to(&ca, now)?;
    // Before the commit: a rotation to a root whose key nobody has could never be followed by another.
    CaFiles::write_root_key(path, &new_root)?;
    Ok(Made { ca, bridge: Some(bridge), root_key: Some(path.clone()) })
}

fn refuse_second(standing: &Standing) -> Result<(), BeginError> {
    match standing.rotation.as_ref().filter(|rotation| !rotation.phase.is_over()) {
        Some(rotation) => Err(BeginError::UnderWay(rotation.id)),
        None => Ok(()),
    }
}
