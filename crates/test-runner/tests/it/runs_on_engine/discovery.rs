//! Which containers a runner looks after, and what it asks the engine for to know it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use test_results::labels;
use test_runner::{Override, RunnerEvent, RunnerSettings, plan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::rig::{connect, copies, first_run, product, settings, settled, start};

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_the_image_count_and_names_are_exact() {
    let engine = testkit::Engine::private();
    engine.busybox();
    engine.import(
        "tests:1",
        &testkit::engine::busybox_layer(),
        &["CMD [\"true\"]", "LABEL tugbot-test=\"\"", "LABEL tugbot-event-docker=create"],
    );
    for name in ["test", "est", "test2"] {
        engine.docker(&["run", "--name", name, "--network", "none", "tests:1"]);
    }
    first_run(&engine, "off", &["tugbot.test=false"], "true");
    let named = RunnerSettings { names: vec!["test".to_owned()], ..settings() };
    let client = connect(engine.socket()).await;
    let rows = plan::plan(&client, &named).await.unwrap();
    let rows: Vec<(&str, Option<&str>)> =
        rows.iter().map(|row| (row.container.as_str(), row.not_a_candidate.as_deref())).collect();
    assert_eq!(
        rows,
        [
            ("test", None),
            ("est", Some("not among the containers that were named")),
            ("off", Some("switched off: tugbot.test=false")),
            ("test2", Some("not among the containers that were named")),
        ]
    );
    let runner = start(engine.socket(), named).await;
    product(&engine, "web");
    runner.finishes("test", 1).await;
    settled(&engine, &runner).await;
    assert_eq!(copies(&client, "test").await.len(), 1);
    assert_eq!(copies(&client, "est").await.len(), 0);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_the_command_line_make_a_test_of_any_container_and_reach_its_copies() {
    let engine = testkit::Engine::private();
    product(&engine, "bench");
    let given = Override::parse("name=bench;results=/var/bench;event.docker=tag;timeout=90s").unwrap();
    let runner = start(engine.socket(), RunnerSettings { overrides: vec![given], ..settings() }).await;
    engine.docker(&["tag", &engine.busybox(), "other:1"]);
    runner.finishes("bench", 1).await;
    let client = connect(engine.socket()).await;
    let copy = copies(&client, "bench").await.pop().unwrap();
    assert!(labels::is_test(&copy.labels));
    assert_eq!(labels::get(&copy.labels, labels::RESULTS), Some("/var/bench"));
    assert_eq!(labels::get(&copy.labels, labels::TIMEOUT), Some("90s"));
    let cause: test_results::Cause =
        serde_json::from_str(labels::get(&copy.labels, labels::CAUSE).unwrap()).unwrap();
    assert_eq!(cause.trigger, test_results::TriggerKind::Docker);
    assert!(cause.summary.ends_with(" tag"), "{}", cause.summary);
    assert!(runner.heard.announced().iter().any(|event| Some(&event.id) == cause.event.as_ref()));
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_made_renamed_changed_and_removed_while_the_runner_works() {
    let engine = testkit::Engine::private();
    let runner = start(engine.socket(), settings()).await;
    first_run(&engine, "t1", &["tugbot.event.docker=tag"], "hostname > /dev/null");
    engine.docker(&["rename", "t1", "t2"]);
    engine.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "t2"]);
    engine.docker(&["tag", &engine.busybox(), "other:1"]);
    runner.finishes("t2", 1).await;
    let client = connect(engine.socket()).await;
    let copy = copies(&client, "t2").await.pop().unwrap();
    assert_eq!(copy.document["HostConfig"]["Memory"], 64 << 20, "the document was read anew");
    engine.docker(&["rm", "t2"]);
    let gone = |event: &RunnerEvent| match event {
        RunnerEvent::Withdrawn { test } if test.0 == "t2" => Some(()),
        _ => None,
    };
    runner.hears("the end of the test", gone).await;
    engine.docker(&["tag", &engine.busybox(), "other:2"]);
    settled(&engine, &runner).await;
    assert_eq!(copies(&client, "t2").await.len(), 1);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_costs_no_listing_and_no_inspection() {
    let engine = testkit::Engine::private();
    for n in 0..5 {
        first_run(&engine, &format!("t{n}"), &["tugbot.event.docker=pull"], "true");
    }
    let meter = Meter::before(engine.socket());
    let runner = start(&meter.socket(), settings()).await;
    settled(&engine, &runner).await;
    let before = meter.asked();
    for n in 0..50 {
        product(&engine, &format!("web{n}"));
    }
    runner.sees("create", "web49").await;
    assert_eq!(meter.asked(), before, "upstream asked for a list and 2N documents at each event");
    runner.stop().await;
}

/// Stands before an engine and counts the bytes that are sent to it.
struct Meter {
    home: tempfile::TempDir,
    asked: Arc<AtomicU64>,
}

impl Meter {
    fn before(engine: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("s")).unwrap();
        let (asked, engine) = (Arc::new(AtomicU64::new(0)), engine.to_owned());
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (engine, count) = (UnixStream::connect(&engine).await.unwrap(), count.clone());
                tokio::spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_engine, mut to_engine) = engine.into_split();
                    tokio::spawn(async move { tokio::io::copy(&mut from_engine, &mut to_client).await });
                    let mut piece = [0; 4096];
                    while let Ok(read @ 1..) = from_client.read(&mut piece).await {
                        count.fetch_add(read as u64, Ordering::SeqCst);
                        if to_engine.write_all(&piece[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { home, asked }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.home.path().join("s")
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}
