//! A copy's own events never start another copy (upstream's defect 1), and an event starts exactly one.

use std::time::{Duration, Instant};

use test_runner::RunnerEvent;

use crate::rig::{PATIENCE, Running, connect, copies, created, first_run, product, settings, settled, start};

async fn discovered(runner: &Running, name: &str) {
    let is_it = |event: &RunnerEvent| match event {
        RunnerEvent::Discovered { test, .. } if test.0 == name => Some(()),
        _ => None,
    };
    runner.hears("the test container", is_it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_makes_exactly_one_copy_within_three_seconds() {
    let engine = testkit::Engine::private();
    let client = connect(engine.socket()).await;
    let runner = start(engine.socket(), settings()).await;
    first_run(&engine, "t1", &["tugbot.event.docker=create"], "true");
    discovered(&runner, "t1").await;

    let asked = Instant::now();
    product(&engine, "web");
    testkit::eventually("a copy", PATIENCE, || async { copies(&client, "t1").await.pop() }).await;
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    runner.finishes("t1", 1).await;
    settled(&engine, &runner).await;
    assert_eq!(copies(&client, "t1").await.len(), 1);
    assert_eq!(created(&runner.heard)["t1"], 1);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_marker_settles_with_networks_volumes_and_a_health_check() {
    let engine = testkit::Engine::private();
    let runner = start(engine.socket(), settings()).await;
    let image = engine.busybox();
    engine.docker(&["network", "create", "extra"]);
    // The dashed spelling, an anonymous volume, two networks, probes that `exec` every second.
    engine.docker(&[
        "create",
        "--name",
        "t1",
        "--label",
        "tugbot-test",
        "--label",
        "tugbot-event-docker",
        "--label",
        "tugbot.keep=0",
        "--volume",
        "/data",
        "--network",
        "extra",
        "--health-cmd",
        "true",
        "--health-interval",
        "200ms",
        &image,
        "sleep",
        "1",
    ]);
    engine.docker(&["network", "connect", "bridge", "t1"]);
    engine.docker(&["start", "--attach", "t1"]);
    discovered(&runner, "t1").await;
    settled(&engine, &runner).await;
    let before = created(&runner.heard).get("t1").copied().unwrap_or(0);

    engine.docker(&["run", "--name", "web", "--volume", "/web-data", &image, "true"]);
    runner.finishes("t1", before + 1).await;
    // Whatever `web` did is covered by one run, and by one more for what came during that.
    settled(&engine, &runner).await;
    let after = created(&runner.heard)["t1"];
    assert!((before + 1..=before + 3).contains(&after), "{before} and then {after}");
    // Copies were removed by now; neither that nor their volumes started anything.
    let removed = |event: &RunnerEvent| matches!(event, RunnerEvent::Removed { .. }).then_some(());
    runner.hears("a removed copy", removed).await;
    settled(&engine, &runner).await;
    assert_eq!(
        created(&runner.heard)["t1"],
        after + 1,
        "one run for the tag that `settled` made, and no other"
    );
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_hear_everything_do_not_start_each_other() {
    let engine = testkit::Engine::private();
    let runner = start(engine.socket(), settings()).await;
    for name in ["aa", "bb", "cc"] {
        first_run(&engine, name, &["tugbot.event.docker"], "true");
        discovered(&runner, name).await;
    }
    settled(&engine, &runner).await;
    let before = created(&runner.heard);
    product(&engine, "web");
    for name in ["aa", "bb", "cc"] {
        let count = before.get(name).copied().unwrap_or(0);
        runner.finishes(name, count + 1).await;
    }
    settled(&engine, &runner).await;
    let after = created(&runner.heard);
    for name in ["aa", "bb", "cc"] {
        // One for `web`, at most two for what `settled` did.
        let more = after[name] - before.get(name).copied().unwrap_or(0);
        assert!((1..=3).contains(&more), "{name}: {more}");
    }
    runner.stop().await;
}
