//! `-c 'name=t;results=/r;event.timer=4h30m'`: labels given on the command line, for one container each. Parsing
//! only.
//!
//! Settings are separated by semicolons; a semicolon inside a value is written `\;`. A setting is a label without its
//! prefix, in any spelling; without `=` it is a bare marker.

use std::collections::BTreeMap;

use test_results::labels;

/// Labels that win over those of the container called `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The container's exact name.
    pub name: String,
    /// Labels in canonical spelling.
    pub labels: BTreeMap<String, String>,
}

/// Why a text is not an override.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OverrideError {
    /// The container is not named.
    #[error("`{text}` names no container: begin with name=<container>")]
    NoName {
        /// What was given.
        text: String,
    },
    /// A setting is not a label.
    #[error(
        "`{setting}` is not a test label: write one such as event.timer, or \\; for a semicolon in a value"
    )]
    Unknown {
        /// The setting.
        setting: String,
    },
    /// A setting is given twice.
    #[error("`{setting}` is given twice for container `{name}`")]
    Twice {
        /// The setting.
        setting: String,
        /// The container.
        name: String,
    },
}

impl Override {
    /// Reads the value of one `-c`.
    pub fn parse(text: &str) -> Result<Self, OverrideError> {
        let mut name = None;
        let mut given = BTreeMap::new();
        for setting in semicolon_list(text) {
            let (key, value) = setting.split_once('=').unwrap_or((&setting, ""));
            let (key, value) = (key.trim(), value.trim());
            if key == "name" {
                name = Some(value.strip_prefix('/').unwrap_or(value).to_owned());
                continue;
            }
            let canonical = labels::canonical(key)
                .or_else(|| labels::canonical(&format!("tugbot.{key}")))
                .filter(|label| labels::KNOWN.contains(&label.as_str()))
                .filter(|label| ![labels::CREATED_FROM, labels::CAUSE].contains(&label.as_str()))
                .ok_or_else(|| OverrideError::Unknown { setting: key.to_owned() })?;
            if given.insert(canonical, value.to_owned()).is_some() {
                let name = name.unwrap_or_default();
                return Err(OverrideError::Twice { setting: key.to_owned(), name });
            }
        }
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self { name, labels: given }),
            None => Err(OverrideError::NoName { text: text.to_owned() }),
        }
    }

    /// The container's labels with these laid over them. Naming a container makes it a test container, unless
    /// `test=false` is among the settings.
    pub fn apply(&self, to: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut merged = to.clone();
        merged.extend(self.additions(to));
        merged
    }

    /// The labels that a copy carries beyond those of its original, so that other readers see the same test.
    pub fn additions(&self, to: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        if !labels::is_test(to) {
            labels.entry(labels::TEST.to_owned()).or_default();
        }
        labels
    }
}

/// Splits at semicolons, with `\;` for one inside. Blank entries are left out.
fn semicolon_list(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&';') => {
                entries.last_mut().expect("starts with one").extend(characters.next());
            }
            ';' => entries.push(String::new()),
            other => entries.last_mut().expect("starts with one").push(other),
        }
    }
    entries.retain(|entry| !entry.trim().is_empty());
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, Vec<(String, String)>) {
        let parsed = Override::parse(text).unwrap();
        (parsed.name, parsed.labels.into_iter().collect())
    }

    #[test]
    fn reads_the_examples_of_the_seed() {
        let (name, labels) = parse("name=selenium_tests;results=/var/log/results;event.docker=create");
        assert_eq!(name, "selenium_tests");
        assert_eq!(
            labels,
            [
                ("tugbot.event.docker".to_owned(), "create".to_owned()),
                ("tugbot.results".to_owned(), "/var/log/results".to_owned()),
            ]
        );
        let (name, labels) = parse("name=docker_bench;results=/var/bench/results;event.timer=4h30m");
        assert_eq!(name, "docker_bench");
        assert_eq!(labels[0], ("tugbot.event.timer".to_owned(), "4h30m".to_owned()));
    }

    #[test]
    fn takes_every_spelling_bare_markers_and_escaped_semicolons() {
        let (_, labels) = parse(r" event-docker ; name=/t ; tugbot.event.cron=0 3 * * *\;Europe/Berlin; ");
        assert_eq!(
            labels,
            [
                ("tugbot.event.cron".to_owned(), "0 3 * * *;Europe/Berlin".to_owned()),
                ("tugbot.event.docker".to_owned(), String::new()),
            ]
        );
    }

    #[test]
    fn a_named_container_becomes_a_test_container() {
        let plain = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        let merged = Override::parse("name=t;event.timer=5m").unwrap().apply(&plain);
        assert!(labels::is_test(&merged));
        assert_eq!(merged.get("tier").map(String::as_str), Some("front"));
        let off = Override::parse("name=t;test=false").unwrap().apply(&plain);
        assert!(!labels::is_test(&off));
        let old = BTreeMap::from([("tugbot-event-timer".to_owned(), "1h".to_owned())]);
        let merged = Override::parse("name=t;event.timer=5m").unwrap().apply(&old);
        assert_eq!(labels::get(&merged, labels::EVENT_TIMER), Some("5m"));
    }

    #[test]
    fn what_is_no_override_says_why() {
        let error = |text| Override::parse(text).unwrap_err();
        assert!(matches!(error("event.timer=5m"), OverrideError::NoName { .. }));
        assert!(matches!(error("name=;event.timer=5m"), OverrideError::NoName { .. }));
        assert_eq!(
            error("name=t;event.tiemr=5m"),
            OverrideError::Unknown { setting: "event.tiemr".to_owned() }
        );
        assert!(matches!(error("name=t;created.from=x"), OverrideError::Unknown { .. }));
        assert!(matches!(error("name=t;event.timer=1m;event-timer=2m"), OverrideError::Twice { .. }));
    }
}
