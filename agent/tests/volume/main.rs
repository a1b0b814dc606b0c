//! Volumes on a real kernel: loop devices, ext4, XFS, mount namespaces.
//!
//! One file a promise of `execute/volume.rs`. They run as root on any machine with loop devices, and fail
//! where they cannot run: a volume that was never mounted proves nothing. Every test has a directory of its
//! own, and at its end asserts that nothing of it is mounted or attached any more ([`ground`]).

mod busy;
mod crash;
mod doors;
mod drift;
mod full;
mod ground;
mod grow;
mod life;
mod reach;
mod snapshot;
mod xfs;
