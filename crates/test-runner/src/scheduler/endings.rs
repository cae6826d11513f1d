//! From the start of a copy to its end, and what follows: kills, verdicts, retries, followers, removal.

use std::time::Duration;

use container_engine::ContainerId;
use jiff::Timestamp;
use test_results::{Cause, Ending, Outcome};

use super::{
    ABANDONED_AFTER, Output, REMEMBERED_COPIES, Removal, Scheduler, StartOrder, TRY_AGAIN_AFTER,
    state::{Finished, Run, Stage},
};
use crate::{
    clock::{Now, Tick, later, until},
    run_key::RunKey,
    runner_event::{KillReason, RunnerEvent},
};

/// How long after the grace period an ended copy must have shown up before it is killed outright.
const KILL_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long to wait before a removal that failed is tried again.
const REMOVE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Collected copies that are kept in mind.
const COLLECTED: usize = 10_000;

/// What is known of a copy's end.
pub(super) struct Ended {
    pub(super) exit_code: Option<i64>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Timestamp,
}

impl Scheduler {
    /// The engine made and started a copy, or another runner had.
    pub(super) fn on_started(
        &mut self,
        now: Now,
        copy: &str,
        id: ContainerId,
        theirs: bool,
        out: &mut Vec<Output>,
    ) {
        self.traces.copy(&id.0);
        let Some(run) = self.runs.get_mut(copy) else { return };
        run.answered = true;
        if theirs {
            run.ours = false;
            out.push(Output::Report(RunnerEvent::Adopted {
                test: run.spec.name.clone(),
                copy: copy.to_owned(),
            }));
            // It may have got anywhere meanwhile, and its events may be long past.
            out.push(Output::InspectCopy { id: id.clone() });
        }
        self.created(now, copy, &id, out);
    }

    /// A copy exists.
    pub(super) fn created(&mut self, now: Now, copy: &str, id: &ContainerId, out: &mut Vec<Output>) {
        let Some(run) = self.runs.get_mut(copy) else { return };
        if run.id.is_none() {
            run.id = Some(id.clone());
            run.since = now.tick;
            if run.killed.is_some() {
                // It was to be replaced before it existed.
                let reason = run.killed.take().unwrap_or(KillReason::Replaced);
                self.kill(now, copy, reason, out);
                return;
            }
        }
        if run.stage == Stage::Starting {
            run.stage = Stage::Created;
            run.deadline.get_or_insert(now.tick + ABANDONED_AFTER);
        }
    }

    /// A copy runs.
    pub(super) fn running(&mut self, now: Now, copy: &str, at: Timestamp, out: &mut Vec<Output>) -> bool {
        let Some(run) = self.runs.get_mut(copy).filter(|run| !matches!(run.stage, Stage::Running(_))) else {
            return false;
        };
        run.stage = Stage::Running(at);
        run.since = now.tick;
        if run.killed.is_none() {
            // Monotonic from here; an adopted copy has used up part of its time.
            run.deadline =
                run.spec.policy.timeout.map(|limit| now.tick + until(now.wall, later(at, limit)).min(limit));
        }
        out.push(Output::Report(RunnerEvent::Started {
            test: run.spec.name.clone(),
            copy: copy.to_owned(),
            id: run.id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
            cause: run.cause.clone(),
            at,
            ours: run.ours,
        }));
        true
    }

    /// No copy could be made or started.
    pub(super) fn on_start_failed(
        &mut self,
        now: Now,
        copy: &str,
        reason: String,
        unreachable: bool,
        out: &mut Vec<Output>,
    ) {
        // A copy that runs or has ended was seen since: its own story goes on.
        let Some(run) = self.runs.get_mut(copy).filter(|run| !matches!(run.stage, Stage::Running(_))) else {
            return;
        };
        run.answered = true;
        if unreachable {
            // Whether the copy exists is not known, so the run keeps its place until it is.
            run.deadline = Some(now.tick + TRY_AGAIN_AFTER);
            return;
        }
        let Some(run) = self.runs.remove(copy) else { return };
        self.past_copies.insert(copy.to_owned(), REMEMBERED_COPIES);
        let (test, cause) = (run.spec.name.clone(), run.cause);
        out.push(Output::Report(RunnerEvent::StartFailed { test, copy: copy.to_owned(), cause, reason }));
    }

    /// Ends a copy. One that does not exist yet is ended as soon as it does.
    pub(super) fn kill(&mut self, now: Now, copy: &str, reason: KillReason, out: &mut Vec<Output>) {
        let grace = self.settings.stop_grace;
        let Some(run) = self.runs.get_mut(copy).filter(|run| run.killed.is_none()) else { return };
        run.killed = Some(reason);
        let Some(id) = run.id.clone() else { return };
        run.deadline = Some(now.tick + grace + KILL_AGAIN_AFTER);
        let test = run.spec.name.clone();
        out.push(Output::Report(RunnerEvent::Killed { test, copy: copy.to_owned(), reason }));
        out.push(Output::Kill { id, grace: Some(grace) });
    }

