//! Triggers, runs and their ends on a real engine.

use std::time::Duration;

use test_runner::RunnerEvent;

use crate::rig::{PATIENCE, connect, copies, created, first_run, product, settings, start};

/// Long enough for any run that should not be to show up.
const QUIET: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_event_makes_exactly_one_copy_within_three_seconds() {
    let engine = testkit::Engine::private();
    let client = connect(engine.socket()).await;
    let runner = start(engine.socket(), settings()).await;
    first_run(&engine, "t1", &["tugbot.event.docker=create"], "true");
    runner.hears("t1", |e| matches!(e, RunnerEvent::Discovered { .. }).then_some(())).await;

    let asked = std::time::Instant::now();
    product(&engine, "web");
    testkit::eventually("a copy", PATIENCE, || async { copies(&client, "t1").await.pop() }).await;
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    runner.finishes("t1", 1).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(copies(&client, "t1").await.len(), 1);
    assert_eq!(created(&runner.heard)["t1"], 1);
    runner.stop().await;
}
