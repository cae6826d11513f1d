//! Paths out of a container as tar. Links in the path are resolved by the engine inside the container's own file
//! system: nothing here ever looks at the host's.

use base64::Engine as _;
use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::{
    EngineError,
    api::{Api, ByteStream, SLOW},
    error::Subject,
};

/// As many links may follow each other as Linux allows.
const MOST_LINKS: usize = 40;
/// Go's `os.ModeSymlink`.
const MODE_SYMLINK: u32 = 1 << 27;

/// What the engine says of a path, in the header `X-Docker-Container-Path-Stat`.
#[derive(Debug, Deserialize)]
struct PathStat {
    mode: u32,
    #[serde(rename = "linkTarget", default)]
    link_target: String,
}

/// Streams a path. A link at its end is followed, for the engine would send just the link itself.
pub(crate) async fn archive(api: &Api, container: &str, path: &str) -> Result<ByteStream, EngineError> {
    let path = resolve(api, container, path).await?;
    let call = api.get(&["containers", container, "archive"]).query("path", &path);
    let (bytes, _) = about(call, container, &path).within(SLOW).stream().await?;
    Ok(bytes)
}

async fn resolve(api: &Api, container: &str, path: &str) -> Result<String, EngineError> {
    let mut current = normal(path);
    for _ in 0..MOST_LINKS {
        let call = api.call(Method::HEAD, &["containers", container, "archive"]).query("path", &current);
        let (response, subject) = match about(call, container, &current).send().await {
            Ok(answer) => answer,
            Err(error) => return Err(explain(api, container, &current, error).await),
        };
        let stat = path_stat(response.headers(), &subject)?;
        if stat.mode & MODE_SYMLINK == 0 || stat.link_target.is_empty() {
            return Ok(current);
        }
        current = follow(&current, &stat.link_target);
    }
    Err(EngineError::NotFound { kind: "path", name: format!("{path} in {container} (too many links)") })
}

fn about(call: crate::api::Call, container: &str, path: &str) -> crate::api::Call {
    call.to("archive", "path", &format!("{path} in {container}"))
}

/// An answer to `HEAD` has no body, so it tells neither a missing path from a missing container nor what is wrong
/// with a path. Other calls do.
async fn explain(api: &Api, container: &str, path: &str, error: EngineError) -> EngineError {
    match &error {
        EngineError::NotFound { .. } => {
            let inspect = api.get(&["containers", container, "json"]).to("inspect", "container", container);
            match inspect.done().await {
                Err(missing) if missing.is_not_found() => missing,
                _ => error,
            }
        }
        EngineError::Refused { message, .. } if message.is_empty() => {
            let get = api.get(&["containers", container, "archive"]).query("path", path);
            about(get, container, path).send().await.err().unwrap_or(error)
        }
        _ => error,
    }
}

fn path_stat(headers: &HeaderMap, subject: &Subject) -> Result<PathStat, EngineError> {
    let header = headers
        .get("x-docker-container-path-stat")
        .ok_or_else(|| subject.garbled("the answer has no X-Docker-Container-Path-Stat"))?;
    let json = base64::engine::general_purpose::STANDARD
        .decode(header.as_bytes())
        .map_err(|error| subject.garbled(error))?;
    serde_json::from_slice(&json).map_err(|error| subject.garbled(error))
}

/// A slash at the end would make the engine follow a link by itself, and name the archive after the link.
fn normal(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/.").unwrap_or(trimmed);
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
}

/// Where a link leads. The engine answers with an absolute path; a relative one is read as the link itself is.
fn follow(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return normal(target);
    }
    let directory = link.rsplit_once('/').map_or("", |(directory, _)| directory);
    normal(&format!("{directory}/{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_brought_into_the_form_the_engine_needs() {
        assert_eq!(normal("/var/tests/results/"), "/var/tests/results");
        assert_eq!(normal("/results/."), "/results");
        assert_eq!(normal("/"), "/");
        assert_eq!(normal("results"), "results");
    }

    #[test]
    fn a_link_leads_where_it_says() {
        assert_eq!(follow("/var/results", "/data/out/"), "/data/out");
        assert_eq!(follow("/var/results", "../data"), "/var/../data");
        assert_eq!(follow("results", "data"), "/data");
    }

    #[test]
    fn reads_the_engines_word_on_a_path() {
        let subject = Subject { kind: "path", name: "/r".into(), action: "archive".into() };
        let mut headers = HeaderMap::new();
        assert!(path_stat(&headers, &subject).is_err());
        let stat =
            r#"{"name":"r","size":4,"mode":134218239,"mtime":"2024-05-01T00:00:00Z","linkTarget":"/data"}"#;
        let encoded = base64::engine::general_purpose::STANDARD.encode(stat);
        headers.insert("x-docker-container-path-stat", encoded.parse().unwrap());
        let stat = path_stat(&headers, &subject).unwrap();
        assert!(stat.mode & MODE_SYMLINK != 0);
        assert_eq!(stat.link_target, "/data");
        headers.insert("x-docker-container-path-stat", "!".parse().unwrap());
        assert!(path_stat(&headers, &subject).is_err());
    }
}
