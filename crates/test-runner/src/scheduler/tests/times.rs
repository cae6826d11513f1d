//! Timers and schedules, over hours and days in no time.

use std::time::Duration;

use container_engine::Lifecycle;
use jiff::Timestamp;

use super::{
    super::{Input, Output},
    model::{Model, Task, settings, start_of_time},
};
use crate::clock::until;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn model() -> Model {
    let mut model = Model::new(settings());
    model.settle();
    model
}

/// Goes on from wake-up to wake-up, as the runner does, for so long. Copies take `run_for`.
fn live(model: &mut Model, duration: Duration, run_for: Duration) {
    let until = model.tick + duration;
    while model.tick < until {
        let now = model.now();
        let wakes = model.runners.iter().filter_map(|runner| runner.scheduler.next_wake(now));
        let ends = model.containers.values().filter(|found| found.summary.lifecycle == Lifecycle::Running);
        let ends =
            ends.filter_map(|found| found.started_at).map(|at| now.tick_at(crate::clock::later(at, run_for)));
        let next = wakes.chain(ends).min().unwrap_or(until).clamp(now.tick, until);
        assert!(next > now.tick || next == until, "a hot loop at {now:?}");
        model.pass(next.since(model.tick).max(Duration::from_millis(1)));
        let over: Vec<String> = model
            .running_copies()
            .into_iter()
            .filter(|copy| {
                let started = model.containers[copy].started_at.expect("it runs");
                crate::clock::until(started, model.now().wall) >= run_for
            })
            .collect();
        for copy in over {
            model.end(&copy, 0);
        }
        model.settle();
    }
}

/// Seconds from the start of time at which the copies of a test were made.
fn moments(model: &Model, test: &str) -> Vec<u64> {
    let of_test = model.made.iter().filter(|order| order.test == test);
    of_test.map(|order| until(start_of_time(), order.cause.at).as_secs()).collect()
}

#[test]
fn a_timer_runs_at_its_interval_and_not_at_once() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "30s")]);
    live(&mut model, 5 * MINUTE, SECOND);
    assert_eq!(moments(&model, "t"), [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]);
}

#[test]
fn a_timer_never_overlaps_its_own_run() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "10s")]);
    live(&mut model, 2 * MINUTE, 35 * SECOND);
    assert_eq!(model.most_running, 1);
    assert!((3..=5).contains(&model.made_of("t")), "{:?}", moments(&model, "t"));
}

#[test]
fn a_timer_whose_run_cannot_start_goes_on() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "10s")]);
    for round in 1..=3 {
        model.pass(10 * SECOND);
        let start = |task: &Task| matches!(task, Task::Output(Output::Start(_)));
        let place = model.runners[0].tasks.iter().position(start).unwrap_or_else(|| panic!("round {round}"));
        let Some(Task::Output(Output::Start(order))) = model.runners[0].tasks.remove(place) else { panic!() };
        let reason = "refused".to_owned();
        model.feed(0, Input::StartFailed { copy: order.copy, reason, unreachable: false });
    }
}

#[test]
fn a_restart_neither_loses_nor_repeats_the_phase() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "10m")]);
    live(&mut model, 25 * MINUTE, SECOND);
    assert_eq!(moments(&model, "t"), [600, 1200]);
    // A runner that is restarted every minute would never get there if it counted from its own start.
    for _ in 0..20 {
        model.runners.clear();
        model.join(settings());
        model.settle();
        live(&mut model, MINUTE, SECOND);
    }
    assert_eq!(moments(&model, "t"), [600, 1200, 1800, 2400]);
}

#[test]
fn a_runner_that_was_away_makes_up_for_one_run() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "10m")]);
    live(&mut model, 11 * MINUTE, SECOND);
    model.runners.clear();
    model.tick = model.tick + 100 * MINUTE;
    model.join(settings());
    model.settle();
    live(&mut model, 5 * MINUTE, SECOND);
    assert_eq!(model.made_of("t"), 2);
    live(&mut model, 10 * MINUTE, SECOND);
    assert_eq!(model.made_of("t"), 3);
}

