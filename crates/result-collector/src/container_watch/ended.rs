//! What is known of a container that has ended, from an event, a listing, or an inspection, and what follows from it
//! for the upload. Pure.

use std::collections::BTreeMap;

use container_engine::{Container, ContainerSummary, EngineEvent, Lifecycle};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use test_results::{
    TestName, labels,
    upload::{UploadQuery, container_key},
};

use crate::activity::Source;

/// The engine notes the end of a container and sends the event within this time.
const SAME_END: SignedDuration = SignedDuration::from_secs(5);

/// A container that has ended, before it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) started_at: Option<Timestamp>,
    /// Absent when it was found in a listing.
    pub(crate) event: Option<EndEvent>,
}

/// What a `die` event tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndEvent {
    pub(crate) at: Timestamp,
    pub(crate) exit_code: Option<i64>,
}

impl Ended {
    /// Reads a `die` event of a test container.
    pub(crate) fn from_event(event: &EngineEvent, started_at: Option<Timestamp>) -> Self {
        let attributes = &event.actor.attributes;
        let text = |key| attributes.get(key).cloned().unwrap_or_default();
        Self {
            id: event.actor.id.clone(),
            name: text("name"),
            image: text("image"),
            labels: attributes.clone(),
            started_at,
            event: Some(EndEvent { at: event.at, exit_code: text("exitCode").parse().ok() }),
        }
    }

    pub(crate) fn from_listing(container: &ContainerSummary) -> Self {
        Self {
            id: container.id.0.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            labels: container.labels.clone(),
            started_at: None,
            event: None,
        }
    }

    pub(crate) fn is_copy(&self) -> bool {
        labels::is_copy(&self.labels)
    }

    /// The directory of results inside the container.
    pub(crate) fn results_path(&self) -> &str {
        labels::get(&self.labels, labels::RESULTS)
            .map(str::trim)
            .filter(|path| !path.is_empty())
            .unwrap_or(labels::DEFAULT_RESULTS)
    }
}

/// One end of one container: all that the upload says about it besides its files.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) finished_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) exit_code: Option<i64>,
    /// The engine's document, or one in its form made of what the event told.
    pub(crate) document: Value,
    name: String,
    image: String,
}

impl End {
    /// The end that the container itself tells of. `None` while it has none: it was found in a listing and has been
    /// started again, or was never started.
    pub(crate) fn of(ended: &Ended, container: &Container) -> Option<Self> {
        let told = container.finished_at;
        let (finished_at, is_told) = match (ended.event, told) {
            (Some(event), Some(told)) if told.duration_since(event.at).abs() <= SAME_END => (told, true),
            // It ended again since: what the container tells is of a later end.
            (Some(event), _) => (event.at, false),
            (None, Some(told)) if container.lifecycle == Lifecycle::Exited => (told, true),
            (None, _) => return None,
        };
        let exit_code = match ended.event {
            Some(EndEvent { exit_code: Some(code), .. }) => Some(code),
            _ => container.exit_code.filter(|_| is_told),
        };
        Some(Self {
            finished_at,
            started_at: start_of(container.started_at, finished_at)
                .or(start_of(ended.started_at, finished_at)),
            exit_code,
            document: container.document.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
        })
    }

    /// The end of a container that is gone. `None` when nothing but its name is known.
    pub(crate) fn of_gone(ended: &Ended) -> Option<Self> {
        let event = ended.event?;
        let foreign = ["name", "image", "exitCode"];
        let labels: BTreeMap<_, _> =
            ended.labels.iter().filter(|(key, _)| !foreign.contains(&key.as_str())).collect();
        let started_at = start_of(ended.started_at, event.at);
        let document = json!({
            "Id": ended.id,
            "Name": format!("/{}", ended.name),
            "Config": {"Image": ended.image, "Labels": labels},
            "State": {
                "Status": "removed",
                "ExitCode": event.exit_code,
                "StartedAt": started_at,
                "FinishedAt": event.at,
            },
        });
        Some(Self {
            finished_at: event.at,
            started_at,
            exit_code: event.exit_code,
            document,
            name: ended.name.clone(),
            image: ended.image.clone(),
        })
    }

    pub(crate) fn key(&self, ended: &Ended) -> String {
        container_key(&ended.id, self.finished_at)
    }

    pub(crate) fn source(&self, ended: &Ended) -> Source {
        Source::Container {
            id: ended.id.clone(),
            name: self.name.clone(),
            finished_at: self.finished_at,
            copy: ended.is_copy(),
            complete: true,
        }
    }

    /// The query of the upload. Cause and timeout stand in the labels of the inspect document.
    pub(crate) fn query(&self, ended: &Ended, hostname: &str) -> UploadQuery {
        let test = labels::get(&ended.labels, labels::CREATED_FROM).unwrap_or(&self.name);
        UploadQuery {
            main_file: Some("results.tar".to_owned()),
            image: Some(self.image.clone()),
            exit_code: self.exit_code,
            started_at: self.started_at,
            finished_at: Some(self.finished_at),
            test: Some(TestName::from(test)),
            host: Some(hostname.to_owned()),
            ..UploadQuery::default()
        }
    }
}

/// The start that belongs to an end. The engine notes the start of a container that ends at once after its end.
fn start_of(started_at: Option<Timestamp>, finished_at: Timestamp) -> Option<Timestamp> {
    let started_at = started_at?;
    (started_at.duration_since(finished_at) <= SAME_END).then_some(started_at.min(finished_at))
}

