//! Plans a faithful copy of a container: what to ask the engine for, as a pure function of two documents.

use serde_json::Value;

use crate::{Container, Image, container::Labels};

/// What a copy should differ in.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Name of the copy.
    pub name: String,
    /// Labels to set on the copy besides the original's.
    pub labels: Labels,
    /// Labels of the original that the copy must not carry.
    pub without_labels: Vec<String>,
    /// Make the copy from this image instead of the original's own image id.
    pub image: Option<String>,
}

/// What to ask the engine for.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyPlan {
    /// Name of the copy.
    pub name: String,
    /// Body of `POST /containers/create`.
    pub create: Value,
    /// Networks to connect before the start, with their endpoint settings, beyond those in `create`.
    pub connect: Vec<(String, Value)>,
    /// What could not be copied, in words for the log (e.g. a host port that is still held).
    pub remarks: Vec<String>,
}

/// Plans the copy. `made_from` is the image that the original was made from (its defaults must not be frozen
/// into the copy); `runs_on` the image that the copy is made from.
pub fn plan(original: &Container, made_from: Option<&Image>, request: &CopyRequest) -> CopyPlan {
    let _ = (original, made_from, request);
    todo!()
}
