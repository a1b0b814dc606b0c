//! Whole hosts: Debian guests under software emulation, with systemd, cgroup v2, AppArmor and XFS quotas of their own.
//!
//! Called by `bin/vm.rs` alone, behind `make test-vm` and `make soak`. Everything that the laboratory's namespaces cannot
//! show is shown here: units, packages, reboots, a kernel that holds every promise.
//!
//! ```text
//!  fabric: a namespace of the run's own, without uplink (tests/src/lab.rs)
//!   coordinator, registry on 198.18.0.1
//!        │ bridge lpfleet 198.18.0.0/24          │ bridge lpcontrol 198.18.200.0/24
//!        ├── tap ── h1 eth0: what a fault cuts   ├── tap ── h1 eth1: ssh, which no fault touches
//!        └── tap ── h2 eth0                      └── tap ── h2 eth1
//! ```
//!
//! Read in this order: [`image`] is the root that all guests share, [`seed`] what makes one of them; [`switch`] the bridges;
//! [`machine`] is one guest and [`control`] the way to run something in it; [`package`] is what an operator installs;
//! [`fleet`] puts it together; [`standing`] is what is seen of the bots, [`promises`] how they are held; [`fault`] is what happens to them, [`cell`] one
//! fault at one moment of a change, [`idle`] what an agent takes while there is none, and [`report`] what came of it all.

pub mod cell;
pub mod control;
pub mod fault;
pub mod fleet;
pub mod idle;
pub mod image;
pub mod machine;
pub mod package;
pub mod promises;
pub mod report;
pub mod seed;
pub mod standing;
pub mod switch;
