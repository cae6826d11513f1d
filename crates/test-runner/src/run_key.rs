//! What identifies a run before it exists: the moment and the words of its trigger. Two runners that see the same
//! trigger derive the same name for the copy, and the engine lets only one of them have it.

use jiff::{Timestamp, tz::TimeZone};

/// Identifies the trigger behind one run. Equal on every runner of the same engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKey {
    /// The moment that is written into the name: that of the event, the slot, the due time.
    pub at: Timestamp,
    /// Everything that tells this trigger from another.
    pub text: String,
}

impl RunKey {
    /// A key from its parts.
    pub fn new(at: Timestamp, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }

    /// The name of the copy: `tugbot_<test>_<YYYYMMDDhhmmss>_<8 hex digits>`. The time is UTC, to the second; the
    /// digits tell apart what happens within one.
    pub fn copy_name(&self, test: &str) -> String {
        let at = self.at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S");
        let digest = blake3::hash(self.text.as_bytes()).to_hex();
        format!("tugbot_{test}_{at}_{}", &digest[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_a_function_of_the_trigger() {
        let at: Timestamp = "2026-05-01T12:30:05.9Z".parse().unwrap();
        let name = |text: &str| RunKey::new(at, text).copy_name("web-test");
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
        assert!(name("a").starts_with("tugbot_web-test_20260501123005_"));
        assert_eq!(name("a").len(), "tugbot_web-test_20260501123005_".len() + 8);
    }
}
