//! A tenant's control group, shaped: made before the tenant's first container, and set again whenever it differs.
//!
//! `docker.rs` calls [`shape`] and [`remove`], `create.rs` calls [`slow_down`] for a container of its own. Two ways lead
//! to the kernel, and the engine decides which one is ours:
//!
//! ```text
//! systemd    systemctl set-property, because systemd resets what is written past it
//! cgroupfs   files: nobody else writes to the groups that are ours
//! ```
//! Success means that the kernel was asked again and shows it.

use std::fs;
use std::path::Path;

use launchpad_protocol::id::AccountId;
use launchpad_protocol::reason::Reason;

use super::facts::CgroupDriver;
use super::kernel::{Kernel, shares_of};
use super::{ExecuteError, cgroup, systemd};
use crate::enforce::shape::TenantShape;

/// Controllers that a tenant's group needs on cgroup v2.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Shapes a tenant's group.
///
/// # Errors
/// `Passing` when the kernel, or systemd, does not take it.
pub async fn shape(
    kernel: &Kernel,
    account: AccountId,
    driver: CgroupDriver,
    shape: &TenantShape,
) -> Result<(), ExecuteError> {
    let Some(below) = cgroup::below_root(account, driver) else { return Ok(()) };
    let done = match driver {
        CgroupDriver::Systemd => {
            let slice = cgroup::name(account, driver).unwrap_or_default();
            systemd::set_properties(&slice, &properties(shape, kernel.disk())).await
        }
        CgroupDriver::Cgroupfs if kernel.is_v2() => write_v2(kernel.root(), &below, shape, kernel.disk()),
        CgroupDriver::Cgroupfs => write_v1(kernel.root(), &below, shape),
        CgroupDriver::None => Ok(()),
    };
    done.map_err(ExecuteError::Passing)?;
    // A slice that nothing is in yet is not there yet: it comes with its properties.
    match kernel.tenant(account, driver) {
        Some(group) if !shape.fits(&group) => Err(ExecuteError::Passing(
            Reason::new(
                "tenant-group-differs",
                "the kernel does not show what its tenant's control group was set to",
            )
            .because(format!("asked for {shape}, found {group:?}")),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Forgets a tenant's group, when its last container is gone.
///
/// # Errors
/// `Passing` when the kernel does not let go of it. A slice that systemd does not end is only logged: it is empty, and
/// goes with the next boot.
pub async fn remove(kernel: &Kernel, account: AccountId, driver: CgroupDriver) -> Result<(), ExecuteError> {
    match driver {
        CgroupDriver::Systemd => {
            let slice = cgroup::name(account, driver).unwrap_or_default();
            if let Err(reason) = systemd::end(&slice).await {
                tracing::warn!(%account, %reason, "its slice stays until the next boot");
            }
            Ok(())
        }
        CgroupDriver::Cgroupfs => cgroup::remove(kernel.root(), account),
        CgroupDriver::None => Ok(()),
    }
}

/// Has the kernel slow a running container down from that much memory on. Only cgroup v2 can.
///
/// # Errors
/// `Passing` when the kernel, or systemd, does not take it, or the process is gone.
pub async fn slow_down(
    kernel: &Kernel,
    process_id: i64,
    driver: CgroupDriver,
    memory_high_bytes: u64,
) -> Result<(), ExecuteError> {
    let Some(group) = kernel.group_of(process_id) else { return Ok(()) };
    let done = match driver {
        CgroupDriver::Systemd => {
            let scope = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Whenever systemd sets anything of a group's memory, it sets swap to what it believes, which the engine
            // has never told it: without a limit.
            let properties = [format!("MemoryHigh={memory_high_bytes}"), "MemorySwapMax=0".to_owned()];
            systemd::set_properties(&scope, &properties).await
        }
        CgroupDriver::Cgroupfs => write(&group, "memory.high", &memory_high_bytes.to_string()),
        CgroupDriver::None => Ok(()),
    };
    done.map_err(ExecuteError::Passing)
}

/// A shape in systemd's words.
fn properties(shape: &TenantShape, disk: Option<&str>) -> Vec<String> {
    let mut properties = vec![
        format!("CPUWeight={}", shape.cpu_weight),
        format!("TasksMax={}", shape.pids),
        format!("MemoryHigh={}", shape.memory_high_bytes),
        "MemorySwapMax=0".to_owned(),
    ];
    let limits = [
        ("IOReadBandwidthMax", shape.read_bytes),
        ("IOWriteBandwidthMax", shape.write_bytes),
        ("IOReadIOPSMax", shape.reads),
        ("IOWriteIOPSMax", shape.writes),
    ];
    let limit = |disk: &str| limits.map(|(name, limit)| format!("{name}=/dev/block/{disk} {limit}"));
    properties.extend(disk.map(limit).into_iter().flatten());
    properties
}

/// A weight and a number of processes: v1 has no more for a group of groups that binds what the engine did not set.
fn write_v1(root: &Path, below: &Path, shape: &TenantShape) -> Result<(), Reason> {
    let limits = [
        ("cpu", "cpu.shares", shares_of(shape.cpu_weight).to_string()),
        ("pids", "pids.max", shape.pids.to_string()),
    ];
    for (controller, file, limit) in limits {
        let group = root.join(controller).join(below);
        make(&group)?;
        write(&group, file, &limit)?;
    }
    Ok(())
}

fn write_v2(root: &Path, below: &Path, shape: &TenantShape, disk: Option<&str>) -> Result<(), Reason> {
    let group = root.join(below);
    make(&group)?;
    // From the root down: a group has a controller only if the one above hands it on.
    let above: Vec<&Path> = group.ancestors().skip(1).take_while(|path| path.starts_with(root)).collect();
    for dir in above.into_iter().rev() {
        for controller in CONTROLLERS {
            // A kernel without that controller refuses; what it cannot limit is reported as such.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    write(&group, "cpu.weight", &shape.cpu_weight.to_string())?;
    write(&group, "pids.max", &shape.pids.to_string())?;
    write(&group, "memory.high", &shape.memory_high_bytes.to_string())?;
    if group.join("memory.swap.max").exists() {
        write(&group, "memory.swap.max", "0")?;
    }
    match disk {
        Some(disk) if group.join("io.max").exists() => write(&group, "io.max", &format!("{disk} {}", shape.disk())),
        Some(_) | None => Ok(()),
    }
}

fn make(group: &Path) -> Result<(), Reason> {
    fs::create_dir_all(group).map_err(|error| refused(&format!("make the group {}", group.display()), &error))
}

fn write(group: &Path, file: &str, text: &str) -> Result<(), Reason> {
    fs::write(group.join(file), text)
        .map_err(|error| refused(&format!("write {text} to {}", group.join(file).display()), &error))
}

fn refused(what: &str, error: &std::io::Error) -> Reason {
    Reason::new("control-group", format!("cannot {what}"))
        .because(error.to_string())
        .mend("see that the agent runs as root and that nobody else manages groups below `launchpad`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::kernel::Ceiling;

    fn shaped() -> TenantShape {
        TenantShape {
            cpu_weight: 50,
            pids: 256,
            memory_high_bytes: 966_367_641,
            read_bytes: 10,
            write_bytes: 20,
            reads: 30,
            writes: 40,
        }
    }

    #[test]
    fn systemd_is_told_all_of_it_in_its_own_words() {
        assert_eq!(
            properties(&shaped(), Some("254:0")),
            [
                "CPUWeight=50",
                "TasksMax=256",
                "MemoryHigh=966367641",
                "MemorySwapMax=0",
                "IOReadBandwidthMax=/dev/block/254:0 10",
                "IOWriteBandwidthMax=/dev/block/254:0 20",
                "IOReadIOPSMax=/dev/block/254:0 30",
                "IOWriteIOPSMax=/dev/block/254:0 40",
            ]
        );
        assert_eq!(properties(&shaped(), None).len(), 4);
    }

    #[tokio::test]
    async fn a_group_on_v2_is_made_handed_its_controllers_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let group = root.path().join(format!("launchpad/{account}"));
        fs::create_dir_all(&group).unwrap();
        // The kernel makes these with the group; a group without them cannot be limited so.
        for file in ["memory.swap.max", "io.max"] {
            fs::write(group.join(file), "").unwrap();
        }
        let kernel = Kernel::at(root.path(), root.path(), Some("254:0"));
        shape(&kernel, account, CgroupDriver::Cgroupfs, &shaped()).await.unwrap();
        let seen = kernel.tenant(account, CgroupDriver::Cgroupfs).unwrap();
        assert_eq!((seen.cpu_weight, seen.swap_bytes), (Ceiling::At(50), Ceiling::At(0)));
        assert_eq!(seen.disk, Some(shaped().disk()));
        for dir in [root.path().to_owned(), root.path().join("launchpad")] {
            assert_eq!(
                fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(),
                "+pids",
                "the last one asked for"
            );
        }
        assert!(!group.join("cgroup.subtree_control").exists(), "the engine's to hand on");
    }

    #[tokio::test]
    async fn a_group_on_v1_is_made_in_its_two_hierarchies() {
        let root = tempfile::tempdir().unwrap();
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        let kernel = Kernel::at(root.path(), root.path(), None);
        shape(&kernel, account, CgroupDriver::Cgroupfs, &shaped()).await.unwrap();
        let seen = kernel.tenant(account, CgroupDriver::Cgroupfs).unwrap();
        assert_eq!((seen.cpu_weight, seen.pids), (Ceiling::At(50), Ceiling::At(256)));
        shape(&kernel, account, CgroupDriver::None, &shaped()).await.unwrap();
    }

    #[tokio::test]
    async fn a_kernel_that_does_not_take_it_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let account: AccountId = format!("acct_{:032x}", 1).parse().unwrap();
        // A file where the group should be.
        fs::create_dir_all(root.path().join("cpu")).unwrap();
        fs::write(root.path().join("cpu/launchpad"), "").unwrap();
        let kernel = Kernel::at(root.path(), root.path(), None);
        let error = shape(&kernel, account, CgroupDriver::Cgroupfs, &shaped()).await.unwrap_err();
        assert_eq!(error.reason().code, "control-group");
    }
}