#[test]
fn a_host_that_was_suspended_causes_no_burst() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "1m")]);
    model.test("c", &[("tugbot.event.cron", "* * * * *")]);
    live(&mut model, 90 * SECOND, SECOND);
    let before = (model.made_of("t"), model.made_of("c"));
    assert_eq!(before, (1, 1));
    // The wall clock jumps ahead, the monotonic one stood still.
    model.skew = Duration::from_secs(8 * 3600);
    model.pass(Duration::ZERO);
    model.settle();
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(model.made_of("c"), 2, "the slots that were missed are one run");
    live(&mut model, 60 * SECOND, SECOND);
    assert_eq!((model.made_of("t"), model.made_of("c")), (2, 3), "{:?}", moments(&model, "t"));
}

#[test]
fn a_runner_that_was_starved_fires_once() {
    let mut model = model();
    model.test("t", &[("tugbot.event.timer", "1s"), ("tugbot.overlap", "allow")]);
    model.pass(100 * SECOND);
    model.settle();
    assert_eq!(model.made_of("t"), 1);
    live(&mut model, 3 * SECOND, SECOND / 2);
    assert_eq!(model.made_of("t"), 4);
}

#[test]
fn a_schedule_follows_the_clock_of_its_zone() {
    let mut model = model();
    model.test("t", &[("tugbot.event.cron", "0 3 * * *;Europe/Berlin")]);
    live(&mut model, Duration::from_secs(3 * 86_400), SECOND);
    assert_eq!(moments(&model, "t"), [3600, 3600 + 86_400, 3600 + 2 * 86_400], "01:00 UTC in summer");
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_a_schedule() {
    let mut model = model();
    model.skew = Duration::from_secs(10 * 86_400);
    model.pass(SECOND);
    model.test("t", &[("tugbot.event.cron", "0 * * * *")]);
    model.skew = Duration::ZERO;
    live(&mut model, Duration::from_secs(2 * 3600), SECOND);
    assert_eq!(model.made_of("t"), 2);
}

#[test]
fn two_runners_share_one_timer_and_one_schedule() {
    let mut model = Model::with_runners(vec![settings(), settings()]);
    model.settle();
    model.test("t", &[("tugbot.event.timer", "1m")]);
    model.test("c", &[("tugbot.event.cron", "*/2 * * * *")]);
    live(&mut model, 10 * MINUTE, SECOND);
    assert_eq!(moments(&model, "t"), (1..=10).map(|n| 60 * n).collect::<Vec<u64>>());
    assert_eq!(model.made_of("c"), 5);
    // One of them is restarted half-way through an interval.
    live(&mut model, 30 * SECOND, SECOND);
    model.runners.remove(0);
    model.join(settings());
    model.settle();
    live(&mut model, 5 * MINUTE, SECOND);
    assert_eq!(model.made_of("t"), 15);
}

#[test]
fn a_timer_goes_on_from_copies_that_an_earlier_runner_made() {
    let mut model = model();
    model.test("t", &[]);
    model.runners.clear();
    let cause = r#"{"trigger":"timer","summary":"every 10m","at":"2026-05-01T00:00:00Z"}"#;
    model.create("u", &[("tugbot.test", ""), ("tugbot.event.timer", "10m")]);
    model.create("tugbot_u_1", &[("tugbot.created.from", "u"), ("tugbot.cause", cause)]);
    model.start("tugbot_u_1");
    model.end("tugbot_u_1", 0);
    model.tick = model.tick + 9 * MINUTE;
    model.join(settings());
    model.settle();
    live(&mut model, 2 * MINUTE, SECOND);
    let at: Timestamp = "2026-05-01T00:10:00Z".parse().unwrap();
    assert_eq!(model.made.iter().map(|order| order.cause.at).collect::<Vec<_>>(), [at]);
}
