//! Triggers that come from elsewhere than the engine: the host's files, the result service, a person.

use test_results::{
    CloudEvent, EventId, TriggerKind,
    event::{self, Stamp},
};
use test_runner::{RunNowError, RunnerEvent, RunnerSettings};

use crate::rig::{connect, copies, first_run, settings, settled, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_the_host_runs_the_tests_that_watch_it() {
    let engine = testkit::Engine::private();
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(host.path().join("etc/app")).unwrap();
    std::fs::write(host.path().join("etc/app/a.conf"), "1").unwrap();
    first_run(&engine, "conf", &["tugbot.event.host=config:/etc/app/*.conf"], "true");
    first_run(&engine, "pkgs", &["tugbot.event.host=package"], "true");
    let of_host = RunnerSettings { host_root: host.path().to_owned(), ..settings() };
    let runner = start(engine.socket(), of_host).await;
    // Whether the watch has begun is not told; each version of the file counts.
    let mut version = 1;
    let runs = || {
        version += 1;
        std::fs::write(host.path().join("etc/app/a.conf"), version.to_string()).unwrap();
        let finished = runner.heard.finished("conf");
        async move { finished.first().cloned() }
    };
    testkit::eventually("a run", crate::rig::PATIENCE, runs).await;
    settled(&engine, &runner).await;
    assert_eq!(runner.heard.finished("pkgs"), []);
    let client = connect(engine.socket()).await;
    let label = copies(&client, "conf").await[0].labels["tugbot.cause"].clone();
    let cause: test_results::Cause = serde_json::from_str(&label).unwrap();
    assert_eq!(cause.trigger, TriggerKind::Host);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_service_and_requests_run_a_test_once_each() {
    let engine = testkit::Engine::private();
    first_run(&engine, "t1", &["tugbot.event.cd=dev.cdevents.artifact.published", "tugbot.keep=9"], "true");
    let runner = start(engine.socket(), settings()).await;
    let published =
        CloudEvent::new(EventId("1".to_owned()), "/registry", "dev.cdevents.artifact.published.0.2.0");
    let stamp = Stamp {
        id: EventId("2".to_owned()),
        source: "/tugyard/serve".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    let requested = event::run_requested(stamp, &"t1".into(), None);
    let mut published_at = published.clone();
    published_at.time = Some(jiff::Timestamp::UNIX_EPOCH);
    for (count, event) in [(1, &published_at), (2, &requested)] {
        // A stream that is resumed may bring an event again.
        runner.handle.event(event.clone()).await;
        runner.handle.event(event.clone()).await;
        runner.finishes("t1", count).await;
    }
    let ticket = runner.handle.run_now("t1", "by hand").await.unwrap();
    assert!(!ticket.joined);
    let ended = runner.finishes("t1", 3).await;
    assert_eq!(ended[2], (ticket.copy, "passed".to_owned()));
    settled(&engine, &runner).await;
    assert_eq!(runner.heard.finished("t1").len(), 3);
    let no_such_test = RunNowError::NoSuchTest { test: "t2".to_owned() };
    assert_eq!(runner.handle.run_now("t2", "by hand").await, Err(no_such_test));
    // What others hear of a run: queued, started, finished, each once.
    let kinds = |word: &str| {
        let kind = format!("dev.cdevents.testsuiterun.{word}.0.2.0");
        runner.heard.announced().iter().filter(|event| event.kind == kind).count()
    };
    assert_eq!([kinds("queued"), kinds("started"), kinds("finished")], [3, 3, 3]);
    let adopted = |event: &RunnerEvent| matches!(event, RunnerEvent::Adopted { .. });
    assert!(!runner.heard.reports().iter().any(adopted));
    runner.stop().await;
}
