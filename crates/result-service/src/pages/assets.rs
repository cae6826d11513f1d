//! The files that pages refer to: one stylesheet, one script, one icon. They are part of the binary and are served
//! under a name that changes with their contents, so browsers keep them for good and never show a stale one.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use sha2::{Digest, Sha256};

struct Asset {
    path: String,
    etag: String,
    media_type: &'static str,
    contents: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, contents: &'static [u8]) -> Self {
        let digest = hex::encode(Sha256::digest(contents));
        let digest = &digest[..16];
        Self {
            path: format!("/assets/{stem}-{digest}.{extension}"),
            etag: format!("\"{digest}\""),
            media_type,
            contents,
        }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("tugyard", "css", "text/css; charset=utf-8", include_bytes!("../../assets/tugyard.css"))
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("live", "js", "text/javascript; charset=utf-8", include_bytes!("../../assets/live.js"))
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")));

/// Where the stylesheet is.
pub(super) fn style() -> &'static str {
    &STYLE.path
}

/// Where the script is.
pub(super) fn script() -> &'static str {
    &SCRIPT.path
}

/// Where the icon is.
pub(super) fn icon() -> &'static str {
    &ICON.path
}

/// `GET /assets/{name}`
pub(super) async fn get(Path(name): Path<String>, headers: HeaderMap) -> impl IntoResponse {
    let found = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.path["/assets/".len()..] == name);
    let Some(asset) = found else { return StatusCode::NOT_FOUND.into_response() };
    let about = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::ETAG, asset.etag.as_str()),
    ];
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|known| known.to_str().is_ok_and(|known| known.split(',').any(|tag| tag.trim() == asset.etag)));
    if known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, asset.contents).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn a_known_asset_is_not_sent_again() {
        let name = style().strip_prefix("/assets/").unwrap().to_owned();
        let first = get(Path(name.clone()), HeaderMap::new()).await.into_response();
        assert_eq!(first.status(), StatusCode::OK);
        assert!(first.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let etag: HeaderValue = first.headers()[header::ETAG].clone();
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, etag)]);
        assert_eq!(get(Path(name), again).await.into_response().status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn the_name_of_an_older_build_is_not_found() {
        let answer = get(Path("tugyard-0000000000000000.css".to_owned()), HeaderMap::new()).await;
        assert_eq!(answer.into_response().status(), StatusCode::NOT_FOUND);
    }
}
