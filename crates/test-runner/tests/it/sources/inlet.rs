//! The service's stream of events, from a real HTTP server that misbehaves as real ones do.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use secrecy::SecretString;
use test_results::CloudEvent;
use test_runner::inlet::{InletLimits, follow_within};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    event,
    log::Log,
    receiver::{Answer, End, Receiver, Request},
};

const DEADLINE: Duration = Duration::from_secs(60);

fn quick() -> InletLimits {
    let (first_delay, longest_delay) = (Duration::from_millis(5), Duration::from_millis(20));
    InletLimits { first_delay, longest_delay, refused_delay: first_delay, ..InletLimits::default() }
}

struct Following {
    events: mpsc::Receiver<CloudEvent>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    fn start(receiver: &Receiver, limits: InletLimits) -> Self {
        let (out, events) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let key = Some(SecretString::from("tk_hunter2"));
        let client = testkit::http_client();
        let task = tokio::spawn(follow_within(client, receiver.url("/base"), key, out, stop.clone(), limits));
        Self { events, stop, task }
    }

    /// The next events are these, whole and in this order.
    async fn expect(&mut self, numbers: RangeInclusive<usize>) {
        for number in numbers {
            let next = tokio::time::timeout(DEADLINE, self.events.recv()).await;
            assert_eq!(next.expect("an event comes").expect("it is still followed"), event(number));
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").unwrap();
    }
}

fn message(number: usize) -> String {
    let data = serde_json::to_string(&event(number)).unwrap();
    format!("event: cloudevent\nid: {number}\ndata: {data}\n\n")
}

fn messages(numbers: RangeInclusive<usize>) -> Vec<Bytes> {
    numbers.map(|number| message(number).into()).collect()
}

/// Where a request wants to go on.
fn after(request: &Request) -> usize {
    request.header("last-event-id").map_or(0, |id| id.parse().unwrap())
}

#[tokio::test]
async fn events_are_handed_on_and_the_request_is_what_the_service_expects() {
    let receiver = Receiver::start(|_, _| Answer::Stream(messages(1..=20), End::Silence)).await;
    let mut following = Following::start(&receiver, quick());
    following.expect(1..=20).await;
    following.stop().await;
    let requests = receiver.received();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].uri, "/base/api/v1/stream");
    assert_eq!(requests[0].header("accept"), Some("text/event-stream"));
    assert_eq!(requests[0].header("authorization"), Some("Bearer tk_hunter2"));
    assert_eq!(requests[0].header("last-event-id"), None);
}

#[tokio::test]
async fn whatever_cuts_the_stream_each_event_comes_once_and_in_order() {
    const ALL: usize = 300;
    // Each connection brings some events in pieces of an odd size, and ends in the midst of one.
    let receiver = Receiver::start(|number, request| {
        let first = after(request) + 1;
        let mut bytes: Vec<u8> =
            (first..=(first + 36).min(ALL)).flat_map(|n| message(n).into_bytes()).collect();
        bytes.truncate(bytes.len().saturating_sub(if first + 36 < ALL { 1000 } else { 0 }));
        let pieces = bytes.chunks(701).map(Bytes::copy_from_slice).collect();
        Answer::Stream(pieces, if number % 2 == 0 { End::Break } else { End::Close })
    })
    .await;
    let mut following = Following::start(&receiver, quick());
    following.expect(1..=ALL).await;
    following.stop().await;
}

#[tokio::test]
async fn a_connection_that_went_dead_is_replaced() {
    let receiver = Receiver::start(|_, request| {
        let next = after(request) + 1;
        Answer::Stream(messages(next..=next), End::Silence)
    })
    .await;
    let limits = InletLimits { silence: Duration::from_millis(100), ..quick() };
    let mut following = Following::start(&receiver, limits);
    following.expect(1..=3).await;
    following.stop().await;
    let ids: Vec<usize> = receiver.received().iter().map(after).collect();
    assert!(ids.is_sorted() && ids.starts_with(&[0]), "{ids:?}");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_asked_again() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Answer::Never,
        1 => Answer::Status(503),
        2 => Answer::Header(429, "retry-after", "0".to_owned()),
        _ => Answer::Stream(messages(1..=1), End::Silence),
    })
    .await;
    let log = Log::capture();
    let mut following =
        Following::start(&receiver, InletLimits { connect: Duration::from_millis(500), ..quick() });
    following.expect(1..=1).await;
    following.stop().await;
    assert_eq!(log.lines("WARN").len(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_refused_key_is_logged_once_without_the_key_and_tried_again() {
    let log = Log::capture();
    let receiver = Receiver::start(|number, _| match number {
        0 | 1 => Answer::Status(401),
        2 => Answer::Status(403),
        _ => Answer::Stream(messages(1..=1), End::Silence),
    })
    .await;
    let mut following = Following::start(&receiver, quick());
    following.expect(1..=1).await;
    following.stop().await;
    let errors = log.lines("ERROR");
    assert!(errors.len() == 1 && errors[0].contains("API key"), "{errors:?}");
    assert!(!log.text().contains("hunter2"));
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_not_read_as_one() {
    let log = Log::capture();
    let receiver = Receiver::start(|number, _| match number {
        0 => Answer::Header(200, "content-type", "text/html".to_owned()),
        1 => Answer::Status(404),
        _ => Answer::Stream(messages(1..=1), End::Silence),
    })
    .await;
    let mut following = Following::start(&receiver, quick());
    following.expect(1..=1).await;
    following.stop().await;
    assert!(log.lines("ERROR")[0].contains("text/html"));
}

#[tokio::test]
async fn what_is_no_event_is_skipped_and_not_asked_for_again() {
    let receiver = Receiver::start(|number, _| {
        if number > 0 {
            return Answer::Stream(messages(2..=2), End::Silence);
        }
        let huge = format!("event: cloudevent\nid: 8\ndata: {}\n\n", "x".repeat(2_000_000));
        let pieces = [
            ": welcome\nretry: 10\n\n".to_owned(),
            "event: cloudevent\nid: 5\ndata: {\"specversion\": \"0.3\"}\n\n".to_owned(),
            "event: cloudevent\nid: 6\ndata: not json\n\n".to_owned(),
            "event: something-new\nid: 7\ndata: {}\n\n".to_owned(),
            message(1),
            huge,
        ];
        Answer::Stream(pieces.map(Bytes::from).into(), End::Close)
    })
    .await;
    let mut following = Following::start(&receiver, quick());
    following.expect(1..=2).await;
    following.stop().await;
    assert_eq!(after(&receiver.received()[1]), 8);
}

#[tokio::test]
async fn ends_when_nobody_listens() {
    let receiver = Receiver::start(|_, _| Answer::Stream(messages(1..=1), End::Silence)).await;
    let Following { events, task, .. } = Following::start(&receiver, quick());
    receiver.requests(1).await;
    drop(events);
    tokio::time::timeout(DEADLINE, task).await.expect("it ends").unwrap();
}
