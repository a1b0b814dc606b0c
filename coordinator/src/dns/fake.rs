//! Name servers that hold what a test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use launchpad_protocol::reason::Reason;

use super::DnsLookup;

/// TXT records by name; a name without any is not there. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeMap<String, Answer>>>);

/// The texts of a name, or why nothing can be learned of it.
type Answer = Result<Vec<String>, Reason>;

impl Names {
    /// Sets a name's texts.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        self.keep(name, Ok(texts.iter().map(|text| (*text).to_owned()).collect()));
    }

    /// Its name servers fall silent.
    pub(crate) fn silence(&self, name: &str) {
        self.keep(name, Err(Reason::new("name-server-away", "nobody answers")));
    }

    fn keep(&self, name: &str, answer: Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
    }
}

impl DnsLookup for Names {
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, Reason>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ready(known.get(name).cloned().unwrap_or(Ok(Vec::new()))).boxed()
    }
}
