//! Takes results out of the spool and hands them to the service until it has confirmed each one. It never reads a
//! payload's contents, never deletes what is not confirmed, and never shows the API key.

mod gate;
mod reduced;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use reqwest::{
    Body,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use test_results::upload::{GZIP, IDEMPOTENCY_KEY, Receipt};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use url::Url;

use self::{gate::Gate, reduced::ReduceError};
use crate::{
    activity::{CollectorEvent, RefusalKind, Reporter, Source},
    backoff::{self, Answer, Verdict},
    spool::{
        Lease, Payload, Spool,
        item::{Description, Refusal},
    },
};

/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The longest part of an answer that is shown.
const LONGEST_REASON: usize = 1000;
/// Pieces of a streamed payload.
const PIECE: usize = 256 * 1024;
/// How long uploads in flight may still take when the collector stops. What does not end stays in the spool.
const GRACE: Duration = Duration::from_secs(2);

/// Takes note of a confirmed result before it leaves the spool.
pub(crate) type OnConfirmed = Arc<dyn Fn(&Source) + Send + Sync>;

/// What all workers share.
pub(crate) struct Delivery {
    pub(crate) spool: Spool,
    pub(crate) http: reqwest::Client,
    /// `{service}/results`
    pub(crate) target: Url,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) key: Option<SecretString>,
    pub(crate) reporter: Reporter,
    /// Told first, so that a crash after it finds the note.
    pub(crate) on_confirmed: OnConfirmed,
    /// Told last, when a container's result has left the spool.
    pub(crate) confirmed: mpsc::Sender<Source>,
}

/// How one attempt ended.
enum Attempt {
    Stored { receipt: Receipt, repeated: bool },
    Failed { status: Option<u16>, retry_after: Option<String>, success: bool, reason: String },
}

/// The address that results are posted to.
pub(crate) fn target(service: &Url) -> Option<Url> {
    let mut target = service.clone();
    target.path_segments_mut().ok()?.pop_if_empty().push("results");
    target.set_query(None);
    target.set_fragment(None);
    Some(target)
}

/// The header that carries the key, hidden from debug output. `None` if the key cannot stand in a header.
pub(crate) fn authorization(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Delivers until `stop`. What is in flight then gets a moment to end.
pub(crate) async fn run(delivery: Delivery, in_flight: usize, stop: CancellationToken) {
    let delivery = Arc::new((delivery, Gate::default()));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight.max(1) {
        let (delivery, stop) = (Arc::clone(&delivery), stop.clone());
        workers.spawn(async move {
            let (delivery, gate) = &*delivery;
            loop {
                let lease = async {
                    gate.pass().await;
                    delivery.spool.next().await
                };
                let lease = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    lease = lease => lease,
                };
                delivery.deliver(lease, gate, in_flight).await;
            }
        });
    }
    stop.cancelled().await;
    let ended = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        workers.shutdown().await;
    }
}

