//! Joins a collector with the log, and with a runner of the same process.

use container_engine::ContainerId;
use result_collector::{CollectError, Collector, CollectorEvent, CollectorSettings, Source};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Runs a collector until `stop`. `collected` gets each container whose result is stored.
pub(crate) async fn collect(
    settings: CollectorSettings,
    engine: Option<container_engine::Engine>,
    http: reqwest::Client,
    collected: Option<mpsc::Sender<ContainerId>>,
    stop: CancellationToken,
) -> Result<(), CollectError> {
    let (sender, mut events) = mpsc::channel(4096);
    let collector = Collector::new(settings, engine, http, sender);
    let logging = async {
        while let Some(event) = events.recv().await {
            log(&event);
            // What the service may still want of a copy must stay.
            let finished = match event {
                CollectorEvent::Delivered {
                    source: Source::Container { id, complete: true, .. }, ..
                }
                | CollectorEvent::ConfirmedBefore { id } => Some(ContainerId(id)),
                _ => None,
            };
            if let (Some(id), Some(collected)) = (finished, &collected) {
                let _ = collected.send(id).await;
            }
        }
    };
    let (outcome, ()) = tokio::join!(collector.run(stop), logging);
    outcome
}

fn log(event: &CollectorEvent) {
    match event {
        CollectorEvent::Spooled { source, bytes, .. } => debug!(bytes, "collected {source}"),
        CollectorEvent::Delivered { source, run, repeated: false, .. } => info!(%run, "delivered {source}"),
        CollectorEvent::Delivered { source, run, .. } => info!(%run, "{source} had arrived before"),
        CollectorEvent::Retrying { source, reason, after, attempts } => {
            let seconds = after.as_secs_f64();
            warn!(attempts, "cannot deliver {source} now: {reason}; tried again in {seconds:.1} s");
        }
        CollectorEvent::Rejected { source, reason, path, .. } => {
            let source = source.as_ref().map_or_else(|| "a result".to_owned(), ToString::to_string);
            error!("{source} was refused: {reason}; it is kept in `{}`", path.display());
        }
        CollectorEvent::Evicted { path } => {
            error!("the spool is full: refused `{}` was deleted", path.display())
        }
        CollectorEvent::SpoolFull { used, max } => {
            warn!(used, max, "the spool is full: collecting waits until the service takes results");
        }
        CollectorEvent::CaptureFailed { container, reason, after } => {
            warn!(
                "cannot collect container `{container}`: {reason}; tried again in {:.1} s",
                after.as_secs_f64()
            );
        }
        CollectorEvent::Incomplete { of, note } => warn!("of {of}: {note}"),
        CollectorEvent::Removed { container } => info!("removed container `{container}`"),
        CollectorEvent::NotRemoved { container, reason } => {
            warn!("cannot remove container `{container}`: {reason}")
        }
        CollectorEvent::EngineLost { reason } => warn!("lost the engine: {reason}; trying again"),
        CollectorEvent::MaybeMissed => warn!("engine events may have been missed; the listing catches up"),
        CollectorEvent::Unwatched { directory, reason } => {
            warn!("`{}` is scanned, not watched: {reason}", directory.display());
        }
        CollectorEvent::Overflow => warn!("the kernel's queue of changes overflowed; a scan catches up"),
        CollectorEvent::Unreadable { path, reason } => warn!("cannot read `{}`: {reason}", path.display()),
        other => debug!(?other, "collector"),
    }
}
