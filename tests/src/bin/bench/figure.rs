//! One measured figure, and how a list of them is shown.

use serde::Serialize;

/// A figure, its peer's where there is one, and its target where there is one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: &'static str,
    /// In what.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) ours: f64,
    /// Whose the other figure is.
    pub(crate) peer: Option<&'static str>,
    /// Theirs.
    pub(crate) theirs: Option<f64>,
    /// What ours, or ours less theirs, may be at most.
    pub(crate) target: Option<f64>,
}

impl Figure {
    /// A figure by itself, with or without a target.
    pub(crate) const fn alone(name: &'static str, unit: &'static str, ours: f64, target: Option<f64>) -> Self {
        Self { name, unit, ours, peer: None, theirs: None, target }
    }

    /// Whether the target is met; a figure without one is always fine.
    pub(crate) fn is_ok(&self) -> bool {
        self.target.is_none_or(|target| self.ours - self.theirs.unwrap_or(0.0) <= target)
    }

    /// One line of NDJSON.
    pub(crate) fn line(&self) -> String {
        let mut value = serde_json::json!(self);
        value["ok"] = self.is_ok().into();
        format!("{value}\n")
    }
}

/// A table for people.
pub(crate) fn table(figures: &[Figure]) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut text = format!("{:<52} {:>10} {:>10} {:>10}  {:<18} ok\n", "figure", "ours", "theirs", "target", "unit");
    for figure in figures {
        text.push_str(&format!(
            "{:<52} {:>10.2} {:>10} {:>10}  {:<18} {}\n",
            figure.name,
            figure.ours,
            number(figure.theirs),
            number(figure.target),
            figure.unit,
            if figure.is_ok() { "yes" } else { "NO" }
        ));
    }
    text
}

/// The middle of the values; the mean of the middle two of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_bounds_the_difference_to_the_peer() {
        let figure =
            |ours| Figure { name: "n", unit: "ms", ours, peer: Some("p"), theirs: Some(300.0), target: Some(100.0) };
        assert!(figure(399.0).is_ok() && !figure(401.0).is_ok());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
