//! Overlap, limits, retries, time-outs and what runs wait for, on one engine per test.

use std::time::Duration;

use container_engine::Lifecycle;
use test_runner::{KillReason, RunNowError, RunnerEvent, SkipReason};

use crate::rig::{PATIENCE, connect, copies, created, first_run, idle, product, settings, settled, start};

const ON_CREATE: &str = "tugbot.event.docker=create";

#[tokio::test(flavor = "multi_thread")]
async fn overlap_queues_skips_replaces_or_allows() {
    let engine = testkit::Engine::private();
    for overlap in ["queue", "skip", "replace", "allow"] {
        // The first run ends at once, copies stay: they find the file that the first one left in the volume.
        let label = format!("tugbot.overlap={overlap}");
        let script = "test -e /gate/open || exit 0; sleep 60 & wait";
        engine.docker(&["volume", "create", "gate"]);
        let image = engine.busybox();
        engine.docker(&[
            "run",
            "--name",
            overlap,
            "--network",
            "none",
            "--label",
            "tugbot.test",
            "--label",
            ON_CREATE,
            "--label",
            &label,
            "--stop-timeout",
            "0",
            "--volume",
            "gate:/gate",
            &image,
            "sh",
            "-c",
            script,
        ]);
    }
    engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--volume",
        "gate:/gate",
        &engine.busybox(),
        "touch",
        "/gate/open",
    ]);
    let runner = start(engine.socket(), settings()).await;
    let client = connect(engine.socket()).await;
    let count = |test: &'static str| {
        let client = &client;
        async move { copies(client, test).await.len() }
    };
    let running = |test: &'static str| {
        let client = &client;
        async move {
            copies(client, test).await.iter().filter(|copy| copy.lifecycle == Lifecycle::Running).count()
        }
    };
    product(&engine, "web1");
    for test in ["queue", "skip", "replace", "allow"] {
        let runs = || async move { (running(test).await == 1).then_some(()) };
        testkit::eventually("a first copy", PATIENCE, runs).await;
    }
    product(&engine, "web2");
    product(&engine, "web3");
    testkit::eventually("three at once", PATIENCE, || async { (running("allow").await == 3).then_some(()) })
        .await;
    runner.sees("create", "web3").await;
    testkit::eventually("a replacement", PATIENCE, || async {
        (count("replace").await >= 2 && running("replace").await == 1).then_some(())
    })
    .await;
    assert_eq!((count("queue").await, running("queue").await), (1, 1));
    assert_eq!((count("skip").await, running("skip").await), (1, 1));
    let reports = runner.heard.reports();
    let skipped = |event: &&RunnerEvent| match event {
        RunnerEvent::Skipped { test, reason: SkipReason::Overlap, .. } => test.0 == "skip",
        _ => false,
    };
    assert_eq!(reports.iter().filter(skipped).count(), 2);
    let replaced = |event: &RunnerEvent| match event {
        RunnerEvent::Killed { test, reason: KillReason::Replaced, .. } => test.0 == "replace",
        _ => false,
    };
    assert!(reports.iter().any(replaced));
    assert_eq!(
        runner.handle.run_now("skip", "by hand").await,
        Err(RunNowError::Overlap { test: "skip".to_owned() })
    );
    // What waits runs once, when the way is free.
    engine.docker(&["kill", &copies(&client, "queue").await[0].name]);
    testkit::eventually("the queued run", PATIENCE, || async { (count("queue").await == 2).then_some(()) })
        .await;
    runner.stop().await;
    assert_eq!(running("allow").await, 3, "copies go on when the runner stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_really_kills_and_a_failure_is_tried_again() {
    let engine = testkit::Engine::private();
    // It ignores the polite signal.
    let deaf = "test -e /once || { touch /once; exit 0; }; trap '' TERM; while :; do sleep 1; done";
    // A copy has a file system of its own; the volume tells it that it is not the first.
    engine.docker(&["volume", "create", "flag"]);
    let image = engine.busybox();
    let script = deaf.replace("/once", "/flag/once");
    engine.docker(&[
        "run",
        "--name",
        "deaf",
        "--network",
        "none",
        "--label",
        "tugbot.test",
        "--label",
        ON_CREATE,
        "--label",
        "tugbot.timeout=2s",
        "--volume",
        "flag:/flag",
        &image,
        "sh",
        "-c",
        &script,
    ]);
    first_run(&engine, "flaky", &[ON_CREATE, "tugbot.retries=2"], "exit 3");
    let runner = start(engine.socket(), settings()).await;
    product(&engine, "web");
    let ended: Vec<String> = runner.finishes("flaky", 3).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(ended, ["failed", "failed", "failed"]);
    let ended = runner.finishes("deaf", 1).await;
    assert_eq!(ended[0].1, "timed-out");
    settled(&engine, &runner).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "flaky").await.len(), 3);
    let deaf = copies(&client, "deaf").await;
    assert_eq!(deaf.len(), 1);
    assert_eq!(deaf[0].exit_code, Some(137));
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_share_places_and_only_the_newest_copies_are_kept() {
    let engine = testkit::Engine::private();
    for name in ["aa", "bb", "cc"] {
        first_run(&engine, name, &[ON_CREATE, "tugbot.concurrency=db:1", "tugbot.keep=1"], "sleep 0.3");
    }
    let runner = start(engine.socket(), settings()).await;
    for round in 1..=3 {
        product(&engine, &format!("web{round}"));
        for name in ["aa", "bb", "cc"] {
            runner.finishes(name, round).await;
        }
    }
    let client = connect(engine.socket()).await;
    for name in ["aa", "bb", "cc"] {
        let newest = runner.heard.finished(name).pop().unwrap().0;
        let only_newest = || async {
            let left: Vec<String> = copies(&client, name).await.into_iter().map(|copy| copy.name).collect();
            (left == [newest.clone()]).then_some(())
        };
        testkit::eventually("one copy left", PATIENCE, only_newest).await;
    }
    // No two of the group ran at once.
    let mut running = 0;
    for event in runner.heard.reports() {
        match event {
            RunnerEvent::Started { .. } => running += 1,
            RunnerEvent::Finished { .. } => running -= 1,
            _ => {}
        }
        assert!(running <= 1);
    }
    settled(&engine, &runner).await;
    assert!(created(&runner.heard).values().all(|count| *count == 3), "{:?}", created(&runner.heard));
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_a_healthy_peer_and_another_follows_it() {
    let engine = testkit::Engine::private();
    let image = engine.busybox();
    first_run(&engine, "t1", &["tugbot.wait-for=db:healthy"], "true");
    first_run(&engine, "t2", &["tugbot.event.after=t1:passed"], "true");
    first_run(&engine, "t3", &["tugbot.event.after=t1:failed"], "true");
    let runner = start(engine.socket(), settings()).await;
    let ticket = runner.handle.run_now("t1", "by hand").await.unwrap();
    assert!(ticket.copy.starts_with("tugbot_t1_"));
    engine.docker(&[
        "run",
        "--detach",
        "--name",
        "db",
        "--network",
        "none",
        "--health-cmd",
        "test -e /ready",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
        &image,
        "sleep",
        "600",
    ]);
    runner.sees("health_status: unhealthy", "db").await;
    let status = runner.handle.status().await;
    assert_eq!((status.running.len(), status.waiting.len()), (0, 1), "{status:?}");
    engine.docker(&["exec", "db", "touch", "/ready"]);
    assert_eq!(runner.finishes("t1", 1).await, [(ticket.copy, "passed".to_owned())]);
    runner.finishes("t2", 1).await;
    settled(&engine, &runner).await;
    assert_eq!(runner.heard.finished("t3"), []);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_global_limit_and_debounce_hold_back_a_burst() {
    let engine = testkit::Engine::private();
    for name in ["aa", "bb", "cc", "dd"] {
        first_run(&engine, name, &[ON_CREATE, "tugbot.debounce=1s"], "sleep 0.3");
    }
    let limited = test_runner::RunnerSettings { max_parallel: 2, ..settings() };
    let runner = start(engine.socket(), limited).await;
    for n in 0..6 {
        product(&engine, &format!("web{n}"));
    }
    for name in ["aa", "bb", "cc", "dd"] {
        runner.finishes(name, 1).await;
    }
    idle(&runner).await;
    let (mut running, mut most) = (0, 0);
    for event in runner.heard.reports() {
        match event {
            RunnerEvent::Started { .. } => running += 1,
            RunnerEvent::Finished { .. } => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    assert_eq!(most, 2);
    // Every creation within a second of the one before: one run each. A slow machine may part the burst.
    let created = created(&runner.heard);
    assert!(created.values().all(|count| (1..=6).contains(count)), "{created:?}");
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_runs_again_and_again_and_neither_at_once_nor_on_top_of_itself() {
    let engine = testkit::Engine::private();
    first_run(&engine, "t1", &["tugbot.event.timer=2s"], "sleep 0.1");
    first_run(&engine, "hot", &["tugbot.event.timer=0s"], "true");
    first_run(&engine, "slot", &["tugbot.event.cron=* * * * * *"], "true");
    let runner = start(engine.socket(), settings()).await;
    let ended = runner.finishes("t1", 3).await;
    runner.finishes("slot", 2).await;
    let client = connect(engine.socket()).await;
    assert_eq!(copies(&client, "hot").await.len(), 0, "an interval of zero is no timer");
    let mut slots: Vec<jiff::Timestamp> = Vec::new();
    let mut running = 0;
    for event in runner.heard.reports() {
        match event {
            RunnerEvent::Started { test, cause, .. } if test.0 == "t1" => {
                slots.push(cause.at);
                running += 1;
            }
            RunnerEvent::Finished { test, .. } if test.0 == "t1" => running -= 1,
            _ => {}
        }
        assert!(running <= 1);
    }
    for pair in slots.windows(2) {
        let apart = Duration::try_from(pair[1].duration_since(pair[0])).unwrap();
        assert!(apart >= Duration::from_secs(2), "{apart:?} apart: {ended:?}");
    }
    runner.stop().await;
}
