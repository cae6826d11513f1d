//! Cuts, restarts, missed events.

use std::{collections::BTreeSet, time::Duration};

use container_engine::Lifecycle;
use test_runner::RunnerEvent;
use testkit::proxy::{Mode, Proxy};

use crate::rig::{PATIENCE, connect, copies, first_run, idle, product, settings, settled, start, synced};

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_made_again_and_what_happened_meanwhile_counts() {
    let engine = testkit::Engine::private();
    first_run(&engine, "t1", &["tugbot.event.docker=create"], "true");
    let proxy = Proxy::unix(engine.socket()).await;
    let runner = start(proxy.socket(), settings()).await;
    proxy.set(Mode::Refuse);
    let cut = |event: &RunnerEvent| matches!(event, RunnerEvent::Disconnected { .. }).then_some(());
    runner.hears("the cut", cut).await;
    product(&engine, "web");
    proxy.set(Mode::Forward);
    runner.finishes("t1", 1).await;
    settled(&engine, &runner).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "t1").await.len(), 1, "the replayed event counts once");
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_missed_events_are_handled_or_reported() {
    let engine = testkit::Engine::private();
    first_run(
        &engine,
        "t1",
        &["tugbot.event.docker=create", "tugbot.event.docker.filter.type=network"],
        "true",
    );
    let proxy = Proxy::unix(engine.socket()).await;
    let runner = start(proxy.socket(), settings()).await;
    proxy.set(Mode::Refuse);
    let cut = |event: &RunnerEvent| matches!(event, RunnerEvent::Disconnected { .. }).then_some(());
    runner.hears("the cut", cut).await;
    for n in 0..400 {
        // Two events each would be replayed; a volume makes one.
        engine.docker(&["volume", "create", &format!("v{n}")]);
    }
    proxy.set(Mode::Forward);
    let missed = |event: &RunnerEvent| matches!(event, RunnerEvent::EventsMayBeMissed).then_some(());
    runner.hears("that events may be missing", missed).await;
    settled(&engine, &runner).await;
    let ids: Vec<String> = runner.heard.announced().iter().map(|event| event.id.0.clone()).collect();
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "no event is handled twice");
    let volumes = ids.iter().filter(|id| id.contains("-volume-create-")).count();
    assert!((200..400).contains(&volumes), "{volumes} of 400 came by the replay");
    engine.docker(&["network", "create", "later"]);
    assert_eq!(runner.finishes("t1", 1).await.len(), 1, "what comes now is not lost");
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_the_engine_s_restart_ends_is_noticed_and_the_next_trigger_works() {
    let mut engine = testkit::Engine::private();
    let script = "test -e /flag/once || { touch /flag/once; exit 0; }; sleep 600";
    engine.docker(&["volume", "create", "flag"]);
    engine.docker(&[
        "run",
        "--name",
        "t1",
        "--network",
        "none",
        "--label",
        "tugbot.test",
        "--label",
        "tugbot.event.docker=create",
        "--volume",
        "flag:/flag",
        &engine.busybox(),
        "sh",
        "-c",
        script,
    ]);
    let runner = start(engine.socket(), settings()).await;
    product(&engine, "web1");
    let runs = |event: &RunnerEvent| matches!(event, RunnerEvent::Started { .. }).then_some(());
    runner.hears("a run", runs).await;
    engine = tokio::task::spawn_blocking(move || {
        engine.restart();
        engine
    })
    .await
    .unwrap();
    let ended = runner.finishes("t1", 1).await;
    assert_eq!(ended[0].1, "failed", "the engine killed it");
    synced(&runner).await;
    product(&engine, "web2");
    let client = connect(engine.socket()).await;
    let second = || async {
        let copies = copies(&client, "t1").await;
        copies.iter().any(|copy| copy.lifecycle == Lifecycle::Running).then_some(copies.len())
    };
    assert_eq!(testkit::eventually("a second run", PATIENCE, second).await, 2);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_stops_leaves_its_copies_to_the_next() {
    let engine = testkit::Engine::private();
    let script = "test -e /flag/once || { touch /flag/once; exit 0; }; sleep 3";
    engine.docker(&["volume", "create", "flag"]);
    engine.docker(&[
        "run",
        "--name",
        "t1",
        "--network",
        "none",
        "--label",
        "tugbot.test",
        "--label",
        "tugbot.event.docker=create",
        "--label",
        "tugbot.timeout=1s",
        "--volume",
        "flag:/flag",
        &engine.busybox(),
        "sh",
        "-c",
        script,
    ]);
    let first = start(engine.socket(), settings()).await;
    product(&engine, "web1");
    let runs = |event: &RunnerEvent| matches!(event, RunnerEvent::Started { .. }).then_some(());
    first.hears("a run", runs).await;
    let asked = std::time::Instant::now();
    first.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(8), "it took {:?}", asked.elapsed());
    let second = start(engine.socket(), settings()).await;
    // Ended, or killed, while nobody looked, or by the second one: in any case it is over and known.
    idle(&second).await;
    product(&engine, "web2");
    second.finishes("t1", 1).await;
    settled(&engine, &second).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "t1").await.len(), 2);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_made_is_reported_and_the_next_one_works() {
    let engine = testkit::Engine::private();
    let only_containers = "tugbot.event.docker.filter.type=container";
    first_run(&engine, "t1", &["tugbot.event.docker=create", only_containers], "true");
    let runner = start(engine.socket(), settings()).await;
    // A network of the original that is gone by now.
    engine.docker(&["network", "create", "lost"]);
    engine.docker(&[
        "create",
        "--name",
        "t2",
        "--label",
        "tugbot.test",
        "--label",
        "tugbot.event.docker=create",
        "--label",
        only_containers,
        "--network",
        "lost",
        &engine.busybox(),
        "true",
    ]);
    engine.docker(&["network", "rm", "lost"]);
    product(&engine, "web1");
    let failed = |event: &RunnerEvent| match event {
        RunnerEvent::StartFailed { test, reason, .. } if test.0 == "t2" => Some(reason.clone()),
        _ => None,
    };
    let reason = runner.hears("a start that fails", failed).await;
    assert!(reason.contains("lost"), "{reason}");
    let count = runner.finishes("t1", 1).await.len();
    engine.docker(&["network", "create", "lost"]);
    settled(&engine, &runner).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "t2").await.len(), 0, "nothing stays behind");
    product(&engine, "web2");
    runner.finishes("t1", count + 1).await;
    runner.stop().await;
}
