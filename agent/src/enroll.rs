//! Joining a fleet: `launchpad-agent enroll`.
//!
//! ```text
//! token ─► lock the data directory ─► pending key, sealing key on disk ─► Enroll (pinned to the token's root)
//!                                                                             │
//!                          identity on disk, all at once ◄── chain, roots ◄───┘
//! ```
//! Cut off anywhere, it is run again with the same token: the pending key is the same, and for ten minutes the
//! coordinator gives the same key the same answer. On a host that has joined it changes nothing, and it touches no bot.
//! Around it, each when `main.rs` wants it: [`dockerd`] makes Docker fit for bots, [`units`] starts gate and agent.

pub mod dockerd;
pub mod units;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use launchpad_pki::CertificateDer;
use launchpad_pki::bundle::{BundleError, TrustBundle};
use launchpad_pki::host_key::KeyError;
use launchpad_pki::identity::{IdentityError, TrustDomain};
use launchpad_pki::tls::{self, TlsError};
use launchpad_pki::token::{JoinToken, TokenError};
use launchpad_protocol::id::{HostId, IdError};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use launchpad_protocol::wire::{self, v1};
use tokio::time::timeout;

use crate::config::{EnrollArgs, HostPort, HostPortError, machine_name};
use crate::identity::machine::this_machine;
use crate::identity::{Identity, IdentityFileError, IdentityFiles};
use crate::link::cause::not_carried_out;
use crate::local::lock::{DataLock, LockError};
use crate::renew::enrolment_channel;

/// How long the coordinator may take: it writes to its store and signs once.
const ENROLL_WITHIN: Duration = Duration::from_secs(30);

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The host has joined.
    Joined {
        /// Its id from now on.
        host: HostId,
        /// What it is called.
        name: String,
    },
    /// It had joined before; nothing was changed.
    JoinedBefore {
        /// Its id.
        host: HostId,
        /// What it is called.
        name: String,
        /// Where it had joined.
        coordinator: HostPort,
    },
}

/// Why the host did not join. Each is one line that ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It has not joined before, and nobody says where it may.
    #[error(
        "this host has joined no fleet yet: say --coordinator and --token as well, as `launchpad host token create` prints them"
    )]
    Nowhere,
    /// Not a token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Another agent works in the data directory.
    #[error("{0}")]
    Locked(#[from] LockError),
    /// The coordinator refused, or does not answer.
    #[error("{0}")]
    Refused(Reason),
    /// It answered in no time that a person would wait.
    #[error("{coordinator} took longer than {} s; run the same command again, with the same token", ENROLL_WITHIN.as_secs())]
    Silence {
        /// The enrolment listener.
        coordinator: HostPort,
    },
    /// Its answer makes no identity.
    #[error(
        "{coordinator} gave an answer that cannot be used ({problem}): compare the versions of agent and coordinator"
    )]
    Answer {
        /// The enrolment listener.
        coordinator: HostPort,
        /// What is wrong.
        problem: String,
    },
    /// The TLS library.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// No request could be made.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The disk.
    #[error("{0}")]
    Files(#[from] IdentityFileError),
}

/// Joins, unless the host has joined before.
///
/// # Errors
/// [`EnrollError`] says in one line what is wrong and what mends it.
pub async fn enroll(args: &EnrollArgs, agent_version: &str, clock: &Clock) -> Result<Enrolment, EnrollError> {
    let files = IdentityFiles::open(&args.data_dir)?;
    let machine = this_machine();
    let (coordinator, token) = match errand(&files, args, machine.as_deref())? {
        Errand::Done(before) => return Ok(before),
        Errand::Join { coordinator, token } => (coordinator, token),
    };
    // Held to the end: a second enrolment, or a running agent, would write the same files.
    let _lock = DataLock::take(&args.data_dir)?;
    let name = args.name.clone().unwrap_or_else(machine_name);
    let key = files.pending_key()?;
    let sealing = files.sealing_key_or_new()?;
    let request = v1::EnrollRequest {
        token_id: token.id.to_string(),
        secret: token.secret.expose().to_vec(),
        csr_der: key.csr_der()?,
        sealing_public_key: sealing.public().as_bytes().to_vec(),
        host_name: name.clone(),
        agent_version: agent_version.to_owned(),
        wall_us: clock.wall().micros(),
    };
    let reply = timeout(ENROLL_WITHIN, ask(coordinator, &token, request, clock)).await;
    let reply = reply.unwrap_or_else(|_| Err(EnrollError::Silence { coordinator: coordinator.clone() }))?;
    let identity = Answered { reply, key, name, coordinator }.identity()?;
    files.store(&identity)?;
    // Afterwards: between the two, a copied disk's new identity is refused once more, and its old one never accepted.
    files.claim(machine.as_deref())?;
    files.forget_pending()?;
    Ok(Enrolment::Joined { host: identity.host, name: identity.name })
}

