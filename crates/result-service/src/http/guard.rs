//! What every answer and every request goes through: headers that keep browsers safe, refusal of writes that
//! other sites make a browser send, and problem details for errors that no handler worded.

use std::any::Any;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::error;

use super::problem::{self, Problem};
use crate::app::App;

/// Only our own files, no inline scripts, never inside a frame.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
);

/// Adds the headers that keep browsers safe, unless a handler chose stricter ones.
pub(crate) async fn safe_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(CONTENT_SECURITY_POLICY);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

/// Refuses a request that changes something when a page of another site made the browser send it. Programs send
/// neither header and pass.
pub(crate) async fn same_site_writes(request: Request, next: Next) -> Response {
    if !request.method().is_safe() && from_another_site(request.headers()) {
        let detail = "pages of other sites cannot change anything here";
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    next.run(request).await
}

fn from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != text(header::HOST)
}

/// Counts errors of the service, and words those that come from the framework and not from a handler. Pages and problems stay as they are.
pub(crate) async fn worded_errors(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_server_error() {
        app.metrics().errors.inc();
    }
    let worded = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == problem::CONTENT_TYPE || kind.as_bytes().starts_with(b"text/html"));
    if worded || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let detail = match status {
        StatusCode::NOT_FOUND => format!("nothing is at `{path}`"),
        StatusCode::METHOD_NOT_ALLOWED => format!("`{path}` does not take {method}"),
        StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than this takes".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            "this took too long: try again".to_owned()
        }
        status => status.canonical_reason().unwrap_or("this did not work").to_owned(),
    };
    let mut problem = Problem::new(status, detail).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

/// The answer when a handler panicked. The message goes to the log only.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    error!(message, "a handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this request met an error of the service")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], another_site: bool) {
        let map = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(from_another_site(&map), another_site, "{headers:?}");
    }

    #[test]
    fn writes_from_other_sites_are_known() {
        check(&[("host", "a:1")], false);
        check(&[("host", "a:1"), ("origin", "http://a:1")], false);
        check(&[("host", "a:1"), ("origin", "http://a:2")], true);
        check(&[("host", "a:1"), ("origin", "null")], true);
        check(&[("host", "a:1"), ("sec-fetch-site", "same-origin")], false);
        check(&[("host", "a:1"), ("sec-fetch-site", "none")], false);
        check(&[("host", "a:1"), ("sec-fetch-site", "cross-site"), ("origin", "http://a:1")], true);
        check(&[("host", "a:1"), ("sec-fetch-site", "same-site")], true);
    }
}
