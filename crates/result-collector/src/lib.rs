//! Brings results out of test containers and watched directories to the result service, each exactly once.
//!
//! A result is written to a bounded spool on disk before anything is sent, and leaves it only when the service has
//! confirmed it; an idempotency key makes repeats harmless, so a kill at any moment loses and doubles nothing. The
//! crate decides nothing about when tests run, understands no result format (the receiver does), follows no link, and
//! never prints, exits, or reads the environment.

mod activity;
mod append_log;
mod backoff;
mod bundle;
mod collector;
mod container_watch;
mod delivery;
mod dir_watch;
mod spool;

pub use activity::{CollectorEvent, Counters, RefusalKind, Source, Status};
pub use collector::{CollectError, Collector, CollectorSettings, Limits};
pub use spool::SpoolError;
