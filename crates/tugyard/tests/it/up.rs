//! `tugyard up`: the whole loop in one process.

use rustix::process::Signal;
use tempfile::tempdir;
use testkit::{Engine, eventually};

use crate::support::{Daemon, PATIENCE, all_runs, get};

#[tokio::test(flavor = "multi_thread")]
async fn serves_runs_and_watches_without_any_setup_and_stops_within_ten_seconds() {
    let (engine, state) = (Engine::private(), tempdir().unwrap());
    let image = engine.busybox();
    let directory = state.path().to_str().unwrap();
    let words = [
        "up",
        "--listen",
        "127.0.0.1:0",
        "--state-dir",
        directory,
        "--host",
        &engine.host(),
        "--output",
        "json",
    ];
    let mut up = Daemon::listening(&words);
    let http = testkit::http_client();
    let labels = ["--label", "tugbot.test", "--label", "tugbot.event.timer=1s", "--label", "tugbot.keep=1"];
    engine.docker(&[&["run", "--name", "tick"], &labels[..], &[image.as_str(), "true"]].concat());
    let runs = eventually("the first run and two by the timer", PATIENCE, || async {
        Some(all_runs(&http, &up.url, "tick").await).filter(|runs| runs.len() >= 3)
    })
    .await;
    assert!(runs.iter().all(|run| run["state"] == "passed"), "{runs:#?}");
    assert!(runs.iter().any(|run| run["trigger"] == "timer"), "{runs:#?}");
    let events = get(&http, &up.url, "/api/v1/events?limit=100").await;
    assert!(!events["items"].as_array().unwrap().is_empty());
    let (status, took) = up.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{}", up.log());
    assert!(took.as_secs() < 10, "{took:?}");

    // State stays: a second start shows the same runs, and the test is not run twice at once.
    let again = Daemon::listening(&words);
    assert!(all_runs(&http, &again.url, "tick").await.len() >= runs.len());
}
