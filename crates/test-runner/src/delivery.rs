//! One attempt to post something: which answers are final, which are worth another attempt, and when. Never
//! repeats an attempt itself, never logs, and never shows a URL with its secrets.

use std::{error::Error, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// However long a receiver wants us to wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// How much of an answer is read for the log.
const LONGEST_ANSWER: usize = 4096;
/// How much of it is shown.
const LONGEST_EXPLANATION: usize = 200;

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The receiver took it.
    Taken,
    /// It may take it later.
    Again { reason: String, after: Option<Duration> },
    /// It will never take it.
    Refused { status: StatusCode, reason: String },
}

/// Sends a request once.
pub(crate) async fn attempt(request: RequestBuilder) -> Answer {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Answer::Again { reason: explain(error), after: None },
    };
    let status = response.status();
    if status.is_success() {
        // An answer that was read to its end leaves the connection fit for the next request.
        read(response).await;
        return Answer::Taken;
    }
    let after = retry_after(response.headers(), Timestamp::now());
    let reason = format!("{status}{}", said(response).await);
    if is_worth_another(status) {
        Answer::Again { reason, after }
    } else {
        Answer::Refused { status, reason }
    }
}

/// Whether the same request may succeed later.
pub(crate) fn is_worth_another(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// How long the receiver asks us to wait: seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            // A date that has passed means: now.
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Growing delays with jitter, without end.
pub(crate) fn delays(first: Duration, longest: Duration) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .build()
}

/// A URL for the log: where it leads, without credentials, path and query, any of which may be a secret.
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown
}

/// A path of the result service, which may itself live below a path.
pub(crate) fn endpoint(service: &Url, path: &[&str]) -> Url {
    let mut url = service.clone();
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Adds the key, if there is one.
pub(crate) fn authorized(request: RequestBuilder, key: Option<&SecretString>) -> RequestBuilder {
    match key {
        Some(key) => request.bearer_auth(key.expose_secret()),
        None => request,
    }
}

/// An error with its causes, without the URL.
pub(crate) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}

/// What a receiver says about its refusal, on one line: the `detail` of problem+json, or the text itself.
async fn said(response: Response) -> String {
    let body = read(response).await;
    let text = match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(problem) => {
            problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or_default().to_owned()
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let line = text.trim().lines().next().unwrap_or_default();
    // A page for people says nothing in its first line.
    if line.is_empty() || line.starts_with('<') {
        return String::new();
    }
    let line: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_EXPLANATION).collect();
    format!(": {line}")
}

/// Reads an answer, to its end or as far as it is of interest.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < LONGEST_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(value: &str) -> Option<Duration> {
        let headers = [(RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
        retry_after(&headers, "1994-11-06T08:49:37Z".parse().unwrap())
    }

    #[test]
    fn waits_as_long_as_it_is_asked_to_but_not_for_ever() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("86400"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn only_answers_that_may_change_are_worth_another_attempt() {
        let again = |code| is_worth_another(StatusCode::from_u16(code).unwrap());
        assert!([408, 425, 429, 500, 502, 503, 504].into_iter().all(again));
        assert!(![301, 400, 401, 403, 404, 409, 410, 413, 422].into_iter().any(again));
    }

    #[test]
    fn delays_grow_and_stop_growing_but_never_end() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(8));
        let delays: Vec<_> = delays(first, longest).take(100).collect();
        for (delay, base) in delays.iter().zip([1, 2, 4, 8, 8, 8]) {
            let base = Duration::from_secs(base);
            assert!((base..=2 * base).contains(delay), "{delay:?} for {base:?}");
        }
        assert!(delays.iter().all(|delay| *delay <= 2 * longest));
    }

    #[test]
    fn no_secret_of_a_url_is_shown() {
        let url = Url::parse("https://me:secret@hooks.example.org:8443/T00/B00/secret?token=secret").unwrap();
        assert_eq!(shown(&url), "https://hooks.example.org:8443");
    }

    #[test]
    fn a_service_may_live_below_a_path() {
        let at = |service| endpoint(&Url::parse(service).unwrap(), &["api", "v1", "stream"]).to_string();
        assert_eq!(at("http://h:1"), "http://h:1/api/v1/stream");
        assert_eq!(at("http://h/"), "http://h/api/v1/stream");
        assert_eq!(at("http://h/tests/?x#y"), "http://h/tests/api/v1/stream");
    }
}
