//! Decides which test containers run when, and runs faithful copies of them.

pub mod clock;
pub mod cron_schedule;
pub mod discovery;
pub mod docker_filter;
pub mod event_sender;
pub mod host_watch;
pub mod image_watch;
pub mod inlet;
pub mod overrides;
pub mod policy;
pub mod run_key;
pub mod runner_event;
pub mod scheduler;
pub mod spec;
pub mod trigger;
pub mod webhook;

mod announce;
mod delivery;
mod outbox;
mod sse;
mod traces;

pub use outbox::Counts;
