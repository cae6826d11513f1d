//! API versions and the choice of the one to speak. Pure.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// A version of the Docker Engine API, e.g. `1.41`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The oldest version this crate speaks: what Engine 28 still takes.
    pub const OLDEST: Self = Self { major: 1, minor: 24 };
    /// The newest version whose documents this crate has been written against (Engine 29).
    pub const NEWEST: Self = Self { major: 1, minor: 53 };
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Text that is not `major.minor`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an API version")]
pub struct BadVersion(String);

impl FromStr for ApiVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| BadVersion(text.to_owned()))
    }
}

/// The part of `GET /version` that the negotiation needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Offer {
    #[serde(rename = "ApiVersion")]
    newest: String,
    /// Engines before 1.13 do not say.
    #[serde(rename = "MinAPIVersion", default)]
    oldest: Option<String>,
}

/// Why no version can be agreed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The engine is older or newer than everything this crate speaks.
    #[error(
        "the engine speaks API {oldest} to {newest}, but {} to {} is needed",
        ApiVersion::OLDEST,
        ApiVersion::NEWEST
    )]
    NoOverlap {
        /// The engine's oldest version.
        oldest: ApiVersion,
        /// The engine's newest version.
        newest: ApiVersion,
    },
    /// The engine's own words on its versions cannot be read.
    #[error(transparent)]
    BadVersion(#[from] BadVersion),
}

/// The newest version that both sides speak.
pub(crate) fn negotiate(offer: &Offer) -> Result<ApiVersion, NegotiationError> {
    let newest: ApiVersion = offer.newest.parse()?;
    let oldest = match offer.oldest.as_deref() {
        Some(text) if !text.is_empty() => text.parse()?,
        _ => newest.min(ApiVersion::OLDEST),
    };
    let chosen = newest.min(ApiVersion::NEWEST);
    if chosen < ApiVersion::OLDEST || chosen < oldest {
        return Err(NegotiationError::NoOverlap { oldest, newest });
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(newest: &str, oldest: Option<&str>) -> Result<String, NegotiationError> {
        negotiate(&Offer { newest: newest.into(), oldest: oldest.map(Into::into) }).map(|v| v.to_string())
    }

    #[test]
    fn speaks_the_newest_version_that_both_know() {
        assert_eq!(check("1.41", Some("1.12")).as_deref(), Ok("1.41"));
        assert_eq!(check("1.24", Some("1.12")).as_deref(), Ok("1.24"));
        assert_eq!(check("1.24", None).as_deref(), Ok("1.24"));
        assert_eq!(check("1.50", Some("1.24")).as_deref(), Ok("1.50"));
        assert_eq!(check("1.52", Some("1.44")).as_deref(), Ok("1.52"));
        assert_eq!(check("1.99", Some("1.44")).as_deref(), Ok("1.53"));
        assert!(check("1.9", Some("")).is_err(), "1.9 is older than 1.24");
    }

    #[test]
    fn says_what_both_sides_speak_when_nothing_is_common() {
        let message = |newest, oldest| check(newest, oldest).expect_err("no overlap").to_string();
        assert_eq!(
            message("1.23", Some("1.12")),
            "the engine speaks API 1.12 to 1.23, but 1.24 to 1.53 is needed"
        );
        assert_eq!(
            message("2.1", Some("2.0")),
            "the engine speaks API 2.0 to 2.1, but 1.24 to 1.53 is needed"
        );
        assert_eq!(message("latest", None), "`latest` is not an API version");
    }
}
