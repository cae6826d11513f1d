//! Uploads and events as collectors and runners send them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::served::{Served, archive};

/// A run of a test container.
pub(super) struct Run {
    test: String,
    exit_code: i64,
    started: Timestamp,
    seconds: f64,
    labels: Vec<(&'static str, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl Run {
    /// A run that passed a minute ago and left nothing behind.
    pub(super) fn of(test: &str) -> Self {
        Self {
            test: test.to_owned(),
            exit_code: 0,
            started: Timestamp::now() - SignedDuration::from_secs(60),
            seconds: 2.5,
            labels: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(super) fn exit(self, exit_code: i64) -> Self {
        Self { exit_code, ..self }
    }

    pub(super) fn at(self, started: Timestamp, seconds: f64) -> Self {
        Self { started, seconds, ..self }
    }

    pub(super) fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }

    pub(super) fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), contents.into()));
        self
    }

    /// Uploads it and returns the path of its page.
    pub(super) async fn upload(self, served: &Served) -> String {
        let inspect = self.inspect().to_string();
        let engine = json!({
            "id": "ENGINE", "name": "node-3.shop.example", "server_version": "20.10.24",
            "api_version": "1.41", "operating_system": "Debian GNU/Linux 12", "kernel_version": "6.1.0",
        });
        let engine = engine.to_string();
        let mut files = vec![
            ("container_info/inspect.json", inspect.as_bytes()),
            ("container_info/engine.json", engine.as_bytes()),
        ];
        files.extend(self.files.iter().map(|(path, contents)| (path.as_str(), contents.as_slice())));
        let receipt = served.stored("?mainfile=results.tar", archive(&files)).await;
        receipt["url"].as_str().expect("a receipt names the page").to_owned()
    }

    /// What the engine says of the container.
    fn inspect(&self) -> Value {
        let mut labels = serde_json::Map::new();
        labels.insert("tugbot.test".to_owned(), json!("true"));
        labels.insert("tugbot.created.from".to_owned(), json!(self.test));
        for (name, value) in &self.labels {
            labels.insert((*name).to_owned(), json!(value));
        }
        json!({
            "Id": "4f1c9b0d2a7e5836c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8",
            "Name": "/tugbot_copy_1",
            "Image": "sha256:9c7a54a9a43cca047013b82af109fe963fde787f63f9e016fdc3384500c2823d",
            "Created": self.started,
            "Path": "/tests/run.sh",
            "Args": ["--junit", "/var/tests/results/junit.xml"],
            "Config": { "Image": "registry.shop.example/tests:2.14", "Hostname": "4f1c9b0d2a7e", "Labels": labels },
            "HostConfig": { "NetworkMode": "shop_default", "Init": true, "Memory": 268_435_456 },
            "State": {
                "Status": "exited", "ExitCode": self.exit_code, "OOMKilled": false, "StartedAt": self.started,
                "FinishedAt": self.started + SignedDuration::from_secs_f64(self.seconds),
            },
        })
    }
}

/// Posts a CloudEvent.
pub(super) async fn post_event(served: &Served, event: &Value) {
    let request = served.post("/events").header("content-type", "application/cloudevents+json");
    let answer = request.body(event.to_string()).send().await.expect("the service answers");
    assert_eq!(answer.status(), 202);
}

/// The cause that a runner writes into the label `tugbot.cause`.
pub(super) fn cause(trigger: &str, summary: &str, at: Timestamp, event: Option<&str>) -> String {
    let mut cause = json!({ "trigger": trigger, "summary": summary, "at": at, "attempt": 1 });
    if let Some(event) = event {
        cause["event"] = json!(event);
    }
    cause.to_string()
}

/// An event of a container, as a runner posts it.
pub(super) fn container_event(id: &str, action: &str, name: &str, at: Timestamp) -> Value {
    let kind = format!("dev.cdeventsx.docker-container.{action}.0.1.0");
    json!({
        "specversion": "1.0", "id": id, "source": "/tugyard/run/node-3.shop.example", "type": kind, "time": at,
        "subject": "b7d1", "datacontenttype": "application/json",
        "data": {
            "context": { "version": "0.4.1", "id": id, "type": kind, "timestamp": at },
            "subject": { "id": "b7d1", "type": "docker-container", "content": {
                "action": action, "attributes": { "name": name, "image": "registry.shop.example/web:5.2" }
            } }
        }
    })
}

/// A JUnit report of an online shop: so many cases that passed, these failures (name, message, text), and one case
/// that was skipped.
pub(super) fn junit(passed: usize, failures: &[(&str, &str, &str)]) -> String {
    let mut cases = String::new();
    for number in 0..passed {
        let (class, name) = CASES[number % CASES.len()];
        let again = match number / CASES.len() {
            0 => String::new(),
            before => format!(" ({})", before + 1),
        };
        let time = 0.004 + (number * 37 % 90) as f64 / 300.0;
        cases.push_str(&format!(
            "<testcase classname=\"{class}\" name=\"{name}{again}\" time=\"{time:.3}\"/>\n"
        ));
    }
    for (name, message, text) in failures {
        cases.push_str(&format!(
            "<testcase classname=\"shop.payments\" name=\"{name}\" time=\"1.204\"><failure message=\"{message}\" \
             type=\"AssertionError\">{text}</failure></testcase>\n"
        ));
    }
    cases.push_str(
        "<testcase classname=\"shop.cart\" name=\"keeps the cart over a restart\">\
         <skipped message=\"needs two nodes\"/></testcase>\n",
    );
    format!("<?xml version=\"1.0\"?><testsuites><testsuite name=\"shop\">{cases}</testsuite></testsuites>")
}

