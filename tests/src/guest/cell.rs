//! One cell of the matrix: a fault at one moment of a change of every bot's spec.
//!
//! ```text
//!  before   strike ─► change ─► mend      the change meets a fault that stands already
//!  during   change ─► strike ─► mend      nobody waits between the two
//!  after    change ─► settled ─► strike ─► mend
//!                                    └─► settled, and no bot came to harm
//! ```

use std::fmt;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::fault::Fault;
use super::fleet::Fleet;
use super::standing::harm;
use crate::wait::Stopwatch;

/// When a fault strikes, as seen from the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Before it is ordered.
    Before,
    /// While it is carried out.
    During,
    /// When it has been.
    After,
}

impl Moment {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// What happens.
    pub fault: Fault,
    /// When it does.
    pub moment: Moment,
}

/// What came of a cell.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// What went wrong; none: nothing.
    pub wrong: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Cell {
    /// One for each fault: where it meets the change half-way.
    pub fn one_per_fault() -> Vec<Self> {
        Fault::ALL.into_iter().map(|fault| Self { fault, moment: Moment::During }).collect()
    }

    /// All of them.
    pub fn matrix() -> Vec<Self> {
        let each = Fault::ALL.into_iter();
        each.flat_map(|fault| Moment::ALL.map(|moment| Self { fault, moment })).collect()
    }

    /// Lets it happen. What goes wrong is in the outcome.
    pub fn run(self, fleet: &mut Fleet) -> Outcome {
        let watch = Stopwatch::start();
        let wrong = self.play(fleet).unwrap_or_else(|error| vec![format!("{error:#}")]);
        Outcome { cell: self, wrong, seconds: watch.elapsed().as_secs_f64() }
    }

    /// What became of bots that was not allowed.
    fn play(self, fleet: &mut Fleet) -> Result<Vec<String>> {
        let fault = self.fault;
        let before = fleet.standing()?;
        match self.moment {
            Moment::Before => {
                fault.strike(fleet).context("strike")?;
                if fault.takes_orders() {
                    fleet.change()?;
                    fault.mend(fleet).context("mend")?;
                } else {
                    fault.mend(fleet).context("mend")?;
                    fleet.change()?;
                }
            }
            Moment::During => {
                fleet.change()?;
                fault.strike(fleet).context("strike")?;
                fault.mend(fleet).context("mend")?;
            }
            Moment::After => {
                fleet.change()?;
                fleet.wait_settled()?;
                fault.strike(fleet).context("strike")?;
                fault.mend(fleet).context("mend")?;
            }
        }
        fleet.wait_settled()?;
        let after = fleet.standing()?;
        let mut wrong = Vec::new();
        for (index, bot) in fleet.bots.iter().enumerate() {
            match (before.get(&bot.id), after.get(&bot.id)) {
                (Some(before), Some(after)) => wrong.extend(harm(before, after, fault.allows(index))),
                (before, after) => wrong.push(format!("bot {} was {before:?} and is {after:?}", bot.id)),
            }
        }
        Ok(wrong)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} a change", self.fault, self.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_whole_and_ends_with_what_moves_the_clock() {
        let cells = Cell::matrix();
        assert_eq!(cells.len(), Fault::ALL.len() * Moment::ALL.len());
        assert!(Cell::one_per_fault().iter().all(|cell| cells.contains(cell)));
        let last = cells.iter().rev().take(Moment::ALL.len());
        assert!(
            last.into_iter().all(|cell| cell.fault == Fault::CertificateExpiry),
            "later cells would start in the future"
        );
    }
}
