//! Hands out a file of a run such that no browser takes it for a page of ours: what a test wrote is not trusted.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Response, header},
};
use serde::Deserialize;
use test_results::RunId;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        access::Reader,
        extract::{At, Params},
        problem::Problem,
    },
};

/// The bytes of a body, for the OpenAPI document.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "describes a body; never constructed")]
pub(super) struct Bytes(Vec<u8>);

/// How a file is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DownloadQuery {
    /// `true`: to be shown in the browser, if it is a text or an image; otherwise to be saved.
    #[serde(default)]
    view: bool,
}

/// The contents of one file of a run.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/files/{*path}", tag = "read", operation_id = "downloadFile",
    params(("id" = String, Path), ("path" = String, Path, description = "May have slashes"), DownloadQuery),
    responses(
        (status = 200, body = Bytes, content_type = "application/octet-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn download(
    State(app): State<App>,
    _: Reader,
    At((id, path)): At<(RunId, String)>,
    Params(query): Params<DownloadQuery>,
) -> Result<Response<Body>, Problem> {
    let missing = || Problem::not_found(format!("run `{id}` has no file `{path}`"));
    let open = app.store().open_file(id, &path).await?.ok_or_else(missing)?;
    let (media_type, viewable) = media_type(&path);
    let disposition = disposition(&path, query.view && viewable);
    let size = open.file.size;
    let mut response = Response::new(Body::from_stream(open.into_stream()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if let Ok(disposition) = HeaderValue::try_from(disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The media type of a file by its name, and whether a browser may show it. Only types that cannot carry a script.
fn media_type(path: &str) -> (&'static str, bool) {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some(
            "txt" | "log" | "xml" | "json" | "tap" | "yaml" | "yml" | "csv" | "md" | "out" | "err" | "ini",
        ) => ("text/plain; charset=utf-8", true),
        Some("png") => ("image/png", true),
        Some("jpg" | "jpeg") => ("image/jpeg", true),
        Some("gif") => ("image/gif", true),
        Some("webp") => ("image/webp", true),
        _ => ("application/octet-stream", false),
    }
}

/// RFC 6266: the name without its directories, in ASCII for old programs and in UTF-8 for others.
fn disposition(path: &str, view: bool) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    let how = if view { "inline" } else { "attachment" };
    format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_can_carry_a_script_is_shown() {
        for path in ["a/index.html", "x.svg", "x.HTM", "x.xhtml", "x.js", "x.pdf", "x"] {
            assert_eq!(media_type(path), ("application/octet-stream", false), "{path}");
        }
        assert_eq!(media_type("results/JUnit.XML"), ("text/plain; charset=utf-8", true));
        assert_eq!(media_type("dir.png/file"), ("application/octet-stream", false));
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(
            disposition("results/ä \"b\".log", false),
            "attachment; filename=\"_ _b_.log\"; filename*=UTF-8''%C3%A4%20%22b%22.log"
        );
        assert!(disposition("a.log", true).starts_with("inline; filename=\"a.log\""));
    }
}