    /// Copies that have used up their time, do not end although they should, or were left behind unstarted.
    pub(super) fn meet_deadlines(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.synced || self.is_replaying(now) {
            return;
        }
        let due: Vec<String> = self
            .runs
            .iter()
            .filter(|(_, run)| run.deadline.is_some_and(|at| at <= now.tick))
            .map(|(copy, _)| copy.clone())
            .collect();
        for copy in due {
            let Some(run) = self.runs.get_mut(&copy) else { continue };
            match (run.killed, run.stage, run.id.clone()) {
                (Some(_), _, Some(id)) => {
                    run.deadline = Some(now.tick + KILL_AGAIN_AFTER);
                    out.push(Output::Kill { id: id.clone(), grace: None });
                    // Its end may have been missed.
                    out.push(Output::InspectCopy { id });
                }
                (None, Stage::Created, Some(id)) => {
                    run.deadline = Some(now.tick + ABANDONED_AFTER);
                    out.push(Output::Revive { copy, id });
                }
                (_, Stage::Starting, None) if run.answered => {
                    run.answered = false;
                    run.deadline = None;
                    if let Some(original) = run.original.clone() {
                        out.push(Output::Start(StartOrder {
                            original,
                            test: run.test.clone(),
                            copy,
                            cause: run.cause.clone(),
                            image: run.image.clone(),
                            again: true,
                        }));
                    }
                }
                (None, Stage::Running(_), _) => self.kill(now, &copy, KillReason::Timeout, out),
                _ => run.deadline = None,
            }
        }
    }

