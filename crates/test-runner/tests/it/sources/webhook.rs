//! Webhooks, received by real HTTP servers.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use test_results::event::UpstreamEvent;
use test_runner::{
    Counts,
    webhook::{WebhookFormat, WebhookLimits, WebhookTarget, Webhooks},
};

use super::{
    event,
    log::Log,
    receiver::{Answer, Receiver},
};

const GRACE: Duration = Duration::from_secs(60);

fn quick() -> WebhookLimits {
    let (first_delay, longest_delay) = (Duration::from_millis(5), Duration::from_millis(20));
    WebhookLimits { first_delay, longest_delay, ..WebhookLimits::default() }
}

fn targets(receivers: &[&Receiver]) -> Vec<WebhookTarget> {
    let target =
        |receiver: &&Receiver| WebhookTarget::new(&receiver.url("/hook"), WebhookFormat::CloudEvents);
    receivers.iter().map(target).collect::<Result<_, _>>().unwrap()
}

fn start(receivers: &[&Receiver], limits: WebhookLimits) -> Webhooks {
    Webhooks::start(&testkit::http_client(), targets(receivers), limits)
}

fn delivered(delivered: u64) -> Counts {
    Counts { delivered, ..Counts::default() }
}

/// Upstream defect 7: with several webhooks the second one and later got an empty body.
#[tokio::test]
async fn every_webhook_gets_every_event_with_its_whole_body() {
    let receivers = [Receiver::always(200).await, Receiver::always(204).await, Receiver::always(202).await];
    let webhooks = start(&receivers.each_ref(), quick());
    for number in 0..5 {
        webhooks.send(event(number));
    }
    assert_eq!(webhooks.close(GRACE).await, [delivered(5); 3]);
    for receiver in &receivers {
        let requests = receiver.received();
        assert_eq!(requests.len(), 5);
        for (number, request) in requests.iter().enumerate() {
            assert_eq!(request.method, "POST");
            assert_eq!(request.uri, "/hook");
            assert_eq!(request.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
            assert_eq!(request.json(), serde_json::to_value(event(number)).unwrap());
        }
    }
}

#[tokio::test]
async fn a_dead_webhook_does_not_delay_the_others() {
    let silent = Receiver::start(|_, _| Answer::Never).await;
    let alive = Receiver::always(200).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let list = format!("{};{nobody};{}", silent.url("/"), alive.url("/"));
    let targets = WebhookTarget::parse_list(&list, WebhookFormat::CloudEvents).unwrap();
    let webhooks = Webhooks::start(&testkit::http_client(), targets, WebhookLimits::default());
    for number in 0..50 {
        webhooks.send(event(number));
    }
    assert_eq!(alive.requests(50).await.len(), 50);
    silent.requests(1).await;
    let counts = webhooks.close(Duration::ZERO).await;
    assert_eq!((counts[0].delivered, counts[0].waiting), (0, 50), "the silent one still holds the first");
    assert_eq!(counts[1].delivered, 0);
}

#[tokio::test]
async fn an_event_is_sent_again_until_it_is_taken_and_the_order_stays() {
    let receiver =
        Receiver::start(|number, _| Answer::Status([503, 429, 408, 425, 500, 200][number % 6])).await;
    let webhooks = start(&[&receiver], quick());
    for number in 0..3 {
        webhooks.send(event(number));
    }
    assert_eq!(webhooks.close(GRACE).await, [delivered(3)]);
    let numbers: Vec<_> =
        receiver.received().iter().map(|request| request.json()["data"]["number"].clone()).collect();
    let expected: Vec<_> = (0..3).flat_map(|number| std::iter::repeat_n(number, 6)).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn an_event_that_is_never_taken_is_given_up_for_the_next() {
    let receiver = Receiver::start(|number, _| Answer::Status(if number < 4 { 502 } else { 200 })).await;
    let webhooks = start(&[&receiver], WebhookLimits { attempts: 4, ..quick() });
    webhooks.send(event(0));
    webhooks.send(event(1));
    assert_eq!(webhooks.close(GRACE).await, [Counts { delivered: 1, given_up: 1, ..Counts::default() }]);
    assert_eq!(receiver.received().len(), 5);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let receiver = Receiver::always(410).await;
    let webhooks = start(&[&receiver], quick());
    webhooks.send(event(0));
    assert_eq!(webhooks.close(GRACE).await, [Counts { given_up: 1, ..Counts::default() }]);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn waits_as_long_as_the_receiver_asks() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Answer::Header(429, "retry-after", "1".to_owned()),
        _ => Answer::Status(200),
    })
    .await;
    let webhooks = start(&[&receiver], quick());
    let started = Instant::now();
    webhooks.send(event(0));
    assert_eq!(webhooks.close(GRACE).await, [delivered(1)]);
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn an_attempt_that_is_not_answered_ends_and_another_follows() {
    let receiver =
        Receiver::start(|number, _| if number == 0 { Answer::Never } else { Answer::Status(200) }).await;
    let webhooks = start(&[&receiver], WebhookLimits { timeout: Duration::from_millis(500), ..quick() });
    webhooks.send(event(0));
    assert_eq!(webhooks.close(GRACE).await, [delivered(1)]);
}

#[tokio::test]
async fn events_that_do_not_fit_are_dropped_counted_and_logged_once() {
    let log = Log::capture();
    let receiver = Receiver::start(|_, _| Answer::Never).await;
    let webhooks = start(&[&receiver], WebhookLimits { queue: 10, ..quick() });
    webhooks.send(event(0));
    receiver.requests(1).await;
    for number in 1..100 {
        webhooks.send(event(number));
    }
    let (name, counts) = webhooks.counts().next().unwrap();
    assert_eq!(name, format!("webhook 1 at http://{}", receiver.address()));
    assert_eq!(counts, Counts { dropped: 89, waiting: 11, ..Counts::default() });
    assert_eq!(log.lines("WARN").len(), 1, "{:?}", log.lines("WARN"));
}

#[tokio::test]
async fn upstreams_form_is_upstreams() {
    let receiver = Receiver::always(200).await;
    let list = format!("tugbot+{}", receiver.url("/events"));
    let targets = WebhookTarget::parse_list(&list, WebhookFormat::CloudEvents).unwrap();
    let webhooks = Webhooks::start(&testkit::http_client(), targets, quick());
    webhooks.send(event(1));
    assert_eq!(webhooks.close(GRACE).await, [delivered(1)]);
    let request = &receiver.received()[0];
    assert_eq!(request.header("content-type"), Some("application/json"));
    let document = request.json();
    let keys: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["Action", "FinishedAt", "From", "ID", "StartedAt", "Status", "Tag", "Type"]);
    assert_eq!(document, serde_json::to_value(UpstreamEvent::from_cloud_event(&event(1))).unwrap());
    assert_eq!((&document["Type"], &document["Action"]), (&"container".into(), &"create".into()));
}

