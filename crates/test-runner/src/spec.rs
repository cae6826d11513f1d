//! Reads the labels of a test container: its triggers and its policy. A label that makes no sense is reported, and
//! the others still count. Pure.

use std::{collections::BTreeMap, error::Error, time::Duration};

use serde::Serialize;
use test_results::{TestName, event::CdFilter, labels};

use crate::{
    cron_schedule::CronSchedule,
    docker_filter::{Action, DockerFilter, LabelPattern, NamePattern, comma_list},
    policy::{Concurrency, Overlap, Policy, WaitFor},
    trigger::{AfterTest, Ended, HostFilter, Trigger},
    trouble::with_causes,
};

/// The shortest interval of a timer.
pub const SHORTEST_TIMER: Duration = Duration::from_secs(1);
/// More retries than this are taken for a mistake.
const MOST_RETRIES: u32 = 100;

/// What the labels of one test container say.
#[derive(Clone, Debug)]
pub struct TestSpec {
    /// The container's name.
    pub name: TestName,
    /// What starts it, in the order of the labels' documentation.
    pub triggers: Vec<Trigger>,
    /// How its runs behave.
    pub policy: Policy,
    /// The directory inside the container that holds its results.
    pub results: String,
    /// Labels that make no sense.
    pub problems: Vec<LabelProblem>,
}

/// A label that makes no sense, or has no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelProblem {
    /// The label in canonical spelling.
    pub label: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

type Labels = BTreeMap<String, String>;

impl TestSpec {
    /// Reads the labels of the test container `name`.
    pub fn read(name: &str, given: &Labels) -> Self {
        let mut reader = Reader { given, problems: Vec::new() };
        reader.unknown();
        let triggers = [
            reader.parse(labels::EVENT_TIMER, timer).map(Trigger::Timer),
            reader.docker().map(Trigger::Docker),
            reader.parse(labels::EVENT_CRON, CronSchedule::parse).map(Trigger::Cron),
            reader.parse(labels::EVENT_IMAGE, marker).filter(|on| *on).map(|_| Trigger::Image),
            reader.parse(labels::EVENT_HOST, host).map(Trigger::Host),
            reader.parse(labels::EVENT_AFTER, |text| after(name, text)).map(Trigger::After),
            reader
                .parse(labels::EVENT_CD, |text| CdFilter::parse(text).map(|filter| (filter, text.to_owned())))
                .map(|(filter, text)| Trigger::Cd(filter, text)),
        ];
        let policy = reader.policy();
        Self {
            name: name.into(),
            triggers: triggers.into_iter().flatten().collect(),
            policy,
            results: labels::get(given, labels::RESULTS)
                .filter(|directory| !directory.is_empty())
                .unwrap_or(labels::DEFAULT_RESULTS)
                .to_owned(),
            problems: reader.problems,
        }
    }

    /// The interval of its timer, if it has one.
    pub(crate) fn timer(&self) -> Option<Duration> {
        self.triggers.iter().find_map(|trigger| match trigger {
            Trigger::Timer(interval) => Some(*interval),
            _ => None,
        })
    }

    /// Its schedule, if it has one.
    pub(crate) fn cron(&self) -> Option<&CronSchedule> {
        self.triggers.iter().find_map(|trigger| match trigger {
            Trigger::Cron(schedule) => Some(schedule),
            _ => None,
        })
    }
}

/// Why a value makes no sense; boxed, for each label has its own reasons.
type Reason = Box<dyn Error + Send + Sync>;

struct Reader<'a> {
    given: &'a Labels,
    problems: Vec<LabelProblem>,
}

