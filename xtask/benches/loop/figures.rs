//! Figures beside their goals, as a table in Markdown.

use std::time::Duration;

/// One measured figure.
pub(crate) struct Figure {
    what: String,
    value: String,
    goal: String,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: impl Into<String>, goal: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into(), goal: goal.into() }
    }
}

/// The value below which this share of the samples lies.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len() - 1;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a short list")]
    let at = (last as f64 * share).round() as usize;
    samples[at.min(last)]
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(crate) fn table(figures: &[Figure]) -> String {
    let mut lines = vec!["| what | measured | goal |".to_owned(), "|---|---|---|".to_owned()];
    lines.extend(figures.iter().map(|it| format!("| {} | {} | {} |", it.what, it.value, it.goal)));
    lines.join("\n")
}
