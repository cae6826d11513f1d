//! The real binary as a child process, and the questions the tests ask of a service.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::eventually;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary with an environment of its own.
pub(crate) fn tugyard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tugyard"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("NO_COLOR", "1");
    command
}

/// Runs the binary to its end.
pub(crate) fn run(words: &[&str]) -> Output {
    tugyard().args(words).stdin(Stdio::null()).output().expect("the binary starts")
}

/// A binary that keeps running; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) url: String,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts a daemon that listens, and waits for the address it announces.
    pub(crate) fn listening(words: &[&str]) -> Self {
        let mut daemon = Self::start(tugyard().args(words));
        let stdout = daemon.child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("stdout can be read");
        let announced: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("no announcement but {line:?} ({e}); log:\n{}", daemon.log()));
        daemon.url = announced["url"].as_str().expect("the announcement has a URL").to_owned();
        daemon
    }

    /// Starts a daemon; its log is kept for failures.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, sink) = (child.stderr.take().expect("stderr is piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                sink.lock().expect("no panic holds the log").push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { child, url: String::new(), log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic holds the log").clone()
    }

    /// Waits until the log has this text.
    pub(crate) async fn logged(&self, text: &str) {
        eventually(text, PATIENCE, || async { self.log().contains(text).then_some(()) }).await;
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("the child can be signalled");
        (self.child.wait().expect("the child can be waited for"), started.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "what a failed test has to say")]
            {
                eprintln!("--- log of the daemon\n{}", self.log());
            }
        }
    }
}

/// A service with an upload key.
pub(crate) struct Service {
    pub(crate) daemon: Daemon,
    pub(crate) key: String,
    http: reqwest::Client,
}

impl Service {
    /// Starts `tugyard serve` on a free port with its state in `state`.
    pub(crate) fn start(state: &Path) -> Self {
        Self::start_on(state, "127.0.0.1:0")
    }

    /// Starts `tugyard serve` on the given address.
    pub(crate) fn start_on(state: &Path, listen: &str) -> Self {
        let state = state.to_str().expect("temporary paths are UTF-8");
        let made = run(&[
            "keys",
            "create",
            "--name",
            "test",
            "--scope",
            "upload",
            "--state-dir",
            state,
            "--output",
            "json",
        ]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("keys create prints JSON");
        let key = made["key"].as_str().expect("the key is in the answer").to_owned();
        let daemon =
            Daemon::listening(&["serve", "--listen", listen, "--state-dir", state, "--output", "json"]);
        Self { daemon, key, http: testkit::http_client() }
    }

    /// One page of the API as JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        get(&self.http, &self.daemon.url, path).await
    }

    /// All runs of a test, newest first.
    pub(crate) async fn runs(&self, test: &str) -> Vec<Value> {
        all_runs(&self.http, &self.daemon.url, test).await
    }
}

/// One document of an API.
pub(crate) async fn get(http: &reqwest::Client, service: &str, path: &str) -> Value {
    let url = format!("{}{path}", service.trim_end_matches('/'));
    let answer = http.get(&url).send().await.unwrap_or_else(|e| panic!("GET {url}: {e}"));
    assert!(answer.status().is_success(), "GET {url}: {}", answer.status());
    answer.json().await.unwrap_or_else(|e| panic!("GET {url}: {e}"))
}

/// All runs of a test over all pages.
pub(crate) async fn all_runs(http: &reqwest::Client, service: &str, test: &str) -> Vec<Value> {
    let mut runs = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(http, service, &format!("/api/v1/runs?limit=200&test={test}{cursor}")).await;
        runs.extend(page["items"].as_array().expect("a page has items").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&after={next}"),
            None => return runs,
        }
    }
}
