//! When an instance is stopped, asked and started again: leases, probes, restarts.
//!
//! `wire/instance.rs` calls this. A span of 0 is refused wherever it would mean "at once, for ever": a lease that is
//! over before it began, a probe or a restart without a pause.

use std::time::Duration;

use super::field::{WireError, distinct, list, malformed, micros, positive, required, set};
use super::v1;
use crate::spec::{HttpProbe, Lease, ProbeSet, RestartPolicy, Transient};

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        use v1::lease::{Failover, Keep, Policy};
        let policy = match lease {
            Lease::Keep => Policy::Keep(Keep {}),
            Lease::Failover { term } => Policy::Failover(Failover { term_us: micros(term) }),
        };
        Self { policy: Some(policy) }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(message: v1::Lease) -> Result<Self, WireError> {
        use v1::lease::{Failover, Keep, Policy};
        Ok(match set("policy", message.policy)? {
            Policy::Keep(Keep {}) => Self::Keep,
            Policy::Failover(Failover { term_us }) => Self::Failover { term: pause("failover.term_us", term_us)? },
        })
    }
}

/// A span that must not be 0.
fn pause(field: &str, span_us: u64) -> Result<Duration, WireError> {
    positive(field, span_us).map(Duration::from_micros)
}

impl From<&ProbeSet> for v1::ProbeSet {
    fn from(probes: &ProbeSet) -> Self {
        Self {
            startup: Some((&probes.startup).into()),
            readiness: Some((&probes.readiness).into()),
            liveness: Some((&probes.liveness).into()),
        }
    }
}

impl TryFrom<v1::ProbeSet> for ProbeSet {
    type Error = WireError;

    fn try_from(message: v1::ProbeSet) -> Result<Self, WireError> {
        Ok(Self {
            startup: required("startup", message.startup)?,
            readiness: required("readiness", message.readiness)?,
            liveness: required("liveness", message.liveness)?,
        })
    }
}

impl From<&HttpProbe> for v1::HttpProbe {
    fn from(probe: &HttpProbe) -> Self {
        Self {
            path: probe.path.clone(),
            period_us: micros(probe.period),
            timeout_us: micros(probe.timeout),
            failures: probe.failures,
            body_contains: probe.body_contains.clone(),
        }
    }
}

impl TryFrom<v1::HttpProbe> for HttpProbe {
    type Error = WireError;

    fn try_from(message: v1::HttpProbe) -> Result<Self, WireError> {
        if !message.path.starts_with('/') {
            return Err(malformed("path", format!("`{}` must begin with `/`", message.path)));
        }
        Ok(Self {
            path: message.path,
            period: pause("period_us", message.period_us)?,
            timeout: pause("timeout_us", message.timeout_us)?,
            failures: positive("failures", message.failures)?,
            body_contains: message.body_contains,
        })
    }
}

impl From<&RestartPolicy> for v1::RestartPolicy {
    fn from(policy: &RestartPolicy) -> Self {
        Self {
            terminal: policy.terminal.iter().copied().collect(),
            transient: policy.transient.iter().map(v1::Transient::from).collect(),
            backoff_initial_us: micros(policy.backoff_initial),
            backoff_cap_us: micros(policy.backoff_cap),
            forgiven_after_us: micros(policy.forgiven_after),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for RestartPolicy {
    type Error = WireError;

    fn try_from(message: v1::RestartPolicy) -> Result<Self, WireError> {
        if message.backoff_cap_us < message.backoff_initial_us {
            return Err(malformed("backoff_cap_us", "is less than backoff_initial_us"));
        }
        Ok(Self {
            terminal: distinct("terminal", message.terminal, Ok)?,
            transient: list("transient", message.transient)?,
            backoff_initial: pause("backoff_initial_us", message.backoff_initial_us)?,
            backoff_cap: Duration::from_micros(message.backoff_cap_us),
            forgiven_after: Duration::from_micros(message.forgiven_after_us),
        })
    }
}

impl From<&Transient> for v1::Transient {
    fn from(transient: &Transient) -> Self {
        Self {
            code: transient.code,
            output_contains: transient.output_contains.clone(),
            believed_for_us: micros(transient.believed_for),
            retry_us: micros(transient.retry),
        }
    }
}

impl TryFrom<v1::Transient> for Transient {
    type Error = WireError;

    fn try_from(message: v1::Transient) -> Result<Self, WireError> {
        Ok(Self {
            code: message.code,
            output_contains: message.output_contains,
            believed_for: Duration::from_micros(message.believed_for_us),
            retry: pause("retry_us", message.retry_us)?,
        })
    }
}
