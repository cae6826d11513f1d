//! Pulls an image with progress. The engine reports failures in the middle of a successful answer: they end the
//! stream as errors.

use std::{path::PathBuf, pin::Pin};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderName, StatusCode};
use serde::Deserialize;

use crate::{EngineError, api::Api, image::Reference, json_lines::JsonLines, registry_auth};

/// A step of a pull, for a progress bar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer, if the step is about one.
    pub layer: Option<String>,
    /// The engine's own words.
    pub status: String,
    /// Bytes done.
    pub done: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
}

/// Steps of a pull; its error ends it.
pub type PullStream = Pin<Box<dyn Stream<Item = Result<PullProgress, EngineError>> + Send>>;

/// A line of the engine's progress.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    status: String,
    id: Option<String>,
    progress_detail: Option<Detail>,
    error: Option<String>,
    error_detail: Option<ErrorDetail>,
}

#[derive(Deserialize)]
struct Detail {
    current: Option<i64>,
    total: Option<i64>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

impl Line {
    fn into_progress(self) -> Result<PullProgress, String> {
        if self.error.is_some() || self.error_detail.is_some() {
            let detail = self.error_detail.and_then(|detail| detail.message);
            return Err(detail.or(self.error).unwrap_or_default());
        }
        let (done, total) = self.progress_detail.map_or((None, None), |d| (d.current, d.total));
        // The engine writes -1 for a total that it does not know.
        let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        Ok(PullProgress { layer: self.id, status: self.status, done: bytes(done), total: bytes(total) })
    }
}

/// Pulls exactly what the reference names; without a tag, `latest` (the engine itself would pull all tags).
pub(crate) fn pull(api: Api, config_dir: Option<PathBuf>, reference: String) -> PullStream {
    stream::once(async move {
        let lines = begin(&api, config_dir, &reference).await?;
        Ok::<_, EngineError>(stream::unfold(Some(lines), |lines| async move {
            let mut lines = lines?;
            let step = step(&mut lines).await?;
            let go_on = step.is_ok().then_some(lines);
            Some((step, go_on))
        }))
    })
    .try_flatten()
    .boxed()
}

async fn begin(api: &Api, config_dir: Option<PathBuf>, reference: &str) -> Result<JsonLines, EngineError> {
    let image = Reference::parse(reference);
    let registry = image.registry();
    let mut call = api
        .post(&["images", "create"])
        .to("pull", "image", reference)
        .query("fromImage", image.repository)
        .query("tag", image.version)
        // The engine answers only when the registry has, and reports nothing while it waits.
        .unlimited();
    if let Some(directory) = config_dir {
        let credentials = registry_auth::find(&directory, registry)
            .await
            .map_err(|source| EngineError::Credentials { registry: registry.to_owned(), source })?;
        if let Some(credentials) = credentials {
            call = call.header(HeaderName::from_static("x-registry-auth"), credentials.header(registry));
        }
    }
    Ok(JsonLines::new(call.stream().await?))
}

async fn step(lines: &mut JsonLines) -> Option<Result<PullProgress, EngineError>> {
    let line = match lines.next().await? {
        Ok(line) => line,
        Err(error) => return Some(Err(error)),
    };
    let subject = lines.subject();
    Some(match serde_json::from_slice::<Line>(&line) {
        Ok(line) => line.into_progress().map_err(|message| subject.refused(StatusCode::OK, message)),
        Err(error) => Err(subject.garbled(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<PullProgress, String> {
        serde_json::from_str::<Line>(line).expect("a line of progress").into_progress()
    }

    #[test]
    fn reads_progress() {
        assert_eq!(
            read(
                r#"{"status":"Downloading","progressDetail":{"current":5,"total":-1},"progress":"[>]","id":"ab"}"#
            ),
            Ok(PullProgress {
                layer: Some("ab".into()),
                status: "Downloading".into(),
                done: Some(5),
                total: None
            })
        );
        assert_eq!(read(r#"{"status":"Digest: sha256:ab","progressDetail":{}}"#).unwrap().done, None);
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        let both = r#"{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}"#;
        assert_eq!(read(both), Err("manifest unknown".into()));
        assert_eq!(read(r#"{"error":"no space left on device"}"#), Err("no space left on device".into()));
    }
}
