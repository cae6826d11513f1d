//! Events in the CloudEvents envelope, as CDEvents where one fits. Shapes only: nothing is sent from here, and no
//! clock or source of ids is read.

mod cdevent;
mod filter;
mod upstream;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    cdevent::{
        ARTIFACT_PUBLISHED, EngineEvent, FinishedRun, PublishedArtifact, RUN_REQUESTED, SPEC_VERSION, Stamp,
        SuiteRun, TESTCASERUN_FINISHED, TESTCASERUN_SKIPPED, TESTSUITERUN_FINISHED, TESTSUITERUN_QUEUED,
        TESTSUITERUN_STARTED, case_finished, engine_event, engine_event_type, finished_run,
        published_artifact, requested_test, run_finished, run_queued, run_requested, run_started,
    },
    filter::{CdFilter, CdFilterError},
    upstream::UpstreamEvent,
};

/// The media type of one event in its structured JSON form.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The media type of a JSON array of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Identifies an event; unique within its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub String);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A CloudEvent 1.0 in its JSON form (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).
///
/// For a CDEvent, `data` holds the CDEvents document: `context`, `subject`, `customData`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique within `source`.
    pub id: EventId,
    /// Who says so: a URI reference, e.g. `/tugyard/run/<host>`.
    pub source: String,
    /// The type, e.g. `dev.cdevents.testcaserun.finished.0.2.0`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `application/json` for all of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// The payload.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// Extension attributes, e.g. `traceparent`, kept as they came.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
}

/// How large a received event may be.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Bytes of an event's JSON document.
    pub document: usize,
    /// Bytes of one attribute of the envelope.
    pub attribute: usize,
    /// Extension attributes.
    pub extensions: usize,
    /// Events in a batch.
    pub batch: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { document: 256 * 1024, attribute: 1024, extensions: 32, batch: 1000 }
    }
}

