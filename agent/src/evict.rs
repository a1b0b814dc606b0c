//! `launchpad-agent evict`: bots go from this host because its root says so. For a host that leaves its fleet, and before
//! its agent's package is purged.
//!
//! ```text
//! the lock of the data directory ─┬─ somebody has it: the running agent is asked until nothing is left
//!                                 └─ ours: the same marks in the ledger, the same plan, carried out from here
//! ```
//! What is to go stands in the ledger first: whoever is killed half-way finds it there, and no agent starts it again. The
//! coordinator is told by the next report, if there is one. Nobody is asked whether it may be: whoever is root here could
//! do the same with Docker, and leave nothing behind that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use launchpad_protocol::entropy::Entropy;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::time::Clock;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::Config;
use crate::config::local::EvictArgs;
use crate::disk::Disk;
use crate::execute::docker::{DockerHost, HostConfig};
use crate::execute::{Eyes, Hands};
use crate::identity::Enrolled;
use crate::ledger::Ledger;
use crate::local::lock::{DataLock, LockError};
use crate::local::{Request, Response, who};
use crate::plan::action::BY_LEDGER;
use crate::plan::{Context, Knowledge, Subject, plan};
use crate::reconcile::evicting::{evictions, is_here, nobody, present};
use crate::reconcile::request::{Evict, Shown};
use crate::status;

/// Between two questions of how far the running agent is.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How often all that is left is tried once more without an agent: what one step still holds, the next one finds free.
const ROUNDS_MAX: u32 = 3;

/// Evicts, and says how far it is whenever that changes.
///
/// # Errors
/// Without `--yes`; otherwise what is in the way. What is done by then stays done, and the rest stands in the ledger.
pub async fn evict(args: &EvictArgs, mut told: impl FnMut(&str)) -> Result<(), Reason> {
    if !args.yes {
        return Err(unconfirmed(args));
    }
    loop {
        match DataLock::take(&args.config.data_dir) {
            Ok(_lock) => return by_ourselves(args, &mut told).await,
            Err(LockError::Held { .. }) => match by_agent(args, &mut told).await {
                // It has ended meanwhile: then it is ours to do.
                Err(reason) if reason.code == "agent-not-running" => sleep(ASK_EVERY).await,
                done => return done,
            },
            Err(error @ LockError::Io { .. }) => return Err(Reason::new("data-dir", error.to_string())),
        }
    }
}

fn unconfirmed(args: &EvictArgs) -> Reason {
    let whose = if args.bots.is_empty() { "every bot".to_owned() } else { args.bots.join(", ") };
    let data = if args.data { ", and destroys their data" } else { "; their data stays" };
    Reason::new("not-confirmed", format!("this stops and removes {whose} on this host{data}"))
        .because("until an operator, or a newer revision, puts them back")
        .mend("launchpad-agent ps lists them; say --yes if that is meant")
}

async fn by_agent(args: &EvictArgs, told: &mut impl FnMut(&str)) -> Result<(), Reason> {
    let mut before = None;
    loop {
        let (run_dir, request) =
            (args.config.run_dir.clone(), Request::Evict { bots: args.bots.clone(), data: args.data });
        let asked = spawn_blocking(move || status::ask(&run_dir, &request)).await;
        let answer = asked.map_err(|error| Reason::new("agent-silent", error.to_string()))??;
        match answer {
            Response::Evicting { left } if left.is_empty() => return Ok(()),
            Response::Evicting { left } => {
                if before.as_ref() != Some(&left) {
                    told(&still_here(&left));
                }
                before = Some(left);
                sleep(ASK_EVERY).await;
            }
            Response::Refused { reason } => return Err(reason),
            other @ (Response::Status(_)
            | Response::Bots { .. }
            | Response::Why(_)
            | Response::Spec { .. }
            | Response::Line { .. }
            | Response::End { .. }
            | Response::Done { .. }) => {
                return Err(Reason::new("agent-silent", format!("the agent answered something else: {other:?}")));
            }
        }
    }
}

