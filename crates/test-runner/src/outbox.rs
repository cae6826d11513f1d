//! A bounded queue in front of a receiver that may be slow, refuse or be dead: whoever puts something in
//! never waits, and what does not fit is counted. Never opens a connection itself: the worker that empties it
//! does.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};
use tracing::warn;

/// What became of all that was put into a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The receiver took it.
    pub delivered: u64,
    /// The queue was full.
    pub dropped: u64,
    /// The receiver refused it, or every attempt failed.
    pub given_up: u64,
    /// It waits, or was left behind when the queue was closed.
    pub waiting: u64,
}

/// The same, still counting.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    put: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    given_up: AtomicU64,
}

impl Counter {
    pub(crate) fn delivered(&self, count: usize) {
        self.delivered.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn given_up(&self, count: usize) {
        self.given_up.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        let delivered = self.delivered.load(Ordering::Acquire);
        let given_up = self.given_up.load(Ordering::Acquire);
        let waiting = self.put.load(Ordering::Acquire).saturating_sub(delivered + given_up);
        Counts { delivered, dropped: self.dropped.load(Ordering::Relaxed), given_up, waiting }
    }
}

/// The queue and the worker that empties it.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    /// For the log: must not hold a secret.
    receiver: String,
    queue: mpsc::Sender<T>,
    worker: JoinHandle<()>,
    counter: Arc<Counter>,
    dropping: AtomicBool,
}

impl<T: Send + 'static> Outbox<T> {
    /// Starts a worker on a queue of `capacity`; it ends when the queue is closed and empty.
    pub(crate) fn start<W>(
        receiver: String,
        capacity: usize,
        worker: impl FnOnce(mpsc::Receiver<T>, Arc<Counter>) -> W,
    ) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (queue, items) = mpsc::channel(capacity.max(1));
        let counter = Arc::new(Counter::default());
        let worker = tokio::spawn(worker(items, Arc::clone(&counter)));
        Self { receiver, queue, worker, counter, dropping: AtomicBool::new(false) }
    }

    /// Puts something in, or drops and counts it when the queue is full.
    pub(crate) fn put(&self, item: T) {
        // Counted first: the worker may be done with it before this line's successor runs.
        self.counter.put.fetch_add(1, Ordering::Release);
        if self.queue.try_send(item).is_ok() {
            // Half empty, so that a queue at its brim does not write a line per item.
            if self.queue.capacity() * 2 >= self.queue.max_capacity()
                && self.dropping.swap(false, Ordering::Relaxed)
            {
                let dropped = self.counter.dropped.load(Ordering::Relaxed);
                warn!(
                    dropped,
                    "the queue for {} has room again; {dropped} events were dropped so far", self.receiver
                );
            }
            return;
        }
        self.counter.put.fetch_sub(1, Ordering::Release);
        self.counter.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.dropping.swap(true, Ordering::Relaxed) {
            let size = self.queue.max_capacity();
            warn!(size, "the queue for {} is full: events are dropped", self.receiver);
        }
    }

    pub(crate) fn receiver(&self) -> &str {
        &self.receiver
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counter.read()
    }

    /// Takes nothing more and lets the worker go on for `grace`. Returns what became of everything.
    pub(crate) async fn close(self, grace: Duration) -> Counts {
        let Self { receiver, queue, mut worker, counter, .. } = self;
        drop(queue);
        if tokio::time::timeout(grace, &mut worker).await.is_err() {
            worker.abort();
            // It may have finished in the meantime; either way nobody counts any more.
            let _ = worker.await;
        }
        let counts = counter.read();
        if counts.waiting > 0 {
            let waiting = counts.waiting;
            warn!(waiting, "{waiting} events for {receiver} were left behind at the end");
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_nobody_waits() {
        let gate = Arc::new(Semaphore::new(0));
        let worker_gate = Arc::clone(&gate);
        let outbox =
            Outbox::start("a test".into(), 2, |mut items: mpsc::Receiver<u32>, counter| async move {
                worker_gate.acquire().await.unwrap().forget();
                while items.recv().await.is_some() {
                    counter.delivered(1);
                }
            });
        for item in 0..5 {
            outbox.put(item);
        }
        assert_eq!(outbox.counts(), Counts { dropped: 3, waiting: 2, ..Counts::default() });
        gate.add_permits(1);
        let counts = outbox.close(Duration::from_secs(60)).await;
        assert_eq!(counts, Counts { delivered: 2, dropped: 3, ..Counts::default() });
    }

    #[tokio::test]
    async fn a_worker_that_does_not_end_is_left_behind() {
        let outbox = Outbox::start("a test".into(), 2, |items: mpsc::Receiver<u32>, _| async move {
            let _items = items;
            std::future::pending::<()>().await;
        });
        outbox.put(1);
        assert_eq!(outbox.close(Duration::ZERO).await, Counts { waiting: 1, ..Counts::default() });
    }
}
