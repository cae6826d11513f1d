//! Test containers on a real engine. Each test has an engine of its own: a collector takes every test container of the
//! host, and `--cleanup` would remove those of others.

use std::time::Duration;

use result_collector::CollectorEvent;
use serde_json::Value;
use testkit::{
    Engine,
    proxy::{Mode, Proxy},
};

use crate::{
    harness::{Home, Running, connect},
    sink::{Reply, Sink, url_of},
};

const WRITE_RESULTS: &str = "mkdir -p /var/tests/results/sub; echo '<testsuite/>' > /var/tests/results/junit.xml; echo x > /var/tests/results/sub/log";

/// Runs a container to its end.
fn run(engine: &Engine, options: &[&str], script: &str) {
    let image = engine.busybox();
    let arguments = [&["run", "-d"], options, &[&image, "sh", "-c", script]].concat();
    engine.docker(&arguments);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_run_of_a_test_container_is_delivered_whole() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let settings = home.container_settings(sink.url());
    let collector = Running::start(settings.clone(), Some(connect(engine.host()).await));
    let script = format!("echo out; echo err >&2; {WRITE_RESULTS}; exit 3");
    run(&engine, &["--name", "t1", "--label", "tugbot-test"], &script);
    run(&engine, &["--name", "other", "--label", "tugbot.test=false"], "true");
    let stored = sink.wait_for(1).await.remove(0);
    assert_eq!(stored.text("results/junit.xml"), "<testsuite/>\n");
    assert_eq!(stored.text("results/sub/log"), "x\n");
    assert_eq!(stored.text("console_output/stdout.log"), "out\n");
    assert_eq!(stored.text("console_output/stderr.log"), "err\n");
    assert!(!stored.has("container_info/notes.txt"));
    let inspect: Value = serde_json::from_str(&stored.text("container_info/inspect.json")).unwrap();
    assert_eq!(inspect["Name"], "/t1");
    let told: Value = serde_json::from_str(&stored.text("container_info/engine.json")).unwrap();
    assert_eq!(told["api_version"], "1.41");
    let query = |name: &str| stored.query[name].as_str();
    assert_eq!((query("exitcode"), query("test"), query("hostname")), ("3", "t1", "host1"));
    assert_eq!((query("mainfile"), query("docker.imagename")), ("results.tar", &*engine.busybox()));
    let finished: jiff::Timestamp = inspect["State"]["FinishedAt"].as_str().unwrap().parse().unwrap();
    assert_eq!(query("end-time").parse::<jiff::Timestamp>().unwrap(), finished);
    assert!(query("start-time").parse::<jiff::Timestamp>().unwrap() <= finished);
    let id = inspect["Id"].as_str().unwrap();
    assert_eq!(stored.key, format!("container/{id}/{}", finished.as_nanosecond()));
    collector.delivered(1).await;
    collector.stop().await;

    // A container that is still there is not sent again; one that runs again is another result.
    let collector = Running::start(settings, Some(connect(engine.host()).await));
    engine.docker(&["start", "t1"]);
    let stored = sink.wait_for(2).await;
    collector.delivered(1).await;
    assert_ne!(stored[0].key, stored[1].key);
    assert_eq!(sink.requests(), 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_that_ended_while_nobody_watched_are_caught_up() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    for name in ["ta", "tb", "tc"] {
        run(
            &engine,
            &["--name", name, "--label", "tugbot.test", "--label", "tugbot.results=/r"],
            "mkdir /r; echo 1 > /r/x",
        );
        engine.docker(&["wait", name]);
    }
    engine.docker(&["create", "--name", "never", "--label", "tugbot.test", &engine.busybox(), "true"]);
    let settings = home.container_settings(sink.url());
    let proxy = Proxy::unix(engine.socket()).await;
    let client = connect(format!("unix://{}", proxy.socket().display())).await;
    let mut collector = Running::start(settings, Some(client));
    let stored = sink.wait_for(3).await;
    assert!(stored.iter().all(|stored| stored.has("results/x")));
    collector.delivered(3).await;

    // The same while the engine's socket is cut.
    proxy.set(Mode::Refuse);
    collector
        .event("a lost engine", |event| matches!(event, CollectorEvent::EngineLost { .. }).then_some(()))
        .await;
    run(&engine, &["--name", "td", "--label", "tugbot.test"], "true");
    engine.docker(&["wait", "td"]);
    proxy.set(Mode::Forward);
    let stored = sink.wait_for(4).await;
    assert_eq!(stored[3].query["test"], "td");
    collector.delivered(4).await;
    collector.stop().await;
    assert_eq!(sink.requests(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleanup_removes_copies_after_the_service_has_confirmed_and_no_originals() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let proxy = Proxy::tcp(sink.address).await;
    proxy.set(Mode::Refuse);
    let mut settings = home.container_settings(url_of(proxy.address()));
    settings.cleanup = true;
    let client = connect(engine.host()).await;
    let mut collector = Running::start(settings.clone(), Some(client.clone()));
    let copy = ["--label", "tugbot.test", "--label", "tugbot.created.from=t1"];
    run(&engine, &[&["--name", "t1_copy"], &copy[..]].concat(), WRITE_RESULTS);
    run(&engine, &["--name", "t1", "--label", "tugbot.test"], WRITE_RESULTS);
    testkit::eventually("both in the spool", Duration::from_secs(60), async || {
        (collector.status.counters().spooled == 2).then_some(())
    })
    .await;
    collector.event("a retry", |e| matches!(e, CollectorEvent::Retrying { .. }).then_some(())).await;
    assert_eq!(engine.docker(&["ps", "-aq", "--filter", "name=t1_copy"]).lines().count(), 1);
    collector.stop().await;

    proxy.set(Mode::Forward);
    let mut collector = Running::start(settings, Some(client));
    let removed = collector
        .event("a removal", |event| match event {
            CollectorEvent::Removed { container } => Some(container.clone()),
            _ => None,
        })
        .await;
    assert_eq!(removed, "t1_copy");
    collector.delivered(2).await;
    assert_eq!(engine.docker(&["ps", "-a", "--format", "{{.Names}}"]), "t1");
    let stored = sink.stored();
    assert!(stored.iter().all(|stored| stored.query["test"] == "t1" && stored.has("results/junit.xml")));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_had_is_said_and_the_rest_is_delivered() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let mut settings = home.container_settings(sink.url());
    settings.limits.console_max = 1000;
    let collector = Running::start(settings, Some(connect(engine.host()).await));
    let label = ["--label", "tugbot.test"];
    let with = |options: &[&'static str]| [options, &label].concat();
    run(&engine, &with(&["--name", "none"]), "true");
    run(&engine, &with(&["--name", "tmpfs", "--tmpfs", "/var/tests"]), WRITE_RESULTS);
    run(&engine, &with(&["--name", "nolog", "--log-driver", "none"]), &format!("echo out; {WRITE_RESULTS}"));
    run(&engine, &with(&["--name", "loud"]), "seq 1 10000");
    run(&engine, &with(&["--name", "gone", "--rm", "--label", "tugbot.created.from=orig"]), "exit 9");
    let stored = sink.wait_for(5).await;
    let of = |test: &str| stored.iter().find(|stored| stored.query["test"] == test).unwrap();
    let notes = |test: &str| of(test).text("container_info/notes.txt");
    assert!(!of("none").has("container_info/notes.txt"));
    assert!(notes("tmpfs").contains("lies on the tmpfs `/var/tests`"), "{}", notes("tmpfs"));
    assert!(notes("nolog").contains("the console cannot be read"), "{}", notes("nolog"));
    assert!(of("nolog").has("results/junit.xml"));
    let loud = of("loud").text("console_output/stdout.log");
    assert!(loud.starts_with("1\n2\n") && loud.ends_with("9999\n10000\n") && loud.len() < 1100, "{loud}");
    assert!(notes("loud").contains("bytes of stdout were left out"));
    let gone = of("orig");
    assert_eq!(gone.query["exitcode"], "9");
    let inspect: Value = serde_json::from_str(&gone.text("container_info/inspect.json")).unwrap();
    assert_eq!(inspect["Name"], "/gone");
    assert_eq!(inspect["Config"]["Labels"]["tugbot.created.from"], "orig");
    collector.delivered(5).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_containers_that_end_together_are_each_delivered_once() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let client = connect(engine.host()).await;
    let collector = Running::start(home.container_settings(sink.url()), Some(client.clone()));
    let image = engine.busybox();
    let names: Vec<String> = (0..20).map(|n| format!("m{n}")).collect();
    for name in &names {
        let script = format!("mkdir -p /var/tests/results; echo {name} > /var/tests/results/x");
        engine.docker(&[
            "create",
            "--name",
            name,
            "--network",
            "none",
            "--label",
            "tugbot.test",
            &image,
            "sh",
            "-c",
            &script,
        ]);
    }
    let starts = names.iter().map(|name| client.start(name));
    futures_util::future::try_join_all(starts).await.unwrap();
    let stored = sink.wait_for(20).await;
    for stored in &stored {
        assert_eq!(stored.text("results/x").trim(), stored.query["test"]);
    }
    collector.delivered(20).await;
    collector.stop().await;
    assert_eq!(sink.requests(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_an_engine_restart_ends_is_delivered_once() {
    let mut engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let collector = Running::start(home.container_settings(sink.url()), Some(connect(engine.host()).await));
    let script = format!("{WRITE_RESULTS}; sleep 600");
    run(&engine, &["--name", "interrupted", "--label", "tugbot.test"], &script);
    run(&engine, &["--name", "before", "--label", "tugbot.test"], "true");
    sink.wait_for(1).await;
    engine.restart();
    run(&engine, &["--name", "after", "--label", "tugbot.test"], "true");
    let stored = sink.wait_for(3).await;
    let mut tests: Vec<&str> = stored.iter().map(|stored| stored.query["test"].as_str()).collect();
    tests.sort_unstable();
    assert_eq!(tests, ["after", "before", "interrupted"]);
    let interrupted = stored.iter().find(|stored| stored.query["test"] == "interrupted").unwrap();
    assert!(interrupted.has("results/junit.xml"));
    assert_ne!(interrupted.query["exitcode"], "0");
    collector.delivered(3).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_results_are_refused_is_delivered_without_them() {
    let engine = Engine::private();
    let (home, sink) = (Home::new(), Sink::start().await);
    let problem = r#"{"title":"Too many entries","status":413}"#;
    sink.next([Reply::Say(413, None, problem)]);
    let mut settings = home.container_settings(sink.url());
    settings.cleanup = true;
    let collector = Running::start(settings, Some(connect(engine.host()).await));
    let labels = ["--name", "copy", "--label", "tugbot.test", "--label", "tugbot.created.from=t1"];
    run(&engine, &labels, &format!("echo out; {WRITE_RESULTS}; exit 4"));
    let stored = sink.wait_for(1).await.remove(0);
    assert!(stored.key.ends_with("/without-results"), "{}", stored.key);
    assert_eq!((stored.query["test"].as_str(), stored.query["exitcode"].as_str()), ("t1", "4"));
    assert_eq!(stored.text("console_output/stdout.log"), "out\n");
    assert!(stored.has("container_info/inspect.json") && !stored.has("results/junit.xml"));
    let notes = stored.text("container_info/notes.txt");
    assert!(notes.contains("the service refused them: 413 Payload Too Large: Too many entries"), "{notes}");
    collector.delivered(1).await;
    assert_eq!(collector.status.counters().rejected, 1);
    let events = collector.stop().await;
    // The results exist only in the container and in the spool: neither is removed.
    assert!(!events.iter().any(|event| matches!(event, CollectorEvent::Removed { .. })));
    assert_eq!(engine.docker(&["ps", "-a", "--format", "{{.Names}}"]), "copy");
    assert_eq!(home.spool("rejected").len(), 2);
}
