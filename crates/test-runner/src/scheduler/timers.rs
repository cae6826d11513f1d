//! Timers and schedules.
//!
//! A timer's slots are whole intervals since the creation of its container, so every runner finds the same ones and a
//! first run never comes at once. A slot that went by without a copy while no runner was there is made up for by one
//! run. Waiting is monotonic: a host that was suspended, a clock that was set and a runner that was late cause one run,
//! not a burst. A schedule follows the wall clock; slots that went by while the host slept become one run, and slots
//! that went by without a runner are left out, as cron does.

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
        let last = self.history.get(&test.spec.name.0).and_then(|history| history.last_timer);
        test.timer = test.spec.timer().map(|interval| first_timer(now, test.created_at, last, interval));
    }

    /// A copy appeared. If its test's timer asked for it, this runner need not do so for the same slot.
    pub(super) fn note_timer_copy(&mut self, test: &str, cause: &Cause) {
        if cause.trigger != TriggerKind::Timer {
            return;
        }
        let history = self.history.entry(test.to_owned()).or_default();
        history.last_timer = history.last_timer.max(Some(cause.at));
        let Some(test) = self.by_name.get(test).and_then(|id| self.tests.get_mut(id)) else { return };
        let (Some(timer), Some(interval)) = (&mut test.timer, test.spec.timer()) else { return };
        if cause.at >= timer.due {
            let next = later(cause.at, interval);
            timer.deadline = timer.deadline + until(timer.due, next);
            timer.due = next;
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
        // However many slots have gone by, on whichever clock, this is one run, and the next is due in the future.
        let at = later(timer.due, whole(until(timer.due, now.wall), interval));
        let missed = whole(now.tick.since(timer.deadline), interval);
        timer.due = later(at, interval);
        timer.deadline = timer.deadline + missed + interval;
        let key = RunKey::new(at, format!("timer:{id}:{at}"));
        let summary = format!("every {interval:?}");
        self.fire(now, id, Firing { key, trigger: TriggerKind::Timer, summary, at, event: None }, out);
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

/// Due at the next slot; at once if a whole interval has gone by since the last copy's. A listing knows a container's creation to
/// the second only, and all runners must find the same slots.
fn first_timer(now: Now, created_at: Timestamp, last: Option<Timestamp>, interval: Duration) -> Timer {
    let created_at = Timestamp::from_second(created_at.as_second()).unwrap_or(created_at);
    let latest = later(created_at, whole(until(created_at, now.wall), interval));
    if last.is_some_and(|last| later(last, interval) <= now.wall) {
        return Timer { due: latest, deadline: now.tick };
    }
    let due = later(latest, interval);
    // A wall clock that is far behind must not keep a timer waiting.
    Timer { due, deadline: now.tick + until(now.wall, due).min(interval) }
}

/// The whole intervals in a duration.
fn whole(duration: Duration, interval: Duration) -> Duration {
    let count = duration.as_nanos() / interval.as_nanos().max(1);
    interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}
