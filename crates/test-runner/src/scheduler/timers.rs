//! Timers and schedules.
//!
//! A timer is due one interval after its last copy fired, whichever runner made that copy, also after a restart. A
//! test without such a copy counts in whole intervals from the creation of its container, so a first run never comes
//! at once. Waiting is monotonic: a host that was suspended, a clock that was set and a runner that was late cause
//! one run, not a burst. A schedule follows the wall clock; slots that went by while the host slept become one run,
//! and slots that went by without a runner are left out, as cron does.

use std::time::Duration;

use container_engine::ContainerId;
use jiff::Timestamp;
use test_results::{Cause, TriggerKind};

use super::{LONGEST_SLEEP, Output, Scheduler, firing::Firing, state::Timer};
use crate::{
    clock::{Now, Tick, later, until},
    run_key::RunKey,
};

/// A wall clock that falls back by more than this was set.
const SET_BACK: Duration = Duration::from_secs(60);

impl Scheduler {
    /// Begins to wait for the timer and the schedule of a test that is new.
    pub(super) fn arm(&mut self, now: Now, id: &ContainerId) {
        let Some(test) = self.tests.get_mut(id) else { return };
        test.slot = test.spec.cron().and_then(|schedule| schedule.next_after(now.wall));
        let last = self.history.get(&test.spec.name.0).and_then(|history| history.last_timer.as_ref());
        test.timer = test.spec.timer().map(|interval| match last {
            Some((copy, at)) => after_copy(now, copy, *at, interval),
            None => after_original(now, test.created_at, interval),
        });
    }

    /// A copy appeared. If its test's timer asked for it, the next one is due one interval later.
    pub(super) fn note_timer_copy(&mut self, now: Now, test: &str, copy: &str, cause: &Cause) {
        if cause.trigger != TriggerKind::Timer || cause.attempt > 1 {
            return;
        }
        let history = self.history.entry(test.to_owned()).or_default();
        if history.last_timer.as_ref().is_some_and(|(_, at)| *at >= cause.at) {
            return;
        }
        history.last_timer = Some((copy.to_owned(), cause.at));
        let Some(test) = self.by_name.get(test).and_then(|id| self.tests.get_mut(id)) else { return };
        let (Some(timer), Some(interval)) = (&mut test.timer, test.spec.timer()) else { return };
        let ours = timer.fired.as_deref() == Some(copy);
        let deadline = timer.deadline;
        *timer = after_copy(now, copy, cause.at, interval);
        if ours {
            // Set when it fired, by the clock that cannot be set.
            timer.deadline = deadline;
        }
    }

    /// Lets timers and schedules fire that are due.
    pub(super) fn fire_timers(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_due = |timer: &Timer| timer.deadline <= now.tick;
        let due: Vec<ContainerId> = self
            .tests
            .values()
            .filter(|test| {
                test.timer.as_ref().is_some_and(is_due) || test.slot.is_some_and(|at| at <= now.wall)
            })
            .map(|test| test.id.clone())
            .collect();
        for id in due {
            self.fire_timer(now, &id, out);
            self.fire_slot(now, &id, out);
        }
    }

    fn fire_timer(&mut self, now: Now, id: &ContainerId, out: &mut Vec<Output>) {
        let Some(test) = self.tests.get_mut(id) else { return };
        let (Some(timer), Some(interval)) = (&mut test.timer, test.spec.timer()) else { return };
        if timer.deadline > now.tick {
            return;
        }
        let after = timer.after.as_deref().unwrap_or("original");
        let key = RunKey::new(timer.due, format!("timer:{id}:{after}:{}", timer.due));
        // However many intervals have gone by, this is one run, and the next is due in the future.
        let missed = now.tick.since(timer.deadline).as_nanos() / interval.as_nanos();
        let steps = u32::try_from(missed + 1).unwrap_or(u32::MAX);
        timer.due = later(timer.due, interval.saturating_mul(steps));
        timer.deadline = timer.deadline + interval.saturating_mul(steps);
        timer.fired = Some(key.copy_name(&test.spec.name.0));
        let summary = format!("every {interval:?}");
        let firing = Firing { key, trigger: TriggerKind::Timer, summary, at: now.wall, event: None };
        self.fire(now, id, firing, out);
    }

    fn fire_slot(&mut self, now: Now, id: &ContainerId, out: &mut Vec<Output>) {
        let Some(test) = self.tests.get_mut(id) else { return };
        let (Some(slot), Some(schedule)) = (test.slot, test.spec.cron()) else { return };
        if slot > now.wall {
            return;
        }
        let latest = schedule.latest_until(now.wall).map_or(slot, |latest| latest.max(slot));
        let summary = schedule.to_string();
        test.slot = schedule.next_after(now.wall);
        let key = RunKey::new(latest, format!("cron:{latest}"));
        let firing = Firing { key, trigger: TriggerKind::Cron, summary, at: latest, event: None };
        self.fire(now, id, firing, out);
    }

    /// A wall clock that was set back would leave schedules waiting for a slot far ahead.
    pub(super) fn notice_set_clock(&mut self, now: Now) {
        let Some(last) = self.last else { return };
        let expected = later(last.wall, now.tick.since(last.tick));
        if until(now.wall, expected) < SET_BACK {
            return;
        }
        for test in self.tests.values_mut() {
            test.slot = test.spec.cron().and_then(|schedule| schedule.next_after(now.wall));
        }
    }

    /// When the next timer or schedule has to be looked at.
    pub(super) fn next_timer(&self, now: Now) -> Option<Tick> {
        let timers = self.tests.values().filter_map(|test| test.timer.as_ref()).map(|timer| timer.deadline);
        let slots = self.tests.values().filter_map(|test| test.slot);
        let slots = slots.map(|slot| now.tick_at(slot).min(now.tick + LONGEST_SLEEP));
        timers.chain(slots).min()
    }

    /// When a test runs next by timer or schedule, as far as is known.
    pub(crate) fn next_due(&self, now: Now, id: &ContainerId) -> Vec<(TriggerKind, Timestamp)> {
        let Some(test) = self.tests.get(id) else { return Vec::new() };
        let timer = test.timer.as_ref().map(|timer| later(now.wall, timer.deadline.since(now.tick)));
        let timer = timer.map(|at| (TriggerKind::Timer, at));
        timer.into_iter().chain(test.slot.map(|at| (TriggerKind::Cron, at))).collect()
    }
}

/// Due one interval after a copy fired; at once if that is past, and never later than one interval from now.
fn after_copy(now: Now, copy: &str, at: Timestamp, interval: Duration) -> Timer {
    let due = later(at, interval);
    let deadline = now.tick + until(now.wall, due).min(interval);
    Timer { after: Some(copy.to_owned()), due, deadline, fired: None }
}

/// Due at the next whole interval since the original was made.
fn after_original(now: Now, created_at: Timestamp, interval: Duration) -> Timer {
    // A listing knows whole seconds only; all runners must come to the same moment.
    let created_at = Timestamp::from_second(created_at.as_second()).unwrap_or(created_at);
    let passed = until(created_at, now.wall).as_nanos() / interval.as_nanos();
    let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
    let due = later(created_at, interval.saturating_mul(steps));
    Timer { after: None, due, deadline: now.tick + until(now.wall, due).min(interval), fired: None }
}