fn still_here(left: &BTreeSet<DeploymentId>) -> String {
    let ids: Vec<String> = left.iter().map(ToString::to_string).collect();
    format!("still here: {}", ids.join(", "))
}

/// Without an agent. The lock is held all the while.
async fn by_ourselves(args: &EvictArgs, told: &mut impl FnMut(&str)) -> Result<(), Reason> {
    let unusable = |error: &dyn std::fmt::Display| Reason::new("state-unreadable", error.to_string());
    let enrolled = Enrolled::load(&args.config.data_dir).map_err(|error| unusable(&error))?;
    let host = enrolled.identity().host;
    let disk = Disk::open(&args.config.data_dir).map_err(|error| unusable(&error))?;
    let mut ledger = Ledger::open(disk, host).map_err(|error| unusable(&error))?;
    let docker = connect(&args.config, &enrolled).await?;
    let spec = ledger.accepted_spec().cloned().unwrap_or_else(|| Arc::new(nobody(host, &Entropy::system())));
    let mut in_the_way = None;
    for _ in 0..ROUNDS_MAX {
        let observed = docker.observe(&BTreeSet::new()).await.map_err(|error| error.reason().clone())?;
        let shown = Shown { spec: Some(Arc::clone(&spec)), present: present(&observed), ..Shown::default() };
        let meant = |bot: &String| who::meant(bot, &shown);
        let deployments = args.bots.iter().map(meant).collect::<Result<_, _>>()?;
        let evict = Evict { deployments, data: args.data };
        let marks = evictions(&evict, Some(&spec), Some(&observed), ledger.marks());
        if marks.iter().any(|(deployment, eviction)| ledger.marks().evicted.get(deployment) != Some(eviction)) {
            ledger.evict(&marks).map_err(|error| unusable(&error))?;
        }
        let left: BTreeSet<DeploymentId> =
            marks.iter().filter(|(id, mark)| is_here(**id, mark.data, &observed)).map(|(id, _)| *id).collect();
        let known = Knowledge {
            marks: ledger.marks(),
            records: &BTreeMap::new(),
            health: &BTreeMap::new(),
            findings: &BTreeMap::new(),
            renewed_at: None,
        };
        let clock = Clock::machine();
        let context = Context { now: clock.boot(), wall: clock.wall(), boot_id: String::new() };
        let work = plan(&spec, &observed, known, &context).work;
        let of_it = |subject: &Subject| matches!(subject, Subject::Instance(id) if marks.contains_key(id));
        let actions: Vec<_> =
            work.into_iter().filter(|(subject, _)| of_it(subject)).flat_map(|(_, list)| list).collect();
        let actions: Vec<_> = actions.into_iter().filter(|action| !BY_LEDGER.contains(&action.kind())).collect();
        if left.is_empty() && actions.is_empty() {
            return Ok(());
        }
        told(&still_here(&left));
        in_the_way = None;
        for action in &actions {
            if let Err(error) = docker.execute(action).await {
                in_the_way.get_or_insert(error.reason().clone());
            }
        }
    }
    Err(in_the_way.unwrap_or_else(|| {
        Reason::new("eviction-unfinished", "something is left, and nothing says why")
            .mend("run the same command again")
    }))
}

async fn connect(config: &Config, enrolled: &Enrolled) -> Result<DockerHost, Reason> {
    let sealing_key = enrolled.sealing_key().map_err(|error| Reason::new("state-unreadable", error.to_string()))?;
    let at = |path: &Path| path.to_owned();
    DockerHost::connect(HostConfig {
        docker: at(&config.docker),
        data_dir: at(&config.data_dir),
        run_dir: at(&config.run_dir),
        host: enrolled.identity().host,
        subnet_pool: config.subnet_pool,
        sealing_key: Arc::new(sealing_key),
    })
    .await
}
