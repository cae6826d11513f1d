//! The engine's own form of an event: one JSON object per line. Pure.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Actor, EngineEvent};
use crate::container::Labels;

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: WireActor,
    #[serde(default)]
    time: i64,
    #[serde(rename = "timeNano", default)]
    time_nano: i64,
}

#[derive(Default, Deserialize)]
struct WireActor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Option<Labels>,
}

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEvent {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it lacks a type, an action or a time")]
    Incomplete,
}

pub(super) fn parse(line: &[u8]) -> Result<EngineEvent, NoEvent> {
    let Wire { kind, action, actor, time, time_nano } = serde_json::from_slice(line)?;
    let at = if time_nano > 0 {
        Timestamp::from_nanosecond(time_nano.into())
    } else {
        Timestamp::from_second(time)
    };
    let at = at.ok().filter(|at| at.as_second() > 0).ok_or(NoEvent::Incomplete)?;
    if kind.is_empty() || action.is_empty() {
        return Err(NoEvent::Incomplete);
    }
    let actor = Actor { id: actor.id, attributes: actor.attributes.unwrap_or_default() };
    Ok(EngineEvent { kind, action, actor, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_event() {
        let event = parse(
            br#"{"status":"die","id":"4f5e","from":"shop","Type":"container","Action":"die","Actor":{"ID":"4f5e",
            "Attributes":{"exitCode":"1","image":"shop","name":"t1"}},"scope":"local","time":1714557600,
            "timeNano":1714557600123456789}"#,
        )
        .unwrap();
        assert_eq!(
            (event.kind.as_str(), event.verb(), event.actor.id.as_str()),
            ("container", "die", "4f5e")
        );
        assert_eq!(event.actor.attributes["exitCode"], "1");
        assert_eq!(event.at.as_nanosecond(), 1_714_557_600_123_456_789);
    }

    #[test]
    fn a_line_without_its_essentials_is_no_event() {
        assert!(matches!(parse(b"{"), Err(NoEvent::Json(_))));
        assert!(matches!(parse(br#"{"Type":"container","Action":"die"}"#), Err(NoEvent::Incomplete)));
        assert!(matches!(parse(br#"{"time":1714557600}"#), Err(NoEvent::Incomplete)));
        let bare =
            parse(br#"{"Type":"daemon","Action":"reload","Actor":{"Attributes":null},"time":1714557600}"#);
        assert!(bare.unwrap().actor.attributes.is_empty());
    }
}
