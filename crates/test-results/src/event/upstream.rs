//! The form in which upstream posts an event to `POST /events`, and its conversion to and from CloudEvents.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{CloudEvent, EngineEvent, Stamp, cdevent, engine_event};

/// Types of objects that a Docker Engine reports on.
const ENGINE_TYPES: [&str; 10] =
    ["builder", "config", "container", "daemon", "image", "network", "node", "plugin", "secret", "volume"];

/// An event in upstream's form. Every member may be missing; times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpstreamEvent {
    /// What it is about: `container`, `image`, …
    #[serde(alias = "type", deserialize_with = "text")]
    pub r#type: String,
    /// Identifies what it is about.
    #[serde(rename = "ID", alias = "Id", alias = "id", deserialize_with = "text")]
    pub id: String,
    /// When it began.
    #[serde(alias = "startedAt", deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[serde(alias = "finishedAt", deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The tag of an image.
    #[serde(alias = "tag", deserialize_with = "text")]
    pub tag: String,
    /// The image of a container.
    #[serde(alias = "from", deserialize_with = "text")]
    pub from: String,
    /// What happened: `create`, `die`, …
    #[serde(alias = "action", deserialize_with = "text")]
    pub action: String,
    /// The same in the words of old engines, or how it ended.
    #[serde(alias = "status", deserialize_with = "text")]
    pub status: String,
}

/// A string; `null` is an empty one, numbers and booleans become text.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// A time; a missing one is empty, `null`, or Go's zero time.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text = text(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    crate::upload::parse_time(&text).map_err(serde::de::Error::custom)
}

impl UpstreamEvent {
    /// The event as a CloudEvent: one of the engine's types becomes the same event that a runner would send,
    /// another type a custom one of the tool `tugbot`. `stamp.at` is used when the event has no time itself.
    pub fn into_cloud_event(self, stamp: Stamp) -> CloudEvent {
        let action = if self.action.is_empty() { &self.status } else { &self.action };
        let mut attributes = BTreeMap::new();
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        for (name, value) in [
            ("image", self.from.clone()),
            ("tag", self.tag.clone()),
            ("status", self.status.clone()),
            ("startedAt", time(self.started_at)),
            ("finishedAt", time(self.finished_at)),
        ] {
            if !value.is_empty() {
                attributes.insert(name.to_owned(), value);
            }
        }
        let at = self.finished_at.or(self.started_at).unwrap_or(stamp.at);
        let stamp = Stamp { at, ..stamp };
        let kind = self.r#type.to_ascii_lowercase();
        let id = if self.id.is_empty() { "unknown" } else { &self.id };
        if ENGINE_TYPES.contains(&kind.as_str()) {
            return engine_event(stamp, &EngineEvent { kind: &kind, action, id, attributes: &attributes });
        }
        let cloud_type = cdevent::custom_type("tugbot", &kind, action);
        let subject = cloud_type.split('.').nth(2).unwrap_or("tugbot-unknown").to_owned();
        let content = serde_json::json!({"action": action, "attributes": attributes});
        cdevent::document(stamp, cloud_type, id, &subject, content, None, Value::Null)
    }

    /// An event in upstream's form. What it cannot hold is left out.
    pub fn from_cloud_event(event: &CloudEvent) -> Self {
        let text = |pointer: &str| {
            event.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let attribute = |name: &str| text(&format!("/subject/content/attributes/{name}"));
        // dev.cdevents.<subject>.<predicate>.<version>, dev.cdeventsx.<tool>-<subject>.<predicate>.<version>
        let mut words = event.kind.split('.').skip(2);
        let subject = words.next().unwrap_or_default();
        let subject = subject.split_once('-').map_or(subject, |(_, subject)| subject);
        let predicate = words.next().unwrap_or_default();
        let or = |first: String, second: String| if first.is_empty() { second } else { first };
        let action = or(text("/subject/content/action"), predicate.to_owned());
        let known = |name: &str| attribute(name).parse().ok();
        Self {
            r#type: subject.to_owned(),
            id: cdevent::subject_id(event).unwrap_or_default().to_owned(),
            started_at: known("startedAt").or(event.time),
            finished_at: known("finishedAt").or(event.time),
            tag: attribute("tag"),
            from: or(attribute("image"), text("/customData/image")),
            status: or(or(attribute("status"), text("/subject/content/outcome")), action.clone()),
            action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventId;

    fn stamp() -> Stamp {
        Stamp {
            id: EventId("e-1".into()),
            source: "/upstream".into(),
            at: "2026-05-01T10:00:00Z".parse().unwrap(),
        }
    }

    const CONTAINER: &str = r#"{"Type":"container","ID":"4f1c","StartedAt":"2016-08-01T10:00:00Z",
        "FinishedAt":"2016-08-01T10:00:02Z","Tag":"","From":"shop:2","Action":"die","Status":"die"}"#;

    #[test]
    fn an_event_of_the_engine_is_the_same_event_that_a_runner_sends() {
        let event: UpstreamEvent = serde_json::from_str(CONTAINER).unwrap();
        let cloud = event.into_cloud_event(stamp());
        assert_eq!(cloud.kind, "dev.cdeventsx.docker-container.die.0.1.0");
        assert_eq!(cloud.subject.as_deref(), Some("4f1c"));
        assert_eq!(cloud.time, Some("2016-08-01T10:00:02Z".parse().unwrap()));
        assert_eq!(cloud.data["subject"]["content"]["attributes"]["image"], "shop:2");
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let event: UpstreamEvent = serde_json::from_str(CONTAINER).unwrap();
        assert_eq!(UpstreamEvent::from_cloud_event(&event.clone().into_cloud_event(stamp())), event);
        let other = UpstreamEvent { r#type: "deployment".into(), action: "rollout".into(), ..event };
        let cloud = other.clone().into_cloud_event(stamp());
        assert_eq!(cloud.kind, "dev.cdeventsx.tugbot-deployment.rollout.0.1.0");
        assert_eq!(cloud.data["subject"]["type"], "tugbot-deployment");
        assert_eq!(UpstreamEvent::from_cloud_event(&cloud), other);
    }

    #[test]
    fn missing_members_and_zero_times_are_taken() {
        let text =
            r#"{"type":"image","Status":"pull","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":null,"ID":7}"#;
        let event: UpstreamEvent = serde_json::from_str(text).unwrap();
        assert_eq!((event.started_at, event.id.as_str()), (None, "7"));
        let cloud = event.into_cloud_event(stamp());
        assert_eq!(cloud.kind, "dev.cdeventsx.docker-image.pull.0.1.0");
        assert_eq!(cloud.time, Some(stamp().at));
        assert!(serde_json::from_str::<UpstreamEvent>(r#"{"StartedAt":"soon"}"#).is_err());
    }

    #[test]
    fn a_finished_run_is_told_in_upstreams_words() {
        let test = "smoke".into();
        let run = super::super::SuiteRun {
            id: "smoke-1",
            test: &test,
            environment: "h",
            cause: None,
            image: Some("shop:2"),
            links: &[],
        };
        let cloud = super::super::run_finished(stamp(), &run, &crate::Outcome::Passed, None);
        let event = UpstreamEvent::from_cloud_event(&cloud);
        assert_eq!((event.r#type.as_str(), event.action.as_str()), ("testsuiterun", "finished"));
        assert_eq!(
            (event.id.as_str(), event.from.as_str(), event.status.as_str()),
            ("smoke-1", "shop:2", "pass")
        );
    }
}
