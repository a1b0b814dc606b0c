//! `init`: a new installation, from nothing to an operator who can log in.
//!
//! ```text
//!  data dir, lock ─► store (empty) ─► CA ─► keyring ─► settings ─► one commit: incarnation, account, operator, token
//! ```
//! The commit comes last and is what counts: an `init` that dies before it can be run again and finds what it has made;
//! after it, a second run is refused and changes nothing.

use std::path::{Path, PathBuf};

use launchpad_pki::ca::IssuingCa;
use launchpad_pki::ca_files::{CaFiles, CaFilesError};
use launchpad_pki::files::{FileError, private_dir, write_private};
use launchpad_pki::serial::NoEntropy;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::{AccountId, ApiTokenId, UserId};
use launchpad_protocol::reason::Reason;
use zeroize::Zeroizing;

use super::sign_in::ApiToken;
use crate::config::{InitArguments, Settings};
use crate::data_dir::{DataDir, DataDirError};
use crate::domain::actor::{Actor, Role};
use crate::key_source::{KeySource, KeySourceError};
use crate::outside::Outside;
use crate::store::accounts::{self, Account, User};
use crate::store::api_tokens::{self, ApiTokenRow};
use crate::store::audit::{self, Deed};
use crate::store::{Commit, Intent, OpenError, Store, StoreError, StoreUrl, StoreUrlError, Tx, issuers, meta};

/// What the first operator's token is called.
const TOKEN_NAME: &str = "init";
/// Where `serve` offers the API unless told otherwise: what the printed login line names.
const DEFAULT_URL: &str = "http://127.0.0.1:7700";

/// A new installation.
#[derive(Debug)]
pub struct Installation {
    /// The first operator's token; shown once.
    pub token: Zeroizing<String>,
    /// SHA-256 of the root certificate, which join tokens carry.
    pub root: Digest,
    /// The root's key, which should be moved off this machine.
    pub root_key: PathBuf,
    /// The keys that wrap what the store holds, which belongs into its backups; none: they are not in a file.
    pub keyring: Option<PathBuf>,
    /// What opens the keyring, which no backup of the store should hold; none: the keys are not in a file.
    pub keyring_identity: Option<PathBuf>,
}

/// Why there is no new installation.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database URL.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The store, which may be there already.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The certificate authority.
    #[error("the certificate authority")]
    Ca(#[from] CaFilesError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeySourceError),
    /// No random bytes for a token.
    #[error("the first token")]
    Entropy(#[from] NoEntropy),
    /// The settings cannot be written as TOML.
    #[error("the settings")]
    Settings(#[from] toml::ser::Error),
    /// The commit.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InitError {
    /// The same as a reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::DataDir(error) => error.reason(),
            Self::Open(OpenError::Present { .. }) => Reason::new("already-initialised", self.to_string())
                .mend("to begin anew, name another --data-dir or another database"),
            Self::Open(error) => Reason::new("store-unusable", error.to_string()),
            Self::Keys(error @ KeySourceError::NoKms) => error.reason(),
            Self::File(_)
            | Self::Url(_)
            | Self::Ca(_)
            | Self::Keys(KeySourceError::Keyring(_))
            | Self::Entropy(_)
            | Self::Settings(_)
            | Self::Store(_) => {
                Reason::new("init-failed", crate::sentence(self)).mend("mend that, and run init again")
            }
        }
    }
}

impl Installation {
    /// The line that logs the first operator in.
    #[must_use]
    pub fn login(&self) -> String {
        format!("launchpad login {DEFAULT_URL} --token {}", self.token.as_str())
    }

    /// SHA-256 of the root certificate in hex.
    #[must_use]
    pub fn root_hex(&self) -> String {
        hex::encode(self.root.as_bytes())
    }
}

/// Makes a new installation.
///
/// # Errors
/// [`InitError`] when there is one already, and then nothing is changed; or when a file or the store refuses.
pub async fn init(arguments: &InitArguments, outside: &Outside) -> Result<Installation, InitError> {
    let dir = DataDir::new(&arguments.place.data_dir);
    let settings = Settings::of(arguments);
    let url = StoreUrl::parse(settings.database_url.as_deref(), &dir.database())?;
    private_dir(dir.path())?;
    let _lock = dir.lock()?;
    let now = outside.clock.wall();
    let store = Store::open(&url, Intent::Create, now).await?;
    let files = CaFiles::at(dir.ca());
    let ca = match files.load() {
        Err(CaFilesError::File(error)) if error.is_absent() => files.create(&settings.trust_domain, now)?,
        loaded => loaded?,
    };
    let keys = KeySource::of(&settings.keys, &dir);
    keys.prepare().await?;
    write_private(&dir.settings(), settings.to_toml()?.as_bytes())?;
    let token = ApiToken::new(outside.entropy.id::<ApiTokenId>(now))?;
    store.write(Commit::Initialise, async |tx| first_operator(tx, arguments, (&token, &ca), outside).await).await?;
    store.close().await;
    Ok(Installation {
        token: token.to_text(),
        root: ca.root_digest(),
        root_key: files.root_key(),
        keyring: keys.keyring().map(Path::to_owned),
        keyring_identity: keys.identity().map(Path::to_owned),
    })
}

async fn first_operator(
    tx: &mut Tx,
    arguments: &InitArguments,
    (token, ca): (&ApiToken, &IssuingCa),
    outside: &Outside,
) -> Result<(), StoreError> {
    let now = outside.clock.wall();
    issuers::register_first(tx, ca, now).await?;
    let account: AccountId = outside.entropy.id(now);
    let user: UserId = outside.entropy.id(now);
    let email = arguments.operator.clone();
    meta::stamp(tx, outside.entropy.id(now)).await?;
    accounts::create(tx, &Account { id: account, name: email.clone(), created_at: now }).await?;
    accounts::create_user(tx, &User { id: user, email, staff: Some(Role::Operator), created_at: now }).await?;
    accounts::join(tx, account, user, Role::Owner).await?;
    let row = ApiTokenRow {
        id: token.id,
        user,
        account: Some(account),
        role: Role::Operator,
        name: TOKEN_NAME.to_owned(),
        secret_hash: token.secret_hash(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    api_tokens::create(tx, &row).await?;
    let actor = Actor { user, role: Role::Operator, account: Some(account) };
    let deed = Deed {
        action: "installation.init",
        target: account.to_string(),
        account: Some(account),
        detail: arguments.operator.clone(),
    };
    audit::record(tx, &actor, deed, now).await
}