    /// When the next of those is due.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        if !self.synced {
            return None;
        }
        let deadline = self.runs.values().filter_map(|run| run.deadline).min();
        deadline.map(|at| self.replayed.map_or(at, |replayed| at.max(replayed)))
    }

    /// A copy has ended.
    pub(super) fn finish(&mut self, now: Now, copy: &str, ended: Ended, out: &mut Vec<Output>) -> bool {
        let Some(run) = self.runs.remove(copy) else { return false };
        let outcome = verdict(&run, &ended);
        if let Some(id) = &run.id {
            self.remember_finished(now, &run.test, copy, id);
        }
        self.conclude(now, copy, run, outcome, &ended, out);
        true
    }

    /// A run has its verdict: report, retry or let the followers run, clear up.
    pub(super) fn conclude(
        &mut self,
        now: Now,
        copy: &str,
        run: Run,
        outcome: Outcome,
        ended: &Ended,
        out: &mut Vec<Output>,
    ) {
        self.past_copies.insert(copy.to_owned(), REMEMBERED_COPIES);
        let retry = self.retry_of(&run, &outcome, copy);
        out.push(Output::Report(RunnerEvent::Finished {
            test: run.spec.name.clone(),
            copy: copy.to_owned(),
            id: run.id.as_ref().map(|id| id.0.clone()),
            cause: run.cause.clone(),
            outcome: outcome.clone(),
            took: ended.started_at.map(|from| until(from, ended.finished_at)),
            at: ended.finished_at,
            retried: retry.is_some(),
            ours: run.ours,
        }));
        match (retry, run.original.as_ref()) {
            (Some((key, cause)), Some(original)) => {
                self.enqueue(now, original, key, cause, out);
            }
            // A run that had to make way has not ended in any way that means something.
            _ if run.killed == Some(KillReason::Replaced) => {}
            _ => self.fire_followers(now, &run.test, &outcome, ended.finished_at, copy, out),
        }
        if run.image.is_some() {
            self.remove_old_images(out);
        }
    }

    /// The run that repeats this one, if its test wants that. A run that waits already stands for it.
    fn retry_of(&self, run: &Run, outcome: &Outcome, copy: &str) -> Option<(RunKey, Cause)> {
        let test = run.original.as_ref().and_then(|id| self.tests.get(id))?;
        let wanted = *outcome != Outcome::Passed
            && run.killed != Some(KillReason::Replaced)
            && run.attempt() <= run.spec.policy.retries
            && test.pending.is_empty();
        wanted.then(|| {
            let attempt = run.attempt() + 1;
            let key = RunKey::new(run.cause.at, format!("retry:{copy}:{attempt}"));
            (key, Cause { attempt, ..run.cause.clone() })
        })
    }

    /// A copy no longer exists.
    pub(super) fn copy_destroyed(
        &mut self,
        now: Now,
        copy: &str,
        id: &ContainerId,
        at: Timestamp,
        out: &mut Vec<Output>,
    ) -> bool {
        let mut changed = false;
        for history in self.history.values_mut() {
            if let Some(place) = history.finished.iter().position(|finished| finished.id == *id) {
                let finished = history.finished.remove(place);
                if finished.removing {
                    out.push(Output::Report(RunnerEvent::Removed { copy: finished.copy }));
                }
                changed = true;
            }
        }
        if let Some(run) = self.runs.get_mut(copy).filter(|run| run.id.as_ref() == Some(id)) {
            changed = true;
            if !run.answered && !matches!(run.stage, Stage::Running(_)) {
                // A start that fails takes its copy along. What went wrong is about to be told.
                (run.id, run.stage, run.deadline) = (None, Stage::Starting, None);
                return true;
            }
            self.lose(now, copy, "the copy was removed before its end was seen", at, out);
        }
        if changed {
            self.remove_old_images(out);
            let tests: Vec<String> =
                self.history.keys().filter(|test| !self.by_name.contains_key(*test)).cloned().collect();
            for test in tests {
                self.forget_history(&test);
            }
        }
        changed
    }

    /// A copy's end cannot be observed any more.
    pub(super) fn lose(&mut self, now: Now, copy: &str, reason: &str, at: Timestamp, out: &mut Vec<Output>) {
        let Some(run) = self.runs.remove(copy) else { return };
        let started_at = match run.stage {
            Stage::Running(at) => Some(at),
            Stage::Starting | Stage::Created => None,
        };
        let ended = Ended { exit_code: None, started_at, finished_at: at };
        let outcome = Outcome::Lost { reason: reason.to_owned() };
        self.conclude(now, copy, run, outcome, &ended, out);
    }

    /// Removes finished copies beyond those that are kept.
    pub(super) fn remove_old_copies(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.synced {
            return;
        }
        for (test, history) in &mut self.history {
            let Some(test) = self.by_name.get(test).and_then(|id| self.tests.get(id)) else { continue };
            let excess = history.finished.len().saturating_sub(test.spec.policy.keep);
            for finished in history.finished.iter_mut().take(excess) {
                if !finished.removing && finished.removable.is_some_and(|at| at <= now.tick) {
                    finished.removing = true;
                    let (copy, id) = (finished.copy.clone(), finished.id.clone());
                    out.push(Output::Remove { copy, id });
                }
            }
        }
    }

    /// When the next finished copy may be removed.
    pub(super) fn next_removal(&self) -> Option<Tick> {
        if !self.synced {
            return None;
        }
        let excess = self.history.iter().filter_map(|(test, history)| {
            let test = self.by_name.get(test).and_then(|id| self.tests.get(id))?;
            let excess = history.finished.len().saturating_sub(test.spec.policy.keep);
            history.finished.iter().take(excess).filter(|f| !f.removing).filter_map(|f| f.removable).min()
        });
        excess.min()
    }

    /// A removal or a kill failed.
    pub(super) fn on_not_removed(&mut self, now: Now, id: &ContainerId) {
        let all = self.history.values_mut().flat_map(|history| &mut history.finished);
        for finished in all.filter(|finished| finished.id == *id) {
            finished.removing = false;
            finished.removable = Some(now.tick + REMOVE_AGAIN_AFTER);
        }
    }

    /// Keeps a finished copy in mind, for its removal.
    pub(super) fn remember_finished(&mut self, now: Now, test: &str, copy: &str, id: &ContainerId) {
        let removable = match self.settings.removal {
            Removal::After(grace) => Some(now.tick + grace),
            Removal::WhenCollected => self.collected.contains(id).then_some(now.tick),
        };
        self.history.entry(test.to_owned()).or_default().finished.push(Finished {
            copy: copy.to_owned(),
            id: id.clone(),
            removable,
            removing: false,
        });
    }

    /// The collector has what it wants of a copy. It may know of the end before the scheduler does.
    pub(super) fn on_collected(&mut self, now: Now, id: &ContainerId) {
        self.collected.insert(id.clone(), COLLECTED);
        let all = self.history.values_mut().flat_map(|history| &mut history.finished);
        for finished in all.filter(|finished| finished.id == *id && finished.removable.is_none()) {
            finished.removable = Some(now.tick);
        }
    }
}

/// How a run has ended. What was killed for its timeout has timed out, whatever it made of the signal.
fn verdict(run: &Run, ended: &Ended) -> Outcome {
    let timeout = run.spec.policy.timeout;
    if let (Some(KillReason::Timeout), Some(limit)) = (run.killed, timeout) {
        return Outcome::TimedOut { after_seconds: limit.as_secs_f64() };
    }
    match ended.exit_code {
        Some(exit_code) => Outcome::judge(&Ending {
            exit_code,
            started_at: ended.started_at,
            finished_at: Some(ended.finished_at),
            timeout,
        }),
        None => Outcome::Lost { reason: "the engine does not know its exit code".to_owned() },
    }
}
