//! `tugyard run --now`: asks a runner for runs and waits for their verdicts.

use anyhow::Result;
use serde::Serialize;
use test_results::Outcome;
use test_runner::{RunNowError, RunnerEvent, RunnerHandle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    exit::{Unavailable, Usage, Verdict},
};

/// What is printed of a run by hand.
#[derive(Serialize)]
struct ByHand {
    test: String,
    copy: String,
    #[serde(flatten)]
    outcome: Outcome,
    seconds: Option<f64>,
}

/// Runs each test once and prints how it ended. Negative if one did not pass.
pub(crate) async fn run(
    runner: &RunnerHandle,
    tests: &[String],
    mut told: mpsc::Receiver<RunnerEvent>,
    context: &Context,
    stop: &CancellationToken,
) -> Result<Verdict> {
    let mut waiting = Vec::new();
    for test in tests {
        let ticket = runner.run_now(test, "by hand").await.map_err(|e| match e {
            RunNowError::Stopped => anyhow::Error::new(Unavailable(e.to_string())),
            RunNowError::NoSuchTest { .. } | RunNowError::Overlap { .. } => {
                anyhow::Error::new(Usage(e.to_string()))
            }
        })?;
        waiting.push(ticket.copy);
    }
    let mut verdict = Verdict::Success;
    while !waiting.is_empty() {
        let event = tokio::select! {
            event = told.recv() => event,
            () = stop.cancelled() => None,
        };
        let Some(event) = event else {
            return Err(Unavailable("stopped before the test ended; its copy goes on running".into()).into());
        };
        let (test, copy, outcome, took) = match event {
            RunnerEvent::Finished { test, copy, outcome, took, retried: false, .. } => {
                (test, copy, outcome, took)
            }
            // A retry is another copy: its end is the verdict.
            RunnerEvent::Queued { copy, cause, test } if cause.attempt > 1 => {
                let retry_of = |name: &String| name.starts_with(&format!("tugbot_{test}_"));
                if !waiting.contains(&copy)
                    && let Some(place) = waiting.iter().position(retry_of)
                {
                    waiting[place] = copy;
                }
                continue;
            }
            RunnerEvent::StartFailed { copy, reason, test, .. } if waiting.contains(&copy) => {
                return Err(Unavailable(format!("test `{test}` cannot run: {reason}")).into());
            }
            _ => continue,
        };
        let Some(place) = waiting.iter().position(|name| *name == copy) else { continue };
        waiting.swap_remove(place);
        if outcome != Outcome::Passed {
            verdict = Verdict::Negative;
        }
        let result = ByHand { test: test.0, copy, outcome, seconds: took.map(|t| t.as_secs_f64()) };
        context.announce(&result, |r| format!("{} {} ({})", r.test, r.outcome, r.copy))?;
    }
    Ok(verdict)
}
