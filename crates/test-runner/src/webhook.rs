//! Sends each event to each webhook, with its whole body, from a queue per webhook: a dead receiver delays
//! nobody but itself. Never shows more of a URL than its host: user, path and query are often the secret.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, header::CONTENT_TYPE};
use test_results::{CloudEvent, event::UpstreamEvent};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use url::Url;

use crate::{
    delivery::{self, Answer},
    outbox::{Counter, Counts, Outbox},
};

/// The form in which a webhook gets its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebhookFormat {
    /// CloudEvents 1.0, structured JSON.
    #[default]
    CloudEvents,
    /// The document of upstream Tugbot: `{Type, ID, StartedAt, FinishedAt, Tag, From, Action, Status}`.
    Tugbot,
}

impl WebhookFormat {
    const ALL: [(&'static str, Self); 2] = [("cloudevents+", Self::CloudEvents), ("tugbot+", Self::Tugbot)];

    fn content_type(self) -> &'static str {
        match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            Self::Tugbot => "application/json",
        }
    }

    fn body(self, event: &CloudEvent) -> serde_json::Result<Bytes> {
        let body = match self {
            Self::CloudEvents => serde_json::to_vec(event),
            Self::Tugbot => serde_json::to_vec(&UpstreamEvent::from_cloud_event(event)),
        };
        body.map(Bytes::from)
    }
}

/// Where events go, and in which form.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    url: Url,
    format: WebhookFormat,
}

/// A webhook that cannot be used. The message does not repeat what was given: it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum BadWebhook {
    /// It is no URL.
    #[error("webhook {number} is not a URL: write e.g. https://host/path or tugbot+https://host/path")]
    NotAUrl {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        #[source]
        source: url::ParseError,
    },
    /// Its scheme is not HTTP's.
    #[error("webhook {number} does not start with http:// or https://")]
    NotHttp {
        /// Its place in the list, from 1.
        number: usize,
    },
}

impl WebhookTarget {
    /// A webhook at an HTTP URL; `tugbot+` or `cloudevents+` in front of its scheme wins over `format`.
    pub fn new(url: &Url, format: WebhookFormat) -> Result<Self, BadWebhook> {
        Self::parse(url.as_str(), format, 1)
    }

    /// Reads a list as `TUGBOT_WEBHOOKS` and `--webhook` have it: URLs with `;` between them. `tugbot+` or
    /// `cloudevents+` in front of a URL chooses its form, else it is `format`.
    pub fn parse_list(list: &str, format: WebhookFormat) -> Result<Vec<Self>, BadWebhook> {
        let parts = list.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts.enumerate().map(|(index, part)| Self::parse(part, format, index + 1)).collect()
    }

    fn parse(text: &str, format: WebhookFormat, number: usize) -> Result<Self, BadWebhook> {
        let chosen = WebhookFormat::ALL
            .iter()
            .find_map(|(prefix, format)| Some((text.strip_prefix(prefix)?, *format)));
        let (text, format) = chosen.unwrap_or((text, format));
        let url = Url::parse(text).map_err(|source| BadWebhook::NotAUrl { number, source })?;
        match url.scheme() {
            "http" | "https" => Ok(Self { url, format }),
            _ => Err(BadWebhook::NotHttp { number }),
        }
    }

    /// The form of its events.
    pub fn format(&self) -> WebhookFormat {
        self.format
    }
}

impl fmt::Display for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&delivery::shown(&self.url))
    }
}

impl fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookTarget({self}, {:?})", self.format)
    }
}

/// How patient to be with a webhook.
#[derive(Clone, Copy, Debug)]
pub struct WebhookLimits {
    /// Events that wait for one webhook; more are dropped and counted.
    pub queue: usize,
    /// Attempts per event before it is given up.
    pub attempts: usize,
    /// Delay after the first failed attempt; it doubles, with jitter.
    pub first_delay: Duration,
    /// The delay does not grow beyond.
    pub longest_delay: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Default for WebhookLimits {
    fn default() -> Self {
        Self {
            queue: 1000,
            attempts: 8,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        }
    }
}

/// All webhooks, each with its queue and its worker.
#[derive(Debug)]
pub struct Webhooks {
    hooks: Vec<Outbox<Arc<CloudEvent>>>,
}

impl Webhooks {
    /// Starts a worker per webhook.
    pub fn start(client: &Client, targets: Vec<WebhookTarget>, limits: WebhookLimits) -> Self {
        let hooks = targets.into_iter().enumerate().map(|(index, target)| {
            let name = format!("webhook {} at {target}", index + 1);
            let client = client.clone();
            Outbox::start(name.clone(), limits.queue, |events, counter| {
                Hook { name, client, target, limits, counter, failing: false }.work(events)
            })
        });
        Self { hooks: hooks.collect() }
    }

