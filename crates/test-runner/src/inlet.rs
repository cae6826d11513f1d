//! Follows the events that the result service knows of, so that what happens elsewhere can trigger tests
//! here. Resumes where it stopped, whatever cuts it off. Never decides what an event triggers, and never
//! posts one.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use secrecy::SecretString;
use test_results::{CloudEvent, event::EventLimits};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use url::Url;

use crate::{
    delivery,
    sse::{Message, Parser},
};

/// The event type under which the service sends CloudEvents.
const CLOUD_EVENT: &str = "cloudevent";
/// A client's own limit on a whole answer must not cut the stream; after this long it is opened anew.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 3600);

/// How patient to be with the service.
#[derive(Clone, Copy, Debug)]
pub struct InletLimits {
    /// How long connecting may take.
    pub connect: Duration,
    /// How long the service may be silent before the connection counts as dead. It sends a comment each 15 s.
    pub silence: Duration,
    /// Delay before the first reconnection; it doubles, with jitter.
    pub first_delay: Duration,
    /// The delay does not grow beyond.
    pub longest_delay: Duration,
    /// Delay after the service has refused: only a person can change that.
    pub refused_delay: Duration,
}

impl Default for InletLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            refused_delay: Duration::from_secs(300),
        }
    }
}

/// Hands on the service's events until it is told to stop or nobody listens any more.
pub async fn follow(
    client: Client,
    service: Url,
    key: Option<SecretString>,
    out: mpsc::Sender<CloudEvent>,
    stop: CancellationToken,
) {
    follow_within(client, service, key, out, stop, InletLimits::default()).await;
}

/// Like [`follow`], with a patience of the caller's own.
pub async fn follow_within(
    client: Client,
    service: Url,
    key: Option<SecretString>,
    out: mpsc::Sender<CloudEvent>,
    stop: CancellationToken,
    limits: InletLimits,
) {
    let name = delivery::shown(&service);
    let url = delivery::endpoint(&service, &["api", "v1", "stream"]);
    let nobody_listens = out.clone();
    let mut inlet = Inlet { client, name, url, key, out, limits, last_id: String::new(), told: false };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = nobody_listens.closed() => {}
        () = inlet.run() => {}
    }
}

struct Inlet {
    client: Client,
    /// For the log: without secrets.
    name: String,
    url: Url,
    key: Option<SecretString>,
    out: mpsc::Sender<CloudEvent>,
    limits: InletLimits,
    /// The last event that was handed on.
    last_id: String,
    /// Whether the log says that the service is not followed at the moment.
    told: bool,
}

/// Why a connection ended.
enum End {
    /// The service cannot be reached, or the connection broke.
    Lost { reason: String, wait: Option<Duration> },
    /// The service will not let us, or has no such stream.
    Refused { reason: String },
    /// There is nobody left to hand events to.
    Nobody,
}

impl Inlet {
    async fn run(&mut self) {
        let limits = self.limits;
        let new_delays = || delivery::delays(limits.first_delay, limits.longest_delay);
        let mut delays = new_delays();
        loop {
            let mut alive = false;
            let delay = match self.connection(&mut alive).await {
                End::Nobody => return,
                End::Refused { reason } => {
                    if !std::mem::replace(&mut self.told, true) {
                        error!(
                            "{} does not let its events be followed ({reason}): they trigger nothing here",
                            self.name
                        );
                    }
                    limits.refused_delay
                }
                End::Lost { reason, wait } => {
                    if alive {
                        delays = new_delays();
                    }
                    if std::mem::replace(&mut self.told, true) {
                        debug!("still no events from {}: {reason}", self.name);
                    } else {
                        warn!("no events from {}: {reason}", self.name);
                    }
                    wait.or_else(|| delays.next()).unwrap_or(limits.longest_delay)
                }
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Connects and hands on events until the connection ends. `alive` becomes true with the first bytes.
    async fn connection(&mut self, alive: &mut bool) -> End {
        let mut request =
            self.client.get(self.url.clone()).header(ACCEPT, "text/event-stream").timeout(LONGEST_STREAM);
        if let Ok(id) = HeaderValue::from_bytes(self.last_id.as_bytes())
            && !id.is_empty()
        {
            request = request.header("Last-Event-ID", id);
        }
        let request = delivery::authorized(request, self.key.as_ref());
        let response = match timeout(self.limits.connect, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return End::Lost { reason: delivery::explain(error), wait: None },
            Err(_) => return End::Lost { reason: "no answer".to_owned(), wait: None },
        };
        if let Err(end) = check(&response) {
            return end;
        }
        let mut parser = Parser::new(2 * EventLimits::default().document);
        let mut bytes = response.bytes_stream();
        loop {
            let chunk = match timeout(self.limits.silence, bytes.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => {
                    return End::Lost { reason: delivery::explain(error), wait: parser.retry() };
                }
                Ok(None) => {
                    return End::Lost { reason: "it closed the connection".to_owned(), wait: parser.retry() };
                }
                Err(_) => {
                    let silence = self.limits.silence;
                    return End::Lost { reason: format!("nothing for {silence:?}"), wait: None };
                }
            };
            if !std::mem::replace(alive, true) {
                self.told = false;
                info!("following the events of {}", self.name);
            }
            for message in parser.push(&chunk) {
                if self.hand_on(message).await.is_err() {
                    return End::Nobody;
                }
            }
        }
    }

    async fn hand_on(&mut self, message: Message) -> Result<(), mpsc::error::SendError<CloudEvent>> {
        if message.event == CLOUD_EVENT {
            match message.data.map(|data| CloudEvent::from_json(data.as_bytes(), &EventLimits::default())) {
                Some(Ok(event)) => self.out.send(event).await?,
                Some(Err(error)) => {
                    warn!(%error, sequence = message.id, "event {} of {} is skipped", message.id, self.name);
                }
                None => {
                    warn!(
                        sequence = message.id,
                        "event {} of {} is skipped: too long", message.id, self.name
                    );
                }
            }
        }
        // Only now: an event that was not handed on is asked for again.
        self.last_id = message.id;
        Ok(())
    }
}

/// Whether an answer is the stream.
fn check(response: &Response) -> Result<(), End> {
    let status = response.status();
    if delivery::is_worth_another(status) {
        let wait = delivery::retry_after(response.headers(), jiff::Timestamp::now());
        return Err(End::Lost { reason: status.to_string(), wait });
    }
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(End::Refused { reason: format!("{status}: is the API key right, and may it read?") });
        }
        _ => return Err(End::Refused { reason: status.to_string() }),
    }
    let content =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content.trim_start().to_ascii_lowercase().starts_with("text/event-stream") {
        Ok(())
    } else {
        Err(End::Refused { reason: format!("its answer is `{content}`, not a stream of events") })
    }
}
