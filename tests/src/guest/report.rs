//! What came of a run: a file for programs, a table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::cell::Outcome;
use super::idle::{Idle, WATCH};
use crate::programs;

/// Everything that a run found out.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// From nothing to a bot on each guest.
    pub ready_seconds: f64,
    /// How bots are held, by the tests that run inside the guests; none: as promised.
    pub enforcement: Vec<String>,
    /// What the agents took while nothing happened, where that was watched.
    pub idle: Vec<Idle>,
    /// The cells, in the order in which they were tried.
    pub cells: Vec<Outcome>,
    /// Why it ended early, if it did.
    pub ended: Option<String>,
}

/// Where the report and what belongs to it lie.
pub fn folder() -> PathBuf {
    programs::target().join("vm")
}

impl Report {
    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.ended.is_none() && self.enforcement.is_empty() && self.cells.iter().all(|cell| cell.wrong.is_empty())
    }

    /// Takes what is not as promised.
    ///
    /// # Errors
    /// As [`Report::save`].
    pub fn held(&mut self, broken: Vec<String>) -> Result<()> {
        self.enforcement.extend(broken);
        self.save().map(drop)
    }

    /// Writes it down: after every cell, so that an interrupt loses nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<PathBuf> {
        let file = folder().join("report.json");
        fs::create_dir_all(folder()).with_context(|| format!("create {}", folder().display()))?;
        let text = serde_json::to_string_pretty(self).context("write the report")?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!("a bot on each guest after {:.0} s\n", self.ready_seconds);
        for wrong in &self.enforcement {
            let _ = writeln!(text, "enforcement: {wrong}");
        }
        for one in &self.idle {
            let Idle { guest, charged_bytes, pss_bytes, cpu_percent } = one;
            let (charged, pss, seconds) = (*charged_bytes as f64 / 1e6, *pss_bytes as f64 / 1e6, WATCH.as_secs());
            let _ = writeln!(
                text,
                "the idle agent of {guest}: {charged:.1} MB charged, {pss:.1} MB PSS, {cpu_percent:.2} % of its core in {seconds} s"
            );
        }
        for one in &self.cells {
            let verdict = if one.wrong.is_empty() { "held" } else { "BROKE" };
            let (fault, moment) = (one.cell.fault.to_string(), one.cell.moment.to_string());
            let _ = writeln!(text, "{verdict:<6}{fault:<20}{moment:<8}{:>5.0} s", one.seconds);
            for wrong in &one.wrong {
                let _ = writeln!(text, "      {wrong}");
            }
        }
        if let Some(why) = &self.ended {
            let _ = writeln!(text, "ended early: {why}");
        }
        text
    }
}
