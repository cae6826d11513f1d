//! Knows which engine events the runners' own doings caused, so that no test is ever triggered by its own run.
//! Pure; bounded in memory.
//!
//! An event is ours when it is about a copy (known by id, or by its label), when a network or volume event names a
//! copy in its `container` attribute, when it is about an anonymous volume of a copy, about an image that the runner
//! pulls or removes, and when somebody reads results out of a test container. Which runner of the host made a copy
//! does not matter.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

use container_engine::EngineEvent;
use test_results::labels;

/// Ids remembered after their container has gone: its last network and volume events may come later.
const REMEMBERED: usize = 1024;
const REMEMBERED_IMAGES: usize = 256;

/// Who caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A runner.
    Ours,
    /// Somebody else.
    Foreign,
    /// Not known yet: a volume appears before the container that it belongs to.
    Unclear,
}

/// What the runners of this host have made and touched.
#[derive(Debug, Default)]
pub(crate) struct OwnTraces {
    /// Copies that exist.
    copies: HashSet<String>,
    /// Copies that existed.
    gone: Bounded<String>,
    /// Anonymous volumes of copies.
    volumes: Bounded<String>,
    /// Images, by id or reference, that the runner removes.
    images: Bounded<String>,
    /// References that the runner pulls time and again.
    pulled: HashSet<String>,
}

impl OwnTraces {
    /// A copy exists.
    pub(crate) fn copy(&mut self, id: &str) {
        if !self.copies.contains(id) {
            self.copies.insert(id.to_owned());
        }
    }

    /// A copy has gone.
    pub(crate) fn copy_gone(&mut self, id: &str) {
        if self.copies.remove(id) {
            self.gone.insert(id.to_owned(), REMEMBERED);
        }
    }

    /// Only these copies exist.
    pub(crate) fn retain_copies(&mut self, exists: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.copies.iter().filter(|id| !exists(id)).cloned().collect();
        for id in gone {
            self.copy_gone(&id);
        }
    }

    /// Whether this is the id of a copy.
    pub(crate) fn is_copy(&self, id: &str) -> bool {
        self.copies.contains(id) || self.gone.contains(id)
    }

    /// A copy has this volume. Named volumes belong to others too and are not remembered.
    pub(crate) fn volume(&mut self, name: &str) {
        if is_anonymous(name) {
            self.volumes.insert(name.to_owned(), REMEMBERED);
        }
    }

    /// Whether this is an anonymous volume of a copy.
    pub(crate) fn is_volume_of_copy(&self, name: &str) -> bool {
        self.volumes.contains(name)
    }

    /// The runner is about to remove this image.
    pub(crate) fn image(&mut self, id_or_reference: &str) {
        self.images.insert(id_or_reference.to_owned(), REMEMBERED_IMAGES);
    }

    /// The runner pulls these references from now on, and no others.
    pub(crate) fn pulls(&mut self, references: impl IntoIterator<Item = String>) {
        self.pulled = references.into_iter().collect();
    }

    /// Who caused the event. Learns from it: a copy's label and a mount tell more than the event itself.
    pub(crate) fn origin(&mut self, event: &EngineEvent) -> Origin {
        let attributes = &event.actor.attributes;
        let id = event.actor.id.as_str();
        let ours = match event.kind.as_str() {
            "container" => {
                if labels::is_copy(attributes) {
                    self.copy(id);
                }
                // Whoever reads results out of a test container, its original included, changes nothing.
                let read = matches!(event.verb(), "archive-path" | "extract-to-dir");
                self.is_copy(id) || (read && labels::is_test(attributes))
            }
            "volume" => match attributes.get("container") {
                Some(container) if self.is_copy(container) => {
                    self.volume(id);
                    true
                }
                Some(_) => false,
                None if self.is_volume_of_copy(id) => true,
                // The engine says `create` also when a container is made that mounts an old volume.
                None if event.verb() == "create" => return Origin::Unclear,
                None => false,
            },
            "image" => {
                let name = attributes.get("name").map(String::as_str);
                let mut names = [Some(id), name].into_iter().flatten();
                match event.verb() {
                    "pull" => names.any(|name| self.pulled.contains(name)),
                    "delete" | "untag" => names.any(|name| self.images.contains(name)),
                    _ => false,
                }
            }
            _ => attributes.get("container").is_some_and(|container| self.is_copy(container)),
        };
        if ours { Origin::Ours } else { Origin::Foreign }
    }
}

