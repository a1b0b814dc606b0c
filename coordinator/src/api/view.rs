//! Parts of answers that several resources share, each with its schema.
//!
//! They are types of the API and not of the fleet's language, which may change without a word to API clients.

use launchpad_protocol::reason;
use launchpad_protocol::report;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::command::{FieldProblems, Page, PageRequest};

/// One answer to "why?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Reason {
    /// Stable, kebab-case, for programs.
    code: String,
    /// One sentence: what is so.
    sentence: String,
    /// What brought it about.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What the reader can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl From<reason::Reason> for Reason {
    fn from(reason: reason::Reason) -> Self {
        let reason::Reason { code, sentence, cause, mend } = reason;
        Self { code, sentence, cause, mend }
    }
}

/// A size: of a host, or of what is given away of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Capacity {
    /// Thousandths of a core.
    cpu_millis: u32,
    /// Bytes of memory.
    memory_bytes: u64,
    /// Bytes of storage.
    storage_bytes: u64,
}

impl From<report::Capacity> for Capacity {
    fn from(size: report::Capacity) -> Self {
        let report::Capacity { cpu_millis, memory_bytes, storage_bytes } = size;
        Self { cpu_millis, memory_bytes, storage_bytes }
    }
}

/// Limits as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct KernelLimits {
    /// Thousandths of a core.
    cpu_millis: u32,
    /// Bytes of memory.
    memory_bytes: u64,
    /// Processes and threads.
    pids: u32,
}

impl From<report::KernelLimits> for KernelLimits {
    fn from(limits: report::KernelLimits) -> Self {
        let report::KernelLimits { cpu_millis, memory_bytes, pids } = limits;
        Self { cpu_millis, memory_bytes, pids }
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Items at most, 1 to 200; 50 unless given.
    limit: Option<u32>,
}

impl PageQuery {
    /// The page, if there is such a one.
    pub(super) fn checked(self) -> Result<PageRequest, FieldProblems> {
        PageRequest::new(self.cursor, self.limit)
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Items<T: ToSchema> {
    /// The items.
    items: Vec<T>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

impl<T: ToSchema> Items<T> {
    /// A page of views.
    pub(super) fn of<A>(page: Page<A>, view: impl Fn(A) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next: page.next }
    }
}
