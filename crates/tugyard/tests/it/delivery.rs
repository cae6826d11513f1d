//! A result is stored exactly once, whoever is down or killed meanwhile.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::Signal;
use tempfile::tempdir;
use testkit::{Engine, eventually};

use crate::support::{Daemon, PATIENCE, Service, tugyard};

fn collector(engine: &Engine, service: &str, key: &str, state: &Path) -> Daemon {
    let mut command = tugyard();
    command
        .args(["watch", "--host", &engine.host(), "-r", service, "--state-dir"])
        .arg(state)
        .env("TUGYARD_API_KEY", key);
    Daemon::start(&mut command)
}

fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_result_arrives_once_although_service_and_collector_are_killed() {
    let (engine, state, home) = (Engine::private(), tempdir().unwrap(), tempdir().unwrap());
    let image = engine.busybox();
    let mut service = Service::start(state.path());
    let (url, key) = (service.daemon.url.clone(), service.key.clone());
    let test = |n: usize| {
        let (name, code) = (format!("t{n:02}"), format!("exit {}", n % 2));
        let _ =
            engine.try_docker(&["run", "--name", &name, "--label", "tugbot.test", &image, "sh", "-c", &code]);
    };
    let mut collecting = collector(&engine, &url, &key, home.path());
    test(0);
    eventually("the first result", PATIENCE, || async {
        (service.runs("t00").await.len() == 1).then_some(())
    })
    .await;
    service.daemon.end(Signal::KILL);
    let before = files_below(home.path());
    (1..6).for_each(test);
    eventually("spooled results", PATIENCE, || async {
        (files_below(home.path()) >= before + 5).then_some(())
    })
    .await;
    collecting.end(Signal::KILL);
    (6..11).for_each(test);
    let _again = collector(&engine, &url, &key, home.path());
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let service = Service::start_on(state.path(), &address);
    let stored = eventually("all results", PATIENCE, || async {
        let page = service.get("/api/v1/runs?limit=200").await;
        let names: Vec<_> = page["items"]
            .as_array()?
            .iter()
            .map(|r| r["test"].as_str().unwrap_or_default().to_owned())
            .collect();
        (names.len() >= 11).then_some(names)
    })
    .await;
    let mut counts = BTreeMap::new();
    stored.into_iter().for_each(|name| *counts.entry(name).or_insert(0) += 1);
    assert_eq!(counts, (0..11).map(|n| (format!("t{n:02}"), 1)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_collector_sends_nothing_again_and_cleanup_waits_for_the_service() {
    let (engine, state, home) = (Engine::private(), tempdir().unwrap(), tempdir().unwrap());
    let image = engine.busybox();
    let service = Service::start(state.path());
    let (url, key) = (service.daemon.url.clone(), service.key.clone());
    engine.docker(&["run", "--name", "kept", "--label", "tugbot.test", &image, "true"]);
    {
        let _collecting = collector(&engine, &url, &key, home.path());
        eventually("the result", PATIENCE, || async {
            (service.runs("kept").await.len() == 1).then_some(())
        })
        .await;
    }
    let _again = collector(&engine, &url, &key, home.path());
    engine.docker(&["run", "--name", "later", "--label", "tugbot.test", &image, "true"]);
    eventually("the later result", PATIENCE, || async {
        (service.runs("later").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(service.runs("kept").await.len(), 1);
}