impl Reader<'_> {
    fn problem(&mut self, label: &str, value: &str, problem: String) {
        self.problems.push(LabelProblem { label: label.to_owned(), value: value.to_owned(), problem });
    }

    /// The label's value read by `parse`; a bad value is a problem and counts as absent.
    fn parse<T, E: Into<Reason>>(
        &mut self,
        label: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = labels::get(self.given, label)?.trim();
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                let reason: Reason = reason.into();
                self.problem(label, value, with_causes(&*reason));
                None
            }
        }
    }

    /// Labels with our prefix that have no meaning: most likely misspelt.
    fn unknown(&mut self) {
        for (key, value) in self.given {
            if let Some(label) =
                labels::canonical(key).filter(|label| !labels::KNOWN.contains(&label.as_str()))
            {
                self.problem(&label, value, "no such label".to_owned());
            }
        }
    }

    fn docker(&mut self) -> Option<DockerFilter> {
        let filters = [
            labels::EVENT_DOCKER_FILTER_TYPE,
            labels::EVENT_DOCKER_FILTER_ACTION,
            labels::EVENT_DOCKER_FILTER_CONTAINER,
            labels::EVENT_DOCKER_FILTER_IMAGE,
            labels::EVENT_DOCKER_FILTER_LABEL,
        ];
        // Filters alone say clearly enough that events are wanted.
        let marker = labels::get(self.given, labels::EVENT_DOCKER);
        if marker.is_none() && !filters.iter().any(|label| labels::get(self.given, label).is_some()) {
            return None;
        }
        let marker = marker.unwrap_or_default().trim();
        if is_off(marker) {
            return None;
        }
        let listed = if is_on(marker) { Vec::new() } else { self.actions(labels::EVENT_DOCKER) };
        let filter = DockerFilter {
            actions: listed,
            filter_actions: self.actions(labels::EVENT_DOCKER_FILTER_ACTION),
            types: self.list(labels::EVENT_DOCKER_FILTER_TYPE).iter().map(|t| t.to_lowercase()).collect(),
            containers: self.patterns(labels::EVENT_DOCKER_FILTER_CONTAINER)?,
            images: self.patterns(labels::EVENT_DOCKER_FILTER_IMAGE)?,
            labels: self
                .list(labels::EVENT_DOCKER_FILTER_LABEL)
                .iter()
                .map(|e| LabelPattern::parse(e))
                .collect(),
        };
        Some(filter)
    }

    fn list(&self, label: &str) -> Vec<String> {
        comma_list(labels::get(self.given, label).unwrap_or_default())
    }

    /// Actions; one that no engine is known to send is pointed at, and kept: engines learn new ones.
    fn actions(&mut self, label: &str) -> Vec<Action> {
        let (actions, hints): (Vec<_>, Vec<_>) =
            self.list(label).iter().map(|entry| Action::parse(entry)).unzip();
        for hint in hints.into_iter().flatten() {
            let value = labels::get(self.given, label).unwrap_or_default().to_owned();
            self.problem(label, &value, hint);
        }
        actions
    }

    /// `None` if an expression is wrong: without it the filter would let through what it should not.
    fn patterns(&mut self, label: &str) -> Option<Vec<NamePattern>> {
        let entries = self.list(label);
        let parsed: Result<Vec<_>, _> = entries.iter().map(|entry| NamePattern::parse(entry)).collect();
        parsed.map_err(|error| self.problem(label, &entries.join(","), error.to_string())).ok()
    }

    fn policy(&mut self) -> Policy {
        let default = Policy::default();
        Policy {
            overlap: self.parse(labels::OVERLAP, overlap).unwrap_or(default.overlap),
            debounce: self.parse(labels::DEBOUNCE, nonzero_duration).flatten(),
            timeout: self.parse(labels::TIMEOUT, nonzero_duration).flatten(),
            concurrency: self.parse(labels::CONCURRENCY, concurrency),
            retries: self.parse(labels::RETRIES, retries).unwrap_or(default.retries),
            wait_for: self.parse(labels::WAIT_FOR, wait_for).unwrap_or_default(),
            keep: self.parse(labels::KEEP, keep).unwrap_or(default.keep),
        }
    }
}

fn is_on(value: &str) -> bool {
    value.is_empty() || ["true", "1", "yes"].iter().any(|on| value.eq_ignore_ascii_case(on))
}

