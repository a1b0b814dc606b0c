//! Whether a running bot is what was ordered: pure comparison of what the plan, the API, Docker and the kernel say.

use launchpad_tests::kernel::KernelLimits;
use serde_json::{Value, json};

/// All that is known about one running bot.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The plan's, in thousandths of a core.
    pub(crate) cpu_millis: u64,
    /// The plan's.
    pub(crate) memory_bytes: u64,
    /// The profile's.
    pub(crate) pids: u64,
    /// The reference that was deployed.
    pub(crate) image: String,
    /// The references that Docker knows its image by, as JSON.
    pub(crate) image_digests: String,
    /// What the kernel enforces.
    pub(crate) kernel: KernelLimits,
    /// The `instance` of the API's deployment.
    pub(crate) api: Value,
    /// `docker inspect` of the container.
    pub(crate) docker: Value,
}

/// One line for each thing that is not as ordered; none when all is well.
pub(crate) fn disagreements(facts: &Facts) -> Vec<String> {
    let (limits, host) = (&facts.api["limits"], &facts.docker["HostConfig"]);
    let quota_millis = host["CpuQuota"].as_u64().zip(host["CpuPeriod"].as_u64().filter(|period| *period > 0));
    let docker_cpu_millis = match host["NanoCpus"].as_u64() {
        Some(nanos) if nanos > 0 => Some(nanos / 1_000_000),
        _ => quota_millis.map(|(quota, period)| quota * 1000 / period),
    };
    let wanted = [
        ("memory, says the API", json!(facts.memory_bytes), limits["memory_bytes"].clone()),
        ("memory, says Docker", json!(facts.memory_bytes), host["Memory"].clone()),
        ("memory, says the kernel", json!(facts.memory_bytes), json!(facts.kernel.memory_bytes)),
        ("memory and swap, says Docker", json!(facts.memory_bytes), host["MemorySwap"].clone()),
        ("cpu, says the API", json!(facts.cpu_millis), limits["cpu_millis"].clone()),
        ("cpu, says Docker", json!(facts.cpu_millis), json!(docker_cpu_millis)),
        ("cpu, says the kernel", json!(facts.cpu_millis), json!(facts.kernel.cpu_millis)),
        ("pids, says the API", json!(facts.pids), limits["pids"].clone()),
        ("pids, says Docker", json!(facts.pids), host["PidsLimit"].clone()),
        ("pids, says the kernel", json!(facts.pids), json!(facts.kernel.pids)),
        ("read-only root", json!(true), host["ReadonlyRootfs"].clone()),
        ("dropped capabilities", json!(["ALL"]), host["CapDrop"].clone()),
        ("Docker's restart policy", json!("no"), host["RestartPolicy"]["Name"].clone()),
        ("user", json!("1000:1000"), facts.docker["Config"]["User"].clone()),
    ];
    let mut found: Vec<String> = wanted
        .into_iter()
        .filter(|(_, wanted, seen)| wanted != seen)
        .map(|(what, wanted, seen)| format!("{what}: wanted {wanted}, saw {seen}"))
        .collect();
    // A kernel that does not account swap gives no number here, and there is none to compare.
    if facts.kernel.memory_and_swap_bytes.is_some_and(|bytes| bytes != facts.memory_bytes) {
        found.push(format!("memory and swap, says the kernel: {:?}", facts.kernel.memory_and_swap_bytes));
    }
    if !host["SecurityOpt"].to_string().contains("no-new-privileges") {
        found.push(format!("no-new-privileges is not among {}", host["SecurityOpt"]));
    }
    if !facts.image_digests.contains(&facts.image) {
        found.push(format!("image: wanted {}, the container's is {}", facts.image, facts.image_digests));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_ordered() -> Facts {
        let image = "198.18.0.1:5000/echo@sha256:00".to_owned();
        Facts {
            cpu_millis: 500,
            memory_bytes: 1 << 30,
            pids: 64,
            image_digests: json!([image]).to_string(),
            image,
            kernel: KernelLimits {
                memory_bytes: Some(1 << 30),
                memory_and_swap_bytes: None,
                cpu_millis: Some(500),
                pids: Some(64),
            },
            api: json!({ "limits": { "cpu_millis": 500, "memory_bytes": 1_u64 << 30, "pids": 64 } }),
            docker: json!({
                "Config": { "User": "1000:1000" },
                "HostConfig": {
                    "Memory": 1_u64 << 30, "MemorySwap": 1_u64 << 30, "NanoCpus": 0, "CpuQuota": 50_000,
                    "CpuPeriod": 100_000, "PidsLimit": 64, "ReadonlyRootfs": true, "CapDrop": ["ALL"],
                    "RestartPolicy": { "Name": "no" }, "SecurityOpt": ["no-new-privileges:true"],
                },
            }),
        }
    }

    #[test]
    fn a_bot_that_is_as_ordered_has_no_disagreement() {
        assert_eq!(disagreements(&as_ordered()), Vec::<String>::new());
    }

    #[test]
    fn a_kernel_that_enforces_less_than_docker_was_asked_for_is_told() {
        let mut facts = as_ordered();
        facts.kernel.memory_bytes = None;
        assert_eq!(disagreements(&facts), ["memory, says the kernel: wanted 1073741824, saw null"]);
    }

    #[test]
    fn another_image_than_the_ordered_one_is_told() {
        let mut facts = as_ordered();
        facts.image_digests = "[]".to_owned();
        assert!(disagreements(&facts)[0].starts_with("image: wanted 198.18.0.1:5000/echo@sha256:00"));
    }
}
