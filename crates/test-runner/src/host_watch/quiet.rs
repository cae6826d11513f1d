//! Decides when a burst is over. Pure: it is told the time, and never sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// Waits for quiet, but not for ever.
#[derive(Debug)]
pub(super) struct Quiet {
    quiet_for: Duration,
    at_the_latest: Duration,
    burst: Option<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Quiet {
    pub(super) fn new(quiet_for: Duration, at_the_latest: Duration) -> Self {
        Self { quiet_for, at_the_latest, burst: None }
    }

    /// Something moved.
    pub(super) fn moved(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// When to look, if anything moved.
    pub(super) fn due(&self) -> Option<Instant> {
        self.burst.map(|burst| (burst.last + self.quiet_for).min(burst.first + self.at_the_latest))
    }

    /// One is looking.
    pub(super) fn reset(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> (Quiet, Instant) {
        (Quiet::new(Duration::from_millis(500), Duration::from_secs(5)), Instant::now())
    }

    #[test]
    fn looks_at_nothing_when_nothing_moved() {
        assert_eq!(quiet().0.due(), None);
    }

    #[test]
    fn a_burst_is_looked_at_once_after_its_last_movement() {
        let (mut quiet, start) = quiet();
        for ms in [0, 100, 400, 800] {
            quiet.moved(start + Duration::from_millis(ms));
        }
        assert_eq!(quiet.due(), Some(start + Duration::from_millis(1300)));
        quiet.reset();
        assert_eq!(quiet.due(), None);
    }

    #[test]
    fn an_endless_burst_is_looked_at_in_its_midst() {
        let (mut quiet, start) = quiet();
        for ms in (0..20_000).step_by(100) {
            quiet.moved(start + Duration::from_millis(ms));
        }
        assert_eq!(quiet.due(), Some(start + Duration::from_secs(5)));
    }
}
