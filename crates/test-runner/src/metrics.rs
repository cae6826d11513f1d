//! What a runner counts, as OpenMetrics. Fed with [`RunnerEvent`]s; asks nobody.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::runner_event::RunnerEvent;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fired {
    test: String,
    trigger: &'static str,
    became: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    test: String,
    outcome: &'static str,
}

/// Counters of one runner.
#[derive(Debug)]
pub struct RunnerMetrics {
    registry: Registry,
    triggers: Family<Fired, Counter>,
    runs: Family<Ended, Counter>,
    start_failures: Counter,
    run_seconds: Histogram,
    connected: Gauge,
    gaps: Counter,
}

impl Default for RunnerMetrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tugyard_run"),
            triggers: Family::default(),
            runs: Family::default(),
            start_failures: Counter::default(),
            run_seconds: Histogram::new([0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0]),
            connected: Gauge::default(),
            gaps: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "triggers",
            "Triggers that fired, by what became of them",
            metrics.triggers.clone(),
        );
        registry.register("runs", "Copies that ended, by outcome", metrics.runs.clone());
        registry.register(
            "start_failures",
            "Copies that could not be made or started",
            metrics.start_failures.clone(),
        );
        registry.register_with_unit(
            "run_duration",
            "How long copies ran",
            Unit::Seconds,
            metrics.run_seconds.clone(),
        );
        registry.register("engine_connected", "Whether the engine answers", metrics.connected.clone());
        registry.register(
            "engine_gaps",
            "Times when engine events may have been missed",
            metrics.gaps.clone(),
        );
        metrics
    }
}

impl RunnerMetrics {
    /// Counts what an event says.
    pub fn observe(&self, event: &RunnerEvent) {
        let fired = |test: &test_results::TestName, cause: &test_results::Cause, became| {
            let trigger = cause.trigger.as_str();
            self.triggers.get_or_create(&Fired { test: test.0.clone(), trigger, became }).inc();
        };
        match event {
            RunnerEvent::Queued { test, cause, .. } => fired(test, cause, "queued"),
            RunnerEvent::Coalesced { test, cause, .. } => fired(test, cause, "coalesced"),
            RunnerEvent::Skipped { test, cause, .. } => fired(test, cause, "skipped"),
            RunnerEvent::Finished { test, outcome, took, ours: true, .. } => {
                self.runs
                    .get_or_create(&Ended { test: test.0.clone(), outcome: outcome.state().as_str() })
                    .inc();
                if let Some(took) = took {
                    self.run_seconds.observe(took.as_secs_f64());
                }
            }
            RunnerEvent::StartFailed { .. } => _ = self.start_failures.inc(),
            RunnerEvent::Connected { .. } => _ = self.connected.set(1),
            RunnerEvent::Disconnected { .. } => _ = self.connected.set(0),
            RunnerEvent::EventsMayBeMissed => _ = self.gaps.inc(),
            _ => {}
        }
    }

    /// Whether the engine answers.
    pub fn is_connected(&self) -> bool {
        self.connected.get() == 1
    }

    /// The counters as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut document = String::new();
        text::encode(&mut document, &self.registry).expect("writing to memory does not fail");
        document
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use test_results::{Cause, Outcome, TestName, TriggerKind};

    use super::*;

    #[test]
    fn counts_triggers_and_runs_by_test() {
        let metrics = RunnerMetrics::default();
        let cause = Cause {
            trigger: TriggerKind::Timer,
            summary: "every 1s".into(),
            at: Timestamp::UNIX_EPOCH,
            event: None,
            attempt: 1,
        };
        let test = TestName::from("cart");
        metrics.observe(&RunnerEvent::Connected { first: true });
        metrics.observe(&RunnerEvent::Queued { test: test.clone(), copy: "c".into(), cause: cause.clone() });
        metrics.observe(&RunnerEvent::Finished {
            test,
            copy: "c".into(),
            id: None,
            cause,
            outcome: Outcome::Failed { exit_code: 1 },
            took: None,
            at: Timestamp::UNIX_EPOCH,
            retried: false,
            ours: true,
        });
        let text = metrics.encode();
        for line in [
            "tugyard_run_triggers_total{test=\"cart\",trigger=\"timer\",became=\"queued\"} 1",
            "tugyard_run_runs_total{test=\"cart\",outcome=\"failed\"} 1",
            "tugyard_run_engine_connected 1",
        ] {
            assert!(text.contains(line), "`{line}` is missing in:\n{text}");
        }
    }
}
