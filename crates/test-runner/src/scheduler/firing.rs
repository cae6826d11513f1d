//! A trigger fires: its run joins the one that waits, waits itself, or is left out.

use container_engine::{ContainerId, EngineEvent, Lifecycle};
use jiff::Timestamp;
use serde::Serialize;
use test_results::{Cause, CloudEvent, EventId, Outcome, TriggerKind, event};

use super::{Output, Scheduler, state::Pending};
use crate::{
    announce,
    clock::{Now, Tick},
    host_watch::HostChange,
    policy::Overlap,
    run_key::RunKey,
    runner_event::{RunnerEvent, SkipReason},
    trigger::Trigger,
};

/// Debounced triggers that never pause start a run after this many times the label's value.
const DEBOUNCE_AT_MOST: u32 = 10;

/// Why nothing can run by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum RunNowError {
    /// No candidate has this name.
    #[error("`{test}` is not a test container of this runner: `tugyard run --plan` says why")]
    NoSuchTest {
        /// The name.
        test: String,
    },
    /// A run is on, and the label says to skip.
    #[error("`{test}` runs already, and its label tugbot.overlap=skip allows no second run")]
    Overlap {
        /// The name.
        test: String,
    },
    /// The runner has ended.
    #[error("the runner has stopped")]
    Stopped,
}

/// A run that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// The name of the copy that runs or will run.
    pub copy: String,
    /// Whether it stands for other triggers too.
    pub joined: bool,
}

/// A trigger that fires.
pub(super) struct Firing {
    pub(super) key: RunKey,
    pub(super) trigger: TriggerKind,
    pub(super) summary: String,
    pub(super) at: Timestamp,
    pub(super) event: Option<EventId>,
}

/// What became of a firing.
pub(super) enum Fired {
    /// A run waits under this name; `joined` if it waited before.
    Waits(Ticket),
    /// Nothing runs.
    Skipped(SkipReason),
}

impl Scheduler {
    /// Lets a trigger of a test fire.
    pub(super) fn fire(
        &mut self,
        now: Now,
        id: &ContainerId,
        firing: Firing,
        out: &mut Vec<Output>,
    ) -> Fired {
        let Firing { key, trigger, summary, at, event } = firing;
        let cause = Cause { trigger, summary, at, event, attempt: 1 };
        self.enqueue(now, id, key, cause, out)
    }

    /// Puts a run into its test's queue, as the test's policy has it.
    pub(super) fn enqueue(
        &mut self,
        now: Now,
        id: &ContainerId,
        key: RunKey,
        cause: Cause,
        out: &mut Vec<Output>,
    ) -> Fired {
        let by_hand = cause.trigger == TriggerKind::Manual;
        let Some(test) = self.tests.get(id).filter(|_| by_hand || !self.settings.by_hand_only) else {
            return Fired::Skipped(SkipReason::Withdrawn);
        };
        let name = test.spec.name.clone();
        let policy = &test.spec.policy;
        let copy = key.copy_name(&name.0);
        let skipped = if self.is_known_copy(&copy) {
            Some(SkipReason::AlreadyRun)
        } else if policy.overlap == Overlap::Skip && self.is_busy(id) {
            Some(SkipReason::Overlap)
        } else {
            None
        };
        if let Some(reason) = skipped {
            out.push(Output::Report(RunnerEvent::Skipped { test: name, cause, reason }));
            return Fired::Skipped(reason);
        }
        // What was asked for by hand, and what is tried again, has waited long enough.
        let debounce = policy.debounce.filter(|_| !by_hand && cause.attempt == 1);
        let waits = test.pending.iter().any(|pending| pending.key.copy_name(&name.0) == copy);
        let joins = match policy.overlap {
            _ if waits => true,
            Overlap::Allow => {
                let gathers = |p: &Pending| debounce.is_some() && p.not_before.is_some();
                test.pending.back().is_some_and(gathers) || test.pending.len() >= self.settings.queue_limit
            }
            Overlap::Queue | Overlap::Skip | Overlap::Replace => !test.pending.is_empty(),
        };
        let test = self.tests.get_mut(id).expect("it was found above");
        if joins && let Some(waiting) = test.pending.back_mut() {
            waiting.not_before = debounce.map(|pause| {
                let at_most = waiting.since + pause.saturating_mul(DEBOUNCE_AT_MOST);
                (now.tick + pause).min(at_most)
            });
            let copy = waiting.key.copy_name(&name.0);
            out.push(Output::Report(RunnerEvent::Coalesced { test: name, copy: copy.clone(), cause }));
            return Fired::Waits(Ticket { copy, joined: true });
        }
        self.sequence += 1;
        test.pending.push_back(Pending {
            sequence: self.sequence,
            key,
            cause: cause.clone(),
            not_before: debounce.map(|pause| now.tick + pause),
            since: now.tick,
        });
        out.push(Output::Report(RunnerEvent::Queued { test: name, copy: copy.clone(), cause }));
        Fired::Waits(Ticket { copy, joined: false })
    }

