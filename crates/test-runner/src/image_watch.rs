//! Finds out whether a newer image stands behind the reference of a test container, and removes old images
//! that nobody uses any more. Never pulls a digest or an image id (they cannot change), never decides what
//! runs on the new image, and never removes an image that a container or a tag still needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use container_engine::{Engine, EngineError};
use futures_util::{StreamExt, TryStreamExt, stream};
use test_results::TestName;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::delivery;

/// Pulls at a time: each already fetches several layers at once.
const PULLS_AT_A_TIME: usize = 3;
/// A reference whose pull failed is left alone for this long, twice as long after each further failure.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// But never longer than this.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// A test container's image, as it was when the test last ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedImage {
    /// The test.
    pub test: TestName,
    /// The image as the test container names it, e.g. `registry.example.org/app-tests:stable`.
    pub reference: String,
    /// The id behind it so far (`sha256:…`).
    pub current_image_id: String,
}

/// A newer image behind a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerImage {
    /// The test.
    pub test: TestName,
    /// The image as the test container names it.
    pub reference: String,
    /// The id so far.
    pub old_id: String,
    /// The id now.
    pub new_id: String,
}

/// What came of removing an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// It is gone.
    Removed,
    /// A container or a tag needs it, or the engine did not answer; it is tried again with each poll.
    Kept,
}

/// Polls for newer images.
#[derive(Debug)]
pub struct ImageWatch {
    engine: Engine,
    pull: bool,
    failing: HashMap<String, Failing>,
    /// Old images that were still in use.
    leftovers: BTreeSet<String>,
}

/// A reference whose last pull failed.
#[derive(Clone, Copy, Debug)]
struct Failing {
    times: u32,
    not_before: Instant,
}

impl ImageWatch {
    /// With `pull` each poll asks the registries; without, only the engine's own images count (`--no-pull`).
    pub fn new(engine: Engine, pull: bool) -> Self {
        Self { engine, pull, failing: HashMap::new(), leftovers: BTreeSet::new() }
    }

    /// Looks once at all images, each reference once, and at leftovers of [`ImageWatch::cleanup`]. What
    /// cannot be looked at is logged and does not keep the others from being looked at.
    pub async fn poll(&mut self, watched: &[WatchedImage]) -> Vec<NewerImage> {
        let mut tests: BTreeMap<&str, Vec<&WatchedImage>> = BTreeMap::new();
        for image in watched.iter().filter(|image| can_change(&image.reference, &image.current_image_id)) {
            tests.entry(&image.reference).or_default().push(image);
        }
        self.failing.retain(|reference, _| tests.contains_key(reference.as_str()));
        if self.pull {
            self.pull_all(tests.keys().map(|reference| (*reference).to_owned()).collect()).await;
        }
        let mut newer = Vec::new();
        for (reference, images) in tests {
            let Some(now) = self.id_of(reference).await else { continue };
            newer.extend(images.into_iter().filter(|image| image.current_image_id != now).map(|image| {
                NewerImage {
                    test: image.test.clone(),
                    reference: reference.to_owned(),
                    old_id: image.current_image_id.clone(),
                    new_id: now.clone(),
                }
            }));
        }
        for image in std::mem::take(&mut self.leftovers) {
            self.cleanup(&image).await;
        }
        newer
    }