#[tokio::test]
async fn credentials_of_a_url_are_used_and_never_logged() {
    let log = Log::capture();
    let receiver = Receiver::start(|number, _| Answer::Status(if number == 0 { 503 } else { 200 })).await;
    let refused = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let list = format!(
        "http://me:hunter2@{}/hunter2?token=hunter2;http://me:hunter2@{refused}/",
        receiver.address()
    );
    let targets = WebhookTarget::parse_list(&list, WebhookFormat::CloudEvents).unwrap();
    let webhooks =
        Webhooks::start(&testkit::http_client(), targets, WebhookLimits { attempts: 2, ..quick() });
    webhooks.send(event(0));
    webhooks.close(GRACE).await;
    let request = &receiver.received()[0];
    assert_eq!(request.header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    assert_eq!(request.uri, "/hunter2?token=hunter2");
    let ours = [log.lines("WARN"), log.lines("INFO"), log.lines("DEBUG")].concat();
    assert!(ours.len() >= 3, "{ours:?}");
    assert!(!ours.iter().any(|line| line.contains("hunter2") || line.contains("bWU6aHVudGVyMg")), "{ours:?}");
}

#[tokio::test]
async fn at_the_end_what_waits_is_still_delivered_within_the_grace() {
    let receiver = Receiver::start(|number, _| Answer::Status(if number < 3 { 503 } else { 200 })).await;
    let webhooks = start(&[&receiver], quick());
    for number in 0..20 {
        webhooks.send(event(number));
    }
    assert_eq!(webhooks.close(GRACE).await, [delivered(20)]);
}