impl Delivery {
    /// One attempt at one item, and what follows from it.
    async fn deliver(&self, lease: Lease, gate: &Gate, in_flight: usize) {
        let attempts = lease.attempts;
        let (lease, description, payload) = match load(lease).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return,
            Err((lease, reason)) => {
                let after = backoff::pause(attempts, jitter());
                tracing::warn!(error = %reason, "cannot read a spooled result; trying again");
                lease.postpone(after);
                return;
            }
        };
        let bytes = payload.len();
        let attempt = self.attempt(&description, payload).await;
        let answer = match &attempt {
            Attempt::Stored { .. } => Answer::Receipt,
            Attempt::Failed { success: true, .. } => Answer::Unreadable,
            Attempt::Failed { status: Some(status), retry_after, .. } => {
                Answer::Status(*status, retry_after.as_deref())
            }
            Attempt::Failed { status: None, .. } => Answer::Nothing,
        };
        match (backoff::judge(answer, attempts, jitter(), Timestamp::now()), attempt) {
            (Verdict::Retry { after, everyone }, Attempt::Failed { reason, .. }) => {
                let failures = gate.failed();
                // A service that fails for every result is as good as away.
                if everyone || failures as usize >= in_flight {
                    gate.close_for(after.max(backoff::pause(failures, jitter())));
                }
                let source = description.source;
                self.reporter.tell(CollectorEvent::Retrying { source, reason, after, attempts });
                lease.postpone(after);
            }
            (Verdict::Refused(kind), Attempt::Failed { status, reason, .. }) => {
                gate.open();
                self.refused(lease, kind, status, reason, description, bytes).await;
            }
            (_, Attempt::Stored { receipt, repeated }) => {
                gate.open();
                self.stored(lease, receipt, repeated, description, bytes).await;
            }
            (Verdict::Delivered, Attempt::Failed { .. }) => unreachable!("only a receipt is a delivery"),
        }
    }

    async fn stored(
        &self,
        lease: Lease,
        receipt: Receipt,
        repeated: bool,
        description: Description,
        bytes: u64,
    ) {
        (self.on_confirmed)(&description.source);
        // An item that cannot be removed is sent once more by the next collector; the key makes that harmless.
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || lease.confirm()).await {
            tracing::warn!(error = %e, "cannot remove a delivered result from the spool");
        }
        self.reporter.delivered_bytes(bytes);
        let delivered = CollectorEvent::Delivered {
            source: description.source.clone(),
            key: description.key,
            run: receipt.id,
            repeated,
        };
        self.reporter.tell_delivered(delivered).await;
        if matches!(description.source, Source::Container { .. }) {
            self.confirmed.send(description.source).await.ok();
        }
    }

    async fn refused(
        &self,
        lease: Lease,
        kind: RefusalKind,
        status: Option<u16>,
        reason: String,
        description: Description,
        payload_len: u64,
    ) {
        let at = Timestamp::now();
        let smaller = reduced::describe(&description).filter(|_| kind == RefusalKind::Content);
        let refusal = Refusal { kind, status, reason, at, description: Some(description), payload_len };
        let spool = self.spool.clone();
        let rejected = tokio::task::spawn_blocking(move || {
            let mut lease = lease;
            // The smaller one first: after a crash in between, the whole is refused again and nothing is lost.
            if let Some(smaller) = smaller
                && let Err(e) = spool_smaller(&spool, &mut lease, &smaller, &refusal.reason)
            {
                tracing::warn!(error = chain(&e), "cannot deliver a refused result without its files");
            }
            lease.reject(&refusal)
        })
        .await;
        if let Ok(Err((lease, e))) = rejected {
            tracing::warn!(error = %e, "cannot put a refused result aside; trying again");
            let after = backoff::pause(lease.attempts, jitter());
            lease.postpone(after);
        }
    }

    async fn attempt(&self, description: &Description, payload: Payload) -> Attempt {
        let len = payload.len();
        let body = match payload {
            Payload::Small(bytes) => Body::from(bytes),
            Payload::Large(file, len) => {
                let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file.into_file()), len);
                Body::wrap_stream(ReaderStream::with_capacity(file, PIECE))
            }
        };
        let mut target = self.target.clone();
        target.query_pairs_mut().extend_pairs(&description.query);
        let mut request = self
            .http
            .post(target)
            .header(CONTENT_TYPE, GZIP)
            .header(CONTENT_LENGTH, len)
            .header(IDEMPOTENCY_KEY, &description.key)
            .body(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let response = request.send().await?;
            let status = response.status();
            let retry_after =
                response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let answer = read_answer(response).await?;
            Ok::<_, reqwest::Error>((status, retry_after, answer))
        };
        match tokio::time::timeout(backoff::attempt_limit(len), exchange).await {
            Ok(Ok((status, retry_after, answer))) => {
                let success = status.is_success();
                if matches!(status.as_u16(), 200 | 201)
                    && let Ok(receipt) = serde_json::from_slice(&answer)
                {
                    return Attempt::Stored { receipt, repeated: status.as_u16() == 200 };
                }
                let reason = self.without_key(format!("{status}: {}", problem(&answer)));
                Attempt::Failed { status: Some(status.as_u16()), retry_after, success, reason }
            }
            Ok(Err(e)) => self.no_answer(chain(&e.without_url())),
            Err(_) => self.no_answer("the service did not answer in time".to_owned()),
        }
    }

    fn no_answer(&self, reason: String) -> Attempt {
        Attempt::Failed { status: None, retry_after: None, success: false, reason: self.without_key(reason) }
    }

    /// A service may echo what it was sent.
    fn without_key(&self, text: String) -> String {
        match self.key.as_ref().map(ExposeSecret::expose_secret) {
            Some(key) if !key.is_empty() && text.contains(key) => text.replace(key, "***"),
            _ => text,
        }
    }
}

