//! Puts events on the result service's timeline: posts CloudEvents in batches, again and again until they are
//! taken. Never makes its caller wait; what does not fit into its queue is counted. Holds events in memory
//! only: results, which must not be lost, go through the collector's spool.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use secrecy::SecretString;
use test_results::CloudEvent;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};
use url::Url;

use crate::{
    delivery::{self, Answer},
    outbox::{Counter, Counts, Outbox},
};

/// How much to send at once, how much to keep, and how patient to be.
#[derive(Clone, Copy, Debug)]
pub struct SenderLimits {
    /// Events that wait; more are dropped and counted.
    pub queue: usize,
    /// Events in one request.
    pub batch: usize,
    /// Bytes of one request, unless a single event has more.
    pub batch_bytes: usize,
    /// Delay after the first failed attempt; it doubles, with jitter.
    pub first_delay: Duration,
    /// The delay does not grow beyond.
    pub longest_delay: Duration,
    /// Delay after the service has refused the key: only a person can change that.
    pub refused_delay: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Default for SenderLimits {
    fn default() -> Self {
        Self {
            queue: 10_000,
            batch: 500,
            batch_bytes: 512 * 1024,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            refused_delay: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Sends events to a result service. Dropping it lets what waits be sent as long as the runtime lives.
#[derive(Debug)]
pub struct EventSender {
    outbox: Outbox<CloudEvent>,
}

impl EventSender {
    /// Starts sending to `{service}/events`.
    pub fn start(client: Client, service: &Url, key: Option<SecretString>, limits: SenderLimits) -> Self {
        let name = delivery::shown(service);
        let url = delivery::endpoint(service, &["events"]);
        let outbox = Outbox::start(name.clone(), limits.queue, |events, counter| {
            Post { client, name, url, key, limits, counter, failing: false }.work(events)
        });
        Self { outbox }
    }

    /// Queues an event; never waits.
    pub fn send(&self, event: CloudEvent) {
        self.outbox.put(event);
    }

    /// What became of the events so far.
    pub fn counts(&self) -> Counts {
        self.outbox.counts()
    }

    /// Takes nothing more, and gives what waits `grace` to be sent.
    pub async fn close(self, grace: Duration) -> Counts {
        self.outbox.close(grace).await
    }
}

struct Post {
    client: Client,
    /// For the log: without secrets.
    name: String,
    url: Url,
    key: Option<SecretString>,
    limits: SenderLimits,
    counter: Arc<Counter>,
    /// Whether the last attempt failed, so that a dead service is logged once and not per attempt.
    failing: bool,
}

impl Post {
    async fn work(mut self, mut queue: mpsc::Receiver<CloudEvent>) {
        let mut events = Vec::new();
        // Whatever came in while the last request was under way goes out in the next one.
        while queue.recv_many(&mut events, self.limits.batch.max(1)).await > 0 {
            let documents = events.drain(..).filter_map(|event| self.document(&event)).collect();
            for batch in cut(documents, self.limits.batch_bytes) {
                self.deliver(batch).await;
            }
        }
    }

    fn document(&self, event: &CloudEvent) -> Option<Vec<u8>> {
        match serde_json::to_vec(event) {
            Ok(document) => Some(document),
            Err(error) => {
                warn!(event.id = %event.id, %error, "event {} cannot be written as JSON", event.id);
                self.counter.given_up(1);
                None
            }
        }
    }

    /// Sends a batch until it is taken. One that is refused for its content is halved, until the culprit
    /// stands alone.
    async fn deliver(&mut self, batch: Vec<Vec<u8>>) {
        let mut batches = VecDeque::from([batch]);
        let mut delays = delivery::delays(self.limits.first_delay, self.limits.longest_delay);
        while let Some(mut batch) = batches.pop_front() {
            match delivery::attempt(self.request(&batch)).await {
                Answer::Taken => {
                    self.counter.delivered(batch.len());
                    if std::mem::take(&mut self.failing) {
                        info!("{} takes events again", self.name);
                    }
                }
                Answer::Refused { status, reason } if is_about_content(status) => {
                    if batch.len() > 1 {
                        let second = batch.split_off(batch.len() / 2);
                        batches.push_front(second);
                        batches.push_front(batch);
                    } else {
                        warn!("{} refuses an event: {reason}", self.name);
                        self.counter.given_up(1);
                    }
                }
                Answer::Refused { reason, .. } => {
                    if !std::mem::replace(&mut self.failing, true) {
                        error!(
                            "{} refuses all events: {reason}; is the API key right, and may it upload?",
                            self.name
                        );
                    }
                    batches.push_front(batch);
                    tokio::time::sleep(self.limits.refused_delay).await;
                }
                Answer::Again { reason, after } => {
                    if std::mem::replace(&mut self.failing, true) {
                        debug!("{} still does not take events: {reason}", self.name);
                    } else {
                        warn!("{} does not take events: {reason}", self.name);
                    }
                    batches.push_front(batch);
                    let delay = after.or_else(|| delays.next()).unwrap_or(self.limits.longest_delay);
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    fn request(&self, batch: &[Vec<u8>]) -> reqwest::RequestBuilder {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/cloudevents-batch+json; charset=utf-8")
            .timeout(self.limits.timeout)
            .body(array(batch));
        delivery::authorized(request, self.key.as_ref())
    }
}

/// Whether another batch may fare better.
fn is_about_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

/// Cuts documents, in order, into batches of at most `most` bytes; a larger one stands alone.
fn cut(documents: Vec<Vec<u8>>, most: usize) -> Vec<Vec<Vec<u8>>> {
    let mut batches: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = 0;
    for document in documents {
        bytes += document.len() + 1;
        match batches.last_mut() {
            Some(batch) if bytes <= most => batch.push(document),
            _ => {
                bytes = document.len() + 1;
                batches.push(vec![document]);
            }
        }
    }
    batches
}

/// A JSON array of documents.
fn array(documents: &[Vec<u8>]) -> Bytes {
    let mut array =
        BytesMut::with_capacity(2 + documents.iter().map(|document| document.len() + 1).sum::<usize>());
    let mut before = b'[';
    for document in documents {
        array.put_u8(before);
        array.put_slice(document);
        before = b',';
    }
    if documents.is_empty() {
        array.put_u8(before);
    }
    array.put_u8(b']');
    array.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_the_order_and_the_limit() {
        let documents: Vec<Vec<u8>> = [3, 3, 3, 20, 3, 3].map(|size| vec![b'x'; size]).into();
        let sizes: Vec<Vec<usize>> =
            cut(documents, 10).iter().map(|batch| batch.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![3, 3], vec![3], vec![20], vec![3, 3]]);
        assert!(cut(Vec::new(), 10).is_empty());
    }

    #[test]
    fn a_batch_is_a_json_array() {
        let batch = |documents: &[&str]| {
            let documents: Vec<Vec<u8>> = documents.iter().map(|text| text.as_bytes().to_vec()).collect();
            String::from_utf8(array(&documents).to_vec()).unwrap()
        };
        assert_eq!(batch(&["{}", "1", "[2]"]), "[{},1,[2]]");
        assert_eq!(batch(&[]), "[]");
    }
}