    /// Queues an event for each webhook; never waits.
    pub fn send(&self, event: CloudEvent) {
        let event = Arc::new(event);
        for hook in &self.hooks {
            hook.put(Arc::clone(&event));
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// What became of the events so far, per webhook, by a name without secrets.
    pub fn counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.hooks.iter().map(|hook| (hook.receiver(), hook.counts()))
    }

    /// Takes nothing more, and gives the workers `grace` to empty their queues.
    pub async fn close(self, grace: Duration) -> Vec<Counts> {
        futures_util::future::join_all(self.hooks.into_iter().map(|hook| hook.close(grace))).await
    }
}

struct Hook {
    name: String,
    client: Client,
    target: WebhookTarget,
    limits: WebhookLimits,
    counter: Arc<Counter>,
    /// Whether the last attempt failed, so that a dead receiver is logged once and not per event.
    failing: bool,
}

impl Hook {
    async fn work(mut self, mut events: mpsc::Receiver<Arc<CloudEvent>>) {
        while let Some(event) = events.recv().await {
            if self.deliver(&event).await {
                self.counter.delivered(1);
            } else {
                self.counter.given_up(1);
            }
        }
    }

    async fn deliver(&mut self, event: &CloudEvent) -> bool {
        let format = self.target.format;
        let body = match format.body(event) {
            Ok(body) => body,
            Err(error) => {
                warn!(event.id = %event.id, %error, "event {} cannot be written as JSON", event.id);
                return false;
            }
        };
        let mut delays = delivery::delays(self.limits.first_delay, self.limits.longest_delay);
        for attempt in 1..=self.limits.attempts.max(1) {
            let request = self
                .client
                .post(self.target.url.clone())
                .header(CONTENT_TYPE, format.content_type())
                .timeout(self.limits.timeout)
                .body(body.clone());
            match delivery::attempt(request).await {
                Answer::Taken => {
                    if std::mem::take(&mut self.failing) {
                        info!("{} takes events again", self.name);
                    }
                    return true;
                }
                Answer::Refused { reason, .. } => {
                    self.failed(event, &format!("refuses events: {reason}"));
                    return false;
                }
                Answer::Again { reason, after } => {
                    self.failed(event, &format!("does not take events: {reason}"));
                    if attempt < self.limits.attempts {
                        let delay = after.or_else(|| delays.next()).unwrap_or(self.limits.longest_delay);
                        tokio::time::sleep(delay).await;
                    }
                }
            }
        }
        false
    }

    fn failed(&mut self, event: &CloudEvent, what: &str) {
        if std::mem::replace(&mut self.failing, true) {
            debug!(event.id = %event.id, "{} {what}", self.name);
        } else {
            warn!(event.id = %event.id, "{} {what}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<(String, WebhookFormat)> {
        let targets = WebhookTarget::parse_list(text, WebhookFormat::Tugbot).unwrap();
        targets.into_iter().map(|target| (target.url.to_string(), target.format)).collect()
    }

    #[test]
    fn a_list_has_semicolons_and_each_url_may_choose_its_form() {
        use WebhookFormat::{CloudEvents, Tugbot};
        let targets = list("http://a/x?y=1 ; cloudevents+https://b/ ;; tugbot+http://u:p@c:81/%3B;");
        let expected =
            [("http://a/x?y=1", Tugbot), ("https://b/", CloudEvents), ("http://u:p@c:81/%3B", Tugbot)];
        assert_eq!(targets, expected.map(|(url, format)| (url.to_owned(), format)));
        assert!(list(" ; ").is_empty());
    }

    #[test]
    fn a_single_url_may_choose_its_form_too() {
        let new = |url: &str| WebhookTarget::new(&Url::parse(url).unwrap(), WebhookFormat::CloudEvents);
        assert_eq!(new("tugbot+https://h/x?y").unwrap().url.as_str(), "https://h/x?y");
        assert_eq!(new("tugbot+https://h/x?y").unwrap().format(), WebhookFormat::Tugbot);
        assert_eq!(new("http://h").unwrap().format(), WebhookFormat::CloudEvents);
        assert!(matches!(new("file:///etc/passwd"), Err(BadWebhook::NotHttp { .. })));
    }

    #[test]
    fn a_bad_url_is_named_by_its_place_and_not_repeated() {
        for bad in
            ["http://ok/;ftp://me:secret@host/", "http://ok/;//secret", "http://ok/;http://secret:port"]
        {
            let error = WebhookTarget::parse_list(bad, WebhookFormat::Tugbot).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("webhook 2") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn neither_display_nor_debug_shows_a_secret() {
        let targets =
            WebhookTarget::parse_list("https://u:secret@h/secret?k=secret", WebhookFormat::CloudEvents);
        let target = &targets.unwrap()[0];
        assert_eq!(format!("{target} {target:?}"), "https://h WebhookTarget(https://h, CloudEvents)");
    }
}
