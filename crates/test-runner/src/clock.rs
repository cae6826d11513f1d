//! Time as the scheduler sees it: a monotonic clock for waiting, the wall clock for naming. Reads no clock itself.

use std::{ops::Add, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Monotonic time since the runner started. It stands still while the host is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub Duration);

impl Tick {
    /// How much later this is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub tick: Tick,
    /// For names, cron slots and reports.
    pub wall: Timestamp,
}

impl Now {
    /// When the wall clock will show `at`, provided that nobody sets it; now, if that is past.
    pub fn tick_at(&self, at: Timestamp) -> Tick {
        self.tick + until(self.wall, at)
    }
}

/// From `from` to `to`; zero if `to` is not later.
pub(crate) fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// `at + duration`, held at the end of the calendar.
pub(crate) fn later(at: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration).ok().and_then(|d| at.checked_add(d).ok()).unwrap_or(Timestamp::MAX)
}
