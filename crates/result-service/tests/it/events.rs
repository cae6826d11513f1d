//! Events: every form, once each, and the stream.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Response, header::HeaderValue};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::served::{Served, archive, problem};

fn event(n: usize) -> Value {
    json!({"specversion": "1.0", "id": format!("e-{n}"), "source": "/here", "type": "dev.cdevents.artifact.published.0.2.0",
        "subject": "pkg:oci/shop", "time": "2026-05-01T10:00:00Z", "data": {"n": n}})
}

async fn send(served: &Served, kind: &str, body: &Value) -> (u16, Value) {
    let request = served.post("/events").header("content-type", kind).body(body.to_string());
    let response = request.send().await.expect("answers");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn every_form_of_an_event_is_taken() {
    let served = Served::start().await;
    let one = json!({"stored": 1, "repeated": 0});
    assert_eq!(
        send(&served, "application/cloudevents+json; charset=utf-8", &event(1)).await,
        (202, one.clone())
    );
    assert_eq!(send(&served, "application/json", &event(2)).await, (202, one.clone()));
    let batch = json!([event(3), event(4)]);
    let answer = send(&served, "application/cloudevents-batch+json", &batch).await;
    assert_eq!(answer, (202, json!({"stored": 2, "repeated": 0})));
    let upstream = json!({"Type": "container", "ID": "4f1c", "StartedAt": "2016-08-01T10:00:00Z", "FinishedAt": "",
        "Tag": "", "From": "shop:2", "Action": "die", "Status": "die"});
    assert_eq!(send(&served, "application/json", &upstream).await, (202, one));

    let listed = served.json("/api/v1/events").await;
    let kinds: Vec<_> =
        listed["items"].as_array().expect("items").iter().map(|row| &row["event"]["type"]).collect();
    assert_eq!(kinds[0], "dev.cdeventsx.docker-container.die.0.1.0");
    assert_eq!(kinds.len(), 5);
    assert_eq!(listed["items"][4]["event"], event(1));
    for (query, count) in [
        ("type=dev.cdevents.artifact.*", 4),
        ("type=dev.cdeventsx.docker-container.die.0.1.0", 1),
        ("subject=4f1c", 1),
        ("source=/here", 4),
        ("until=2017-01-01T00:00:00Z", 1),
        ("type=none", 0),
    ] {
        let items =
            served.json(&format!("/api/v1/events?{query}")).await["items"].as_array().expect("items").len();
        assert_eq!(items, count, "{query}");
    }
}

#[tokio::test]
async fn an_event_is_stored_once() {
    let served = Served::start().await;
    let kind = "application/cloudevents-batch+json";
    let batch = json!([event(1), event(2), event(1)]);
    assert_eq!(send(&served, kind, &batch).await.1, json!({"stored": 2, "repeated": 1}));
    assert_eq!(send(&served, kind, &batch).await.1, json!({"stored": 0, "repeated": 3}));
    let mut elsewhere = event(1);
    elsewhere["source"] = json!("/elsewhere");
    assert_eq!(send(&served, "application/json", &elsewhere).await.1, json!({"stored": 1, "repeated": 0}));
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let served = Served::start().await;
    let mut old = event(1);
    old["specversion"] = json!("0.3");
    for (kind, body, status) in [
        ("application/cloudevents+json", old.to_string(), 422),
        ("application/cloudevents+json", "{".to_owned(), 400),
        ("application/json", "{}".to_owned(), 422),
        ("application/json", "[1]".to_owned(), 422),
        ("text/plain", "x".to_owned(), 415),
        ("application/cloudevents-batch+json", json!([event(1), old]).to_string(), 422),
    ] {
        let request = served.post("/events").header("content-type", kind).body(body.clone());
        let (found, problem) = problem(request.send().await.expect("answers")).await;
        assert_eq!(found, status, "{kind} {body}: {problem}");
    }
    assert_eq!(served.json("/api/v1/events").await["items"], json!([]));
}

/// A client of the stream.
struct Listener {
    response: Response,
    buffer: String,
}

impl Listener {
    async fn open(served: &Served, after: Option<u64>) -> Self {
        let mut request = served.client.get(served.url("/api/v1/stream"));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let response = request.send().await.expect("answers");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &HeaderValue::from_static("text/event-stream"))
        );
        let mut listener = Self { response, buffer: String::new() };
        // The first message says that the stream is open: what is stored from now on is seen.
        let first = listener.message().await;
        assert!(first.contains("retry:"), "{first}");
        listener
    }

    async fn message(&mut self) -> String {
        loop {
            if let Some((message, rest)) = self.buffer.split_once("\n\n") {
                let message = message.to_owned();
                self.buffer = rest.to_owned();
                return message;
            }
            let piece =
                timeout(Duration::from_secs(30), self.response.chunk()).await.expect("a message in time");
            let piece = piece.expect("a sound stream").expect("the stream goes on");
            self.buffer.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        }
    }

    /// The next event and its sequence.
    async fn event(&mut self) -> (u64, Value) {
        let message = self.message().await;
        let field = |name: &str| {
            let line = message.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {message}")).trim().to_owned()
        };
        assert_eq!(field("event:"), "cloudevent");
        (field("id:").parse().expect("a sequence"), serde_json::from_str(&field("data:")).expect("JSON"))
    }
}

