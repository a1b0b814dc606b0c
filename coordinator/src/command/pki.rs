//! Stepping a rotation of the issuing CA.

use super::FieldProblems;
use crate::domain::rotation::{Direction, Phase};

/// Move a rotation one phase on or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotateCa {
    /// The phase in which the asker saw it: a step that was taken already is not taken again.
    pub from: Phase,
    /// Which way.
    pub direction: Direction,
}

impl RotateCa {
    /// Checks the fields.
    ///
    /// # Errors
    /// When there is no such phase.
    pub fn new(from: &str, back: bool) -> Result<Self, FieldProblems> {
        let direction = if back { Direction::Back } else { Direction::On };
        match from.parse() {
            Ok(from) => Ok(Self { from, direction }),
            Err(error) => {
                Err(FieldProblems::one("from", format!("{error}"), "the rotation's phase, as GET /pki shows it"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_from_a_phase_that_there_is() {
        let step = RotateCa { from: Phase::Issue, direction: Direction::Back };
        assert_eq!(RotateCa::new("issue", true).unwrap(), step);
        assert_eq!(RotateCa::new("prepare", false).unwrap_err().0[0].field, "from");
    }
}
