//! A service for one test, and the uploads that tests send to it.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use reqwest::{RequestBuilder, Response};
use result_service::{Scope, Service, ServiceSettings, Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A service that runs until this is dropped. Its state is kept and named when the test fails.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    /// A key with the scope `upload`.
    pub(crate) key: String,
    pub(crate) client: reqwest::Client,
    state: Option<TempDir>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServiceSettings)) -> Self {
        Self::in_state(tempfile::tempdir().expect("a directory"), change).await
    }

    pub(crate) async fn in_state(state: TempDir, change: impl FnOnce(&mut ServiceSettings)) -> Self {
        let mut settings = ServiceSettings::new(state.path().join("state"));
        change(&mut settings);
        let service = Service::open(settings).await.expect("opens");
        let store = service.store().clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.serve(listener, stop.clone()));
        let made = store.create_key("collector", &[Scope::Upload], Timestamp::now()).await.expect("a key");
        let key = made.secret.expose_secret().to_owned();
        Self { address, store, key, client: testkit::http_client(), state: Some(state), stop, task }
    }

    /// Stops the service and hands back its state directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        (&mut self.task).await.expect("ends in good order");
        self.state.take().expect("is there until now")
    }

    /// Asks the service to stop without waiting.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn state_dir(&self) -> &Path {
        self.state.as_ref().expect("is there").path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn key_with(&self, scopes: &[Scope]) -> String {
        let made = self.store.create_key("a key", scopes, Timestamp::now()).await.expect("a key");
        made.secret.expose_secret().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.expect("answers")
    }

    /// The document at this path.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A request with the key of an uploader.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(&self.key)
    }

    /// An upload in the archive's form.
    pub(crate) fn upload(&self, query: &str, archive: Vec<u8>) -> RequestBuilder {
        self.post(&format!("/results{query}")).header("content-type", "application/gzip").body(archive)
    }

    /// Uploads and expects to be told that it was stored. Returns the receipt.
    pub(crate) async fn stored(&self, query: &str, archive: Vec<u8>) -> Value {
        let response = self.upload(query, archive).send().await.expect("answers");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert_eq!(status, 201, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Uploads and expects to be refused. Returns status and problem.
    pub(crate) async fn refused(&self, query: &str, archive: Vec<u8>) -> (u16, Value) {
        problem(self.upload(query, archive).send().await.expect("answers")).await
    }

    /// One number from the database itself.
    pub(crate) async fn count(&self, table: &'static str) -> i64 {
        use sqlx::Connection;
        let path = self.state_dir().join("state/results.sqlite");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("opens");
        let query = match table {
            "runs" => "SELECT count(*) FROM runs",
            "cases" => "SELECT count(*) FROM cases",
            "files" => "SELECT count(*) FROM files",
            "blobs" => "SELECT count(*) FROM blobs",
            other => panic!("no query for {other}"),
        };
        sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("counts")
    }

    /// Every file under the directory of blobs.
    pub(crate) fn blob_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.state_dir().join("state/blobs")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).expect("lists") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { open.push(path) } else { found.push(path.display().to_string()) }
            }
        }
        found
    }
}

impl Drop for Served {
    #[allow(clippy::print_stderr, reason = "whoever looks into the failure needs the path")]
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking()
            && let Some(state) = self.state.take()
        {
            eprintln!("the state of the service is kept in {}", state.keep().display());
        }
    }
}

/// The status and the problem of a refusal.
pub(crate) async fn problem(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").cloned();
    let text = response.text().await.expect("a body");
    assert_eq!(kind.expect("has a type"), "application/problem+json", "{status}: {text}");
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(problem["status"], status, "{text}");
    assert_eq!(problem["type"], "about:blank");
    (status, problem)
}

/// A tar of these files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *contents).expect("fits");
    }
    builder.into_inner().expect("ends")
}

pub(crate) fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(contents).expect("fits");
    encoder.finish().expect("ends")
}

/// An upload of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    gzip(&tar(files))
}

pub(crate) const JUNIT: &str = r#"<testsuites><testsuite name="shop"><testsuite name="cart">
    <testcase classname="Cart" name="adds" time="0.25"/>
    <testcase classname="Cart" name="removes" time="0.5"><failure message="expected 1" type="AssertionError">at line 3</failure></testcase>
    <testcase classname="Cart" name="waits"><skipped/></testcase>
</testsuite></testsuite></testsuites>"#;

/// What the engine says of a copy of the test container `t1` that exited with this code.
pub(crate) fn inspect(exit_code: i64) -> Value {
    json!({
        "Id": "4f1c77", "Name": "/tugbot_t1_20260501100000", "Image": "sha256:aa11",
        "State": {"ExitCode": exit_code, "StartedAt": "2026-05-01T10:00:00Z", "FinishedAt": "2026-05-01T10:00:02.5Z"},
        "Config": {"Image": "shop-tests:2", "Labels": {
            "tugbot.test": "", "tugbot.created.from": "t1", "tugbot.owner": "team-web",
            "tugbot.cause": json!({"trigger": "docker", "summary": "container web create",
                "at": "2026-05-01T09:59:59Z", "event": "e-77"}).to_string(),
        }},
    })
}

/// The whole upload of a run with a report.
pub(crate) fn whole_archive(exit_code: i64, junit: &str) -> Vec<u8> {
    let engine = json!({"id": "E1", "name": "host-1", "server_version": "20.10.24", "api_version": "1.41",
        "operating_system": "Debian", "kernel_version": "6.1"});
    archive(&[
        ("container_info/inspect.json", inspect(exit_code).to_string().as_bytes()),
        ("container_info/engine.json", engine.to_string().as_bytes()),
        ("console_output/stdout.log", b"one\ntwo\n"),
        ("console_output/stderr.log", b"warning\n"),
        ("results/junit.xml", junit.as_bytes()),
        ("results/pictures/page.png", b"\x89PNG not really"),
    ])
}