const CASES: [(&str, &str); 12] = [
    ("shop.home", "answers within a second"),
    ("shop.home", "lists the newest articles"),
    ("shop.search", "finds an article by its name"),
    ("shop.search", "finds nothing for an empty query"),
    ("shop.search", "sorts by price"),
    ("shop.cart", "adds an article"),
    ("shop.cart", "removes an article"),
    ("shop.cart", "adds up the prices"),
    ("shop.account", "signs in"),
    ("shop.account", "refuses a wrong password"),
    ("shop.account", "signs out everywhere"),
    ("shop.payments", "takes a card"),
];

/// A failure as pytest reports it.
pub(super) const REFUND: (&str, &str, &str) = (
    "refunds a card",
    "expected status 200, got 502",
    "    @pytest.mark.payments\n    def test_refund(shop, card):\n        order = shop.buy(\"lamp\", card)\n\
     &gt;       assert shop.refund(order).status == 200\nE       AssertionError: expected status 200, got 502\n\
     E        +  where 502 = &lt;Response POST /orders/1077/refund&gt;.status\n\ntests/test_payments.py:118: AssertionError",
);

/// A console with colours, as test programs write it.
pub(super) const STDOUT: &str = "\u{1b}[1mshop tests 2.14\u{1b}[0m against http://web:8080\n\
    \u{1b}[2mwaiting for web … ready after 412 ms\u{1b}[0m\n\
    \n\
    \u{1b}[32m✓\u{1b}[0m shop.home answers within a second \u{1b}[2m(63 ms)\u{1b}[0m\n\
    \u{1b}[32m✓\u{1b}[0m shop.search finds an article by its name \u{1b}[2m(118 ms)\u{1b}[0m\n\
    \u{1b}[33m-\u{1b}[0m shop.cart keeps the cart over a restart \u{1b}[33mskipped: needs two nodes\u{1b}[0m\n\
    \u{1b}[31m✗\u{1b}[0m shop.payments refunds a card \u{1b}[2m(1.2 s)\u{1b}[0m\n\
    \u{1b}[31m  AssertionError: expected status 200, got 502\u{1b}[0m\n\
    \n\
    \u{1b}[41;97m FAIL \u{1b}[0m \u{1b}[1;31m1 failed\u{1b}[0m, \u{1b}[32m24 passed\u{1b}[0m, 1 skipped in \u{1b}[36m6.31 s\u{1b}[0m\n";

/// The failed run of `payments-api` that every test of the run page looks at.
pub(super) fn failed_run(started: Timestamp) -> Run {
    Run::of("payments-api")
        .at(started, 6.31)
        .exit(1)
        .label("tugbot.owner", "team-checkout")
        .label("tugbot.event.docker", "create")
        .label("tugbot.cause", cause("docker", "container web create", started, Some("01-web-create")))
        .file("results/junit.xml", junit(24, &[REFUND]))
        .file("results/screenshots/refund page.png", vec![0x89, b'P', b'N', b'G'])
        .file("results/har/refund.har", "{}".repeat(9000))
        .file("console_output/stdout.log", STDOUT)
        .file("console_output/stderr.log", "npm warn config production Use `--omit=dev` instead.\n")
}

/// The history of a small online shop. Returns the page of its newest failed run.
pub(super) async fn history(served: &Served) -> String {
    // name, owner, minutes between runs, usual seconds, runs, exit codes by place counted back from the newest
    type Plan = (&'static str, &'static str, i64, i64, i64, &'static [(i64, i64)]);
    let plans: [Plan; 8] = [
        ("checkout-smoke", "team-checkout", 15, 6, 42, &[(11, 1), (12, 1)]),
        ("catalog-search", "team-catalog", 30, 18, 34, &[(3, 1), (9, 1), (17, 2), (22, 1)]),
        ("login-e2e", "team-accounts", 20, 41, 38, &[]),
        ("db-migrations", "", 360, 95, 12, &[]),
        ("edge-cache", "platform", 10, 1, 50, &[(25, 1)]),
        ("nightly-restore", "platform", 1440, 780, 9, &[(0, 137), (4, 1)]),
        ("image-licences", "", 720, 22, 4, &[]),
        ("payments-api", "team-checkout", 15, 6, 70, &[(1, 1), (2, 1), (20, 1), (55, 1)]),
    ];
    let now = Timestamp::now();
    for (name, owner, minutes, usual, runs, bad) in plans {
        for back in (0..runs).rev() {
            let exit_code = bad.iter().find(|(at, _)| *at == back).map_or(0, |(_, code)| *code);
            // Durations that look measured, and are the same each time.
            let noise = ((back * back * 31 + back * 17) % 97) as f64 / 97.0 - 0.5;
            let growth = if name == "edge-cache" { 1.0 + (runs - back) as f64 / 40.0 } else { 1.0 };
            let seconds =
                if exit_code == 137 { 1_800.0 } else { usual as f64 * (1.0 + noise / 4.0) * growth };
            let started = now - SignedDuration::from_secs(back * minutes * 60 + usual + 340);
            let run = Run::of(name)
                .at(started, seconds)
                .exit(exit_code)
                .label("tugbot.timeout", "30m")
                .label("tugbot.cause", cause("timer", &format!("every {minutes} min"), started, None));
            let run = if owner.is_empty() { run } else { run.label("tugbot.owner", owner) };
            run.upload(served).await;
        }
    }
    let started = now - SignedDuration::from_secs(95);
    post_event(served, &container_event("01-web-create", "create", "web", started)).await;
    failed_run(started).upload(served).await
}
