//! Images as the rest of the house sees them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::{Labels, labels_at};

/// An image id (`sha256:…`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub String);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An inspected image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// `name:tag` references to it.
    pub tags: Vec<String>,
    /// `name@sha256:…` references to it.
    pub digests: Vec<String>,
    /// Its labels.
    pub labels: Labels,
    /// The engine's own document, as `docker image inspect` prints it.
    pub document: Value,
}

/// A row of an image listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its id.
    pub id: ImageId,
    /// `name:tag` references to it.
    pub tags: Vec<String>,
    /// `name@sha256:…` references to it.
    pub digests: Vec<String>,
    /// Its labels.
    pub labels: Labels,
}

impl Image {
    /// Reads the engine's document; `None` when it is not one of an image.
    pub(crate) fn from_document(document: Value) -> Option<Self> {
        let id = ImageId(document.get("Id")?.as_str()?.to_owned());
        let references = |key: &str| {
            let references = document.get(key).and_then(Value::as_array).into_iter().flatten();
            references.filter_map(Value::as_str).filter(|r| is_reference(r)).map(str::to_owned).collect()
        };
        Some(Self {
            id,
            tags: references("RepoTags"),
            digests: references("RepoDigests"),
            labels: labels_at(&document, "/Config/Labels"),
            document,
        })
    }
}

/// A row of `GET /images/json`, with what is read of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryRow {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<Labels>,
}

impl From<SummaryRow> for ImageSummary {
    fn from(row: SummaryRow) -> Self {
        let references =
            |all: Option<Vec<String>>| all.into_iter().flatten().filter(|r| is_reference(r)).collect();
        Self {
            id: ImageId(row.id),
            tags: references(row.repo_tags),
            digests: references(row.repo_digests),
            labels: row.labels.unwrap_or_default(),
        }
    }
}

/// Older engines write `<none>:<none>` and `<none>@<none>` for an image that has no name.
fn is_reference(reference: &str) -> bool {
    !reference.contains("<none>")
}

/// A reference as people write it, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// Everything before the tag or digest.
    pub(crate) repository: &'a str,
    /// A tag or a digest; without either, Docker means `latest`.
    pub(crate) version: &'a str,
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        if let Some((name, digest)) = text.split_once('@') {
            // A tag beside a digest says nothing more.
            return Self { repository: Self::parse(name).repository, version: digest };
        }
        match text.rsplit_once(':') {
            // In `localhost:5000/shop` the colon is before a port.
            Some((repository, tag)) if !tag.contains('/') => Self { repository, version: tag },
            _ => Self { repository: text, version: "latest" },
        }
    }

    /// The registry's name, `docker.io` when the reference has none.
    pub(crate) fn registry(&self) -> &'a str {
        match self.repository.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "docker.io",
        }
    }

    /// Whether two references mean the same, whatever Docker lets people leave out.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.path() == other.path() && self.registry() == other.registry()
    }

    fn path(&self) -> &'a str {
        let path = self.repository.strip_prefix(self.registry()).unwrap_or(self.repository);
        let path = path.trim_start_matches('/');
        if self.registry() == "docker.io" { path.strip_prefix("library/").unwrap_or(path) } else { path }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parts(text: &str) -> (&str, &str, &str) {
        let reference = Reference::parse(text);
        (reference.registry(), reference.repository, reference.version)
    }

    #[test]
    fn takes_references_apart() {
        assert_eq!(parts("busybox"), ("docker.io", "busybox", "latest"));
        assert_eq!(parts("team/shop:1.2"), ("docker.io", "team/shop", "1.2"));
        assert_eq!(parts("localhost:5000/shop"), ("localhost:5000", "localhost:5000/shop", "latest"));
        assert_eq!(parts("localhost/shop:1"), ("localhost", "localhost/shop", "1"));
        assert_eq!(parts("r.example/a/b:1@sha256:00"), ("r.example", "r.example/a/b", "sha256:00"));
    }

    #[test]
    fn knows_that_different_spellings_mean_one_image() {
        let same = |a, b| Reference::parse(a).is_same(&Reference::parse(b));
        assert!(same("busybox", "docker.io/library/busybox:latest"));
        assert!(same("team/shop:1", "docker.io/team/shop:1"));
        assert!(!same("team/shop:1", "r.example/team/shop:1"));
        assert!(!same("busybox", "busybox:musl"));
    }

    #[test]
    fn an_image_without_a_name_has_no_references() {
        let image = Image::from_document(json!({
            "Id": "sha256:ab", "RepoTags": ["<none>:<none>"], "RepoDigests": null, "Config": { "Labels": null },
        }))
        .unwrap();
        assert!(image.tags.is_empty() && image.digests.is_empty() && image.labels.is_empty());
    }
}
