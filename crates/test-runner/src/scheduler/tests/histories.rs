//! Whole histories in any order: what must hold whatever happens.

use std::{collections::BTreeSet, time::Duration};

use container_engine::Lifecycle;
use proptest::prelude::*;
use test_results::labels;

use super::model::{Model, settings};
use crate::{runner_event::RunnerEvent, scheduler::SchedulerSettings};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody makes a container.
    Product,
    /// A runner gets its next event.
    Deliver(usize),
    /// One of the things that a runner wants is done.
    Work(usize, usize),
    /// A copy ends.
    End(usize, bool),
    /// Somebody removes a finished copy.
    Remove(usize),
    /// Time passes.
    Pass(u64),
    /// A runner loses the engine, or has it again.
    Cut(usize),
    /// A start goes wrong, before or after the copy was made, for good or not.
    FailStart(usize, bool, bool),
}

fn step(runners: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Product),
        8 => (0..runners).prop_map(Step::Deliver),
        8 => (0..runners, 0..8usize).prop_map(|(runner, which)| Step::Work(runner, which)),
        4 => (0..8usize, any::<bool>()).prop_map(|(which, passes)| Step::End(which, passes)),
        1 => (0..8usize).prop_map(Step::Remove),
        2 => (0..90u64).prop_map(Step::Pass),
        1 => (0..runners).prop_map(Step::Cut),
        2 => (0..runners, any::<bool>(), any::<bool>())
            .prop_map(|(runner, made, unreachable)| Step::FailStart(runner, made, unreachable)),
    ]
}

fn test_labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let overlap = prop_oneof![Just("queue"), Just("skip"), Just("replace"), Just("allow")];
    let trigger = prop_oneof![Just("create"), Just("")];
    let other = prop_oneof![
        Just(("tugbot.keep", "1")),
        Just(("tugbot.debounce", "5s")),
        Just(("tugbot.timeout", "60s")),
        Just(("tugbot.concurrency", "g:2")),
        Just(("tugbot.retries", "1")),
        Just(("tugbot.keep", "0")),
    ];
    (trigger, overlap, proptest::collection::vec(other, 0..3)).prop_map(|(trigger, overlap, other)| {
        let mut labels = vec![("tugbot.event.docker", trigger), ("tugbot.overlap", overlap)];
        labels.extend(other);
        labels
    })
}

fn happen(model: &mut Model, step: &Step, products: &mut usize) {
    match step {
        Step::Product => {
            *products += 1;
            model.create(&format!("web{products}"), &[]);
        }
        Step::Deliver(runner) => {
            model.deliver(*runner);
        }
        Step::Work(runner, which) => {
            model.work(*runner, *which);
        }
        Step::End(which, passes) => {
            let running = model.running_copies();
            if let Some(copy) = running.get(which % running.len().max(1)) {
                model.end(copy, i64::from(!passes));
            }
        }
        Step::Remove(which) => {
            let finished: Vec<String> = model
                .containers
                .values()
                .filter(|found| labels::is_copy(&found.summary.labels))
                .filter(|found| found.summary.lifecycle == Lifecycle::Exited)
                .map(|found| found.summary.name.clone())
                .collect();
            if let Some(copy) = finished.get(which % finished.len().max(1)) {
                model.remove(copy);
            }
        }
        Step::Pass(seconds) => {
            // Events take milliseconds; a runner that listens has them before a second is over.
            for runner in 0..model.runners.len() {
                while model.deliver(runner) {}
            }
            model.pass(Duration::from_secs(*seconds));
        }
        Step::FailStart(runner, made, unreachable) => model.fail_start(*runner, *made, *unreachable),
        Step::Cut(runner) if model.runners[*runner].connected => model.cut(*runner),
        Step::Cut(runner) => model.connect(*runner, false),
    }
}

/// Lets everything that was begun come to its end, without anything new.
fn come_to_rest(model: &mut Model) {
    for runner in 0..model.runners.len() {
        if !model.runners[runner].connected {
            model.connect(runner, false);
        }
    }
    for _ in 0..200 {
        model.settle();
        model.end_all(0);
        model.pass(Duration::from_secs(61));
        let tired = |runner: &super::model::Runner| {
            let status = runner.scheduler.status();
            assert!(
                !runner.reports.iter().any(|event| matches!(event, RunnerEvent::Finished { id: None, .. }))
            );
            status.running.is_empty() && status.waiting.is_empty() && runner.tasks.is_empty()
        };
        if model.runners.iter().all(tired) && model.running_copies().is_empty() {
            return;
        }
    }
    let states: Vec<_> = model.runners.iter().map(|runner| runner.scheduler.status()).collect();
    panic!("it never comes to rest: {states:#?}");
}