    /// An engine event that no runner caused. `container` is the one it is about, if that is known otherwise.
    pub(super) fn fire_docker(
        &mut self,
        now: Now,
        event: &EngineEvent,
        container: Option<&str>,
        out: &mut Vec<Output>,
    ) -> bool {
        let attributes = &event.actor.attributes;
        let about = match event.kind.as_str() {
            "container" => Some(event.actor.id.as_str()),
            _ => container.or(attributes.get("container").map(String::as_str)),
        };
        let name_of = |id: &str| self.names.get(id).map(|(name, _)| name.as_str());
        // What happens to a test container itself says nothing about what it tests.
        let others = self.tests.values().filter(|test| Some(test.id.0.as_str()) != about);
        let fires =
            |trigger: &Trigger| matches!(trigger, Trigger::Docker(filter) if filter.matches(event, name_of));
        let tests: Vec<ContainerId> =
            others.filter(|test| test.spec.triggers.iter().any(fires)).map(|test| test.id.clone()).collect();
        let id = announce::engine_event_id(event);
        for test in &tests {
            let firing = Firing {
                key: RunKey::new(event.at, format!("docker:{id}")),
                trigger: TriggerKind::Docker,
                summary: summary(event),
                at: event.at,
                event: Some(id.clone()),
            };
            self.fire(now, test, firing, out);
        }
        !tests.is_empty()
    }

    /// The host changed.
    pub(super) fn on_host(&mut self, now: Now, change: &HostChange, key: &RunKey, out: &mut Vec<Output>) {
        let fires = |trigger: &Trigger| matches!(trigger, Trigger::Host(filter) if filter.matches(change));
        for id in self.tests_with(fires) {
            let firing = Firing {
                key: key.clone(),
                trigger: TriggerKind::Host,
                summary: change.detail.clone(),
                at: change.at,
                event: None,
            };
            self.fire(now, &id, firing, out);
        }
    }

    /// An event from outside: a request for a run, or one that tests ask for by `tugbot.event.cd`.
    pub(super) fn on_cloud(&mut self, now: Now, cloud: &CloudEvent, out: &mut Vec<Output>) {
        let at = cloud.time.unwrap_or(now.wall);
        let key = RunKey::new(at, format!("cloud:{}:{}", cloud.source, cloud.id));
        if let Some(test) = event::requested_test(cloud) {
            // The result service tells all runners; the one that has the test acts.
            if let Some(id) = self.by_name.get(&test.0).cloned() {
                let by = cloud.data.pointer("/subject/content/by").and_then(|by| by.as_str());
                let summary = by.map_or("by hand".to_owned(), |by| format!("by hand, {by}"));
                let event = Some(cloud.id.clone());
                self.fire(now, &id, Firing { key, trigger: TriggerKind::Manual, summary, at, event }, out);
            }
            return;
        }
        if self.is_own_echo(cloud) {
            return;
        }
        let fires = |trigger: &Trigger| matches!(trigger, Trigger::Cd(filter, _) if filter.matches(cloud));
        for id in self.tests_with(fires) {
            let subject = cloud.subject.as_deref().unwrap_or_default();
            let firing = Firing {
                key: key.clone(),
                trigger: TriggerKind::Cd,
                summary: format!("{} {subject}", cloud.kind).trim_end().to_owned(),
                at,
                event: Some(cloud.id.clone()),
            };
            self.fire(now, &id, firing, out);
        }
    }

    /// Whether an event from outside goes back to what the runners of this host do themselves. Tests of one host
    /// follow each other by `tugbot.event.after`, where circles can be seen.
    fn is_own_echo(&self, cloud: &CloudEvent) -> bool {
        let text = |pointer: &str| cloud.data.pointer(pointer).and_then(|value| value.as_str());
        let is_run = ["dev.cdevents.testsuiterun.", "dev.cdevents.testcaserun."]
            .iter()
            .any(|kind| cloud.kind.starts_with(kind));
        let of_own_test = || {
            let named = ["/subject/content/testSuite/name", "/subject/content/testSuite/id"];
            let here = text("/subject/content/environment/id") == Some(self.settings.host.as_str());
            here || named.iter().filter_map(|name| text(name)).any(|name| self.by_name.contains_key(name))
        };
        cloud.source == self.settings.source
            || announce::is_own_trace(cloud)
            || text("/subject/id").is_some_and(|id| self.traces.is_copy(id))
            || (is_run && of_own_test())
    }