/// A received event that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It is longer than allowed.
    #[error("the event has {size} bytes, at most {limit} are taken")]
    Size {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not JSON, or lacks what the envelope needs.
    #[error("the event is not a CloudEvent in JSON")]
    Json(#[from] serde_json::Error),
    /// It follows another version of the specification.
    #[error("the event has specversion `{found}`, only 1.0 is understood")]
    SpecVersion {
        /// What it says.
        found: String,
    },
    /// An attribute that must say something is empty.
    #[error("attribute `{attribute}` of the event is empty")]
    Empty {
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute is longer than allowed.
    #[error("attribute `{attribute}` of the event has {size} bytes, at most {limit} are taken")]
    Attribute {
        /// Its name.
        attribute: String,
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// An attribute holds a control character.
    #[error("attribute `{attribute}` of the event holds a control character")]
    Control {
        /// Its name.
        attribute: &'static str,
    },
    /// It has more extension attributes than allowed.
    #[error("the event has {found} extension attributes, at most {limit} are taken")]
    Extensions {
        /// Their number.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// An extension attribute is not named in lower-case letters and digits, or is an object or array.
    #[error(
        "`{name}` is not an extension attribute: those have lower-case letters and digits, and simple values"
    )]
    Extension {
        /// Its name.
        name: String,
    },
    /// The payload is `data_base64`.
    #[error("the event carries `data_base64`, only JSON in `data` is understood")]
    BinaryData,
    /// A batch has more events than allowed.
    #[error("the batch has {found} events, at most {limit} are taken")]
    Batch {
        /// Their number.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// One event of a batch cannot be taken.
    #[error("event {number} of the batch cannot be taken")]
    InBatch {
        /// Its place, from 1.
        number: usize,
        /// Why.
        #[source]
        source: Box<EventError>,
    },
}

impl CloudEvent {
    /// An event without time, subject and payload.
    pub fn new(id: EventId, source: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: source.into(),
            kind: kind.into(),
            time: None,
            subject: None,
            datacontenttype: None,
            data: Value::Null,
            extensions: BTreeMap::new(),
        }
    }

    /// Reads and checks one event in its structured JSON form.
    pub fn from_json(document: &[u8], limits: &EventLimits) -> Result<Self, EventError> {
        if document.len() > limits.document {
            return Err(EventError::Size { size: document.len(), limit: limits.document });
        }
        let event: Self = serde_json::from_slice(document)?;
        event.check(limits)?;
        Ok(event)
    }

    /// Reads and checks a JSON array of events. None is taken unless all can be.
    pub fn batch_from_json(document: &[u8], limits: &EventLimits) -> Result<Vec<Self>, EventError> {
        let parts: Vec<&serde_json::value::RawValue> = serde_json::from_slice(document)?;
        if parts.len() > limits.batch {
            return Err(EventError::Batch { found: parts.len(), limit: limits.batch });
        }
        let read = |(index, part): (usize, &&serde_json::value::RawValue)| {
            Self::from_json(part.get().as_bytes(), limits)
                .map_err(|source| EventError::InBatch { number: index + 1, source: Box::new(source) })
        };
        parts.iter().enumerate().map(read).collect()
    }

    /// Checks an envelope that came from outside: version, required attributes, sizes.
    pub fn check(&self, limits: &EventLimits) -> Result<(), EventError> {
        if self.specversion != "1.0" {
            let found = self.specversion.chars().take(32).collect();
            return Err(EventError::SpecVersion { found });
        }
        for (attribute, value) in [("id", &self.id.0), ("source", &self.source), ("type", &self.kind)] {
            if value.trim().is_empty() {
                return Err(EventError::Empty { attribute });
            }
        }
        let optional = [("subject", &self.subject), ("datacontenttype", &self.datacontenttype)];
        let required = [("id", &self.id.0), ("source", &self.source), ("type", &self.kind)];
        let present = optional.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)));
        for (attribute, value) in required.into_iter().chain(present) {
            if value.len() > limits.attribute {
                let (size, limit) = (value.len(), limits.attribute);
                return Err(EventError::Attribute { attribute: attribute.to_owned(), size, limit });
            }
            if value.chars().any(char::is_control) {
                return Err(EventError::Control { attribute });
            }
        }
        self.check_extensions(limits)
    }

    fn check_extensions(&self, limits: &EventLimits) -> Result<(), EventError> {
        if self.extensions.contains_key("data_base64") {
            return Err(EventError::BinaryData);
        }
        if self.extensions.len() > limits.extensions {
            return Err(EventError::Extensions { found: self.extensions.len(), limit: limits.extensions });
        }
        for (name, value) in &self.extensions {
            let simple = !matches!(value, Value::Array(_) | Value::Object(_));
            if !simple || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
                return Err(EventError::Extension { name: name.chars().take(64).collect() });
            }
            let size = name.len().max(value.as_str().map_or(0, str::len));
            if size > limits.attribute {
                let attribute = name.chars().take(64).collect();
                return Err(EventError::Attribute { attribute, size, limit: limits.attribute });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Result<CloudEvent, EventError> {
        CloudEvent::from_json(document.to_string().as_bytes(), &EventLimits::default())
    }

    #[test]
    fn an_event_comes_back_as_it_was_sent() {
        let document = json!({
            "specversion": "1.0", "id": "e-1", "source": "/builder/eu", "type": "dev.cdevents.artifact.published.0.2.0",
            "time": "2026-05-01T10:00:00.25Z", "subject": "pkg:oci/shop", "datacontenttype": "application/json",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "sampled": true,
            "data": {"subject": {"id": "pkg:oci/shop"}},
        });
        let event = read(&document).unwrap();
        assert_eq!(event.extensions["sampled"], true);
        assert_eq!(serde_json::to_value(&event).unwrap(), document);
    }

    #[test]
    fn an_envelope_that_is_not_sound_says_why() {
        let with = |key: &str, value: Value| {
            let mut document = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
            document[key] = value;
            read(&document).unwrap_err().to_string()
        };
        assert_eq!(
            with("specversion", json!("0.3")),
            "the event has specversion `0.3`, only 1.0 is understood"
        );
        assert_eq!(with("id", json!("")), "attribute `id` of the event is empty");
        assert_eq!(with("source", json!(" ")), "attribute `source` of the event is empty");
        assert_eq!(with("type", json!("a\nb")), "attribute `type` of the event holds a control character");
        assert!(with("subject", json!("x".repeat(2000))).contains("has 2000 bytes, at most 1024"));
        assert!(with("data", json!("x".repeat(300_000))).contains("bytes, at most 262144"));
        assert!(with("data_base64", json!("AAAA")).contains("data_base64"));
        assert!(with("TraceParent", json!("1")).contains("`TraceParent` is not an extension"));
        assert!(with("nested", json!({"a": 1})).contains("`nested` is not an extension"));
        assert_eq!(with("time", json!("yesterday")), "the event is not a CloudEvent in JSON");
        let missing = json!({"specversion": "1.0", "id": "1", "source": "/s"});
        assert!(matches!(read(&missing), Err(EventError::Json(_))));
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        let good = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        let bad = json!({"specversion": "2", "id": "1", "source": "/s", "type": "t"});
        let batch = |events: &Value, limits: &EventLimits| {
            CloudEvent::batch_from_json(events.to_string().as_bytes(), limits)
        };
        let limits = EventLimits { batch: 2, ..EventLimits::default() };
        assert_eq!(batch(&json!([good, good]), &limits).unwrap().len(), 2);
        assert_eq!(batch(&json!([]), &limits).unwrap().len(), 0);
        let error = batch(&json!([good, bad]), &limits).unwrap_err();
        assert_eq!(error.to_string(), "event 2 of the batch cannot be taken");
        let error = batch(&json!([good, good, good]), &limits).unwrap_err();
        assert_eq!(error.to_string(), "the batch has 3 events, at most 2 are taken");
    }
}
