//! Events on their way to the service's timeline, received by a real HTTP server.

use std::time::Duration;

use secrecy::SecretString;
use test_runner::{
    Counts,
    event_sender::{EventSender, SenderLimits},
};

use super::{
    event,
    log::Log,
    receiver::{Answer, Receiver, Request},
};

const GRACE: Duration = Duration::from_secs(60);

fn quick() -> SenderLimits {
    let (first_delay, longest_delay) = (Duration::from_millis(5), Duration::from_millis(20));
    SenderLimits { first_delay, longest_delay, refused_delay: first_delay, ..SenderLimits::default() }
}

fn start(receiver: &Receiver, limits: SenderLimits) -> EventSender {
    let key = SecretString::from("tk_hunter2");
    EventSender::start(testkit::http_client(), &receiver.url("/base/"), Some(key), limits)
}

fn ids(request: &Request) -> Vec<usize> {
    let batch = request.json();
    batch.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().parse().unwrap()).collect()
}

fn delivered(delivered: u64) -> Counts {
    Counts { delivered, ..Counts::default() }
}

#[tokio::test]
async fn events_go_out_in_batches_in_their_order_each_once() {
    let receiver = Receiver::always(202).await;
    let sender = start(&receiver, SenderLimits { batch: 100, batch_bytes: 50_000, ..quick() });
    for number in 0..1000 {
        sender.send(event(number));
    }
    assert_eq!(sender.close(GRACE).await, delivered(1000));
    let requests = receiver.received();
    let all: Vec<usize> = requests.iter().flat_map(ids).collect();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.body.len() <= 50_002));
    assert!(requests.len() < 100, "{} requests are no batches", requests.len());
    let first = &requests[0];
    assert_eq!((first.method.as_str(), first.uri.path()), ("POST", "/base/events"));
    assert_eq!(first.header("content-type"), Some("application/cloudevents-batch+json; charset=utf-8"));
    assert_eq!(first.header("authorization"), Some("Bearer tk_hunter2"));
    assert_eq!(first.json()[0], serde_json::to_value(event(0)).unwrap());
}

#[tokio::test]
async fn a_service_that_is_away_gets_all_events_when_it_is_back() {
    let log = Log::capture();
    let receiver = Receiver::start(|number, _| Answer::Status(if number < 5 { 503 } else { 202 })).await;
    let sender = start(&receiver, quick());
    for number in 0..10 {
        sender.send(event(number));
    }
    assert_eq!(sender.close(GRACE).await, delivered(10));
    let taken: Vec<usize> = receiver.received()[5..].iter().flat_map(ids).collect();
    assert_eq!(taken, (0..10).collect::<Vec<_>>());
    assert_eq!((log.lines("WARN").len(), log.lines("INFO").len()), (1, 1), "{}", log.text());
}

#[tokio::test]
async fn one_bad_event_does_not_take_its_batch_down() {
    let is_bad = |request: &Request| ids(request).contains(&13);
    let receiver =
        Receiver::start(move |_, request| Answer::Status(if is_bad(request) { 400 } else { 202 })).await;
    let sender = start(&receiver, quick());
    for number in 0..50 {
        sender.send(event(number));
    }
    assert_eq!(sender.close(GRACE).await, Counts { delivered: 49, given_up: 1, ..Counts::default() });
    let taken: Vec<usize> =
        receiver.received().iter().filter(|request| !is_bad(request)).flat_map(ids).collect();
    assert_eq!(taken, (0..50).filter(|number| *number != 13).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refused_key_is_logged_once_without_the_key_and_tried_again() {
    let log = Log::capture();
    let receiver = Receiver::start(|number, _| Answer::Status(if number < 4 { 401 } else { 202 })).await;
    let sender = start(&receiver, quick());
    sender.send(event(0));
    assert_eq!(sender.close(GRACE).await, delivered(1));
    assert_eq!(log.lines("ERROR").len(), 1, "{}", log.text());
    assert!(!log.text().contains("hunter2"));
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let receiver = Receiver::start(|_, _| Answer::Never).await;
    let sender = start(&receiver, SenderLimits { queue: 10, batch: 1, ..quick() });
    sender.send(event(0));
    receiver.requests(1).await;
    for number in 1..100 {
        sender.send(event(number));
    }
    assert_eq!(sender.counts(), Counts { dropped: 89, waiting: 11, ..Counts::default() });
    assert_eq!(sender.close(Duration::ZERO).await.waiting, 11);
}
