//! What can go wrong in a call to the engine, and how the engine's answers become errors. Sends nothing itself.

use std::{error::Error, time::Duration};

use http::StatusCode;

use crate::registry_auth::CredentialsError;

/// An engine call that failed. The message names the object; the cause stays in the source chain.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The object does not exist (404).
    #[error("no such {kind}: `{name}`")]
    NotFound {
        /// `container`, `image`, `network`, `volume`, `path`, …
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// The name is taken, or the object is in a state that forbids the call (409).
    #[error("conflict on {kind} `{name}`: {message}")]
    Conflict {
        /// `container`, `image`, `network`, …
        kind: &'static str,
        /// Its name or id.
        name: String,
        /// The engine's own words.
        message: String,
    },
    /// The engine cannot be reached or the connection broke. Worth a retry.
    #[error("the engine cannot be reached while it should {action}")]
    Unreachable {
        /// What was under way, e.g. `list containers`.
        action: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The engine refused the call.
    #[error("the engine refused to {action}: {message}")]
    Refused {
        /// What was under way.
        action: String,
        /// HTTP status; 200 when the refusal came in the middle of a stream.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// The engine answered with something that is not what its API promises.
    #[error("the engine's answer makes no sense while it should {action}")]
    Garbled {
        /// What was under way.
        action: String,
        /// What is wrong with the answer.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry credentials that the Docker configuration promises cannot be had.
    #[error("the credentials for registry `{registry}` cannot be had")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why; never holds a secret.
        #[source]
        source: CredentialsError,
    },
}

impl EngineError {
    /// Whether the object of the call does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the same call may succeed later without anything being changed: the engine was away.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The engine did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub(crate) struct NoAnswer(pub(crate) Duration);

/// What a call is about, for its errors.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) action: String,
}

impl Subject {
    pub(crate) fn unreachable(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> EngineError {
        EngineError::Unreachable { action: self.action.clone(), source: source.into() }
    }

    pub(crate) fn garbled(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> EngineError {
        EngineError::Garbled { action: self.action.clone(), source: source.into() }
    }

    pub(crate) fn refused(&self, status: StatusCode, message: String) -> EngineError {
        EngineError::Refused { action: self.action.clone(), status: status.as_u16(), message }
    }

    /// Turns an answer that is no success into an error.
    pub(crate) fn error(&self, status: StatusCode, message: String) -> EngineError {
        match status {
            StatusCode::NOT_FOUND => {
                let (kind, name) = missing_object(&message).unwrap_or((self.kind, &self.name));
                EngineError::NotFound { kind, name: name.to_owned() }
            }
            StatusCode::CONFLICT => {
                EngineError::Conflict { kind: self.kind, name: self.name.clone(), message }
            }
            _ => self.refused(status, message),
        }
    }
}

/// A call on one object may fail for want of another, as when a container's network is gone at its start: only
/// the engine's words tell which.
fn missing_object(message: &str) -> Option<(&'static str, &str)> {
    const PREFIXES: [(&str, &str); 4] = [
        ("No such container: ", "container"),
        ("No such image: ", "image"),
        ("no such volume: ", "volume"),
        ("get ", "volume"),
    ];
    for (prefix, kind) in PREFIXES {
        if let Some(name) = message.strip_prefix(prefix)
            && (prefix != "get " || name.ends_with(": no such volume"))
        {
            return Some((kind, name.trim_end_matches(": no such volume")));
        }
    }
    let name = message.strip_prefix("network ")?.strip_suffix(" not found")?;
    Some(("network", name))
}

/// The words in the body of an answer that is no success: the engine's JSON, or whatever a proxy wrote.
pub(crate) fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Wire {
        message: String,
    }
    match serde_json::from_slice::<Wire>(body) {
        Ok(wire) => wire.message.trim().to_owned(),
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject { kind: "container", name: "t1".into(), action: "start container `t1`".into() }
    }

    #[test]
    fn names_the_object_that_is_really_missing() {
        let error = |message: &str| subject().error(StatusCode::NOT_FOUND, message.into()).to_string();
        assert_eq!(error("No such container: t1"), "no such container: `t1`");
        assert_eq!(error("No such image: shop:1"), "no such image: `shop:1`");
        assert_eq!(error("network shop_default not found"), "no such network: `shop_default`");
        assert_eq!(error("get data: no such volume"), "no such volume: `data`");
        assert_eq!(error("page not found"), "no such container: `t1`");
    }

    #[test]
    fn keeps_the_words_of_a_proxy_that_answers_in_the_engines_place() {
        assert_eq!(message_of(br#"{"message":"is paused\n"}"#), "is paused");
        assert_eq!(message_of(b"<h1>502 Bad Gateway</h1>\n"), "<h1>502 Bad Gateway</h1>");
        assert_eq!(message_of(b""), "");
    }

    #[test]
    fn only_an_engine_that_was_away_is_worth_a_retry() {
        assert!(subject().unreachable("gone").is_retryable());
        assert!(!subject().garbled("??").is_retryable());
        assert!(!subject().refused(StatusCode::BAD_REQUEST, "no".into()).is_retryable());
        assert!(subject().error(StatusCode::NOT_FOUND, String::new()).is_not_found());
    }
}
