//! How bots are held on a whole host: every promise is kept, and what is told of it is what the guest's own kernel, mounts and
//! rules say.
//!
//! The comparison ([`crate::held`]) has to run where the bot runs: this program goes into the guest, with what was told as a
//! file, and is started there as `vm held FILE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::fleet::{Fleet, Plan};
use super::machine::Guest;
use crate::deployment::Deployment;
use crate::held::{self, Scene};
use crate::process::run;

/// Where program and file lie in the guest.
const PROGRAM: &str = "/root/vm";
const FILE: &str = "/root/scene.json";

/// What is not as promised, or not as told; none: all of it is.
///
/// # Errors
/// When nobody can say.
pub fn broken(fleet: &Fleet) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (index, (guest, bot)) in fleet.guests.iter().zip(&fleet.bots).enumerate() {
        let capabilities = fleet.host(index)?["capabilities"].clone();
        if let Err(error) = compare(&fleet.dir(), guest, bot, capabilities, fleet.plan()) {
            wrong.push(format!("{}: {error:#}", guest.name));
        }
    }
    Ok(wrong)
}

fn compare(dir: &Path, guest: &Guest, bot: &Deployment, capabilities: Value, plan: Plan) -> Result<()> {
    let deployment = bot.get()?;
    held::all_enforced(&deployment)?;
    let container = deployment["instance"]["container_id"].as_str().context("the API tells no container")?;
    let text = guest.control.sh(&format!("docker inspect {container}"))?;
    let mut objects: Vec<Value> = serde_json::from_str(&text).context("read docker inspect")?;
    let docker = objects.pop().context("docker inspect described nothing")?;
    let (memory_bytes, cpu_millis) = (plan.memory_bytes, plan.cpu_millis);
    let scene = Scene { deployment, capabilities, docker, memory_bytes, cpu_millis };
    let file = dir.join("scene.json");
    fs::write(&file, serde_json::to_vec(&scene)?).with_context(|| format!("write {}", file.display()))?;
    guest.control.copy(&file, FILE, "600")?;
    guest.control.copy(&own_program(dir)?, PROGRAM, "700")?;
    guest.control.sh(&format!("{PROGRAM} held {FILE}")).map(drop)
}

/// Compares, inside a guest, and says what is not as it was told.
///
/// # Errors
/// At the first such thing.
pub fn inside(file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    held::check(&serde_json::from_slice(&bytes).context("read what was told")?)
}

/// This program without what only a debugger wants: a debug build is ten times as large.
fn own_program(dir: &Path) -> Result<PathBuf> {
    let stripped = dir.join("vm");
    if !stripped.exists() {
        // The file itself, whatever has become of its name: a build beside a long run gives that to another.
        let own = format!("/proc/{}/exe", std::process::id());
        run(Command::new("strip").arg("-o").arg(&stripped).arg(own))?;
    }
    Ok(stripped)
}
