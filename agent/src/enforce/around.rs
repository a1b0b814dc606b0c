//! What stands around a container: its log, its volume's bound, its tenant's network, the way out and the way in.

use launchpad_protocol::capability::VOLUME_QUOTA;
use launchpad_protocol::enforcement::Item;
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::{InstanceSpec, LOG_FILES, Volume};

use super::{Case, Finding, Mend, NO_VOLUME, differs};
use crate::observe::{GateSight, VOLUME_GRAIN_BYTES, gate_digest};

/// A secret in the environment is shown by `docker inspect`.
pub(super) fn environment(spec: &InstanceSpec) -> Finding {
    let variables: Vec<&str> = spec.secret_environment.keys().map(String::as_str).collect();
    if variables.is_empty() {
        return Finding::holds("no secret");
    }
    let reason = Reason::new("secret-in-environment", "secrets are handed over in the process environment")
        .because("the workload takes them no other way; docker inspect on the host shows them");
    Finding::lacks(variables.join(", "), reason)
}

impl Case<'_> {
    /// The engine rotates the log: there is no kernel to ask.
    pub(super) fn log(&self) -> Finding {
        let files = u64::from(LOG_FILES);
        let asked = (self.spec.isolation.log_bytes / files).max(1) * files;
        let found = self.container.log_bytes;
        let seen =
            found.map_or_else(|| "without a bound".to_owned(), |bytes| format!("{bytes} bytes in {files} files"));
        if found == Some(asked) {
            return Finding::holds(seen);
        }
        Finding::made_otherwise(Item::Log, seen, &format!("{asked} bytes"))
    }

    /// Its volume holds what its plan grants, in whole grains.
    pub(super) fn volume_quota(&self) -> Finding {
        let Some(Volume { bytes: asked, .. }) = self.spec.volume else { return Finding::holds(NO_VOLUME) };
        let wanted = format!("{asked} bytes");
        let Some(volume) = self.host.observed.volumes.get(&self.spec.deployment) else {
            return Finding::compare(Item::VolumeQuota, false, "no volume".to_owned(), wanted, Mend::Around);
        };
        if let Some(reason) = self.host.absent(VOLUME_QUOTA) {
            return Finding::lacks(volume.backend.clone(), reason.clone());
        }
        let seen = format!("{}, {} bytes", volume.backend, volume.bytes);
        if volume.bytes >= asked.saturating_add(VOLUME_GRAIN_BYTES) {
            let reason = Reason::new("volume-larger", "its volume is larger than its plan grants now")
                .because("it was made for a larger plan, and a volume is never shrunk under its data");
            return Finding::lacks(seen, reason);
        }
        if let Some(reason) = volume.waits_for_a_stop(asked) {
            return Finding::broken(seen, reason, Mend::Around);
        }
        Finding::compare(Item::VolumeQuota, volume.bytes >= asked, seen, wanted, Mend::Around)
    }

    pub(super) fn network(&self) -> Finding {
        if let Some(shared) = self.shares(Item::Network, "net") {
            return shared;
        }
        let address = self.container.address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
        let stands = self.host.observed.networks.contains(&self.spec.account);
        let seen = if stands { address } else { format!("{address}, its network is not whole") };
        Finding::compare(Item::Network, stands, seen, "a network of its tenant alone", Mend::Around)
    }

    pub(super) fn egress(&self) -> Finding {
        self.at_gate(Item::Egress, |gate| (gate.egress_fault.clone(), gate.egress_seen.clone()))
    }

    pub(super) fn ingress(&self) -> Finding {
        self.at_gate(Item::Ingress, |gate| (gate.ingress_fault.clone(), gate.ingress_seen.clone()))
    }

    fn at_gate(&self, item: Item, side: impl FnOnce(&GateSight) -> (Option<Reason>, String)) -> Finding {
        let Some(gate) = self.host.observed.gates.get(&self.spec.deployment) else {
            let seen = "the gate does not know it";
            return Finding::broken(seen, differs(item, seen, "what its policy says"), Mend::Around);
        };
        if gate.told != gate_digest(&self.spec.egress, &self.spec.ingress) {
            let seen = "an earlier policy";
            return Finding::broken(seen, differs(item, seen, "what its policy says"), Mend::Around);
        }
        match side(gate) {
            (None, seen) => Finding::holds(seen),
            (Some(reason), seen) => Finding::broken(seen, reason, Mend::Around),
        }
    }
}
