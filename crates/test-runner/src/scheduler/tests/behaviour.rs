//! One behaviour at a time.

use std::{sync::Arc, time::Duration};

use test_results::{Outcome, TriggerKind};

use super::{
    super::{Input, Output, Removal, RunNowError, SchedulerSettings},
    model::{Model, Task, settings, start_of_time},
};
use crate::{
    discovery::Discovery,
    overrides::Override,
    run_key::RunKey,
    runner_event::{KillReason, RunnerEvent, SkipReason},
};

const SECOND: Duration = Duration::from_secs(1);
const ON_CREATE: (&str, &str) = ("tugbot.event.docker", "create");

/// A model whose runner is at rest.
pub(super) fn model() -> Model {
    let mut model = Model::new(settings());
    model.settle();
    model
}

fn outcomes(model: &Model, of: &str) -> Vec<Outcome> {
    let reports = model.runners[0].reports.iter();
    let finished = reports.filter_map(|event| match event {
        RunnerEvent::Finished { test, outcome, .. } if test.0 == of => Some(outcome.clone()),
        _ => None,
    });
    finished.collect()
}

fn skipped(model: &Model) -> Vec<SkipReason> {
    let reports = model.runners[0].reports.iter();
    let skipped = reports.filter_map(|event| match event {
        RunnerEvent::Skipped { reason, .. } => Some(*reason),
        _ => None,
    });
    skipped.collect()
}

fn by_hand(model: &mut Model, test: &str) -> Result<bool, RunNowError> {
    let now = model.now();
    let key = RunKey::new(now.wall, format!("hand:{}:{}", now.wall, model.made.len()));
    let (answer, outputs) = model.runners[0].scheduler.run_now(now, test, &key, "by hand");
    model.take(0, outputs);
    model.settle();
    answer.map(|ticket| ticket.joined)
}

#[test]
fn an_event_makes_one_copy_and_the_copy_makes_none() {
    for label in [ON_CREATE, ("tugbot-event-docker", "")] {
        let mut model = model();
        model.volumes = true;
        model.test("t", &[label]);
        assert_eq!(model.made_of("t"), 0, "its own first run is no trigger");
        model.create("web", &[]);
        model.settle();
        assert_eq!(model.made_of("t"), 1);
        model.pass(SECOND);
        model.end_all(0);
        for _ in 0..20 {
            model.pass(Duration::from_secs(10));
            model.settle();
        }
        // The volume of `web` was made by somebody else, and its owner shows up with a mount or not at all.
        let expected = if label == ON_CREATE { 1..=2 } else { 1..=3 };
        assert!(expected.contains(&model.made_of("t")), "{label:?}: {}", model.made_of("t"));
        model.end_all(0);
        let before = model.made_of("t");
        for _ in 0..20 {
            model.pass(Duration::from_secs(10));
            model.end_all(0);
        }
        assert_eq!(model.made_of("t"), before, "{label:?} settles");
    }
}

#[test]
fn triggers_during_a_run_become_one_more_run() {
    let mut model = model();
    model.test("t", &[ON_CREATE]);
    for n in 0..10 {
        model.create(&format!("web{n}"), &[]);
        model.settle();
    }
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(model.runners[0].scheduler.status().waiting.len(), 1);
    model.end_all(0);
    assert_eq!(model.made_of("t"), 2);
    model.end_all(0);
    assert_eq!(model.made_of("t"), 2);
    let coalesced = |event: &&RunnerEvent| matches!(event, RunnerEvent::Coalesced { .. });
    assert_eq!(model.runners[0].reports.iter().filter(coalesced).count(), 8);
}

#[test]
fn skip_leaves_out_what_comes_during_a_run() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.overlap", "skip")]);
    for n in 0..3 {
        model.create(&format!("web{n}"), &[]);
        model.settle();
    }
    assert_eq!(by_hand(&mut model, "t"), Err(RunNowError::Overlap { test: "t".to_owned() }));
    model.end_all(0);
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(skipped(&model), [SkipReason::Overlap; 3]);
}

#[test]
fn replace_kills_the_run_that_is_on() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.overlap", "replace"), ("tugbot.retries", "3")]);
    model.create("web0", &[]);
    model.settle();
    let first = model.running_copies();
    model.create("web1", &[]);
    model.settle();
    assert_eq!(model.made_of("t"), 2);
    assert_eq!(model.running_copies().len(), 1);
    assert_ne!(model.running_copies(), first);
    assert_eq!(outcomes(&model, "t"), [Outcome::Failed { exit_code: 137 }]);
    model.end_all(0);
    assert_eq!(model.made_of("t"), 2, "a run that was replaced is not tried again");
}