/// What must hold at every moment, with one runner.
fn check_bounds(model: &Model, settings: &SchedulerSettings) {
    let running = model.running_copies();
    assert!(running.len() <= settings.max_parallel, "{running:?}");
    let status = model.runners[0].scheduler.status();
    for test in ["a", "b"] {
        let of_test = |copy: &&String| copy.starts_with(&format!("tugbot_{test}_"));
        let overlap = labels::get(&model.containers[test].summary.labels, labels::OVERLAP);
        let waiting = status.waiting.iter().filter(|waiting| waiting.test.0 == test).count();
        if overlap == Some("allow") {
            assert!(waiting <= settings.queue_limit, "{waiting} of {test} wait");
        } else {
            assert!(running.iter().filter(of_test).count() <= 1, "{running:?}");
            assert!(waiting <= 1, "{waiting} of {test} wait");
        }
    }
    let in_group = running
        .iter()
        .filter(|copy| labels::get(&model.containers[*copy].summary.labels, labels::CONCURRENCY).is_some());
    assert!(in_group.count() <= 2, "{running:?}");
}

/// No trigger was a copy's doing, none was run twice, and none was forgotten.
fn check_causes(model: &Model, runner: usize) {
    let mut names = BTreeSet::new();
    for order in &model.made {
        assert!(names.insert(order.copy.clone()), "{} was made twice", order.copy);
        let cause = &order.cause;
        let foreign = |what: &str| !what.contains("tugbot_");
        assert!(foreign(&cause.summary), "{} was triggered by a copy: {}", order.copy, cause.summary);
    }
    // Every trigger that was queued has a run, or a word on why not.
    let all: Vec<&RunnerEvent> = model.runners.iter().flat_map(|runner| &runner.reports).collect();
    for event in &model.runners[runner].reports {
        let RunnerEvent::Queued { copy, cause, .. } = event else { continue };
        let made = model.made.iter().any(|order| order.copy == *copy);
        let given_up = all.iter().any(|event| match event {
            RunnerEvent::Skipped { cause: skipped, .. } => skipped == cause,
            RunnerEvent::StartFailed { copy: failed, .. } => failed == copy,
            _ => false,
        });
        assert!(made || given_up, "{copy} was forgotten");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_and_every_trigger_is_run_once(
        a in test_labels(),
        b in test_labels(),
        volumes in any::<bool>(),
        steps in proptest::collection::vec(step(1), 0..120),
    ) {
        let settings = SchedulerSettings { max_parallel: 3, ..settings() };
        let mut model = Model::new(settings.clone());
        model.settle();
        model.volumes = volumes;
        model.test("a", &a);
        model.test("b", &b);
        let mut products = 0;
        for step in &steps {
            happen(&mut model, step, &mut products);
            check_bounds(&model, &settings);
        }
        come_to_rest(&mut model);
        check_causes(&model, 0);
    }

    #[test]
    fn two_runners_never_run_a_trigger_twice(
        a in test_labels(),
        b in test_labels(),
        steps in proptest::collection::vec(step(2), 0..120),
    ) {
        let mut model = Model::with_runners(vec![settings(), settings()]);
        model.settle();
        model.test("a", &a);
        model.test("b", &b);
        let mut products = 0;
        for step in &steps {
            match step {
                // Only the engine is shared: a copy must stay there for as long as the other runner may lag behind.
                Step::Remove(_) => continue,
                Step::Pass(_) => model.settle(),
                _ => {}
            }
            happen(&mut model, step, &mut products);
        }
        come_to_rest(&mut model);
        check_causes(&model, 0);
        check_causes(&model, 1);
    }

    #[test]
    fn a_quiet_engine_stays_quiet(
        a in test_labels(),
        volumes in any::<bool>(),
        products in 1usize..5,
    ) {
        let mut model = Model::new(settings());
        model.settle();
        model.volumes = volumes;
        model.test("a", &a);
        for n in 0..products {
            model.create(&format!("web{n}"), &[]);
        }
        come_to_rest(&mut model);
        let made = model.made.len();
        for _ in 0..50 {
            model.pass(Duration::from_secs(60));
            model.settle();
        }
        prop_assert_eq!(model.made.len(), made);
    }
}
