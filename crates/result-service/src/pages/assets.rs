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

    /// The hexadecimal colour of a variable in one of the two themes.
    fn colour(theme: &str, variable: &str) -> [f64; 3] {
        let start = theme.find(&format!("--{variable}: #")).unwrap_or_else(|| panic!("no --{variable}"));
        let digits = &theme[start + variable.len() + 5..][..6];
        [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()) / 255.0)
    }

    /// The contrast ratio of WCAG 2.
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        let luminance = |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
        one.max(other) / one.min(other)
    }

    #[test]
    fn text_and_bars_stand_out_in_both_themes() {
        let css = std::str::from_utf8(STYLE.contents).unwrap();
        let (light, dark) = css.split_once("prefers-color-scheme: dark").unwrap();
        let terminal: Vec<String> = (0..16).map(|number| format!("c{number}")).collect();
        let mut pairs = Vec::new();
        for text in ["ink", "quiet", "accent"] {
            pairs.extend(["ground", "paper", "faint", "term"].map(|ground| (text, ground, 4.5)));
        }
        for state in ["passed", "failed", "timed", "lost"] {
            pairs.push((state, "paper", 4.5));
        }
        for (theme, name) in [(light, "light"), (dark, "dark")] {
            let check = |text: &str, ground: &str, least: f64| {
                let ratio = contrast(colour(theme, text), colour(theme, ground));
                assert!(ratio >= least, "{name}: --{text} on --{ground} has a contrast of {ratio:.2}");
            };
            pairs.iter().for_each(|(text, ground, least)| check(text, ground, *least));
            terminal.iter().for_each(|text| check(text, "term", 4.5));
            for state in ["passed", "failed", "timed", "lost"] {
                check(state, &format!("{state}-tint"), 4.5);
                check(&format!("{state}-bar"), "paper", 3.0);
            }
        }
    }

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
