//! From an event on a real engine to a stored result.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;
use testkit::{Engine, eventually};

use crate::support::{Daemon, PATIENCE, Service, run, tugyard};

/// Writes a JUnit file with one passed and one failed case, and says so.
pub(crate) const TEST_SCRIPT: &str = r#"mkdir -p /var/tests/results
cat >/var/tests/results/junit.xml <<X
<testsuites><testsuite name="outer"><testsuite name="inner">
<testcase classname="shop.Cart" name="adds" time="0.5"/>
<testcase classname="shop.Cart" name="removes" time="0.1"><failure message="still there"/></testcase>
</testsuite></testsuite></testsuites>
X
echo cart tested; echo one failure >&2; exit 1"#;

fn runner(engine: &Engine, service: &Service, state: &std::path::Path) -> Daemon {
    let mut command = tugyard();
    command
        .args(["run", "--host", &engine.host(), "-r", &service.daemon.url])
        .env("TUGYARD_API_KEY", &service.key)
        .current_dir(state);
    Daemon::start(&mut command)
}

fn collector(engine: &Engine, service: &Service, state: &std::path::Path) -> Daemon {
    let mut command = tugyard();
    command
        .args(["watch", "--host", &engine.host(), "-r", &service.daemon.url, "--state-dir"])
        .arg(state)
        .env("TUGYARD_API_KEY", &service.key);
    Daemon::start(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_event_becomes_a_copy_and_its_result_a_run_with_cases_and_cause() {
    let (engine, state, home) = (Engine::private(), tempdir().unwrap(), tempdir().unwrap());
    let image = engine.busybox();
    let service = Service::start(state.path());
    let mut runner = runner(&engine, &service, home.path());
    let mut collector = collector(&engine, &service, home.path());
    let labels = ["--label", "tugbot.test", "--label", "tugbot.event.docker=create"];
    let first = [&["run", "--name", "cart"], &labels[..], &[&image, "sh", "-c", TEST_SCRIPT]].concat();
    assert!(engine.try_docker(&first).is_err(), "the test ends with 1");
    // The first run is collected although nobody but the user started it.
    eventually("the first run", PATIENCE, || async { (service.runs("cart").await.len() == 1).then_some(()) })
        .await;
    runner.logged("cart").await;
    engine.docker(&["create", "--name", "product", &image]);
    let runs = eventually("the copy's run", PATIENCE, || async {
        Some(service.runs("cart").await).filter(|runs| runs.len() == 2)
    })
    .await;
    let newest = &runs[0];
    assert_eq!(newest["state"], "failed", "{newest:#}");
    assert_eq!(newest["trigger"], "docker", "{newest:#}");
    assert_eq!(runs[1]["trigger"], Value::Null);
    assert_eq!((newest["totals"]["cases"].as_u64(), newest["totals"]["failed"].as_u64()), (Some(2), Some(1)));
    let id = newest["id"].as_str().unwrap();
    let cases = service.get(&format!("/api/v1/runs/{id}/cases")).await;
    let names: BTreeSet<_> =
        cases["items"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["adds", "removes"]));
    let copies = engine.docker(&["ps", "-aq", "--filter", "label=tugbot.created.from=cart"]);
    assert_eq!(copies.lines().count(), 1, "exactly one copy");
    for daemon in [&mut runner, &mut collector] {
        let (status, took) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0));
        assert!(took.as_secs() < 10, "{took:?}");
    }
    assert!(!runner.log().contains(&service.key) && !collector.log().contains(&service.key));
}

#[test]
fn a_run_by_hand_ends_with_the_verdict_of_the_test() {
    let engine = Engine::private();
    let image = engine.busybox();
    engine.docker(&["run", "--name", "good", "--label", "tugbot.test", &image, "true"]);
    engine.docker(&["create", "--name", "bad", "--label", "tugbot.test", &image, "false"]);
    let by_hand = |name: &str| run(&["run", "--host", &engine.host(), "--now", name]).status.code();
    assert_eq!(by_hand("good"), Some(0));
    assert_eq!(by_hand("bad"), Some(1));
    assert_eq!(by_hand("absent"), Some(2));
}

#[test]
fn the_plan_names_triggers_policies_and_why_not() {
    let engine = Engine::private();
    let image = engine.busybox();
    let create = |words: &[&str]| engine.docker(&[&["create"], words, &[image.as_str(), "true"]].concat());
    create(&["--name", "timed", "--label", "tugbot.test", "--label", "tugbot.event.timer=4h30m"]);
    create(&["--name", "switched-off", "--label", "tugbot.test=false", "--label", "tugbot.event.timer=1m"]);
    create(&["--name", "broken", "--label", "tugbot.test", "--label", "tugbot.event.timer=soon"]);
    let output = run(&["run", "--host", &engine.host(), "--plan", "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["timed", "switched-off", "broken", "soon"] {
        assert!(text.contains(part), "the plan misses `{part}`: {text}");
    }
    let table = run(&["run", "--host", &engine.host(), "--plan"]);
    assert!(
        String::from_utf8_lossy(&table.stdout).contains("4h30m"),
        "{}",
        String::from_utf8_lossy(&table.stdout)
    );
}
