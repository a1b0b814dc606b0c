//! Any spec, report or frame that the language allows: proptest strategies, behind the feature `arbitrary`.
//!
//! The wire's own tests use them, and so do the property tests of planning, compiling and folding in other crates: a
//! field that is added to a type has to be added here, and every property then sees it vary. Everything drawn here
//! passes [`crate::wire`]'s checks; spans are whole microseconds, the finest that travels.
//!
//! Deployments come from a small pool ([`deployment_at`]), so that two specs drawn one after the other, or a spec and a
//! report, speak of the same ones. Never built into a product.

mod frame;
mod report;
mod spec;

pub use frame::{agent_frame, answer_part, coordinator_frame};
pub use report::{event_batch, host_report, instance_report, outcome, phase};
pub use spec::{host_spec, instance_spec, resources, tombstone};

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::btree_set;
use proptest::prelude::*;
use uuid::Uuid;

use crate::digest::Digest;
use crate::generation::{Accepted, Generation};
use crate::id::{DeploymentId, TypedId};
use crate::reason::Reason;
use crate::time::Moment;

/// Entries of a list, at most: enough to find an order that is lost, few enough to read when a property fails.
const ENTRIES_MAX: usize = 4;

/// Numbers that only rise start low, so that two draws are often equal or next to each other.
const COUNTER_MAX: u64 = 1 << 20;

/// Bytes of memory or storage: up to a tebibyte, so that sums over a host do not overflow.
const SIZE_MAX_BYTES: u64 = 1 << 40;

/// The longest span: a day.
const SPAN_MAX: Duration = Duration::from_secs(86_400);

/// The deployment at that place in the pool.
#[must_use]
pub fn deployment_at(place: usize) -> DeploymentId {
    Uuid::from_u128(0x0198_c2aa_0000_7000_8000_0000_0000_0000 + place as u128).into()
}

/// Any subset of the pool's first `most` deployments.
pub fn deployments(most: usize) -> impl Strategy<Value = BTreeSet<DeploymentId>> {
    btree_set((0..most.max(1)).prop_map(deployment_at), 0..=most)
}

/// An id of any kind. For deployments of a spec or a report, see [`deployments`].
pub fn id<I: TypedId + std::fmt::Debug>() -> impl Strategy<Value = I> {
    any::<u128>().prop_map(|bits| I::from(Uuid::from_u128(bits)))
}

/// The digest of something.
pub fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 4]>().prop_map(|content| Digest::of(&content))
}

/// A generation that was published, with a digest.
pub fn accepted() -> impl Strategy<Value = Accepted> {
    (generation(), digest()).prop_map(|(generation, digest)| Accepted { generation, digest })
}

/// A generation that was published: never 0.
pub fn generation() -> impl Strategy<Value = Generation> {
    (1..COUNTER_MAX).prop_map(Generation)
}

/// A moment up to the year 2100, or a clock that is very wrong.
pub fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![9 => 0..4_102_444_800_000_000_i64, 1 => any::<i64>()].prop_map(Moment::from_micros)
}

/// Whole microseconds, up to a day, none included.
pub fn span() -> impl Strategy<Value = Duration> {
    (0..SPAN_MAX.as_micros() as u64).prop_map(Duration::from_micros)
}

/// Whole microseconds, up to a day, never none.
pub fn pause() -> impl Strategy<Value = Duration> {
    span().prop_map(|span| span + Duration::from_micros(1))
}

/// A reason, with or without a cause and a mend.
pub fn reason() -> impl Strategy<Value = Reason> {
    ("[a-z]{1,6}(-[a-z]{1,6}){0,2}", ".{1,20}", maybe(text()), maybe(text()))
        .prop_map(|(code, sentence, cause, mend)| Reason { code, sentence, cause, mend })
}

/// Any text of a line, empty included.
fn text() -> impl Strategy<Value = String> {
    ".{0,16}"
}

/// A name of the kind that people and files have.
fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,11}"
}

/// An absolute path.
fn path() -> impl Strategy<Value = String> {
    "(/[a-z0-9]{1,8}){1,3}"
}

/// Present half of the time.
fn maybe<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}

/// A short list, its order and its repeats included.
fn few<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(strategy, 0..=ENTRIES_MAX)
}

/// A short set.
fn few_once<T: std::fmt::Debug + Ord>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = BTreeSet<T>> {
    btree_set(strategy, 0..=ENTRIES_MAX)
}