/// Whether the engine made this name up: 64 hex digits.
pub(crate) fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A set that forgets its oldest members.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    members: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { members: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Clone + Eq + Hash> Bounded<T> {
    /// Adds a member, and forgets the oldest beyond `limit`.
    pub(crate) fn insert(&mut self, member: T, limit: usize) {
        if self.members.insert(member.clone()) {
            self.order.push_back(member);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.members.remove(&oldest);
            }
        }
    }

    /// Whether it is remembered.
    pub(crate) fn contains<Q: Eq + Hash + ?Sized>(&self, member: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.members.contains(member)
    }
}

#[cfg(test)]
mod tests {
    use container_engine::Actor;
    use jiff::Timestamp;

    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> EngineEvent {
        EngineEvent {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor {
                id: id.to_owned(),
                attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            },
            at: Timestamp::UNIX_EPOCH,
        }
    }

    const VOLUME: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_whole_run_of_a_copy_leaves_only_traces_of_ours() {
        let mut traces = OwnTraces::default();
        assert_eq!(traces.origin(&event("volume", "create", VOLUME, &[])), Origin::Unclear);
        let of_copy = [("tugbot-created-from", "t")];
        assert_eq!(traces.origin(&event("container", "create", "c1", &of_copy)), Origin::Ours);
        for run_event in [
            event("volume", "mount", VOLUME, &[("container", "c1")]),
            event("network", "connect", "n1", &[("container", "c1"), ("name", "bridge")]),
            event("container", "start", "c1", &of_copy),
            event("container", "exec_create: sh", "c1", &of_copy),
            event("container", "die", "c1", &of_copy),
            event("network", "disconnect", "n1", &[("container", "c1")]),
            event("volume", "unmount", VOLUME, &[("container", "c1")]),
            event("container", "archive-path", "c1", &of_copy),
            event("container", "destroy", "c1", &of_copy),
        ] {
            assert_eq!(traces.origin(&run_event), Origin::Ours, "{run_event:?}");
        }
        traces.copy_gone("c1");
        assert_eq!(traces.origin(&event("volume", "destroy", VOLUME, &[])), Origin::Ours);
        let late = event("network", "disconnect", "n1", &[("container", "c1")]);
        assert_eq!(traces.origin(&late), Origin::Ours);
    }

    #[test]
    fn what_others_do_is_foreign() {
        let mut traces = OwnTraces::default();
        traces.copy("c1");
        for other in [
            event("container", "create", "p1", &[("name", "web")]),
            event("network", "connect", "n1", &[("container", "p1")]),
            event("network", "create", "n2", &[]),
            event("volume", "destroy", "data", &[]),
            event("volume", "mount", VOLUME, &[("container", "p1")]),
            event("volume", "destroy", VOLUME, &[]),
            event("image", "pull", "web:1", &[("name", "web")]),
            event("daemon", "reload", "d", &[]),
        ] {
            assert_eq!(traces.origin(&other), Origin::Foreign, "{other:?}");
        }
    }

    #[test]
    fn the_runners_own_image_work_is_ours() {
        let mut traces = OwnTraces::default();
        traces.pulls(["t:latest".to_owned()]);
        traces.image("sha256:old");
        assert_eq!(traces.origin(&event("image", "pull", "t:latest", &[("name", "t")])), Origin::Ours);
        assert_eq!(traces.origin(&event("image", "delete", "sha256:old", &[])), Origin::Ours);
        assert_eq!(traces.origin(&event("image", "delete", "sha256:new", &[])), Origin::Foreign);
        assert_eq!(traces.origin(&event("image", "tag", "sha256:old", &[])), Origin::Foreign);
    }

    #[test]
    fn reading_results_out_of_an_original_is_no_change() {
        let mut traces = OwnTraces::default();
        let test = [("tugbot.test", "")];
        assert_eq!(traces.origin(&event("container", "archive-path", "t1", &test)), Origin::Ours);
        assert_eq!(traces.origin(&event("container", "start", "t1", &test)), Origin::Foreign);
    }

    #[test]
    fn memory_of_the_past_is_bounded() {
        let mut traces = OwnTraces::default();
        for n in 0..10 * REMEMBERED {
            let id = format!("c{n}");
            traces.copy(&id);
            traces.copy_gone(&id);
        }
        assert!(traces.gone.order.len() <= REMEMBERED && traces.gone.members.len() <= REMEMBERED);
        assert!(traces.is_copy(&format!("c{}", 10 * REMEMBERED - 1)));
        assert!(!traces.is_copy("c0"));
    }
}
