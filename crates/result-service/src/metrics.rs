//! What the service counts, as OpenMetrics.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What became of an upload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UploadResult {
    /// Stored as a new run.
    Stored,
    /// A run with its idempotency key was there.
    Repeated,
    /// Not taken, for a reason that lies with the client.
    Refused,
    /// Not taken, for a reason that lies with the service.
    Failed,
}

impl UploadResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UploadLabels {
    result: &'static str,
}

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    uploads: Family<UploadLabels, Counter>,
    upload_bytes: Counter,
    intake: Histogram,
    /// Events that were stored, those of runs excepted.
    pub(crate) events: Counter,
    /// Open event streams.
    pub(crate) streams: Gauge<i64, AtomicI64>,
    /// Requests that failed for a reason that lies with the service.
    pub(crate) errors: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("tugyard_serve");
        let metrics = Self {
            uploads: Family::default(),
            upload_bytes: Counter::default(),
            // From a millisecond to a minute.
            intake: Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
            ]),
            events: Counter::default(),
            streams: Gauge::default(),
            errors: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "uploads",
            "Results that were sent, by what became of them",
            metrics.uploads.clone(),
        );
        registry.register_with_unit(
            "uploads_received",
            "Size of the results that were stored, as sent",
            Unit::Bytes,
            metrics.upload_bytes.clone(),
        );
        registry.register_with_unit(
            "intake_duration",
            "Time from the head of an upload to its answer",
            Unit::Seconds,
            metrics.intake.clone(),
        );
        registry.register("events", "Events that were stored", metrics.events.clone());
        registry.register("event_streams", "Event streams that are open", metrics.streams.clone());
        registry.register("errors", "Requests that failed within the service", metrics.errors.clone());
        Self { registry, ..metrics }
    }

    /// Counts an upload. `bytes` of it were stored.
    pub(crate) fn uploaded(&self, result: UploadResult, bytes: u64, took: Duration) {
        self.uploads.get_or_create(&UploadLabels { result: result.as_str() }).inc();
        self.upload_bytes.inc_by(bytes);
        self.intake.observe(took.as_secs_f64());
    }

    /// The metrics in the text form of OpenMetrics.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
