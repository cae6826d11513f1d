//! Images as the rest of the house sees them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::Labels;

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
    pub document: serde_json::Value,
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
