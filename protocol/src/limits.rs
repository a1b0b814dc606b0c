//! Every bound of the fleet's language: its value, its unit and its reason.
//!
//! Both sides import these, so that neither sends what the other refuses.

use std::time::Duration;

/// The lowest protocol version that this build speaks: that of the release before, so that agent and coordinator may be
/// upgraded one after the other, in either order.
pub const PROTOCOL_MIN: u32 = 1;
/// The highest protocol version that this build speaks. It rises with whatever an older reader would not survive: a new kind
/// of frame, a new value of an enum. New fields need nothing, because they are skipped; one that protects a bot needs a
/// [`crate::feature::Feature`].
pub const PROTOCOL_MAX: u32 = 1;

// One release after another: what is older than the release before is refused, and told which side to upgrade.
const _: () = assert!(matches!(PROTOCOL_MAX - PROTOCOL_MIN, 0 | 1));

/// Characters of a program's version: Debian's and RPM's are a dozen.
pub const VERSION_MAX_CHARS: usize = 64;

/// Instances on one host. A bot needs at least 64 MB, so a 24 GB host cannot hold more than 384; twice that for
/// stopped ones.
pub const INSTANCES_PER_HOST_MAX: usize = 768;

/// Bytes of one encoded spec: a quarter for sealed files ([`SEALED_BYTES_PER_HOST_MAX`]), the rest for 768 instances.
/// tonic would refuse at 4 MiB otherwise, without a word to the operator.
pub const SPEC_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of one frame on the wire: a spec, and room for what wraps it.
pub const FRAME_MAX_BYTES: usize = SPEC_MAX_BYTES + 64 * 1024;

/// Bytes of one message on the enrolment listener, where the sender has no certificate yet: a certificate chain, a CSR
/// and the roots' PEM come to less than a quarter of it.
pub const ENROLL_MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// Bytes of a bot's config or of one secret, before sealing: ten times openclaw's largest example config.
pub const SEALED_FILE_MAX_BYTES: usize = 64 * 1024;

/// Bytes of all configs and secrets of one deployment, before sealing: four files of full size, or a config and many
/// small ones.
pub const SEALED_BYTES_PER_DEPLOYMENT_MAX: usize = 256 * 1024;

/// Bytes of all configs and secrets on one host, before sealing: a quarter of a spec. Placement counts them, so that no tenant's
/// secrets keep a host's spec from being made; 10 KiB each on a full host, and all that its agent ever keeps in its tmpfs.
pub const SEALED_BYTES_PER_HOST_MAX: usize = SPEC_MAX_BYTES / 4;

/// Bytes of a seccomp profile as JSON: all of Linux's calls that a profile may list take less.
pub const SECCOMP_MAX_BYTES: usize = 6 * 1024;

/// Bytes of one instance in a spec without the contents of its files: 16 KiB for 64 egress rules and 4 KiB for 16 public
/// names, each of a full length, a seccomp profile ([`SECCOMP_MAX_BYTES`]), 1 KiB for a full list of operations, 64 bytes
/// for sealing each of 32 files, and 2 KiB for all else.
pub const INSTANCE_SPEC_MAX_BYTES: usize = 31 * 1024;

// What placement lets onto a host fits into its spec, with room for some thousand tombstones.
const _: () = assert!(SEALED_BYTES_PER_HOST_MAX + INSTANCES_PER_HOST_MAX * INSTANCE_SPEC_MAX_BYTES < SPEC_MAX_BYTES);

/// Sealed files of one instance: a config and a handful of secrets.
pub const SEALED_FILES_MAX: usize = 32;

/// Bytes of an image's repository name (distribution/reference allows 255).
pub const IMAGE_REPOSITORY_MAX_BYTES: usize = 255;

/// Characters of a name that a person chooses: it becomes a DNS label (RFC 1035 §2.3.4).
pub const NAME_MAX_CHARS: usize = 63;

/// Operations that wait in one instance's spec: more than that are refused until some are answered.
pub const OPERATIONS_PER_INSTANCE_MAX: usize = 16;

/// Events that an agent keeps for a coordinator that is away; the oldest go first, and a gap says how many.
pub const JOURNAL_MAX_EVENTS: usize = 4096;

/// Events in one report, so that a long outage does not come back as one huge frame.
pub const EVENTS_PER_REPORT_MAX: usize = 256;

/// Denials of one tenant in a report: what a person reads to see what a bot lacks.
pub const DENIALS_SAMPLED_MAX: usize = 32;

/// Egress rules of one instance: a profile's own dozen, and what its owner adds.
pub const EGRESS_RULES_MAX: usize = 64;

/// Public names of one instance: its own, and domains of its owner.
pub const HOSTNAMES_MAX: usize = 16;

/// Snapshots of one volume: the last known good one, that of the upgrade in hand, one that a backup reads, and one that
/// somebody asked for. Each may take as much of the disk as the bot's data.
pub const SNAPSHOTS_PER_VOLUME_MAX: usize = 4;

/// Questions in flight to one host. Customers who follow their bots' logs and on-call staff ask them; each costs the agent a
/// stream of its own, and this many are a few MiB at the worst.
pub const ASKS_PER_HOST_MAX: usize = 32;

/// Questions in flight to one host of one asker: a tenant with all its people, or one of the staff. An eighth of what the
/// host answers, so that nobody holds it alone.
pub const ASKS_PER_ASKER_MAX: usize = ASKS_PER_HOST_MAX / 8;

/// How long a question may take if the asker names no deadline.
pub const ASK_DEADLINE: Duration = Duration::from_secs(30);

/// Lines of log that one answer carries from the past. Live lines follow without a bound.
pub const LOG_TAIL_MAX_LINES: u32 = 10_000;

/// Bytes of one log line in an answer; the rest is cut, and the line says so. Docker splits at 16 KiB itself.
pub const LOG_LINE_MAX_BYTES: usize = 16 * 1024;

/// How often an agent reports when nothing changes: long enough to cost nothing, short enough that a coordinator
/// notices silence within two of them.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How far a host's clock may be off before its enrolment is refused: a certificate is backdated by as much.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);
