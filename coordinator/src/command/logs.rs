//! What somebody may want of a log.

use launchpad_protocol::limits::LOG_TAIL_MAX_LINES;

use super::FieldProblems;

/// Lines from the past when the caller names no number: a few screens.
pub(super) const LOG_TAIL_DEFAULT_LINES: u32 = 100;

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsWanted {
    /// Lines from the past.
    pub tail: u32,
    /// Whether to go on with new lines.
    pub follow: bool,
}

impl LogsWanted {
    /// Checks `tail` as it came.
    ///
    /// # Errors
    /// When it asks for more lines than one answer carries.
    pub fn new(tail: Option<u32>, follow: bool) -> Result<Self, FieldProblems> {
        let tail = tail.unwrap_or(LOG_TAIL_DEFAULT_LINES);
        if tail > LOG_TAIL_MAX_LINES {
            let mut problems = FieldProblems::default();
            problems.add("tail", format!("{tail} lines are too many"), format!("at most {LOG_TAIL_MAX_LINES}"));
            return Err(problems);
        }
        Ok(Self { tail, follow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_lines_than_an_answer_carries_are_refused() {
        assert_eq!(LogsWanted::new(None, false).unwrap().tail, LOG_TAIL_DEFAULT_LINES);
        assert!(LogsWanted::new(Some(LOG_TAIL_MAX_LINES), true).is_ok());
        assert!(LogsWanted::new(Some(LOG_TAIL_MAX_LINES + 1), true).is_err());
    }
}
