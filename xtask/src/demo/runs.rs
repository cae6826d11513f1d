//! The stored runs of the demo's test, as the service's API tells them. Reads, waits and lays out; starts nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{shop::TEST, up::Up};

/// One run in the listing of the service's API.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    state: String,
    /// The kind of trigger; none for the first run, which was not Tugyard's.
    trigger: Option<String>,
    cause: Option<String>,
    cases: u64,
    failed: u64,
}

impl Run {
    fn from_api(item: &Value) -> anyhow::Result<Self> {
        let text = |key: &str| item[key].as_str().map(str::to_owned);
        let count = |key: &str| {
            item["totals"][key].as_u64().with_context(|| format!("a run has no count `{key}`: {item}"))
        };
        Ok(Self {
            state: text("state").with_context(|| format!("a run has no state: {item}"))?,
            trigger: text("trigger"),
            cause: text("cause"),
            cases: count("cases")?,
            failed: count("failed")?,
        })
    }

    pub(super) fn is_first(&self) -> bool {
        self.trigger.is_none()
    }

    pub(super) fn is_by_timer(&self) -> bool {
        self.trigger.as_deref() == Some("timer")
    }

    pub(super) fn is_by_docker_event(&self) -> bool {
        self.trigger.as_deref() == Some("docker")
    }
}

/// Asks until a run of this kind is stored.
pub(super) async fn wait_for(
    up: &Up,
    what: &str,
    wanted: fn(&Run) -> bool,
    patience: Duration,
) -> anyhow::Result<Run> {
    let deadline = Instant::now() + patience;
    loop {
        let page = up.get(&format!("/api/v1/runs?test={TEST}&limit=100")).await?;
        let items = page["items"].as_array().context("the listing of runs has no items")?;
        let runs: Vec<Run> = items.iter().map(Run::from_api).collect::<anyhow::Result<_>>()?;
        if let Some(run) = runs.iter().find(|run| wanted(run)) {
            return Ok(run.clone());
        }
        if Instant::now() > deadline {
            bail!(
                "{what} was not stored within {patience:?}; stored are {runs:?}; the end of the log:\n{}",
                up.log_tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The runs as a table for people.
pub(super) fn table(runs: &[Run]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "WHY IT RAN",
        "HOW IT ENDED",
        "CASES",
        "FAILED",
    ]);
    for run in runs {
        let why = run.cause.clone().unwrap_or_else(|| "first run, by hand".to_owned());
        table.add_row([why, run.state.clone(), run.cases.to_string(), run.failed.to_string()]);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(trigger: Option<&str>) -> Value {
        json!({
            "state": "failed", "trigger": trigger, "cause": trigger.map(|_| "every 15s"),
            "totals": {"cases": 4, "passed": 3, "failed": 1, "skipped": 0},
        })
    }

    #[test]
    fn a_run_is_told_by_its_trigger() {
        let told = |trigger| Run::from_api(&run(trigger)).expect("well-formed");
        assert!(told(None).is_first());
        assert!(told(Some("timer")).is_by_timer() && !told(Some("timer")).is_first());
        assert!(told(Some("docker")).is_by_docker_event());
    }

    #[test]
    fn the_table_says_why_and_how() {
        let runs: Vec<Run> =
            [None, Some("timer")].iter().map(|it| Run::from_api(&run(*it)).expect("well-formed")).collect();
        let table = table(&runs);
        assert!(table.contains("first run, by hand") && table.contains("every 15s"), "{table}");
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert!(Run::from_api(&json!({"state": "passed"})).is_err());
    }
}
