//! What is seen of the bots in their guests: which container, since when, how often started, and the limit that the kernel
//! holds. Read by other means than the agent's.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, ensure};

use super::control::Control;

/// One line for each container of ours: id, deployment, start, whether it runs, starts by its own log, limit of memory, and
/// whether the bot writes to its volume and sees there what the host put into it. A start that was counted is made durable: the
/// engine writes its logs without, and one that a power failure took back would hide the next.
const LOOK: &str = r#"
for id in $(docker ps --all --quiet --no-trunc --filter label=launchpad.deployment); do
    told='{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}} {{.LogPath}}
        {{.Id}} {{index .Config.Labels "launchpad.deployment"}} {{.State.StartedAt}} {{.State.Running}}'
    set -- $(docker inspect --format "$told" "$id")
    sync "$3"*
    starts=$(cat "$3"* | grep -c '"log":"echo: listening')
    memory=$(cat /sys/fs/cgroup/launchpad.slice/*/"docker-$id.scope/memory.max" 2>/dev/null)
    sees=$(cat "/proc/$1/root/state/marker" 2>/dev/null)
    writes=$(timeout 20 bash -c "exec 3<>/dev/tcp/$2/8080 && printf 'GET /whoami HTTP/1.0\r\n\r\n' >&3 && cat <&3" 2>/dev/null)
    case $sees,$writes in marked,*'"state":true'*) volume=true ;; *) volume=false ;; esac
    echo "$4 $5 $6 $7 $starts ${memory:-none} $volume"
done"#;

/// Puts something into a bot's volume, by the host's own mount of it.
///
/// # Errors
/// When there is no such volume.
pub fn mark_volume(control: &Control, deployment: &str) -> Result<()> {
    let mount = format!("/var/lib/launchpad-agent/volumes/{deployment}/mount");
    control.sh(&format!("mountpoint -q {mount} && echo marked >{mount}/data/marker")).map(drop)
}

/// One bot as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The container's id.
    pub container: String,
    /// When its process started.
    pub started_at: String,
    /// Whether it runs.
    pub running: bool,
    /// How often the bot has started in this container, by its own account.
    pub starts: u32,
    /// What the kernel lets it have, if it tells.
    pub memory_bytes: Option<u64>,
    /// Whether it writes to its volume, and sees there what the host sees.
    pub has_volume: bool,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id: String = self.container.chars().take(12).collect();
        let runs = if self.running { "runs" } else { "does not run" };
        write!(f, "container {id} {runs} since {}, {} starts", self.started_at, self.starts)
    }
}

/// The bots of one guest, by deployment.
///
/// # Errors
/// When the guest's engine does not answer, or two containers are one deployment's.
pub fn look(control: &Control) -> Result<BTreeMap<String, Standing>> {
    parse(&control.sh(LOOK)?)
}

fn parse(text: &str) -> Result<BTreeMap<String, Standing>> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [container, deployment, started_at, running, starts, memory, has_volume] = words[..] else {
            anyhow::bail!("a line of another form: {line}")
        };
        let standing = Standing {
            container: container.to_owned(),
            started_at: started_at.to_owned(),
            running: running == "true",
            starts: starts.parse().with_context(|| format!("no number of starts: {line}"))?,
            memory_bytes: memory.parse().ok(),
            has_volume: has_volume == "true",
        };
        let other = found.insert(deployment.to_owned(), standing);
        ensure!(other.is_none(), "two containers are of deployment {deployment}:\n{text}");
    }
    Ok(found)
}

/// What may have become of a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing: the same container, the same start.
    Nothing,
    /// Its host went down and came back: the same container, started once.
    OneStart,
}

/// What became of a bot that was not allowed; none: nothing.
pub fn harm(before: &Standing, after: &Standing, allowed: Allowed) -> Option<String> {
    let told = |what: &str| Some(format!("{what}: before, {before}; after, {after}"));
    if !after.running {
        return told("it does not run");
    }
    if before.container != after.container {
        return told("it has another container");
    }
    let starts = after.starts.checked_sub(before.starts);
    if !after.has_volume {
        return told("it lost sight of its volume");
    }
    match allowed {
        Allowed::Nothing if before.started_at != after.started_at || starts != Some(0) => told("it was restarted"),
        Allowed::OneStart if before.started_at == after.started_at || starts != Some(1) => {
            told("it started not once")
        }
        Allowed::Nothing | Allowed::OneStart => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(container: &str, started_at: &str, starts: u32) -> Standing {
        let (container, started_at) = (container.to_owned(), started_at.to_owned());
        Standing { container, started_at, running: true, starts, memory_bytes: Some(1), has_volume: true }
    }

    #[test]
    fn a_line_of_the_guest_is_a_bot_and_two_containers_of_one_deployment_are_an_error() {
        let line = "c1 dep_1 2026-01-01T00:00:00Z true 1 134217728 true\n";
        let found = parse(line).unwrap();
        assert_eq!(found["dep_1"].memory_bytes, Some(134_217_728));
        assert_eq!(found["dep_1"].starts, 1);
        assert!(parse(&format!("{line}{}", line.replace("c1", "c2"))).is_err());
        assert!(parse("c1 dep_1\n").is_err());
    }

    #[test]
    fn a_restart_another_container_and_a_second_start_are_harm() {
        let before = standing("c1", "noon", 1);
        assert_eq!(harm(&before, &before, Allowed::Nothing), None);
        assert!(harm(&before, &standing("c1", "one", 2), Allowed::Nothing).is_some());
        assert!(harm(&before, &standing("c2", "noon", 1), Allowed::Nothing).is_some());
        assert!(harm(&before, &Standing { running: false, ..before.clone() }, Allowed::Nothing).is_some());
        assert!(harm(&before, &Standing { has_volume: false, ..before.clone() }, Allowed::Nothing).is_some());
        assert_eq!(harm(&before, &standing("c1", "one", 2), Allowed::OneStart), None);
        assert!(harm(&before, &before, Allowed::OneStart).is_some(), "a reboot that was none");
        assert!(harm(&before, &standing("c1", "one", 3), Allowed::OneStart).is_some());
        assert!(harm(&before, &standing("c2", "one", 1), Allowed::OneStart).is_some());
    }
}
