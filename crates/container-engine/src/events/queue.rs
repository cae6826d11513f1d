//! The queue between the task that reads the engine and the reader of the stream: without a bound, so that the
//! engine never waits, and measured, so that a slow reader can be seen.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;

use super::StreamItem;

/// What happened to the event streams of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventStats {
    /// Events delivered into a queue.
    pub events: u64,
    /// Events that a replay brought a second time, dropped.
    pub repeats: u64,
    /// Lines that could not be read, dropped.
    pub unreadable: u64,
    /// Connections after a cut.
    pub reconnects: u64,
    /// Cuts after which the engine may have forgotten events.
    pub possibly_missed: u64,
    /// Items waiting in a queue now.
    pub queued: u64,
    /// The most items that ever waited.
    pub queued_peak: u64,
}

#[derive(Debug, Default)]
pub(crate) struct StatCells {
    pub(super) events: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) possibly_missed: AtomicU64,
    queued: AtomicU64,
    queued_peak: AtomicU64,
}

impl StatCells {
    pub(crate) fn read(&self) -> EventStats {
        EventStats {
            events: self.events.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            unreadable: self.unreadable.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            possibly_missed: self.possibly_missed.load(Relaxed),
            queued: self.queued.load(Relaxed),
            queued_peak: self.queued_peak.load(Relaxed),
        }
    }
}

pub(super) fn queue(stats: Arc<StatCells>) -> (QueueSender, QueueReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (QueueSender { sender, stats: Arc::clone(&stats) }, QueueReader { receiver, stats })
}

#[derive(Clone)]
pub(super) struct QueueSender {
    sender: mpsc::UnboundedSender<StreamItem>,
    pub(super) stats: Arc<StatCells>,
}

impl QueueSender {
    pub(super) fn push(&self, item: StreamItem) {
        let queued = self.stats.queued.fetch_add(1, Relaxed) + 1;
        self.stats.queued_peak.fetch_max(queued, Relaxed);
        if self.sender.send(item).is_err() {
            self.stats.queued.fetch_sub(1, Relaxed);
        }
    }

    /// Ends when nobody will read any more.
    pub(super) async fn abandoned(&self) {
        self.sender.closed().await;
    }
}

pub(super) struct QueueReader {
    receiver: mpsc::UnboundedReceiver<StreamItem>,
    stats: Arc<StatCells>,
}

impl Stream for QueueReader {
    type Item = StreamItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamItem>> {
        let item = self.receiver.poll_recv(cx);
        if matches!(item, Poll::Ready(Some(_))) {
            self.stats.queued.fetch_sub(1, Relaxed);
        }
        item
    }
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        self.receiver.close();
        while self.receiver.try_recv().is_ok() {
            self.stats.queued.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn the_queue_is_measured() {
        let stats: Arc<StatCells> = Arc::default();
        let (sender, mut reader) = queue(Arc::clone(&stats));
        for _ in 0..5 {
            sender.push(StreamItem::Disconnected { reason: String::new() });
        }
        reader.next().await.unwrap();
        assert_eq!((stats.read().queued, stats.read().queued_peak), (4, 5));
        drop(reader);
        sender.abandoned().await;
        sender.push(StreamItem::Disconnected { reason: String::new() });
        assert_eq!((stats.read().queued, stats.read().queued_peak), (0, 5));
    }
}
