//! `tugyard run --plan`: which containers are test containers, when they run next, and why others are none. Looks
//! once; changes nothing.

use container_engine::{ContainerSummary, Engine, EngineError, Lifecycle, ListFilter};
use jiff::Timestamp;
use serde::Serialize;
use test_results::TriggerKind;

use crate::{
    clock::{Now, Tick},
    discovery::NotACandidate,
    policy::Policy,
    scheduler::{Input, Scheduler},
    settings::RunnerSettings,
    spec::LabelProblem,
};

/// A container in the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanRow {
    /// Its name.
    pub container: String,
    /// Its id; none if it does not exist.
    pub id: Option<String>,
    /// Why it is no candidate; none if it is one.
    pub not_a_candidate: Option<String>,
    /// What a candidate waits for before its first run, if anything.
    pub remark: Option<String>,
    /// Its triggers.
    pub triggers: Vec<PlannedTrigger>,
    /// How its runs behave; none unless it is a candidate.
    pub policy: Option<Policy>,
    /// Labels that make no sense.
    pub problems: Vec<LabelProblem>,
}

/// A trigger in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTrigger {
    /// Its kind.
    pub kind: TriggerKind,
    /// In words.
    pub description: String,
    /// When it fires next, if that is known beforehand.
    pub next_due: Option<Timestamp>,
}

/// Asks the engine and plans.
pub async fn plan(engine: &Engine, settings: &RunnerSettings) -> Result<Vec<PlanRow>, EngineError> {
    let containers = engine.list(&ListFilter { all: true, labels: Vec::new() }).await?;
    Ok(rows(settings, containers, Timestamp::now()))
}

/// The plan for these containers at this moment. Test containers come first, each group by name.
pub fn rows(settings: &RunnerSettings, containers: Vec<ContainerSummary>, now: Timestamp) -> Vec<PlanRow> {
    let bounds = settings.scheduler();
    let discovery = bounds.discovery.clone();
    let now = Now { tick: Tick::default(), wall: now };
    let mut scheduler = Scheduler::new(bounds);
    scheduler.step(now, Input::Listing { begun: Tick::default(), containers: containers.clone() });
    let mut rows = Vec::new();
    for container in &containers {
        match discovery.consider(&container.name, &container.labels) {
            Ok(_) => rows.extend(candidate(&scheduler, now, container)),
            // Most containers of a host are no tests; that is worth a row only if somebody named one.
            Err(NotACandidate::NotATest) if !discovery.names.contains(&container.name) => {}
            Err(reason) => {
                rows.push(other(&container.name, Some(container.id.0.clone()), reason.to_string()))
            }
        }
    }
    let missing = discovery.names.iter().chain(discovery.overrides.keys());
    for name in missing.filter(|name| !containers.iter().any(|container| container.name == **name)) {
        if !rows.iter().any(|row: &PlanRow| row.container == *name) {
            rows.push(other(name, None, "does not exist".to_owned()));
        }
    }
    rows.sort_by(|a, b| {
        let group = |row: &PlanRow| row.not_a_candidate.is_some();
        group(a).cmp(&group(b)).then_with(|| a.container.cmp(&b.container))
    });
    rows
}

fn candidate(scheduler: &Scheduler, now: Now, container: &ContainerSummary) -> Option<PlanRow> {
    let spec = scheduler.spec(&container.id)?;
    let due = scheduler.next_due(now, &container.id);
    let next_due = |kind| due.iter().find(|(due, _)| *due == kind).map(|(_, at)| *at);
    let triggers = spec.triggers.iter().map(|trigger| PlannedTrigger {
        kind: trigger.kind(),
        description: trigger.to_string(),
        next_due: next_due(trigger.kind()),
    });
    let circles = scheduler.circles(spec).into_iter().map(|test| LabelProblem {
        label: test_results::labels::EVENT_AFTER.to_owned(),
        value: test.0,
        problem: "follows this test too: tests in a circle never start each other".to_owned(),
    });
    let remark = (container.lifecycle == Lifecycle::Running)
        .then(|| "its first run is still on: other runs wait for its end".to_owned());
    Some(PlanRow {
        container: container.name.clone(),
        id: Some(container.id.0.clone()),
        not_a_candidate: None,
        remark,
        triggers: triggers.collect(),
        policy: Some(spec.policy.clone()),
        problems: spec.problems.iter().cloned().chain(circles).collect(),
    })
}

