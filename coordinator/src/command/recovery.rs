//! What an operator may ask after a restore.

use std::collections::BTreeSet;

use super::FieldProblems;

/// Bytes of a host's name or id, as somebody may write it: both are far below.
const HOST_MAX_BYTES: usize = 255;

/// Let publishing go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfirmRecovery {
    /// Names or ids of hosts that are not waited for.
    pub without: BTreeSet<String>,
}

impl ConfirmRecovery {
    /// Checks the fields.
    ///
    /// # Errors
    /// Every bad field.
    pub fn new(without: Vec<String>) -> Result<Self, FieldProblems> {
        let mut problems = FieldProblems::default();
        if without.iter().any(|host| host.is_empty() || host.len() > HOST_MAX_BYTES) {
            problems.add("without", "an entry is no host's name or id", "names or ids as GET /recovery lists them");
        }
        if problems.is_empty() { Ok(Self { without: without.into_iter().collect() }) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_out_without_a_name() {
        assert_eq!(ConfirmRecovery::new(Vec::new()).unwrap(), ConfirmRecovery::default());
        for bad in [String::new(), "x".repeat(HOST_MAX_BYTES + 1)] {
            assert_eq!(ConfirmRecovery::new(vec![bad]).unwrap_err().0[0].field, "without");
        }
    }
}
