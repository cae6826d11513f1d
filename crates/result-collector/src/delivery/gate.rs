//! Holds all deliveries back while the service is known to be away, and lets one probe through at a time. Knows no
//! HTTP.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// How long a probe is waited for before another one may go.
const PROBE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Closed until then; open if absent.
    closed_until: Option<Instant>,
    /// Failures in a row, over all results.
    failures: u32,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a delivery may go.
    pub(super) async fn pass(&self) {
        loop {
            let opened = self.opened.notified();
            let until = {
                let mut state = self.state();
                match state.closed_until {
                    None => return,
                    Some(until) if until <= Instant::now() => {
                        state.closed_until = Some(Instant::now() + PROBE);
                        return;
                    }
                    Some(until) => until,
                }
            };
            tokio::select! {
                () = opened => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// The service has answered sensibly.
    pub(super) fn open(&self) {
        let mut state = self.state();
        state.failures = 0;
        if state.closed_until.take().is_some() {
            self.opened.notify_waiters();
        }
    }

    /// Failures in a row, this one included.
    pub(super) fn failed(&self) -> u32 {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.failures
    }

    /// Nothing goes for this long.
    pub(super) fn close_for(&self, pause: Duration) {
        self.state().closed_until = Some(Instant::now() + pause);
        // Sleepers must learn of a time that is earlier than the one they know.
        self.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_gate_lets_one_probe_pass_and_opens_for_all_on_success() {
        let gate = Gate::default();
        gate.close_for(Duration::ZERO);
        gate.pass().await;
        assert!(tokio::time::timeout(Duration::from_millis(10), gate.pass()).await.is_err());
        gate.open();
        gate.pass().await;
        gate.pass().await;
    }
}