/// Whether the host has joined, or was told how it may: what is worth knowing before anything on it is changed.
///
/// # Errors
/// Those that [`enroll`] would end with before it asks anybody.
pub fn check(args: &EnrollArgs) -> Result<(), EnrollError> {
    errand(&IdentityFiles::open(&args.data_dir)?, args, this_machine().as_deref()).map(drop)
}

/// What is left to do.
enum Errand<'a> {
    Done(Enrolment),
    Join { coordinator: &'a HostPort, token: JoinToken },
}

fn errand<'a>(files: &IdentityFiles, args: &'a EnrollArgs, machine: Option<&str>) -> Result<Errand<'a>, EnrollError> {
    if !args.replace
        && let Some(before) = joined_before(files)?
    {
        files.belongs_to(machine)?;
        return Ok(Errand::Done(before));
    }
    let (Some(coordinator), Some(token)) = (&args.coordinator, &args.token) else { return Err(EnrollError::Nowhere) };
    Ok(Errand::Join { coordinator, token: token.parse()? })
}

fn joined_before(files: &IdentityFiles) -> Result<Option<Enrolment>, EnrollError> {
    match files.load() {
        Ok(identity) => Ok(Some(Enrolment::JoinedBefore {
            host: identity.host,
            name: identity.name,
            coordinator: identity.enroll_endpoint,
        })),
        Err(IdentityFileError::Absent(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn ask(
    coordinator: &HostPort,
    token: &JoinToken,
    request: v1::EnrollRequest,
    clock: &Clock,
) -> Result<v1::EnrollReply, EnrollError> {
    let tls = tls::enroll_client_config([token.root].into(), clock)?;
    let channel = enrolment_channel(coordinator, tls).await.map_err(EnrollError::Refused)?;
    let reply = wire::enrollment_client(channel).enroll(request).await;
    let reply = reply.map_err(|status| EnrollError::Refused(not_carried_out(coordinator.as_str(), &status)))?;
    Ok(reply.into_inner())
}

/// An answer, and what it is an answer to.
struct Answered<'a> {
    reply: v1::EnrollReply,
    key: launchpad_pki::host_key::HostKey,
    name: String,
    coordinator: &'a HostPort,
}

/// Why an answer makes no identity.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("{0}")]
    Host(#[from] IdError),
    #[error("{0}")]
    TrustDomain(#[from] IdentityError),
    #[error("{0}")]
    Bundle(#[from] BundleError),
    #[error("{0}")]
    Endpoint(#[from] HostPortError),
}

impl Answered<'_> {
    fn identity(self) -> Result<Identity, EnrollError> {
        let coordinator = self.coordinator.clone();
        let answer = |problem: String| EnrollError::Answer { coordinator: coordinator.clone(), problem };
        let identity = self.convert().map_err(|problem| answer(problem.to_string()))?;
        identity.check().map_err(|problem| answer(problem.to_string()))?;
        Ok(identity)
    }

    fn convert(self) -> Result<Identity, Malformed> {
        let Self { reply, key, name, coordinator } = self;
        let endpoints: Result<Vec<HostPort>, _> = reply.fleet_endpoints.iter().map(|text| text.parse()).collect();
        Ok(Identity {
            host: reply.host_id.parse()?,
            name,
            trust_domain: TrustDomain::new(&reply.trust_domain)?,
            key: Arc::new(key),
            chain: reply.chain_der.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            bundle: TrustBundle::from_pem(&reply.trust_bundle_pem)?,
            fleet_endpoints: endpoints?,
            server_name: reply.server_name,
            enroll_endpoint: coordinator.clone(),
        })
    }
}

/// The line that is printed.
impl fmt::Display for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined { host, name } => write!(f, "joined as {host} ({name})"),
            Self::JoinedBefore { host, name, coordinator } => {
                write!(f, "this host has joined before, as {host} ({name}) with {coordinator}; nothing was changed")
            }
        }
    }
}
