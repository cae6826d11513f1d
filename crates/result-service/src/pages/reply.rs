//! How a page answers: as HTML or as its JSON twin, and problems as pages for people. Decides nothing about contents.

use std::convert::Infallible;

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::{ErrorPage, Frame, Section};
use crate::http::problem::{self, Problem};

/// What a page shows. The same data makes the HTML and the JSON.
pub(super) trait View: Serialize {
    /// The whole document.
    fn html(&self, frame: Frame) -> askama::Result<String>;
}

/// The form in which the client wants the answer, and where it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    json: bool,
    /// The JSON twin's address: the same page with `.json`.
    twin: String,
}

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts.uri.path(), parts.uri.query(), &parts.headers))
    }
}

impl Wanted {
    fn of(path: &str, query: Option<&str>, headers: &HeaderMap) -> Self {
        let suffixed = path.ends_with(".json");
        let mut twin = match path {
            "/" => "/index.json".to_owned(),
            _ if suffixed => path.to_owned(),
            _ => format!("{path}.json"),
        };
        if let Some(query) = query {
            twin.push('?');
            twin.push_str(query);
        }
        Self { json: suffixed || prefers_json(headers), twin }
    }

    /// Sends the view.
    pub(super) fn answer<V: View>(self, section: Section, view: V) -> Result<Response, Problem> {
        let mut answer = if self.json {
            Json(view).into_response()
        } else {
            let frame = Frame { now: Timestamp::now(), section, twin: Some(self.twin) };
            Html(view.html(frame).map_err(|error| Problem::internal(&error))?).into_response()
        };
        let headers = answer.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        // Pages change with every run; going back must not show a stale one.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(answer)
    }
}

/// Whether `Accept` weighs JSON above HTML (RFC 9110, 12.5.1). Without a preference pages are HTML.
fn prefers_json(headers: &HeaderMap) -> bool {
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        match media_type.as_str() {
            "text/html" | "application/xhtml+xml" | "text/*" | "*/*" => html = html.max(weight),
            "application/json" | "application/*" => json = json.max(weight),
            _ => {}
        }
    }
    json > html || (json == html && json > 0.0 && !names_html(headers))
}

/// Whether `Accept` names HTML itself, not only by a wildcard.
fn names_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("text/html"))
}

/// Shows problems as pages to clients that ask for HTML by name: browsers. Everything else stays as it is.
pub(crate) async fn problems_as_pages(request: Request, next: Next) -> Response {
    let for_people = names_html(request.headers()) && request.method() != Method::HEAD;
    let answer = next.run(request).await;
    if !for_people || answer.headers().get(header::CONTENT_TYPE) != Some(&problem::CONTENT_TYPE) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    // The body is a document that was made a moment ago; reading it cannot fail.
    let Ok(document) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Response::from_parts(parts, Body::empty());
    };
    let Some(page) = error_page(&document) else { return Response::from_parts(parts, Body::from(document)) };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    Response::from_parts(parts, Body::from(page))
}

fn error_page(document: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        title: String,
        status: u16,
        detail: String,
    }
    let Told { title, status, detail } = serde_json::from_slice(document).ok()?;
    let frame = Frame { now: Timestamp::now(), section: Section::None, twin: None };
    askama::Template::render(&ErrorPage { frame, title, status, detail }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn json_is_sent_to_who_prefers_it() {
        for (value, json) in [
            ("application/json", true),
            ("application/json, */*", true),
            ("application/json, text/plain, */*;q=0.5", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("text/html;q=0.5, application/json", true),
            ("text/html, application/json", false),
            ("application/json;q=0.1, text/html", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_json(&accept(value)), json, "Accept: {value}");
        }
        assert!(!prefers_json(&HeaderMap::new()));
    }

    #[test]
    fn every_page_has_a_twin() {
        let twin = |path, query| Wanted::of(path, query, &HeaderMap::new());
        assert_eq!(twin("/", Some("q=a")), Wanted { json: false, twin: "/index.json?q=a".to_owned() });
        assert_eq!(twin("/tests/a%2Fb", None).twin, "/tests/a%2Fb.json");
        assert_eq!(twin("/events.json", None), Wanted { json: true, twin: "/events.json".to_owned() });
    }

    #[test]
    fn a_problem_becomes_a_page_that_escapes_it() {
        let page =
            error_page(br#"{"title":"Not Found","status":404,"detail":"nothing is at `/<b>`"}"#).unwrap();
        assert!(page.contains("Not Found"));
        assert!(page.contains("nothing is at `/&#60;b&#62;`"), "{page}");
        assert!(error_page(b"{}").is_none());
    }
}
