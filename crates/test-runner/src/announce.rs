//! Says to other programs, as CloudEvents, what the engine reported and what became of the runs. Shapes only: sending
//! is the business of whoever takes the events.

use container_engine::EngineEvent;
use jiff::Timestamp;
use serde_json::Value;
use test_results::{
    Cause, CloudEvent, EventId, TestName,
    event::{self, Stamp, SuiteRun},
};

use crate::runner_event::RunnerEvent;

/// Extension attribute on events that a copy caused: they trigger nothing, on whatever host they are heard.
const OWN_TRACE: &str = "tugyardowntrace";

/// The id under which an engine event is announced. Every runner of the engine gives it the same, so a receiver can
/// tell repeats.
pub(crate) fn engine_event_id(event: &EngineEvent) -> EventId {
    let id = &event.actor.id;
    let short = id.get(..12).filter(|_| id.len() == 64).unwrap_or(id);
    EventId(format!("{}-{}-{}-{short}", event.at.as_nanosecond(), event.kind, event.verb()))
}

/// Whether the event says of itself that a copy caused it.
pub(crate) fn is_own_trace(event: &CloudEvent) -> bool {
    event.extensions.get(OWN_TRACE).and_then(Value::as_bool).unwrap_or(false)
}

/// Who announces.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    /// `/tugyard/run/<host>`
    pub(crate) source: String,
    /// The host's name.
    pub(crate) host: String,
}

impl Announcer {
    /// An engine event; `own` if a copy caused it.
    pub(crate) fn engine_event(&self, event: &EngineEvent, own: bool) -> CloudEvent {
        let described = event::EngineEvent {
            kind: &event.kind,
            action: &event.action,
            id: &event.actor.id,
            attributes: &event.actor.attributes,
        };
        let mut announced = event::engine_event(self.stamp(engine_event_id(event), event.at), &described);
        if own {
            announced.extensions.insert(OWN_TRACE.to_owned(), Value::Bool(true));
        }
        announced
    }

    /// What became of a run, if that is news to others. A run that another runner answers for is announced by that one.
    pub(crate) fn run(&self, event: &RunnerEvent, now: Timestamp) -> Option<CloudEvent> {
        match event {
            RunnerEvent::Queued { test, copy, cause } => {
                Some(event::run_queued(self.about("queued", copy, now), &self.suite_run(test, copy, cause)))
            }
            RunnerEvent::Started { test, copy, cause, at, ours: true, .. } => {
                Some(event::run_started(self.about("started", copy, *at), &self.suite_run(test, copy, cause)))
            }
            RunnerEvent::Finished { test, copy, cause, outcome, at, ours: true, .. } => {
                let stamp = self.about("finished", copy, *at);
                Some(event::run_finished(stamp, &self.suite_run(test, copy, cause), outcome, None))
            }
            _ => None,
        }
    }

    fn about(&self, word: &str, copy: &str, at: Timestamp) -> Stamp {
        self.stamp(EventId(format!("{copy}-{word}")), at)
    }

    fn stamp(&self, id: EventId, at: Timestamp) -> Stamp {
        Stamp { id, source: self.source.clone(), at }
    }

    fn suite_run<'a>(&'a self, test: &'a TestName, copy: &'a str, cause: &'a Cause) -> SuiteRun<'a> {
        SuiteRun { id: copy, test, environment: &self.host, cause: Some(cause), image: None, links: &[] }
    }
}

#[cfg(test)]
mod tests {
    use container_engine::Actor;
    use test_results::{Outcome, TriggerKind};

    use super::*;

    fn announcer() -> Announcer {
        Announcer { source: "/tugyard/run/host".to_owned(), host: "host".to_owned() }
    }

    #[test]
    fn an_engine_event_has_one_id_on_all_runners() {
        let event = EngineEvent {
            kind: "container".to_owned(),
            action: "exec_create: sh".to_owned(),
            actor: Actor { id: "ab".repeat(32), attributes: Default::default() },
            at: "2026-05-01T00:00:00.000000007Z".parse().unwrap(),
        };
        let announced = announcer().engine_event(&event, true);
        assert_eq!(announced.id.0, "1777593600000000007-container-exec_create-abababababab");
        assert_eq!(announced.kind, "dev.cdeventsx.docker-container.execcreate.0.1.0");
        assert!(is_own_trace(&announced));
        assert!(!is_own_trace(&announcer().engine_event(&event, false)));
    }

    #[test]
    fn only_the_runner_that_answers_for_a_copy_announces_it() {
        let cause = Cause {
            trigger: TriggerKind::Docker,
            summary: "container web create".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            event: None,
            attempt: 1,
        };
        let finished = |ours| RunnerEvent::Finished {
            test: "t".into(),
            copy: "tugbot_t_1".to_owned(),
            id: None,
            cause: cause.clone(),
            outcome: Outcome::Passed,
            took: None,
            at: Timestamp::UNIX_EPOCH,
            retried: false,
            ours,
        };
        let announced = announcer().run(&finished(true), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(announced.kind, event::TESTSUITERUN_FINISHED);
        assert_eq!(announced.id.0, "tugbot_t_1-finished");
        assert_eq!(announcer().run(&finished(false), Timestamp::UNIX_EPOCH), None);
    }
}