    /// Lets a test run by hand.
    pub(super) fn fire_by_hand(
        &mut self,
        now: Now,
        test: &str,
        key: &RunKey,
        by: &str,
        out: &mut Vec<Output>,
    ) -> Result<Ticket, RunNowError> {
        let no_such_test = || RunNowError::NoSuchTest { test: test.to_owned() };
        let id = self.by_name.get(test).cloned().ok_or_else(no_such_test)?;
        let firing = Firing {
            key: key.clone(),
            trigger: TriggerKind::Manual,
            summary: by.to_owned(),
            at: now.wall,
            event: None,
        };
        match self.fire(now, &id, firing, out) {
            Fired::Waits(ticket) => Ok(ticket),
            Fired::Skipped(SkipReason::Overlap) => Err(RunNowError::Overlap { test: test.to_owned() }),
            Fired::Skipped(_) => Err(no_such_test()),
        }
    }

    /// A run of `test` has ended for good: the tests that follow it fire. `what` identifies the run.
    pub(super) fn fire_followers(
        &mut self,
        now: Now,
        test: &str,
        outcome: &Outcome,
        at: Timestamp,
        what: &str,
        out: &mut Vec<Output>,
    ) {
        let fires = |trigger: &Trigger| matches!(trigger, Trigger::After(tests) if tests.iter().any(|after| after.matches(test, outcome)));
        for id in self.tests_with(fires) {
            let follower = self.tests[&id].spec.name.clone();
            let summary = format!("{test} {outcome}");
            if self.comes_after(test, &follower.0) {
                let cause = Cause { trigger: TriggerKind::After, summary, at, event: None, attempt: 1 };
                let reason = SkipReason::Circle;
                out.push(Output::Report(RunnerEvent::Skipped { test: follower, cause, reason }));
                continue;
            }
            let firing = Firing {
                key: RunKey::new(at, format!("after:{what}")),
                trigger: TriggerKind::After,
                summary,
                at,
                event: None,
            };
            self.fire(now, &id, firing, out);
        }
    }

    /// Whether `test` follows `first`, directly or over others.
    pub(crate) fn comes_after(&self, test: &str, first: &str) -> bool {
        let mut seen = vec![test.to_owned()];
        let mut next = 0;
        while let Some(name) = seen.get(next).cloned() {
            next += 1;
            if name == first {
                return true;
            }
            let spec = self.by_name.get(&name).and_then(|id| self.tests.get(id)).map(|test| &test.spec);
            for trigger in spec.iter().flat_map(|spec| &spec.triggers) {
                let Trigger::After(before) = trigger else { continue };
                for earlier in before {
                    if !seen.contains(&earlier.test.0) {
                        seen.push(earlier.test.0.clone());
                    }
                }
            }
        }
        false
    }

    /// Whether a run of the test is on: a copy, or the original's own first run.
    pub(super) fn is_busy(&self, id: &ContainerId) -> bool {
        self.tests.get(id).is_some_and(|test| {
            test.lifecycle == Lifecycle::Running || self.runs.values().any(|run| run.test == test.spec.name.0)
        })
    }

    /// Whether a copy of this name exists, existed, or is being made.
    pub(super) fn is_known_copy(&self, copy: &str) -> bool {
        self.runs.contains_key(copy) || self.past_copies.contains(copy)
    }

    /// The earliest moment at which a pending run stops waiting for the clock.
    pub(super) fn next_pending(&self, now: Now) -> Option<Tick> {
        if !self.synced {
            return None;
        }
        let pending = self.tests.values().flat_map(|test| &test.pending);
        pending.filter_map(|pending| pending.not_before).filter(|at| *at > now.tick).min()
    }

    fn tests_with(&self, fires: impl Fn(&Trigger) -> bool) -> Vec<ContainerId> {
        let tests = self.tests.values().filter(|test| test.spec.triggers.iter().any(&fires));
        tests.map(|test| test.id.clone()).collect()
    }
}

/// `container web create`: what happened to what.
fn summary(event: &EngineEvent) -> String {
    let id = &event.actor.id;
    let short = || id.get(..12).filter(|_| id.len() == 64).unwrap_or(id).to_owned();
    let name = event.actor.attributes.get("name").cloned().unwrap_or_else(short);
    format!("{} {name} {}", event.kind, event.verb())
}