fn is_off(value: &str) -> bool {
    ["false", "0", "no"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

fn timer(text: &str) -> Result<Duration, Reason> {
    let interval = labels::parse_go_duration(text)?;
    if interval < SHORTEST_TIMER {
        return Err(format!("the interval must be at least {SHORTEST_TIMER:?}").into());
    }
    Ok(interval)
}

fn marker(text: &str) -> Result<bool, String> {
    match text {
        on if is_on(on) => Ok(true),
        off if is_off(off) => Ok(false),
        _ => Err("takes no value: the container's own image is watched".to_owned()),
    }
}

fn host(text: &str) -> Result<HostFilter, Reason> {
    let mut filter = HostFilter::default();
    for entry in outside_braces(text) {
        match entry.split_once(':').map_or((entry.as_str(), None), |(word, glob)| (word, Some(glob))) {
            ("package" | "packages", None) => filter.packages = true,
            ("kernel", None) => filter.kernel = true,
            ("config", Some(glob)) => filter.config.push(glob.trim().parse()?),
            _ => return Err(format!("`{entry}` is not package, kernel or config:/path/glob").into()),
        }
    }
    if !filter.packages && !filter.kernel && filter.config.is_empty() {
        return Err("is empty: write package, kernel or config:/path/glob".into());
    }
    Ok(filter)
}

/// Splits at commas that are not part of a glob's `{a,b}`.
fn outside_braces(text: &str) -> Vec<String> {
    let mut depth = 0u32;
    let entries = text.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    entries.map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()
}

fn after(own: &str, text: &str) -> Result<Vec<AfterTest>, String> {
    let mut tests = Vec::new();
    for entry in comma_list(text) {
        let (test, ended) = match entry.split_once(':') {
            None => (entry.as_str(), None),
            Some((test, "passed")) => (test, Some(Ended::Passed)),
            Some((test, "failed")) => (test, Some(Ended::Failed)),
            Some((_, other)) => return Err(format!("`{other}` is not passed or failed")),
        };
        if test == own {
            return Err("a test cannot follow itself".to_owned());
        }
        tests.push(AfterTest { test: test.into(), ended });
    }
    if tests.is_empty() { Err("names no test".to_owned()) } else { Ok(tests) }
}

fn overlap(text: &str) -> Result<Overlap, String> {
    match text.to_ascii_lowercase().as_str() {
        "queue" => Ok(Overlap::Queue),
        "skip" => Ok(Overlap::Skip),
        "replace" => Ok(Overlap::Replace),
        "allow" => Ok(Overlap::Allow),
        _ => Err("is not queue, skip, replace or allow".to_owned()),
    }
}

/// Zero switches the policy off.
fn nonzero_duration(text: &str) -> Result<Option<Duration>, labels::DurationError> {
    labels::parse_go_duration(text).map(|duration| Some(duration).filter(|d| !d.is_zero()))
}

fn concurrency(text: &str) -> Result<Concurrency, String> {
    let (group, limit) = match text.rsplit_once(':') {
        Some((group, limit)) => (group.trim(), limit.trim().parse().unwrap_or(0)),
        None => (text, 1),
    };
    if group.is_empty() || limit == 0 {
        return Err("is not <group>:<n> with n of at least 1".to_owned());
    }
    Ok(Concurrency { group: group.to_owned(), limit })
}

fn retries(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count <= MOST_RETRIES);
    count.ok_or_else(|| format!("is not a number from 0 to {MOST_RETRIES}"))
}

fn keep(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "is not a number of copies".to_owned())
}