/// The tmpfs that a path lies in, if it does: such a directory is empty by the time it can be archived.
pub(crate) fn tmpfs_over(path: &str, container: &Container) -> Option<String> {
    let by_mount = container.mounts.iter().filter(|m| m.kind == "tmpfs").map(|m| m.destination.as_str());
    let by_option = container.document.pointer("/HostConfig/Tmpfs").and_then(Value::as_object);
    by_mount
        .chain(by_option.into_iter().flat_map(|options| options.keys().map(String::as_str)))
        .find(|mount| std::path::Path::new(path).starts_with(mount))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use container_engine::{Actor, ContainerId, Health};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn died(at_: &str, attributes: &[(&str, &str)]) -> Ended {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let actor = Actor { id: "c0ffee".into(), attributes };
        let event = EngineEvent { kind: "container".into(), action: "die".into(), actor, at: at(at_) };
        Ended::from_event(&event, None)
    }

    fn container(started: &str, finished: &str) -> Container {
        Container {
            id: ContainerId("c0ffee".into()),
            name: "t1_copy".into(),
            image: "img".into(),
            image_id: "sha256:1".into(),
            labels: BTreeMap::new(),
            lifecycle: Lifecycle::Exited,
            exit_code: Some(7),
            oom_killed: false,
            health: Health::None,
            created_at: at(started),
            started_at: Some(at(started)),
            finished_at: Some(at(finished)),
            mounts: Vec::new(),
            auto_remove: false,
            document: json!({"HostConfig": {"Tmpfs": {"/var/tests": "size=1m"}}}),
        }
    }

    #[test]
    fn the_container_tells_the_exact_time_of_the_end_that_the_event_announced() {
        let ended = died("2026-11-20T12:00:01.5Z", &[("exitCode", "3")]);
        let end = End::of(&ended, &container("2026-11-20T12:00:00Z", "2026-11-20T12:00:01.25Z")).unwrap();
        assert_eq!(end.finished_at, at("2026-11-20T12:00:01.25Z"));
        assert_eq!(end.exit_code, Some(3));
        assert_eq!(end.key(&ended), "container/c0ffee/1795176001250000000");
    }

    #[test]
    fn an_end_that_was_followed_by_another_keeps_its_own_time_and_code() {
        let ended = died("2026-11-20T12:00:01Z", &[("exitCode", "3")]);
        let end = End::of(&ended, &container("2026-11-20T12:01:00Z", "2026-11-20T12:02:00Z")).unwrap();
        assert_eq!((end.finished_at, end.exit_code), (at("2026-11-20T12:00:01Z"), Some(3)));
        assert_eq!(end.started_at, None);
    }

    #[test]
    fn a_start_that_the_engine_noted_late_is_not_after_the_end() {
        let ended = died("2026-11-20T12:00:01Z", &[]);
        let end = End::of(&ended, &container("2026-11-20T12:00:01.3Z", "2026-11-20T12:00:01.2Z")).unwrap();
        assert_eq!(end.started_at, Some(end.finished_at));
    }

    #[test]
    fn a_container_from_a_listing_that_runs_again_has_no_end() {
        let mut ended = died("2026-11-20T12:00:01Z", &[]);
        ended.event = None;
        let mut running = container("2026-11-20T12:00:00Z", "2026-11-20T11:00:00Z");
        running.lifecycle = Lifecycle::Running;
        assert!(End::of(&ended, &running).is_none());
        assert!(End::of_gone(&ended).is_none());
    }

    #[test]
    fn what_the_event_told_makes_an_inspect_document_when_the_container_is_gone() {
        let ended = died(
            "2026-11-20T12:00:01Z",
            &[
                ("name", "copy1"),
                ("image", "img"),
                ("exitCode", "1"),
                ("tugbot.test", ""),
                ("tugbot.created.from", "t1"),
            ],
        );
        let end = End::of_gone(&ended).unwrap();
        assert_eq!(end.document.pointer("/Config/Labels/tugbot.created.from").unwrap(), "t1");
        assert_eq!(end.document.pointer("/Config/Labels/exitCode"), None);
        assert_eq!(end.document.pointer("/State/ExitCode").unwrap(), 1);
        let query = end.query(&ended, "h");
        assert_eq!((query.test, query.exit_code), (Some(TestName::from("t1")), Some(1)));
        assert_eq!(query.finished_at, Some(at("2026-11-20T12:00:01Z")));
    }

    #[test]
    fn the_results_directory_is_read_in_every_spelling_and_has_a_default() {
        assert_eq!(died("2026-11-20T12:00:01Z", &[]).results_path(), "/var/tests/results");
        assert_eq!(died("2026-11-20T12:00:01Z", &[("tugbot-results-dir", "/r")]).results_path(), "/r");
        assert_eq!(
            died("2026-11-20T12:00:01Z", &[("tugbot.results", " ")]).results_path(),
            "/var/tests/results"
        );
    }

    #[test]
    fn a_tmpfs_above_the_results_is_noticed() {
        let container = container("2026-11-20T12:00:00Z", "2026-11-20T12:00:01Z");
        assert_eq!(tmpfs_over("/var/tests/results", &container).as_deref(), Some("/var/tests"));
        assert_eq!(tmpfs_over("/var/tests2", &container), None);
    }
}