#[test]
fn allow_runs_each_trigger_up_to_the_global_limit() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.overlap", "allow")]);
    for n in 0..20 {
        model.create(&format!("web{n}"), &[]);
        model.settle();
    }
    assert_eq!(model.running_copies().len(), 4);
    assert_eq!(model.runners[0].scheduler.status().waiting.len(), 5, "the queue is bounded");
    while !model.running_copies().is_empty() {
        model.end_all(0);
    }
    assert_eq!(model.made_of("t"), 9);
    assert_eq!(model.most_running, 4);
}

#[test]
fn a_first_run_that_is_on_is_waited_for_and_never_killed() {
    for overlap in ["queue", "replace"] {
        let mut model = model();
        model.create("t", &[("tugbot.test", ""), ON_CREATE, ("tugbot.overlap", overlap)]);
        model.start("t");
        model.create("web", &[]);
        model.settle();
        assert_eq!(model.made_of("t"), 0, "{overlap}");
        model.end("t", 0);
        model.settle();
        assert_eq!(model.made_of("t"), 1, "{overlap}");
    }
}

#[test]
fn a_burst_is_gathered_until_it_pauses() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.debounce", "5s")]);
    for n in 0..4 {
        model.create(&format!("web{n}"), &[]);
        model.settle();
        model.pass(3 * SECOND);
        model.settle();
        assert_eq!(model.made_of("t"), 0, "after {n}");
    }
    model.pass(2 * SECOND);
    model.settle();
    assert_eq!(model.made_of("t"), 1);
}

#[test]
fn a_burst_that_never_pauses_runs_all_the_same() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.debounce", "5s")]);
    for n in 0..60 {
        model.create(&format!("web{n}"), &[]);
        model.settle();
        model.pass(SECOND);
        model.settle();
    }
    assert_eq!(model.made_of("t"), 1, "after ten times five seconds");
}

#[test]
fn a_request_by_hand_does_not_wait_for_the_burst() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.debounce", "1h")]);
    model.create("web", &[]);
    model.settle();
    assert_eq!(by_hand(&mut model, "t"), Ok(true));
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(by_hand(&mut model, "other"), Err(RunNowError::NoSuchTest { test: "other".to_owned() }));
}

#[test]
fn a_run_that_takes_too_long_is_killed_and_has_timed_out() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.timeout", "60s")]);
    model.create("web", &[]);
    model.settle();
    model.pass(59 * SECOND);
    model.settle();
    assert_eq!(model.running_copies().len(), 1);
    model.pass(SECOND);
    model.settle();
    assert_eq!(outcomes(&model, "t"), [Outcome::TimedOut { after_seconds: 60.0 }]);
    let killed =
        |event: &RunnerEvent| matches!(event, RunnerEvent::Killed { reason: KillReason::Timeout, .. });
    assert!(model.runners[0].reports.iter().any(killed));
}

#[test]
fn a_copy_that_does_not_end_when_asked_is_killed_outright() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.timeout", "60s")]);
    model.create("web", &[]);
    model.settle();
    model.pass(60 * SECOND);
    let take_kill = |model: &mut Model| {
        let kill = |task: &Task| matches!(task, Task::Output(Output::Kill { .. }));
        let place = model.runners[0].tasks.iter().position(kill)?;
        model.runners[0].tasks.remove(place)
    };
    let Some(Task::Output(Output::Kill { grace, .. })) = take_kill(&mut model) else { panic!("a kill") };
    assert_eq!(grace, Some(10 * SECOND));
    model.pass(14 * SECOND);
    assert!(take_kill(&mut model).is_none());
    model.pass(SECOND);
    let Some(Task::Output(Output::Kill { grace, .. })) = take_kill(&mut model) else {
        panic!("a second kill")
    };
    assert_eq!(grace, None);
}

#[test]
fn a_failed_run_is_repeated_as_often_as_the_label_says() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.retries", "2")]);
    model.create("web", &[]);
    model.settle();
    for _ in 0..5 {
        model.end_all(1);
    }
    assert_eq!(model.made_of("t"), 3);
    let attempts: Vec<u32> = model.made.iter().map(|order| order.cause.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(model.made.iter().all(|order| order.cause.trigger == TriggerKind::Docker));
    model.create("web2", &[]);
    model.settle();
    model.end_all(0);
    assert_eq!(model.made_of("t"), 4, "what passed is not repeated");
}

