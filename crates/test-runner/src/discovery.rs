//! Which containers are test containers that this runner may run again, and why the others are not. Pure.
//!
//! A container is a candidate when its labels (with those of its image and of `-c` laid over them) mark it as a test
//! and it is not itself a copy, and when it is named, if any are. A container that was created and never started is a
//! candidate: nobody may want its first run. One whose first run is still on is a candidate too; with the policies
//! `queue`, `skip` and `replace` that run counts as a run of the test like any other, except that it is never killed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use test_results::labels;

use crate::{overrides::Override, spec::TestSpec};

/// What this runner looks after.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Exact names; empty for all.
    pub names: BTreeSet<String>,
    /// Labels from the command line, by the name of their container.
    pub overrides: BTreeMap<String, Override>,
}

/// Why a container is not a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NotACandidate {
    /// It has no label that says so.
    #[error("not a test container: it has no label tugbot.test")]
    NotATest,
    /// The label is there and says no.
    #[error("switched off: tugbot.test={value}")]
    SwitchedOff {
        /// The label's value.
        value: String,
    },
    /// A runner made it.
    #[error("a copy of `{of}`")]
    Copy {
        /// The original's name.
        of: String,
    },
    /// Others were named.
    #[error("not among the containers that were named")]
    NotNamed,
}

impl Discovery {
    /// For containers named on the command line (none for all) and `-c` overrides; of two for one container the
    /// later adds to the earlier.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        overrides: impl IntoIterator<Item = Override>,
    ) -> Self {
        let names = names.into_iter().map(|name| name.strip_prefix('/').unwrap_or(&name).to_owned());
        let mut merged: BTreeMap<String, Override> = BTreeMap::new();
        for given in overrides {
            match merged.get_mut(&given.name) {
                Some(earlier) => earlier.labels.extend(given.labels),
                None => drop(merged.insert(given.name.clone(), given)),
            }
        }
        Self { names: names.collect(), overrides: merged }
    }

    /// The test that this container is, or why it is none for this runner.
    pub fn consider(&self, name: &str, given: &BTreeMap<String, String>) -> Result<TestSpec, NotACandidate> {
        if let Some(of) = labels::get(given, labels::CREATED_FROM) {
            return Err(NotACandidate::Copy { of: of.to_owned() });
        }
        let merged = self.overrides.get(name).map(|over| over.apply(given));
        let given = merged.as_ref().unwrap_or(given);
        if !labels::is_test(given) {
            return Err(match labels::get(given, labels::TEST) {
                Some(value) => NotACandidate::SwitchedOff { value: value.to_owned() },
                None => NotACandidate::NotATest,
            });
        }
        if !self.is_named(name) {
            return Err(NotACandidate::NotNamed);
        }
        Ok(TestSpec::read(name, given))
    }

    /// Whether the name is among those given, or none were.
    pub fn is_named(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(name)
    }

    /// Labels that a copy of this container carries beyond the container's own.
    pub fn additions(&self, name: &str, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.overrides.get(name).map(|over| over.additions(given)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn why_not(discovery: &Discovery, name: &str, given: &[(&str, &str)]) -> Option<String> {
        discovery.consider(name, &labels(given)).err().map(|reason| reason.to_string())
    }

    #[test]
    fn any_value_but_false_marks_a_test() {
        let all = Discovery::default();
        assert_eq!(why_not(&all, "t", &[("tugbot-test", "")]), None);
        assert_eq!(why_not(&all, "t", &[("tagbot.test", "anything")]), None);
        assert_eq!(
            why_not(&all, "t", &[]).as_deref(),
            Some("not a test container: it has no label tugbot.test")
        );
        assert_eq!(
            why_not(&all, "t", &[("tugbot.test", "no")]).as_deref(),
            Some("switched off: tugbot.test=no")
        );
    }

    #[test]
    fn a_copy_is_never_a_candidate() {
        let over = Override::parse("name=c;test=true").unwrap();
        let discovery = Discovery::new(["c".to_owned()], [over]);
        let given = [("tugbot.test", ""), ("tugbot-created-from", "t")];
        assert_eq!(why_not(&discovery, "c", &given).as_deref(), Some("a copy of `t`"));
    }

    #[test]
    fn names_are_exact() {
        // Upstream compared a name minus its first letter: `est` ran `test`.
        let discovery = Discovery::new(["/test".to_owned()], []);
        assert_eq!(why_not(&discovery, "test", &[("tugbot.test", "")]), None);
        for other in ["est", "test2", "atest", "Test"] {
            assert_eq!(
                why_not(&discovery, other, &[("tugbot.test", "")]).as_deref(),
                Some("not among the containers that were named"),
                "{other}"
            );
        }
    }

    #[test]
    fn overrides_for_one_container_add_up() {
        let overrides = ["name=t;event.timer=5s;keep=1", "name=t;keep=2", "name=u;test=false"];
        let discovery = Discovery::new([], overrides.map(|text| Override::parse(text).unwrap()));
        let spec = discovery.consider("t", &labels(&[("tugbot-event-timer", "1h")])).unwrap();
        assert_eq!(spec.timer(), Some(std::time::Duration::from_secs(5)));
        assert_eq!(spec.policy.keep, 2);
        assert!(why_not(&discovery, "u", &[("tugbot.test", "")]).is_some());
        assert!(discovery.additions("t", &labels(&[])).contains_key("tugbot.test"));
        assert!(discovery.additions("v", &labels(&[])).is_empty());
    }
}
