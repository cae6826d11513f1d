//! Ten thousand files written at once are ten thousand results.

use std::{collections::BTreeSet, fs};

use tempfile::tempdir;
use testkit::eventually;

use crate::support::{Daemon, PATIENCE, Service, tugyard};

const FILES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_in_a_burst_are_stored_once_each() {
    let (state, home, watched) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let service = Service::start(state.path());
    let mut command = tugyard();
    command
        .args(["watch", "-r", &service.daemon.url, "--dir"])
        .arg(watched.path())
        .arg("--state-dir")
        .arg(home.path())
        .env("TUGYARD_API_KEY", &service.key);
    let collector = Daemon::start(&mut command);
    for n in 0..FILES {
        let directory = watched.path().join(format!("suite{}/part{}", n % 20, n % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{n}.log")), format!("result {n}\n")).unwrap();
    }
    let (http, metrics) = (testkit::http_client(), format!("{}/metrics", service.daemon.url));
    let stored = || async {
        let text = http.get(&metrics).send().await.unwrap().text().await.unwrap();
        runs_stored(&text)
    };
    // Far more than it takes: what counts is that all arrive, not how fast.
    let patience = PATIENCE * 5;
    eventually("all files stored", patience, || async { (stored().await >= FILES).then_some(()) }).await;
    let mut names = BTreeSet::new();
    let mut runs = 0;
    let mut cursor = String::new();
    loop {
        let page = service.get(&format!("/api/v1/runs?limit=500{cursor}")).await;
        for run in page["items"].as_array().unwrap() {
            runs += 1;
            names.insert(run["id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!((runs, names.len()), (FILES, FILES), "log of the collector:\n{}", collector.log());
}

/// The counter of stored runs in OpenMetrics text.
fn runs_stored(metrics: &str) -> usize {
    let lines = metrics.lines().filter(|l| l.starts_with("tugyard_serve_uploads_total{result=\"stored\""));
    lines.filter_map(|l| l.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}