#[tokio::test]
async fn the_stream_tells_what_happens_and_resumes_without_a_gap() {
    let served = Served::start().await;
    send(&served, "application/json", &event(0)).await;
    let mut listener = Listener::open(&served, None).await;
    served.stored("?test=shop", archive(&[("results/a.txt", b"a")])).await;
    let (sequence, stored) = listener.event().await;
    assert_eq!(stored["type"], "dev.cdevents.testsuiterun.finished.0.2.0");
    assert_eq!(stored["data"]["subject"]["content"]["testSuite"]["name"], "shop");
    drop(listener);

    for n in 1..=200 {
        send(&served, "application/json", &event(n)).await;
    }
    let mut resumed = Listener::open(&served, Some(sequence)).await;
    for n in 1..=200 {
        let (found, stored) = resumed.event().await;
        assert_eq!((found, &stored["id"]), (sequence + n, &json!(format!("e-{n}"))));
    }
    send(&served, "application/json", &event(201)).await;
    assert_eq!(resumed.event().await.1["id"], "e-201");

    // From the first one on; and a client that followed a store that is gone gets everything.
    for after in [0, 1_000_000] {
        let mut all = Listener::open(&served, Some(after)).await;
        assert_eq!(all.event().await.1["id"], "e-0");
    }
}

#[tokio::test]
async fn many_writers_and_many_listeners_see_the_same_stream() {
    let served = Served::start().await;
    let mut listeners = Vec::new();
    for _ in 0..5 {
        listeners.push(Listener::open(&served, None).await);
    }
    let writers = futures_util::stream::iter(0..100).map(|n| {
        let served = &served;
        async move { send(served, "application/json", &event(n)).await.0 }
    });
    let statuses: Vec<u16> = writers.buffer_unordered(20).collect().await;
    assert_eq!(statuses, [202; 100]);
    let mut seen = Vec::new();
    for listener in &mut listeners {
        let mut events = Vec::new();
        for _ in 0..100 {
            events.push(listener.event().await);
        }
        assert!(events.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
        seen.push(events);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_service() {
    let served = Served::with(|settings| settings.limits.streams = 1).await;
    let mut listener = Listener::open(&served, None).await;
    let (status, _) = problem(served.get("/api/v1/stream").await).await;
    assert_eq!(status, 503);
    let stopping = tokio::spawn(served.stop());
    let end = timeout(Duration::from_secs(30), listener.response.chunk()).await.expect("in time");
    assert!(end.expect("in good order").is_none());
    stopping.await.expect("does not panic");
}

#[tokio::test]
async fn a_run_can_be_asked_for() {
    let served = Served::start().await;
    let mut listener = Listener::open(&served, None).await;
    let response = served.post("/api/v1/tests/shop%20smoke/run").send().await.expect("answers");
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.expect("JSON");
    let (_, event) = listener.event().await;
    assert_eq!(event["id"], answer["event"]);
    assert_eq!(event["type"], "dev.cdeventsx.tugyard-run.requested.0.1.0");
    assert_eq!(event["subject"], "shop smoke");
    assert_eq!(event["data"]["subject"]["content"]["by"], "collector");
}
