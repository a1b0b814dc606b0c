//! What happened in a run, a line an event: always hashed, so that a seed can be seen to replay, and kept as text only
//! when somebody wants to read it. The cluster test and the simulation of the real processes both tell in this way.

use std::collections::VecDeque;
use std::fmt;

/// Lines that a failure tells: what led to it is mostly in the last dozen.
const LINES_KEPT: usize = 40;

/// FNV-1a's offset basis and prime for 64 bits (RFC 9923 §5): a hash that is the same on every machine.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    kept: Option<VecDeque<String>>,
}

impl Trace {
    /// An empty trace. Text costs more than the rest of the run together, so it is kept only if asked for.
    #[must_use]
    pub fn new(keep_text: bool) -> Self {
        Self { hash: FNV_BASIS, kept: keep_text.then(VecDeque::new) }
    }

    /// Adds a line: when, in microseconds of the run, and what.
    pub fn line(&mut self, at: i64, what: fmt::Arguments<'_>) {
        // Writing into a hash cannot fail.
        let _ = fmt::write(&mut Hasher(&mut self.hash), format_args!("{at} {what}\n"));
        if let Some(kept) = &mut self.kept {
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            kept.push_back(format!("{:>11.6} s  {what}", at as f64 / 1e6));
        }
    }

    /// The hash of all lines.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, if text was asked for.
    #[must_use]
    pub fn story(&self) -> String {
        self.kept.iter().flatten().fold(String::new(), |text, line| text + line + "\n")
    }
}

struct Hasher<'a>(&'a mut u64);

impl fmt::Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}

/// The end of an id: enough to tell one from another in a story.
#[derive(Debug, Clone, Copy)]
pub struct Short(pub uuid::Uuid);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0.as_u128() & 0xffff)
    }
}