fn spool_smaller(
    spool: &Spool,
    lease: &mut Lease,
    smaller: &Description,
    reason: &str,
) -> Result<(), ReduceError> {
    match lease.load()? {
        Some((_, payload)) => {
            reduced::spool_without_results(spool, spool.reserve_nothing(), smaller, payload, reason)
        }
        None => Ok(()),
    }
}

type Loaded = Option<(Lease, Description, Payload)>;

async fn load(mut lease: Lease) -> Result<Loaded, (Lease, String)> {
    let loading = tokio::task::spawn_blocking(move || match lease.load() {
        Ok(Some((description, payload))) => Ok(Some((lease, description, payload))),
        Ok(None) => Ok(None),
        Err(e) => Err((lease, e.to_string())),
    });
    // The thread ends without a result only when the runtime goes down; the lease then goes back by itself.
    loading.await.unwrap_or(Ok(None))
}

/// Reads an answer up to a limit; the rest is left unread, which closes the connection.
async fn read_answer(response: reqwest::Response) -> reqwest::Result<Bytes> {
    let mut answer = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        answer.extend_from_slice(&piece?);
        if answer.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok(answer.into())
}

/// The service's own words: `title` and `detail` of a problem document (RFC 9457), else the text as it is.
fn problem(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        title: Option<String>,
        detail: Option<String>,
    }
    let words = match serde_json::from_slice::<Problem>(answer) {
        Ok(Problem { title: Some(title), detail: Some(detail) }) => format!("{title}: {detail}"),
        Ok(Problem { title: Some(words), .. } | Problem { detail: Some(words), .. }) => words,
        _ => String::from_utf8_lossy(answer).into_owned(),
    };
    words.chars().take(LONGEST_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Uniform in `0.0..1.0`.
pub(crate) fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or_default();
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_under_the_service_whatever_its_path() {
        for (service, expected) in [
            ("http://h:1", "http://h:1/results"),
            ("http://h/", "http://h/results"),
            ("https://h/base", "https://h/base/results"),
            ("https://h/base/?x=1#y", "https://h/base/results"),
        ] {
            assert_eq!(target(&service.parse().unwrap()).unwrap().as_str(), expected);
        }
        assert!(target(&"mailto:a@b".parse().unwrap()).is_none());
    }

    #[test]
    fn the_words_of_a_problem_document_are_found() {
        assert_eq!(
            problem(br#"{"title":"Too large","detail":"10 MiB at most","status":413}"#),
            "Too large: 10 MiB at most"
        );
        assert_eq!(problem(br#"{"title":"Too large"}"#), "Too large");
        assert_eq!(problem(b"<html>\nno"), "<html> no");
    }

    #[test]
    fn the_key_is_hidden_in_debug_output() {
        let value = authorization(&SecretString::from("s3cret")).unwrap();
        assert!(!format!("{value:?}").contains("s3cret"));
        assert!(authorization(&SecretString::from("line\nbreak")).is_none());
    }
}