fn wait_for(text: &str) -> Result<Vec<WaitFor>, String> {
    let parse = |entry: &String| match entry.split_once(':') {
        None => Ok(WaitFor { container: entry.clone() }),
        Some((container, "healthy")) if !container.is_empty() => {
            Ok(WaitFor { container: container.to_owned() })
        }
        Some(_) => Err(format!("`{entry}` is not <container>:healthy")),
    };
    comma_list(text).iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_results::{Outcome, TriggerKind};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> TestSpec {
        let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        TestSpec::read("t", &labels)
    }

    fn triggers(spec: &TestSpec) -> Vec<String> {
        spec.triggers.iter().map(ToString::to_string).collect()
    }

    fn problem(label: &str, value: &str) -> String {
        let spec = read(&[(label, value)]);
        assert_eq!(spec.problems.len(), 1, "{label}={value}: {:?}", spec.problems);
        spec.problems[0].problem.clone()
    }

    #[test]
    fn reads_every_trigger_in_both_spellings() {
        let dotted = read(&[
            ("tugbot.test", ""),
            ("tugbot.event.timer", "4h30m"),
            ("tugbot.event.docker", "create,start"),
            ("tugbot.event.docker.filter.container", "re2:^web"),
            ("tugbot.event.cron", "TZ=Europe/Berlin 0 3 * * *"),
            ("tugbot.event.image", ""),
            ("tugbot.event.host", "package,kernel,config:/etc/app/*.{conf,d}"),
            ("tugbot.event.after", "build:passed,lint"),
            ("tugbot.event.cd", "dev.cdevents.artifact.published.*"),
        ]);
        assert_eq!(dotted.problems, []);
        assert_eq!(
            triggers(&dotted),
            [
                "every 16200s",
                "docker event create,start container=re2:^web",
                "cron 0 3 * * * (Europe/Berlin)",
                "newer image",
                "host package,kernel,config:/etc/app/*.{conf,d}",
                "after build:passed,lint",
                "event dev.cdevents.artifact.published.*",
            ]
        );
        let dashed = read(&[
            ("tugbot-test", ""),
            ("tugbot-event-timer", "30s"),
            ("tugbot-event-docker", ""),
            ("tugbot-event-docker-filter-type", "container"),
            ("tugbot-results-dir", "/out"),
        ]);
        assert_eq!(triggers(&dashed), ["every 30s", "docker event type=container"]);
        assert_eq!(dashed.results, "/out");
        assert_eq!(read(&[]).results, "/var/tests/results");
    }

    #[test]
    fn a_bad_label_is_reported_and_the_others_still_work() {
        let spec = read(&[
            ("tugbot.event.timer", "0s"),
            ("tugbot.event.docker", "create"),
            ("tugbot.event.cron", "nightly"),
            ("tugbot.timeout", "soon"),
            ("tugbot.keep", "7"),
        ]);
        assert_eq!(triggers(&spec), ["docker event create"]);
        assert_eq!(spec.policy.keep, 7);
        let labels: Vec<&str> = spec.problems.iter().map(|problem| problem.label.as_str()).collect();
        assert_eq!(labels, ["tugbot.event.timer", "tugbot.event.cron", "tugbot.timeout"]);
    }

    #[test]
    fn a_timer_of_zero_or_less_than_a_second_is_no_timer() {
        for value in ["0s", "0", "999ms", "1ns"] {
            assert_eq!(problem("tugbot.event.timer", value), "the interval must be at least 1s");
        }
        assert!(problem("tugbot.event.timer", "-5s").contains("negative"));
        assert_eq!(read(&[("tugbot.event.timer", "1s")]).timer(), Some(SHORTEST_TIMER));
    }

    #[test]
    fn the_marker_of_docker_events_can_be_bare_listed_or_off() {
        for bare in ["", "true", "1", "yes"] {
            assert_eq!(triggers(&read(&[("tugbot.event.docker", bare)])), ["docker event"]);
        }
        for off in ["false", "0", "no"] {
            assert!(read(&[("tugbot.event.docker", off)]).triggers.is_empty());
        }
        let only_filters = read(&[("tugbot.event.docker.filter.action", "die")]);
        assert_eq!(triggers(&only_filters), ["docker event action=die"]);
        let bad = read(&[("tugbot.event.docker", ""), ("tugbot.event.docker.filter.image", "re2:(")]);
        assert!(bad.triggers.is_empty(), "a filter that cannot be read must not let everything through");
        assert_eq!(bad.problems.len(), 1);
    }

    #[test]
    fn misspelt_labels_and_actions_are_pointed_at() {
        assert_eq!(problem("tugbot.event.tiemr", "5s"), "no such label");
        assert!(problem("tugbot.event.docker", "creat").contains("`creat`"));
        assert_eq!(triggers(&read(&[("tugbot.event.docker", "creat,die")])), ["docker event creat,die"]);
    }

    #[test]
    fn reads_every_policy() {
        let spec = read(&[
            ("tugbot.overlap", "Replace"),
            ("tugbot.debounce", "500ms"),
            ("tugbot.timeout", "5m"),
            ("tugbot.concurrency", "db:2"),
            ("tugbot.retries", "2"),
            ("tugbot.wait-for", "db:healthy, web"),
            ("tugbot.keep", "0"),
        ]);
        assert_eq!(spec.problems, []);
        assert_eq!(
            spec.policy.to_string(),
            "overlap=replace debounce=500ms timeout=300s concurrency=db:2 retries=2 wait-for=db:healthy \
             wait-for=web:healthy keep=0"
        );
        assert_eq!(read(&[]).policy, Policy::default());
        assert_eq!(read(&[("tugbot.timeout", "0")]).policy.timeout, None);
        assert_eq!(
            read(&[("tugbot.concurrency", "db")]).policy.concurrency,
            Some(Concurrency { group: "db".to_owned(), limit: 1 })
        );
    }

    #[test]
    fn policies_that_make_no_sense_say_why() {
        assert_eq!(problem("tugbot.overlap", "both"), "is not queue, skip, replace or allow");
        assert!(problem("tugbot.concurrency", "db:0").contains("at least 1"));
        assert!(problem("tugbot.concurrency", ":2").contains("<group>"));
        assert!(problem("tugbot.retries", "1000").contains("0 to 100"));
        assert!(problem("tugbot.wait-for", "db:started").contains("<container>:healthy"));
        assert!(problem("tugbot.keep", "all").contains("number"));
        assert!(problem("tugbot.event.host", "disk").contains("`disk`"));
        assert!(problem("tugbot.event.host", "config:etc").contains("absolute"));
        assert!(problem("tugbot.event.after", "b:maybe").contains("`maybe`"));
        assert!(problem("tugbot.event.after", "t").contains("cannot follow itself"));
        assert!(problem("tugbot.event.image", "nginx").contains("takes no value"));
    }

    #[test]
    fn after_tells_how_a_test_ended() {
        let Some(Trigger::After(tests)) =
            read(&[("tugbot.event.after", "a,b:passed,c:failed")]).triggers.pop()
        else {
            panic!("an after trigger");
        };
        let fires = |test: &str, outcome: &Outcome| tests.iter().any(|after| after.matches(test, outcome));
        let failed = Outcome::Failed { exit_code: 1 };
        let late = Outcome::TimedOut { after_seconds: 1.0 };
        assert!(fires("a", &Outcome::Passed) && fires("a", &failed));
        assert!(fires("b", &Outcome::Passed) && !fires("b", &failed));
        assert!(!fires("c", &Outcome::Passed) && fires("c", &failed) && fires("c", &late));
        assert!(!fires("d", &Outcome::Passed));
        assert_eq!(Trigger::After(tests).kind(), TriggerKind::After);
    }

    proptest! {
        #[test]
        fn no_label_makes_it_panic(index in 0..labels::KNOWN.len(), value in "\\PC{0,40}") {
            read(&[(labels::KNOWN[index], &value)]);
        }

        #[test]
        fn a_problem_never_costs_another_trigger(value in "\\PC{0,40}") {
            let spec = read(&[("tugbot.event.cron", &value), ("tugbot.event.timer", "5s")]);
            prop_assert_eq!(spec.timer(), Some(Duration::from_secs(5)));
        }
    }
}