#[test]
fn members_of_a_group_share_its_places() {
    let mut model = model();
    let group = ("tugbot.concurrency", "db:2");
    for name in ["a", "b", "c"] {
        model.test(name, &[("tugbot.event.docker", "tag"), group]);
    }
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.running_copies().len(), 2);
    let first = model.running_copies()[0].clone();
    model.end(&first, 0);
    model.settle();
    assert_eq!(model.running_copies().len(), 2);
    model.end_all(0);
    for name in ["a", "b", "c"] {
        assert_eq!(model.made_of(name), 1, "{name}");
    }
    assert_eq!(model.most_running, 2);
}

#[test]
fn the_smallest_limit_of_a_group_counts() {
    let mut model = model();
    model.test("a", &[("tugbot.event.docker", "tag"), ("tugbot.concurrency", "db:3")]);
    model.test("b", &[("tugbot.event.docker", "tag"), ("tugbot.concurrency", "db:1")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.running_copies().len(), 1);
}

#[test]
fn a_run_waits_until_its_peer_is_ready() {
    let mut model = model();
    model.create("db", &[]);
    model.settle();
    model.test("t", &[("tugbot.event.docker", "tag"), ("tugbot.wait-for", "db:healthy")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.made_of("t"), 0, "it does not run");
    model.start("db");
    model.settle();
    assert_eq!(model.made_of("t"), 1, "it runs and has no health check");
    model.end_all(0);

    let id = model.containers["db"].summary.id.0.clone();
    model.emit("container", "health_status: unhealthy", &id, &[("name", "db")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.made_of("t"), 1, "it is not healthy");
    model.emit("container", "health_status: healthy", &id, &[("name", "db")]);
    model.settle();
    assert_eq!(model.made_of("t"), 2);
}

#[test]
fn only_the_newest_copies_are_kept() {
    let mut model = model();
    model.volumes = true;
    model.test("t", &[("tugbot.event.docker", "tag"), ("tugbot.keep", "2")]);
    for _ in 0..5 {
        model.emit("image", "tag", "sha256:9", &[("name", "x")]);
        model.settle();
        model.pass(SECOND);
        model.end_all(0);
    }
    assert_eq!(model.copies_of("t").len(), 5, "a collector may still read them");
    model.pass(30 * SECOND);
    model.settle();
    let kept: Vec<String> = model.copies_of("t").iter().map(|copy| copy.summary.name.clone()).collect();
    let newest: Vec<String> = model.made[3..].iter().map(|order| order.copy.clone()).collect();
    assert_eq!(kept, newest);
    assert_eq!(model.made_of("t"), 5, "removing them triggers nothing");
}

#[test]
fn with_a_collector_a_copy_stays_until_it_is_collected() {
    let mut model = Model::new(SchedulerSettings { removal: Removal::WhenCollected, ..settings() });
    model.settle();
    model.test("t", &[("tugbot.event.docker", "tag"), ("tugbot.keep", "0")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    model.end_all(0);
    model.pass(Duration::from_secs(86_400));
    model.settle();
    let id = model.copies_of("t")[0].summary.id.clone();
    model.feed(0, Input::Collected { id });
    model.settle();
    assert_eq!(model.copies_of("t").len(), 0);
}

#[test]
fn a_copy_that_was_collected_before_its_end_was_heard_of_goes_too() {
    let mut model = Model::new(SchedulerSettings { removal: Removal::WhenCollected, ..settings() });
    model.settle();
    model.test("t", &[("tugbot.event.docker", "tag"), ("tugbot.keep", "0")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    let id = model.copies_of("t")[0].summary.id.clone();
    model.feed(0, Input::Collected { id });
    model.settle();
    assert_eq!(model.copies_of("t").len(), 1, "it still runs");
    model.end_all(0);
    model.settle();
    assert_eq!(model.copies_of("t").len(), 0);
}

#[test]
fn a_test_follows_another_as_its_label_says() {
    let mut model = model();
    model.test("build", &[("tugbot.event.docker", "tag"), ("tugbot.retries", "1")]);
    model.test("deploy", &[("tugbot.event.after", "build:passed")]);
    model.test("alarm", &[("tugbot.event.after", "build:failed")]);
    model.test("always", &[("tugbot.event.after", "build")]);
    let made = |model: &Model| ["deploy", "alarm", "always"].map(|test| model.made_of(test));
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    model.end_all(1);
    assert_eq!(made(&model), [0, 0, 0], "a retry comes first");
    model.end_all(1);
    assert_eq!(made(&model), [0, 1, 1]);
    model.end_all(0);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    model.end_all(0);
    assert_eq!(made(&model), [1, 1, 2]);
}

#[test]
fn the_first_run_of_a_test_is_followed_too() {
    let mut model = model();
    model.test("deploy", &[("tugbot.event.after", "build:passed")]);
    model.test("build", &[]);
    assert_eq!(model.made_of("deploy"), 1);
}

#[test]
fn tests_in_a_circle_do_not_start_each_other() {
    let mut model = model();
    model.test("a", &[("tugbot.event.docker", "tag"), ("tugbot.event.after", "c")]);
    model.test("b", &[("tugbot.event.after", "a")]);
    model.test("c", &[("tugbot.event.after", "b")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    model.end_all(0);
    assert_eq!((model.made_of("a"), model.made_of("b"), model.made_of("c")), (1, 0, 0));
    assert!(skipped(&model).contains(&SkipReason::Circle));
}

#[test]
fn copies_run_on_the_newer_image_and_the_old_one_goes() {
    let mut model = Model::new(SchedulerSettings { image_cleanup: true, ..settings() });
    model.settle();
    model.test("t", &[("tugbot.event.image", ""), ("tugbot.event.docker", "tag"), ("tugbot.keep", "0")]);
    let newer = |id: &str| Input::NewImage {
        test: "t".to_owned(),
        reference: "img:1".to_owned(),
        id: id.to_owned(),
        at: start_of_time(),
    };
    assert_eq!(model.runners[0].scheduler.watched_images(false)[0].current_image_id, "sha256:1");
    for id in ["sha256:2", "sha256:2", "sha256:3"] {
        model.feed(0, newer(id));
        model.settle();
        model.end_all(0);
        model.pass(30 * SECOND);
        model.settle();
    }
    let images: Vec<&str> = model.made.iter().filter_map(|order| order.image.as_deref()).collect();
    assert_eq!(images, ["sha256:2", "sha256:3"], "each newer image once");
    let removed: Vec<&str> = model.runners[0]
        .reports
        .iter()
        .filter_map(|event| match event {
            RunnerEvent::ImageRemoved { id } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(removed, ["sha256:2"], "the original still uses the first");
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.made.last().and_then(|order| order.image.as_deref()), Some("sha256:3"));
    // A runner that starts now goes on where this one was.
    let second = model.join(settings());
    model.settle();
    let watched = model.runners[second].scheduler.watched_images(false);
    assert_eq!(watched[0].current_image_id, "sha256:3");
}

#[test]
fn a_test_that_goes_away_runs_no_more() {
    let mut model = model();
    model.test("t", &[ON_CREATE]);
    model.create("web0", &[]);
    model.create("web1", &[]);
    model.settle();
    model.remove("t");
    model.settle();
    model.end_all(0);
    assert_eq!(model.made_of("t"), 1);
    assert_eq!(skipped(&model), [SkipReason::Withdrawn]);
}

#[test]
fn a_renamed_test_runs_under_its_new_name() {
    let discovery = Discovery::new(["t".to_owned()], [Override::parse("name=t;event.docker=tag").unwrap()]);
    let mut model = Model::new(SchedulerSettings { discovery: Arc::new(discovery), ..settings() });
    model.settle();
    model.create("other", &[("tugbot.test", "")]);
    model.settle();
    assert!(model.runners[0].scheduler.status().tests.is_empty());
    let mut found = model.containers.remove("other").unwrap();
    found.summary.name = "t".to_owned();
    let id = found.summary.id.0.clone();
    model.containers.insert("t".to_owned(), found);
    model.emit("container", "rename", &id, &[("name", "t"), ("oldName", "/other"), ("tugbot.test", "")]);
    model.emit("image", "tag", "sha256:9", &[("name", "x")]);
    model.settle();
    assert_eq!(model.made_of("t"), 1);
}

#[test]
fn a_start_that_fails_is_reported_and_the_next_trigger_tries_again() {
    let mut model = model();
    model.test("t", &[ON_CREATE]);
    for n in 0..2 {
        model.create(&format!("web{n}"), &[]);
        model.deliver(0);
        let Some(Task::Output(Output::Start(order))) = model.runners[0].tasks.pop_front() else {
            panic!("a start")
        };
        let reason = "no such image".to_owned();
        model.feed(0, Input::StartFailed { copy: order.copy, reason, unreachable: false });
        assert!(model.runners[0].scheduler.status().running.is_empty());
    }
    let failed = |event: &&RunnerEvent| matches!(event, RunnerEvent::StartFailed { .. });
    assert_eq!(model.runners[0].reports.iter().filter(failed).count(), 2);
}

#[test]
fn a_start_that_the_engine_did_not_hear_is_tried_again_under_the_same_name() {
    let mut model = model();
    model.test("t", &[ON_CREATE]);
    model.create("web", &[]);
    model.deliver(0);
    let Some(Task::Output(Output::Start(order))) = model.runners[0].tasks.pop_front() else {
        panic!("a start")
    };
    let (copy, reason) = (order.copy.clone(), "gone".to_owned());
    model.feed(0, Input::StartFailed { copy, reason, unreachable: true });
    model.cut(0);
    model.pass(60 * SECOND);
    model.settle();
    assert_eq!(model.made.len(), 0, "nothing is started while the engine is away");
    model.connect(0, false);
    model.settle();
    assert_eq!(model.made.len(), 0, "the replay may tell that another runner was faster");
    model.pass(SECOND);
    model.settle();
    assert_eq!(model.made.len(), 1);
    assert_eq!(model.made[0].copy, order.copy);
    assert!(model.made[0].again);
    assert_eq!(model.runners[0].scheduler.status().running.len(), 1);
}

#[test]
fn a_copy_that_its_maker_left_unstarted_is_taken_over() {
    let mut model = model();
    model.test("t", &[]);
    model.create("tugbot_t_1", &[("tugbot.test", ""), ("tugbot.created.from", "t")]);
    model.settle();
    model.pass(9 * SECOND);
    model.settle();
    assert_eq!(model.running_copies().len(), 0, "its maker may be about to start it");
    model.pass(SECOND);
    model.settle();
    assert_eq!(model.running_copies(), ["tugbot_t_1"]);
    model.end_all(0);
    assert_eq!(outcomes(&model, "t"), [Outcome::Passed]);
}

#[test]
fn ends_that_were_missed_are_found_by_the_listing() {
    let mut model = model();
    model.test("t", &[ON_CREATE]);
    model.test("u", &[ON_CREATE]);
    model.create("web", &[]);
    model.settle();
    model.cut(0);
    let copies = model.running_copies();
    model.end(&copies[0], 3);
    model.end(&copies[1], 0);
    model.remove(&copies[1]);
    // The engine has restarted and forgotten all of it.
    model.runners[0].seen = model.log.len();
    model.pass(SECOND);
    model.connect(0, false);
    model.settle();
    assert_eq!(outcomes(&model, "t"), [Outcome::Failed { exit_code: 3 }]);
    assert!(matches!(outcomes(&model, "u")[..], [Outcome::Lost { .. }]));
}

#[test]
fn a_runner_that_starts_follows_the_copies_that_run() {
    let mut model = model();
    model.test("t", &[ON_CREATE, ("tugbot.timeout", "60s")]);
    model.create("web", &[]);
    model.settle();
    model.runners.clear();
    model.pass(40 * SECOND);
    model.join(settings());
    model.settle();
    assert_eq!(model.runners[0].scheduler.status().running.len(), 1);
    model.create("web2", &[]);
    model.settle();
    assert_eq!(model.made_of("t"), 1, "the run that is on counts");
    model.pass(20 * SECOND);
    model.settle();
    assert_eq!(outcomes(&model, "t"), [Outcome::TimedOut { after_seconds: 60.0 }]);
    assert_eq!(model.made_of("t"), 2);
}

#[test]
fn a_runner_for_one_test_leaves_the_others_alone() {
    let discovery = Discovery::new(["t".to_owned()], []);
    let mut model = Model::new(SchedulerSettings { discovery: Arc::new(discovery), ..settings() });
    model.settle();
    model.test("t", &[ON_CREATE]);
    model.test("t2", &[ON_CREATE, ("tugbot.keep", "0")]);
    let before = model.made_of("t");
    model.create("tugbot_t2_1", &[("tugbot.created.from", "t2")]);
    model.start("tugbot_t2_1");
    model.settle();
    model.end_all(0);
    model.pass(100 * SECOND);
    model.settle();
    assert_eq!(model.made_of("t2"), 0);
    assert_eq!(model.copies_of("t2").len(), 1, "another runner's copies are not ours to remove");
    assert_eq!(model.made_of("t"), before, "and trigger nothing");
}

#[test]
fn by_hand_only_means_no_triggers() {
    let mut model = Model::new(SchedulerSettings { by_hand_only: true, ..settings() });
    model.settle();
    model.test("t", &[ON_CREATE, ("tugbot.event.timer", "1s")]);
    model.create("web", &[]);
    model.settle();
    model.pass(10 * SECOND);
    model.settle();
    assert_eq!(model.made_of("t"), 0);
    assert_eq!(by_hand(&mut model, "t"), Ok(false));
    assert_eq!(model.made_of("t"), 1);
}
