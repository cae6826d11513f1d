//! Starts what may start, oldest first: limits, overlap, groups, and what a run waits for.

use container_engine::{ContainerId, Lifecycle};

use super::{
    Output, Scheduler, StartOrder,
    state::{Pending, Run, Stage},
};
use crate::{
    clock::Now,
    policy::{Concurrency, Overlap},
    runner_event::{KillReason, RunnerEvent, SkipReason},
};

impl Scheduler {
    /// Starts every pending run that nothing holds back.
    pub(super) fn dispatch(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.synced || self.is_replaying(now) {
            return;
        }
        let mut waiting: Vec<(u64, ContainerId)> = Vec::new();
        for test in self.tests.values() {
            waiting.extend(test.pending.iter().map(|pending| (pending.sequence, test.id.clone())));
        }
        waiting.sort_unstable();
        for (sequence, id) in waiting {
            self.dispatch_one(now, sequence, &id, out);
        }
    }

    fn dispatch_one(&mut self, now: Now, sequence: u64, id: &ContainerId, out: &mut Vec<Output>) {
        let Some(test) = self.tests.get(id) else { return };
        let Some(place) = test.pending.iter().position(|pending| pending.sequence == sequence) else {
            return;
        };
        let pending = &test.pending[place];
        if pending.not_before.is_some_and(|at| at > now.tick) {
            return;
        }
        let name = test.spec.name.clone();
        let copy = pending.key.copy_name(&name.0);
        if self.is_known_copy(&copy) {
            self.take(id, place);
            return;
        }
        let spec = test.spec.clone();
        let image = test.image_for_copy();
        if spec.policy.overlap == Overlap::Replace {
            self.make_way(now, &name.0, out);
        }
        if !self.has_place(id, spec.policy.overlap, spec.policy.concurrency.as_ref())
            || !self.peers_ready(&spec, out)
        {
            return;
        }
        let Some(Pending { cause, .. }) = self.take(id, place) else { return };
        let run = Run {
            test: name.0.clone(),
            spec,
            original: Some(id.clone()),
            id: None,
            cause: cause.clone(),
            image: image.clone(),
            ours: true,
            answered: false,
            stage: Stage::Starting,
            since: now.tick,
            deadline: None,
            killed: None,
        };
        self.runs.insert(copy.clone(), run);
        self.note_timer_copy(&name.0, &cause);
        out.push(Output::Start(StartOrder {
            original: id.clone(),
            test: name.0,
            copy,
            cause,
            image,
            again: false,
        }));
    }

    /// Whether the replay after a cut may still tell what another runner has done.
    pub(super) fn is_replaying(&self, now: Now) -> bool {
        self.replayed.is_some_and(|at| at > now.tick)
    }

    fn take(&mut self, id: &ContainerId, place: usize) -> Option<Pending> {
        self.tests.get_mut(id)?.pending.remove(place)
    }

    /// Whether limits and the overlap policy leave room for one more run of the test.
    fn has_place(&self, id: &ContainerId, overlap: Overlap, concurrency: Option<&Concurrency>) -> bool {
        if self.runs.len() >= self.settings.max_parallel {
            return false;
        }
        if overlap != Overlap::Allow && self.is_busy(id) {
            return false;
        }
        concurrency.is_none_or(|member| {
            let in_group = |other: Option<&Concurrency>| other.is_some_and(|c| c.group == member.group);
            let busy =
                self.runs.values().filter(|run| in_group(run.spec.policy.concurrency.as_ref())).count();
            busy + self.first_runs_of(&member.group) < self.group_limit(member)
        })
    }

    /// Originals of the group whose first run is on.
    fn first_runs_of(&self, group: &str) -> usize {
        let running = self.tests.values().filter(|test| test.lifecycle == Lifecycle::Running);
        running.filter(|t| t.spec.policy.concurrency.as_ref().is_some_and(|c| c.group == group)).count()
    }

    /// The smallest limit that a member of the group asks for.
    fn group_limit(&self, member: &Concurrency) -> usize {
        let specs = self.tests.values().map(|test| &test.spec).chain(self.runs.values().map(|run| &run.spec));
        let members = specs.filter_map(|spec| spec.policy.concurrency.as_ref());
        let limits = members.filter(|other| other.group == member.group).map(|other| other.limit);
        limits.fold(member.limit, usize::min)
    }

    /// Kills the copies of a test, for a new one takes their place. The original's own run is left alone.
    fn make_way(&mut self, now: Now, test: &str, out: &mut Vec<Output>) {
        let copies: Vec<String> =
            self.runs.iter().filter(|(_, run)| run.test == test).map(|(copy, _)| copy.clone()).collect();
        for copy in copies {
            self.kill(now, &copy, KillReason::Replaced, out);
        }
    }

    /// A pending run will not come to anything, for its test has gone.
    pub(super) fn drop_pending(&mut self, id: &ContainerId, out: &mut Vec<Output>) {
        let Some(test) = self.tests.get_mut(id) else { return };
        for pending in test.pending.drain(..) {
            out.push(Output::Report(RunnerEvent::Skipped {
                test: test.spec.name.clone(),
                cause: pending.cause,
                reason: SkipReason::Withdrawn,
            }));
        }
    }
}