fn other(container: &str, id: Option<String>, reason: String) -> PlanRow {
    PlanRow {
        container: container.to_owned(),
        id,
        not_a_candidate: Some(reason),
        remark: None,
        triggers: Vec::new(),
        policy: None,
        problems: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use container_engine::ContainerId;

    use super::*;
    use crate::overrides::Override;

    fn container(name: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        ContainerSummary {
            id: ContainerId(format!("id-{name}")),
            name: name.to_owned(),
            image: "img".to_owned(),
            image_id: "sha256:1".to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            lifecycle: Lifecycle::Exited,
            created_at: "2026-05-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn plan_of(settings: &RunnerSettings, containers: Vec<ContainerSummary>) -> Vec<PlanRow> {
        rows(settings, containers, "2026-05-01T00:01:10Z".parse().unwrap())
    }

    #[test]
    fn tells_when_each_test_runs_next() {
        let timer = container("t", &[("tugbot.test", ""), ("tugbot.event.timer", "30s")]);
        let cron = container("c", &[("tugbot.test", ""), ("tugbot.event.cron", "0 3 * * *")]);
        let events = container("e", &[("tugbot.test", ""), ("tugbot.event.docker", "create")]);
        let plan = plan_of(&RunnerSettings::new("h"), vec![timer, events, cron]);
        let rows: Vec<(&str, Option<String>)> = plan
            .iter()
            .map(|row| (row.container.as_str(), row.triggers[0].next_due.map(|at| at.to_string())))
            .collect();
        assert_eq!(
            rows,
            [
                ("c", Some("2026-05-01T03:00:00Z".to_owned())),
                ("e", None),
                ("t", Some("2026-05-01T00:01:30Z".to_owned())),
            ]
        );
    }

    #[test]
    fn a_timer_goes_on_from_its_last_copy() {
        let cause = r#"{"trigger":"timer","summary":"every 30s","at":"2026-05-01T00:01:00Z"}"#;
        let timer = container("t", &[("tugbot.test", ""), ("tugbot.event.timer", "30s")]);
        let copy = container("tugbot_t_1", &[("tugbot.created.from", "t"), ("tugbot.cause", cause)]);
        let plan = plan_of(&RunnerSettings::new("h"), vec![timer, copy]);
        let due = plan[0].triggers[0].next_due.map(|at| at.to_string());
        assert_eq!(due.as_deref(), Some("2026-05-01T00:01:30Z"));
        assert_eq!(plan[1].not_a_candidate.as_deref(), Some("a copy of `t`"));
    }

    #[test]
    fn says_why_something_is_no_candidate() {
        let mut settings = RunnerSettings::new("h");
        settings.names = vec!["t".to_owned(), "web".to_owned(), "gone".to_owned()];
        settings.overrides = vec![Override::parse("name=t;event.timer=0s").unwrap()];
        let containers = vec![
            container("t", &[("tugbot.test", "")]),
            container("other", &[("tugbot.test", "")]),
            container("web", &[]),
            container("db", &[]),
        ];
        let plan = plan_of(&settings, containers);
        let rows: Vec<(&str, Option<&str>)> =
            plan.iter().map(|row| (row.container.as_str(), row.not_a_candidate.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("t", None),
                ("gone", Some("does not exist")),
                ("other", Some("not among the containers that were named")),
                ("web", Some("not a test container: it has no label tugbot.test")),
            ]
        );
        assert_eq!(plan[0].problems[0].label, "tugbot.event.timer");
    }

    #[test]
    fn tests_in_a_circle_are_pointed_at() {
        let a = container("a", &[("tugbot.test", ""), ("tugbot.event.after", "b")]);
        let b = container("b", &[("tugbot.test", ""), ("tugbot.event.after", "a:failed")]);
        let plan = plan_of(&RunnerSettings::new("h"), vec![a, b]);
        assert!(plan.iter().all(|row| row.problems.len() == 1), "{plan:?}");
    }
}
