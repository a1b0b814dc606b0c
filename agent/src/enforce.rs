//! Whether each promise of a spec holds, judged from what was observed. Pure.
//!
//! `reconcile` calls [`judge`] for every instance that it reports. Nothing is read here, and nothing is mended: what
//! differs is told, and the plan mends it.

use std::collections::BTreeMap;

use launchpad_protocol::enforcement::{Enforcement, Item};
use launchpad_protocol::reason::Reason;
use launchpad_protocol::spec::InstanceSpec;

use crate::observe::{Container, Observed};

/// How every promise of a spec stands that can be judged now.
#[must_use]
pub fn judge(
    spec: &InstanceSpec,
    _container: Option<&Container>,
    _observed: &Observed,
) -> BTreeMap<Item, Enforcement> {
    BTreeMap::from([(Item::ProcessEnvironment, environment(spec))])
}

/// A secret in the environment is shown by `docker inspect`.
fn environment(spec: &InstanceSpec) -> Enforcement {
    let variables: Vec<&str> = spec.secret_environment.keys().map(String::as_str).collect();
    if variables.is_empty() {
        return Enforcement::enforced("no secret");
    }
    let reason = Reason::new("secret-in-environment", "secrets are handed over in the process environment")
        .because("the workload takes them no other way; docker inspect on the host shows them");
    Enforcement::degraded(variables.join(", "), reason)
}
