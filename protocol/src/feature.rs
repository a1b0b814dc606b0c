//! What an instance may require of an agent, by name.
//!
//! The coordinator lists in every [`crate::spec::InstanceSpec`] the features that protect the bot; an agent that lacks
//! one refuses that instance by name and never runs it half-protected. Names, not numbers, travel: an older agent meets
//! a name that it does not know, and says so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The name of a feature, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Feature(pub String);

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Feature {
            $($(#[$doc])* #[must_use] pub fn $name() -> Self { Self($text.to_owned()) })*

            /// Everything that this version knows how to do.
            #[must_use]
            pub fn all() -> BTreeSet<Self> {
                BTreeSet::from([$(Self::$name()),*])
            }
        }
    };
}

features! {
    /// Memory, cpu and process limits, set at creation and changed in place.
    limits = "limits.v1";
    /// A network and an address of its own per tenant, translated by our own rules.
    tenant_network = "tenant-network.v1";
    /// Config and secrets unsealed on the host into files on a tmpfs.
    sealed_files = "sealed-files.v1";
    /// A secret handed over in the environment, because the workload takes it no other way.
    sealed_environment = "sealed-environment.v1";
    /// HTTP probes for startup, readiness and liveness.
    http_probes = "http-probes.v1";
    /// Terminal and transient exits, capped backoff.
    restart_policy = "restart-policy.v1";
    /// A volume that cannot outgrow its plan, with snapshots.
    volume = "volume.v2";
    /// An instance without a volume.
    no_volume = "no-volume.v1";
    /// An instance that stops itself when its lease ends, and starts under a live one only.
    failover = "failover.v1";
    /// Egress by name, range and port, denied otherwise.
    egress = "egress.v1";
    /// Public names that lead to the instance.
    ingress = "ingress.v1";
    /// A seccomp profile of our own.
    seccomp = "seccomp.v1";
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