    /// Removes an old image by its id, unless a container or a tag still needs it: then it is remembered.
    pub async fn cleanup(&mut self, image_id: &str) -> Cleanup {
        match self.remove(image_id).await {
            Ok(true) => {
                info!(image = image_id, "removed the old image {image_id}");
                Cleanup::Removed
            }
            Ok(false) => {
                debug!(image = image_id, "the old image {image_id} is still in use");
                self.leftovers.insert(image_id.to_owned());
                Cleanup::Kept
            }
            Err(EngineError::NotFound { .. }) => Cleanup::Removed,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(image = image_id, error, "the old image {image_id} cannot be removed now");
                self.leftovers.insert(image_id.to_owned());
                Cleanup::Kept
            }
        }
    }

    async fn remove(&self, image_id: &str) -> Result<bool, EngineError> {
        // The engine would remove a last tag along with the image; but whoever set it wants to keep the
        // image.
        if !self.engine.image(image_id).await?.tags.is_empty() {
            return Ok(false);
        }
        match self.engine.remove_image(image_id, false).await {
            Ok(()) => Ok(true),
            Err(EngineError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes its references as owned, so that a poll can be a task of its own.
    async fn pull_all(&mut self, mut references: Vec<String>) {
        let now = Instant::now();
        references
            .retain(|reference| self.failing.get(reference).is_none_or(|failing| failing.not_before <= now));
        let pulls = references.into_iter().map(|reference| {
            let engine = self.engine.clone();
            async move {
                let outcome = engine.pull(&reference).try_for_each(|_| std::future::ready(Ok(()))).await;
                (reference, outcome)
            }
        });
        let pulled: Vec<_> = stream::iter(pulls).buffer_unordered(PULLS_AT_A_TIME).collect().await;
        for (reference, outcome) in pulled {
            match outcome {
                Ok(()) => {
                    if self.failing.remove(&reference).is_some() {
                        info!(image = reference, "image {reference} can be pulled again");
                    }
                }
                Err(error) => self.failed(&reference, &error),
            }
        }
    }

    fn failed(&mut self, reference: &str, error: &EngineError) {
        let times = self.failing.get(reference).map_or(1, |failing| failing.times.saturating_add(1));
        let not_before = Instant::now() + delay_after(times);
        self.failing.insert(reference.to_owned(), Failing { times, not_before });
        let error: &dyn std::error::Error = error;
        if times == 1 {
            warn!(
                image = reference,
                error,
                "cannot pull image {reference}; the engine's own copy is looked at, and the registry later again"
            );
        } else {
            debug!(image = reference, error, times, "still cannot pull image {reference}");
        }
    }

    async fn id_of(&self, reference: &str) -> Option<String> {
        match self.engine.image(reference).await {
            Ok(image) => Some(image.id.0),
            // The tag was removed; the test container still has its image.
            Err(EngineError::NotFound { .. }) => None,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(image = reference, error, "cannot look at image {reference}");
                None
            }
        }
    }
}

/// Whether another image can ever stand behind a reference: not behind a digest, nor behind an id.
fn can_change(reference: &str, current_image_id: &str) -> bool {
    let is_digest = reference.contains('@') || reference.starts_with("sha256:");
    let hex = current_image_id.strip_prefix("sha256:").unwrap_or(current_image_id);
    // `docker run 3f57d9401f8d` names a container's image by the start of its id.
    let is_id = !reference.is_empty() && hex.starts_with(reference);
    !is_digest && !is_id
}

/// How long a reference is left alone after so many failures in a row.
fn delay_after(times: u32) -> Duration {
    let steps = times.saturating_sub(1).try_into().unwrap_or(usize::MAX);
    // Beyond some steps the delay no longer grows.
    delivery::delays(FIRST_DELAY, LONGEST_DELAY).nth(steps.min(16)).unwrap_or(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741";

    #[test]
    fn only_tags_can_change() {
        for reference in ["app", "app:1", "reg.example.org:5000/team/app:stable", "deadbeef", "3f57d9401f8e"]
        {
            assert!(can_change(reference, ID), "{reference}");
        }
        let hex = &ID["sha256:".len()..];
        for reference in [ID, hex, &hex[..12], &format!("app@{ID}"), &format!("app:1@{ID}"), ""] {
            assert!(!can_change(reference, ID) || reference.is_empty(), "{reference}");
        }
    }

    #[test]
    fn a_failing_reference_is_left_alone_longer_and_longer() {
        for (times, least) in [(1, 60), (2, 120), (3, 240), (7, 3600), (u32::MAX, 3600)] {
            let (delay, least) = (delay_after(times), Duration::from_secs(least));
            assert!((least..=2 * least).contains(&delay), "{delay:?} after {times} failures");
        }
    }
}
