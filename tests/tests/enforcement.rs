//! What the enforcement report says of a bot is what the kernel, nftables, the mount table and Docker say, on a host of the
//! laboratory; `make test-vm` shows the same on whole hosts.

use anyhow::Result;
use launchpad_tests::deployment::Deployment;
use launchpad_tests::held::{self, Scene};
use launchpad_tests::lab::Lab;
use serde_json::json;

/// What Starter grants.
const MEMORY_BYTES: u64 = 1 << 30;
const CPU_MILLIS: u64 = 500;

#[test]
fn the_report_says_what_the_kernel_the_mount_table_nftables_and_docker_say() -> Result<()> {
    let mut lab = Lab::with_hosts(1)?;
    let body = json!({
        "name": "held", "profile": "echo", "plan": "starter", "image": lab.image("echo")?, "egress": [held::egress()],
    });
    let bot = Deployment::order(&lab.api()?, &body)?;
    bot.wait_state("running")?;
    let deployment = bot.wait("its walls to be judged", held::is_judged)?;
    let capabilities = lab.shown(0)?["capabilities"].clone();
    let host = lab.host(0)?;
    let docker = host.engine.inspect(&bot.identity(&host.engine)?.container)?;
    let (memory_bytes, cpu_millis) = (MEMORY_BYTES, CPU_MILLIS);
    let scene = Scene { deployment, capabilities, docker, memory_bytes, cpu_millis };
    // The walls are in its network namespace.
    host.net.inside(|| held::check(&scene))?;
    lab.close()
}
